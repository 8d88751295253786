"""Looking after messages: those that were parked, the news that go out, and forgetting what is old."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="Messages that were parked, for people to look at.",
    commands={"messages": "kinfolk.modules.messages.commands:app"},
)
