def import_register(file: str) -> int:
    """Send a register."""
    return 0


def generate(count: int) -> int:
    """Make a register."""
    return 0
