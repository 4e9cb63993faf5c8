"""Where a device sits: what the plan decides, under the names that QEMU's devices have for it."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Place:
    """A device's bus and its address there; a device has only what its bus has.

    `addr` is PCI's (`0x2.0x1`), `port` USB's (`1.2`), `nr` a virtio serial port's number,
    `scsi_id`, `lun` and `channel` SCSI's, `unit` IDE's and a floppy's, `iobase`, `irq` and
    `index` ISA's. `acpi_index` names a PCI device to the guest.
    """

    bus: str | None = None
    addr: str | None = None
    multifunction: bool | None = None
    port: str | None = None
    nr: int | None = None
    channel: int | None = None
    scsi_id: int | None = None
    lun: int | None = None
    unit: int | None = None
    iobase: int | None = None
    irq: int | None = None
    acpi_index: int | None = None
    index: int | None = None
