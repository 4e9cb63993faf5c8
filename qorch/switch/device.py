"""Front ends: what the guest sees. The same device has a name of its own on each transport."""

from __future__ import annotations

import enum

import attrs

from qorch.option import NOT_A_PROPERTY, Properties, json_word, properties
from qorch.place import Place
from qorch.spec import VirtioForm, VirtioSpec


class Transport(enum.Enum):
    """How virtio devices reach the guest; the value ends their names in QEMU."""

    PCI = "pci"
    MMIO = "device"


@attrs.frozen(kw_only=True)
class Device:
    """`-device`, whatever it is: its fields are QEMU's properties."""

    id: str
    place: Place = Place()

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        raise NotImplementedError

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return {"driver": self.driver, **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceModel(Device):
    """A device that comes in several models with the same properties."""

    model: str = attrs.field(metadata=NOT_A_PROPERTY)

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return self.model


_FORMS: dict[VirtioForm | None, tuple[bool | None, bool | None]] = {
    None: (None, None),
    VirtioForm.TRANSITIONAL: (False, False),
    VirtioForm.NON_TRANSITIONAL: (True, False),
    VirtioForm.LEGACY: (False, True),
}


@attrs.frozen(kw_only=True)
class VirtioCommon:
    """The properties that all virtio devices have."""

    disable_legacy: str | None = None
    disable_modern: bool | None = None
    iommu_platform: bool | None = None
    ats: bool | None = None
    packed: bool | None = None
    page_per_vq: bool | None = None
    ioeventfd: bool | None = None
    event_idx: bool | None = None

    @classmethod
    def from_spec(cls, spec: VirtioSpec, transport: Transport = Transport.PCI) -> VirtioCommon:
        """What a vm.toml says; PCI alone has forms, ATS and pages per queue."""
        if transport is Transport.MMIO:
            values = (spec.iommu_platform, spec.packed, spec.event_idx)
            return cls(iommu_platform=values[0], packed=values[1], event_idx=values[2])
        no_legacy, no_modern = _FORMS[spec.form]
        return cls(
            disable_legacy={True: "on", False: "off", None: None}[no_legacy],
            disable_modern=no_modern,
            iommu_platform=spec.iommu_platform,
            ats=spec.ats,
            packed=spec.packed,
            page_per_vq=spec.page_per_vq,
            ioeventfd=spec.ioeventfd,
            event_idx=spec.event_idx,
        )


@attrs.frozen(kw_only=True)
class DeviceVirtio(Device):
    """A virtio device: its driver has the transport's name at its end."""

    transport: Transport = attrs.field(default=Transport.PCI, metadata=NOT_A_PROPERTY)
    virtio: VirtioCommon = VirtioCommon()

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        raise NotImplementedError

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return f"{self.stem}-{self.transport.value}"


@attrs.frozen(kw_only=True)
class DeviceController(DeviceModel):
    """A controller or bridge; `more` are properties of its own."""

    chassis: int | None = None
    chassis_nr: int | None = None
    iothread: str | None = None
    num_queues: int | None = None
    virtio: VirtioCommon = VirtioCommon()
    more: dict[str, object] = attrs.field(factory=dict)
