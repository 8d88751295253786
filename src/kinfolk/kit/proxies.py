"""Whom a proxy asks for: `X-Forwarded-For` is believed of the proxies that are trusted, and of nobody else."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network

from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.settings import LOOPBACK

LONGEST_HOP = 60


class Proxies:
    """Those that are trusted."""

    def __init__(self, networks: str = LOOPBACK) -> None:
        """`networks` with commas between. Raises WrongSetting."""
        try:
            self._networks = [ip_network(each.strip()) for each in networks.split(",") if each.strip()]
        except ValueError as error:
            raise WrongSetting(f"--trusted-proxies must look like 10.1.0.0/16,fd00::/8: {error}") from None
        self._known = lru_cache(maxsize=1_000)(self._look)

    def asker(self, peer: str, forwarded: Sequence[bytes]) -> str:
        """Who asks, as an address in its one spelling; "" where none is known.

        `peer` is at the other end of the connection, "" at a unix socket, where only a proxy is let in. `forwarded` are
        the headers in the order in which they came: each proxy adds at the end whom it was asked by, so they are read
        from there, for as long as a trusted one says so. What is no address says nothing.
        """
        found, is_trusted = self._known(peer) if peer else ("", True)
        hops = b",".join(forwarded).split(b",") if forwarded else []
        while is_trusted and hops:
            hop = hops.pop().strip()
            nearer, is_trusted = self._known(hop.decode("latin-1")) if len(hop) <= LONGEST_HOP else ("", False)
            found = nearer or found
        return found

    def _look(self, hop: str) -> tuple[str, bool]:
        """An address, which may have a port, and whether a proxy is trusted there."""
        if hop.startswith("["):
            hop = hop[1:].partition("]")[0]
        elif hop.count(":") == 1:
            hop = hop.partition(":")[0]
        try:
            found = ip_address(hop.partition("%")[0])  # the name of an interface is only words
        except ValueError:
            return "", False
        found = getattr(found, "ipv4_mapped", None) or found
        return str(found), any(found in network for network in self._networks)
