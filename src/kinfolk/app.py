"""The product: which modules it is made of, one line a module."""

from kinfolk.kit.module import Module
from kinfolk.modules import citizens, jobs, messages

MODULES: tuple[Module, ...] = (citizens.MODULE, jobs.MODULE, messages.MODULE)
