"""The disks of machines: snapshots, moves, backups and what else QEMU's block layer does live."""

from qorch.supervisor.block.block import Block

__all__ = ["Block"]
