"""The JSON Schema of an entry, made of the types by which entries are checked."""

import msgspec

from kinfolk.modules.contacts.contacts import Entry

SCHEMA_PATH = "/schemas/address-book-v1.json"
_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_PATH}
SCHEMA = msgspec.json.format(msgspec.json.encode(_DIALECT | msgspec.json.schema(Entry)), indent=2) + b"\n"
