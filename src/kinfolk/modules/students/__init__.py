"""Students: added, found, renamed and removed."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="students",
    description="Students: added, found, renamed and removed.",
    routes="kinfolk.modules.students.api:ROUTES",
    tables="kinfolk.modules.students.tables",
    statements="kinfolk.modules.students.statements",
    jobs="kinfolk.modules.students.jobs:JOBS",
    ticks="kinfolk.modules.students.jobs:TICKS",
    lanes="kinfolk.modules.students.messages:LANES",
)
