"""Kinfolk: a self-hosted people-data service."""

__version__ = "0.1.0"
