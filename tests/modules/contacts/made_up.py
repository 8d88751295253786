"""Entries that Hypothesis makes up, right in every part."""

from typing import Any

from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WORDS = TEXT.filter(bool)
KINDS = st.sampled_from(["home", "work"])
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
COUNTRY_CODES = st.sampled_from([1, 7, 39, 44, 49, 86, 380, 999]) | st.integers(1, 10**6)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    phones = st.lists(
        st.fixed_dictionaries(
            {"kind": KINDS, "country_code": COUNTRY_CODES, "local_number": st.integers(1, 10**20)},
            optional={"area_code": st.integers(0, 10**6)},
        ),
        max_size=3,
    )
    addresses = st.fixed_dictionaries(
        {
            "kind": KINDS,
            "street_name": WORDS,
            "pincode": WORDS | st.integers().filter(bool),
            "country": WORDS,
        },
        optional={
            "building_name": TEXT,
            "unit_number": st.integers() | FRACTIONS,
            "street_number": st.integers() | FRACTIONS | TEXT,
            "locality": TEXT,
            "city": TEXT,
            "province": TEXT,
        },
    )
    email = st.sampled_from(["anna@example.com", "a.b+c@sub.example.org", "Анна@пример.рф", "x_y-z@müller.de"])
    return st.fixed_dictionaries(
        {
            "full_name": WORDS,
            "addresses": st.lists(addresses, max_size=2),
            "phone_numbers": phones,
            "fax_numbers": phones,
            "emails": st.lists(st.fixed_dictionaries({"kind": KINDS, "email": email}), max_size=2),
        }
    )
