"""What the documentation shows works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "qorch_storage.md"


def test_example(tmp_path):
    """The example runs alone and leaves what it says."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    words = [sys.executable, "-c", example]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["web.qcow2", "qcow2"],
        ["base.raw", "raw"],
    ]
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["seed.iso", "volumes", "volumes/base.raw"]


def test_stands_alone():
    """Importing all of the package imports nothing of qorch or qorch_net, and no pycdlib yet."""
    code = (
        "import sys, qorch_storage.pool, qorch_storage.seed\n"
        "print({name.split('.')[0] for name in sys.modules}"
        " & {'qorch', 'qorch_net', 'pycdlib', 'trio'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
