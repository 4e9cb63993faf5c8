"""A vm.toml as frozen values: what a user asked for, checked by field, nothing decided yet."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qorch.spec.cloud_init import CloudInitSpec, UserSpec
from qorch.spec.machine import (
    Accel,
    ConsoleSpec,
    CpuSpec,
    DiskSpec,
    MachineSpec,
    MachineType,
    MemorySpec,
    NicModel,
    NicSpec,
    ReadySpec,
)
from qorch.spec.network import DEFAULT_NETWORK, DhcpSpec, NetworkSpec
from qorch.spec.storage import DEFAULT_POOL, PoolSpec, VolumeSpec
from qorch.units import Name

__all__ = [
    "DEFAULT_NETWORK",
    "DEFAULT_POOL",
    "Accel",
    "CloudInitSpec",
    "ConsoleSpec",
    "CpuSpec",
    "DhcpSpec",
    "DiskSpec",
    "MachineSpec",
    "MachineType",
    "MemorySpec",
    "NetworkSpec",
    "NicModel",
    "NicSpec",
    "PoolSpec",
    "ReadySpec",
    "Spec",
    "UserSpec",
    "VolumeSpec",
]


@attrs.frozen(kw_only=True)
class Spec:
    """A whole document: its machines, networks, pools and volumes by name."""

    vms: Mapping[Name, MachineSpec] = attrs.field(factory=dict, metadata={"toml": "vm"})
    networks: Mapping[Name, NetworkSpec] = attrs.field(factory=dict, metadata={"toml": "network"})
    pools: Mapping[Name, PoolSpec] = attrs.field(factory=dict, metadata={"toml": "pool"})
    volumes: Mapping[Name, VolumeSpec] = attrs.field(factory=dict, metadata={"toml": "volume"})
