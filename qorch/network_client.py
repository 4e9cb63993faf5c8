"""Requests about networks and addresses. Standard library only: the command line imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from qorch.client import Client, Report


class NetworkClient(NamedTuple):
    """Networks and addresses, over a client of the control API.

    All methods raise ClientError. A request with `report` goes on if the client leaves.
    """

    client: Client

    def find_networks(self) -> list[dict[str, Any]]:
        """All networks."""
        answer: list[dict[str, Any]] = self.client.ask("GET", "/v1/networks")
        return answer

    def show_network(self, name: str) -> dict[str, Any]:
        """One network, its ports and what they have carried."""
        answer: dict[str, Any] = self.client.ask("GET", _path("networks", name))
        return answer

    def find_leases(self, name: str) -> list[dict[str, Any]]:
        """The addresses that are kept and held on a network."""
        answer: list[dict[str, Any]] = self.client.ask("GET", _path("networks", name, "leases"))
        return answer

    def find_addresses(self, machine: str) -> list[dict[str, Any]]:
        """A machine's cards, with addresses planned, leased and seen."""
        path = _path("machines", machine, "addresses")
        answer: list[dict[str, Any]] = self.client.ask("GET", path)
        return answer

    def up(self, name: str, *, report: Report) -> None:
        """Bring a network up, or correct it."""
        self.client.follow("POST", _path("networks", name, "up"), {}, report)

    def down(self, name: str, *, report: Report) -> None:
        """Take a network down; it stays defined."""
        self.client.follow("POST", _path("networks", name, "down"), {}, report)

    def remove_leftovers(self, *, report: Report) -> None:
        """Remove what belongs to no machine and no network."""
        self.client.follow("POST", "/v1/gc", {}, report)


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="", errors="surrogatepass") for part in parts)
