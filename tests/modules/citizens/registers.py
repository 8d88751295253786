"""Small registers for tests."""

from typing import Any


def a_citizen(citizen_id: int, **fields: Any) -> dict[str, Any]:
    """A citizen who is right in every field, but for those given."""
    return {
        "citizen_id": citizen_id,
        "town": "Москва",
        "street": "Льва Толстого",
        "building": "16к7стр5",
        "apartment": 7,
        "name": "Иванов Иван Иванович",
        "birth_date": "26.12.1986",
        "gender": "male",
        "relatives": [],
    } | fields
