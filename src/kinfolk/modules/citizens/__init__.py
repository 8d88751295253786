"""Citizens: registers in, kinship kept two-way, answers out."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="citizens",
    description="Imports of citizens, their corrections, and what can be told from them.",
    routes="kinfolk.modules.citizens.api:ROUTES",
    lanes="kinfolk.modules.citizens.messages:LANES",
    tables="kinfolk.modules.citizens.tables",
    statements="kinfolk.modules.citizens.statements",
    renewals="kinfolk.modules.citizens.statements:RENEWALS",
    distributed_by={"imports": "import_id", "citizens": "import_id", "ties": "import_id"},
    is_at_root=True,
    commands={
        "import": "kinfolk.modules.citizens.commands:import_register",
        "generate": "kinfolk.modules.citizens.commands:generate",
    },
)
