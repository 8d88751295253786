"""Looking after messages: those that were parked, the news that go out, and forgetting what is old."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="messages",
    description="Messages that were parked, for people to look at.",
    routes="kinfolk.modules.messages.api:ROUTES",
    jobs="kinfolk.modules.messages.jobs:JOBS",
    ticks="kinfolk.modules.messages.jobs:TICKS",
    commands={"messages": "kinfolk.modules.messages.commands:app"},
)
