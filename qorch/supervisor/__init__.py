"""The supervisor: owns the machines and networks of one state directory."""

from qorch.supervisor.core import Supervisor, open_supervisor

__all__ = ["Supervisor", "open_supervisor"]
