"""The product: which modules it is made of, one line a module."""

from kinfolk.kit.module import modules

MODULES = modules(
    "kinfolk.modules.citizens",
    "kinfolk.modules.contacts",
    "kinfolk.modules.students",
    "kinfolk.modules.jobs",
    "kinfolk.modules.messages",
    "kinfolk.modules.accounts",
    "kinfolk.modules.audit",
)
