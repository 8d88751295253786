"""Accounts: users and their roles, logging in and out."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="Users and their roles, logging in and out.",
    has_v1_0=True,
    commands={"user": "kinfolk.modules.accounts.commands:app"},
)
