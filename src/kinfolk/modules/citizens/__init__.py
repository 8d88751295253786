"""Citizens: registers in, kinship kept two-way, answers out."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="Imports of citizens, their corrections, and what can be told from them.",
    renewals="kinfolk.modules.citizens.statements:RENEWALS",
    distributed_by={"imports": "import_id", "citizens": "import_id", "ties": "import_id"},
    is_at_root=True,
    commands={
        "import": "kinfolk.modules.citizens.commands:import_register",
        "generate": "kinfolk.modules.citizens.commands:generate",
    },
)
