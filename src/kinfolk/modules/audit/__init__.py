"""Looking at the audit log: over HTTP and on the command line."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="Who did what to whom, and when.",
    commands={"audit": "kinfolk.modules.audit.commands:app"},
)
