"""Citizens: registers in, kinship kept two-way, answers out."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="citizens",
    description="Imports of citizens, their corrections, and what can be told from them.",
    routes="kinfolk.modules.citizens.api:ROUTES",
    lanes="kinfolk.modules.citizens.messages:LANES",
    tables="kinfolk.modules.citizens.tables",
    statements="kinfolk.modules.citizens.statements",
    is_at_root=True,
    commands={
        "import": "kinfolk.modules.citizens.commands:import_register",
        "generate": "kinfolk.modules.citizens.commands:generate",
    },
)
