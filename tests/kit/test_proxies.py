"""Whom a proxy asks for: what is believed of it, and what anybody may write into its header without effect."""

import pytest

from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.proxies import LONGEST_HOP, Proxies

NEAR, FAR = "10.1.2.3", "fd00::7"
PROXIES = Proxies("10.1.0.0/16, fd00::/8,192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "asker"),
    [
        (NEAR, [b"198.51.100.7"], "198.51.100.7"),
        (NEAR, [b"203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (NEAR, [b"203.0.113.9", b"198.51.100.7"], "198.51.100.7"),  # as HAProxy adds a header of its own
        (NEAR, [b"203.0.113.9, 198.51.100.7, 10.1.9.9"], "198.51.100.7"),
        (NEAR, [b"203.0.113.9,198.51.100.7", b"fd00::8 ,10.1.9.9"], "198.51.100.7"),
        (NEAR, [b"10.1.9.8, 10.1.9.9"], "10.1.9.8"),  # all of them are trusted: the farthest
        (FAR, [b"2001:DB8:0::7"], "2001:db8::7"),
        (FAR, [b"198.51.100.7:50123"], "198.51.100.7"),
        (FAR, [b"[2001:db8::7]:50123"], "2001:db8::7"),
        (FAR, [b"[2001:db8::7]"], "2001:db8::7"),
        (FAR, [b"fe80::1%a word of theirs"], "fe80::1"),
        (f"::ffff:{NEAR}", [b"::ffff:198.51.100.7"], "198.51.100.7"),
        ("", [b"203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("", [], ""),
        ("", [b"unknown"], ""),
        (NEAR, [], NEAR),
        *((NEAR, [b"203.0.113.9," + hop], NEAR) for hop in (b"", b" ", b"unknown", b"_hidden", b"\xff\xfe", b"1.2.3")),
        (NEAR, [b"203.0.113.9, unknown, 10.1.9.9"], "10.1.9.9"),
        (NEAR, [b"203.0.113.9," + b"1" * LONGEST_HOP + b"1"], NEAR),
        (NEAR, [b"203.0.113.9 198.51.100.7"], NEAR),
        ("198.51.100.9", [b"203.0.113.9"], "198.51.100.9"),
        ("127.0.0.1", [b"203.0.113.9"], "127.0.0.1"),
        ("192.0.2.2", [b"203.0.113.9"], "192.0.2.2"),
        ("a name", [b"203.0.113.9"], ""),
    ],
    ids=str,
)
def test_a_header_is_read_from_its_end_for_as_long_as_it_is_trusted(
    peer: str, forwarded: list[bytes], asker: str
) -> None:
    for _ in range(2):  # the second time it is known
        assert PROXIES.asker(peer, forwarded) == asker


def test_who_is_trusted_where_nothing_is_said() -> None:
    asked = [b"198.51.100.7"]
    assert [Proxies().asker(peer, asked) for peer in ("127.0.0.1", "127.9.9.9", "::1", "")] == ["198.51.100.7"] * 4
    assert [Proxies().asker(peer, asked) for peer in (NEAR, FAR)] == [NEAR, FAR]
    assert [Proxies("").asker(peer, asked) for peer in ("127.0.0.1", "")] == ["127.0.0.1", "198.51.100.7"]


@pytest.mark.parametrize("networks", ["10.1.2.3/16", "nginx", "10.1.0.0/33", "fd00::/8;10.1.0.0/16"])
def test_what_is_no_network_is_refused(networks: str) -> None:
    with pytest.raises(WrongSetting, match="--trusted-proxies must look like"):
        Proxies(networks)
