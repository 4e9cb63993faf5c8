"""The supervisor: owns the machines and networks of one state directory."""

from qorch.supervisor.core import Supervisor
from qorch.supervisor.open import open_supervisor

__all__ = ["Supervisor", "open_supervisor"]
