"""The documentation does what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.live
def test_example_runs(lab):
    """The example in docs/qorch_net.md runs as it stands and leaves nothing."""
    text = (ROOT / "docs" / "qorch_net.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    output = subprocess.run(
        [sys.executable, "-c", example], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert output.splitlines()[:5] == ["rules", "forwarding", "bridge", "files", "dnsmasq"]
    assert "for web at 192.168.150." in output


def test_planning_imports_no_netlink():
    """Who only plans does not pay for pyroute2, and the package knows no sister package."""
    program = (
        "import sys, qorch_net.plan, qorch_net.host, qorch_net.rules\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert not {"pyroute2", "asyncio", "qorch", "qorch_storage"} & set(modules)


def test_pyroute2_is_imported_in_one_package():
    """Only `qorch_net.netlink` imports pyroute2."""
    importers = {
        path.parent.name
        for path in (ROOT / "qorch_net").rglob("*.py")
        if "from pyroute2" in path.read_text() or "import pyroute2" in path.read_text()
    }
    assert importers == {"netlink"}
