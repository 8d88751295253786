"""Accounts: users and their roles, logging in and out."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="accounts",
    description="Users and their roles, logging in and out.",
    routes="kinfolk.modules.accounts.api:ROUTES",
    tables="kinfolk.modules.accounts.tables",
    statements="kinfolk.modules.accounts.statements",
    jobs="kinfolk.modules.accounts.jobs:JOBS",
    ticks="kinfolk.modules.accounts.jobs:TICKS",
    has_v1_0=True,
    commands={"user": "kinfolk.modules.accounts.commands:app"},
)
