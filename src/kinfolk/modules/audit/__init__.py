"""Looking at the audit log: over HTTP and on the command line."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="audit",
    description="Who did what to whom, and when.",
    routes="kinfolk.modules.audit.api:ROUTES",
    commands={"audit": "kinfolk.modules.audit.commands:app"},
)
