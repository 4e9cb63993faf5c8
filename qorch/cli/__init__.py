"""The command line: a client of the control API.

Imports what a verb needs when it runs: `qorch ls` loads click and the standard library.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from qorch.cli.errors import run
        from qorch.cli.verbs import qorch
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(qorch))
