"""Virtual machines on Linux hosts, straight on QEMU.

async with qorch.open_supervisor(Path("state")) as supervisor:
    await supervisor.up(qorch.load_text(text, Path.cwd()))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qorch.errors import InputError, MachineError, NotFoundError, QorchError
    from qorch.load import load_text
    from qorch.spec import Spec
    from qorch.supervisor import Supervisor, open_supervisor

__all__ = [
    "InputError",
    "MachineError",
    "NotFoundError",
    "QorchError",
    "Spec",
    "Supervisor",
    "load_text",
    "open_supervisor",
]

_PLACES = {"load_text": "load", "Spec": "spec", "Supervisor": "supervisor"}
_PLACES |= {"open_supervisor": "supervisor"}


def __getattr__(name: str) -> object:
    """Import on first use: the command line imports this package and needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_PLACES.get(name, 'errors')}")
    return getattr(module, name)
