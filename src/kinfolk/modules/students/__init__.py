"""Students: added, found, renamed and removed."""

from kinfolk.kit.module import module

MODULE = module(__name__, description="Students: added, found, renamed and removed.")
