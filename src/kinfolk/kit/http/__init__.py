"""Speaking HTTP: what a module's `api.py` needs, and the application that holds the modules together."""

from kinfolk.kit.http.answers import Answer, Page, Request, Result, entity_tag
from kinfolk.kit.http.routes import Header, delete, get, patch, post, put

__all__ = ["Answer", "Header", "Page", "Request", "Result", "delete", "entity_tag", "get", "patch", "post", "put"]
