"""Looking after jobs and ticks: over HTTP, on the command line, and by forgetting what is old."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="jobs",
    description="What is done later, and what the clock owes.",
    routes="kinfolk.modules.jobs.api:ROUTES",
    jobs="kinfolk.modules.jobs.forgetting:JOBS",
    ticks="kinfolk.modules.jobs.forgetting:TICKS",
    statements="kinfolk.modules.jobs.statements",
    commands={"jobs": "kinfolk.modules.jobs.commands:app"},
)
