"""An entry that shows every part."""

from kinfolk.modules.contacts.contacts import Address, Email, Entry, Phone

ANNA = Entry(
    full_name="Anna Karenina",
    addresses=[
        Address(
            kind="home",
            building_name="Hillside",
            unit_number=2,
            street_number=14,
            street_name="Park Row",
            locality="Headingley",
            city="Leeds",
            province="West Yorkshire",
            pincode="LS1 5HD",
            country="United Kingdom",
        )
    ],
    phone_numbers=[Phone(kind="home", country_code=44, area_code=113, local_number=4960001)],
    fax_numbers=[Phone(kind="work", country_code=44, local_number=1134960002)],
    emails=[Email(kind="work", email="anna@example.com")],
)
