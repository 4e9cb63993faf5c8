"""Machines for tests: a host of its own for each test, torn down whatever happens."""

from qorch.testing.host import Host, Leftovers, TestMachine, open_host

__all__ = ["Host", "Leftovers", "TestMachine", "open_host"]
