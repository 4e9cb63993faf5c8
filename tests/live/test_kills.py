"""A supervisor that is killed in the middle of networks' coming and going."""

from __future__ import annotations

import pytest
from kills import kill_at_random

from qorch.testing import Host

pytestmark = pytest.mark.live


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_random_instants_of_networks(qorch_host: Host, seed: int) -> None:
    """After the next start nothing is left that no definition owns, and the retry works.

    `scripts/kill-networks` does it 200 times.
    """
    assert kill_at_random(qorch_host, 5, seed) == []
