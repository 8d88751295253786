"""Looking after jobs and ticks: over HTTP, on the command line, and by forgetting what is old."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="What is done later, and what the clock owes.",
    commands={"jobs": "kinfolk.modules.jobs.commands:app"},
)
