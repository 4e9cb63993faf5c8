"""What the API asks of the supervisor; `qorch.supervisor` has it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    import trio

    from qorch.paths import StateDir
    from qorch.progress import Report
    from qorch.spec import Spec
    from qorch_storage.copies import Copy, Mode
    from qorch_storage.plan import ImageFormat, VolumePlan
    from qorch_storage.qemu_img import Check, Source


class Console(AsyncIterable[bytes], Protocol):
    """What a machine prints from now on (bounded; it says what it dropped), and its keyboard."""

    async def send(self, data: bytes, /) -> None:
        """Type."""


class Upload(Protocol):
    """An image on its way to a volume."""

    async def write(self, data: bytes) -> None:
        """Take a piece."""

    async def make_volume(self, source_format: ImageFormat, copy: Copy) -> None:
        """Make the volume, once all is there."""


class Download(Protocol):
    """An image file that a volume was made into."""

    @property
    def size(self) -> int:
        """Its bytes."""

    async def read(self, size: int) -> bytes:
        """Read some more; nothing at its end."""


class Storage(Protocol):
    """Pools and volumes. All raise StorageError; MissingError if there is no such thing."""

    async def find_pools(self) -> list[dict[str, object]]:
        """List the pools as `qorch pool ls --json` prints them."""

    async def show_pool(self, name: str) -> dict[str, object]:
        """Describe a pool as `qorch pool show --json` prints it."""

    async def find_volumes(self, pool: str | None = None) -> list[dict[str, object]]:
        """List the volumes as `qorch volume ls --json` prints them."""

    async def show_volume(self, pool: str, name: str) -> dict[str, object]:
        """Describe a volume as `qorch volume show --json` prints it."""

    async def find_tree(self) -> list[dict[str, object]]:
        """Tell what builds on what as `qorch volume tree --json` prints it."""

    def find_format(self, pool: str) -> ImageFormat:
        """Find the format that volumes of a pool have unless it is said."""

    async def create(self, plan: VolumePlan, *, report: Report) -> None:
        """Make a volume."""

    async def resize(self, pool: str, name: str, *, size: int, force: bool, report: Report) -> None:
        """Make a volume larger or smaller."""

    async def copy(
        self,
        pool: str,
        name: str,
        copy: Copy,
        *,
        mode: Mode,
        passphrase_file: Path | None,
        report: Report,
    ) -> None:
        """Clone or convert a volume."""

    async def import_file(self, source: Source, copy: Copy, *, report: Report) -> None:
        """Make a volume of an image on this host."""

    async def export_file(
        self,
        pool: str,
        name: str,
        *,
        path: Path,
        image_format: ImageFormat,
        compress: bool,
        passphrase_file: Path | None,
        report: Report,
    ) -> None:
        """Write a volume to a file on this host."""

    async def check(
        self, pool: str, name: str, *, repair: str | None, passphrase_file: Path | None
    ) -> Check:
        """Check a volume."""

    async def rename(self, pool: str, name: str, *, new: str, report: Report) -> None:
        """Give a volume another name."""

    async def wipe(self, pool: str, name: str, *, report: Report) -> None:
        """Overwrite and remove a volume."""

    async def remove(self, pool: str, name: str, *, report: Report) -> None:
        """Remove a volume."""

    def open_download(
        self, pool: str, name: str, image_format: ImageFormat, *, compress: bool
    ) -> AbstractAsyncContextManager[Download]:
        """Open a volume's export for reading."""

    def open_upload(self) -> AbstractAsyncContextManager[Upload]:
        """Open a place for an image that comes in pieces."""


class Export(Protocol):
    """Disks that are served."""

    @property
    def disks(self) -> tuple[str, ...]:
        """Their ids."""

    @property
    def over(self) -> trio.Event:
        """Set when they are served no longer."""


class Block(Protocol):
    """What is done to machines' disks. The errors are those of the supervisor's verbs."""

    def find_snapshots(self, name: str) -> list[dict[str, object]]:
        """List a machine's snapshots as `qorch snapshot ls --json` prints them."""

    async def create_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        report: Report,
        description: str = "",
        freeze: bool | None = None,
        memory: bool = False,
    ) -> None:
        """Make a snapshot."""

    async def revert_snapshot(
        self, name: str, snapshot: str, *, memory: bool = True, report: Report
    ) -> None:
        """Go back to a snapshot."""

    async def remove_snapshot(self, name: str, snapshot: str, *, report: Report) -> None:
        """Remove a snapshot."""

    async def move_disk(
        self, name: str, disk: str, *, report: Report, pool: str, image_format: str | None = None
    ) -> None:
        """Move a disk's data."""

    async def grow_disk(self, name: str, disk: str, *, report: Report, size: int) -> None:
        """Make a disk larger."""

    async def limit_disk(
        self, name: str, disk: str, *, report: Report, limits: Mapping[str, int]
    ) -> None:
        """Change what a disk may do."""

    async def change_medium(
        self, name: str, disk: str, *, report: Report, path: Path | None
    ) -> None:
        """Change what is in a drive."""

    async def flatten_disk(self, name: str, disk: str, *, report: Report) -> None:
        """Cut a disk off from what it builds on."""

    async def find_backups(self, name: str, directory: Path) -> list[dict[str, object]]:
        """List backups as `qorch backup ls --json` prints them."""

    async def create_backup(
        self,
        name: str,
        *,
        report: Report,
        directory: Path,
        incremental: bool = False,
        freeze: bool | None = None,
    ) -> None:
        """Make a backup."""

    async def restore_backup(
        self, name: str, *, report: Report, directory: Path, backup_id: str
    ) -> None:
        """Restore a backup."""

    def open_export(
        self,
        name: str,
        *,
        socket: Path,
        since: str | None = None,
        checkpoint: str | None = None,
        freeze: bool | None = None,
    ) -> AbstractAsyncContextManager[Export]:
        """Serve disks over NBD."""

    async def end_export(self, name: str) -> None:
        """Serve them no longer."""

    async def find_jobs(self) -> list[dict[str, object]]:
        """List jobs as `qorch job ls --json` prints them."""

    async def pause_machine(self, name: str, *, report: Report) -> None:
        """Pause a guest."""

    async def resume_machine(self, name: str, *, report: Report) -> None:
        """Let a guest go on."""

    async def cancel_job(self, name: str, job: str | None = None) -> None:
        """End jobs."""


class Networks(Protocol):
    """Networks and addresses. All raise NotFoundError if there is no such thing, and NetError."""

    def find_networks(self) -> list[dict[str, object]]:
        """List the networks as `qorch network ls --json` prints them."""

    async def show_network(self, name: str) -> dict[str, object]:
        """Describe a network as `qorch network show --json` prints it."""

    async def find_leases(self, name: str) -> list[dict[str, object]]:
        """List the addresses as `qorch network leases --json` prints them."""

    async def find_addresses(self, machine: str) -> list[dict[str, object]]:
        """List a machine's cards as `qorch ip --json` prints them."""

    async def up(self, name: str, *, report: Report) -> None:
        """Bring a network up."""

    async def down(self, name: str, *, report: Report) -> None:
        """Take a network down."""


class Supervisor(Protocol):
    """The verbs. All raise QorchError, NetError or StorageError; others are internal errors."""

    @property
    def state(self) -> StateDir:
        """Where its things are."""

    @property
    def storage(self) -> Storage:
        """Pools and volumes."""

    @property
    def block(self) -> Block:
        """What is done to disks."""

    @property
    def networks(self) -> Networks:
        """Networks and addresses."""

    async def remove_leftovers(self, *, report: Report) -> None:
        """Remove what belongs to nothing."""

    def find_machines(self) -> list[dict[str, object]]:
        """List the machines as `qorch ls --json` prints them."""

    async def show_machine(self, name: str) -> dict[str, object]:
        """Describe a machine as `qorch show --json` prints it."""

    async def plan(self, spec: Spec, *, report: Report, down: bool = False) -> Sequence[Any]:
        """List the changes: attrs values with `action`, `kind`, `name`, `detail`."""

    async def up(
        self, spec: Spec, *, report: Report, wait: float | None = None, restart: bool = False
    ) -> None:
        """Make the host what the spec says."""

    async def down(self, spec: Spec, *, report: Report, volumes: bool = False) -> None:
        """Remove what the spec defines."""

    async def start_machine(self, name: str, *, report: Report, wait: float | None = None) -> None:
        """Start a machine."""

    async def stop_machine(self, name: str, *, report: Report, grace: float | None = None) -> None:
        """Stop a machine."""

    async def restart_machine(
        self, name: str, *, report: Report, grace: float | None = None, wait: float | None = None
    ) -> None:
        """Stop a machine and start it again."""

    async def kill_machine(self, name: str, *, report: Report) -> None:
        """End a machine at once."""

    async def remove_machine(self, name: str, *, report: Report, volumes: bool = False) -> None:
        """Stop and forget a machine."""

    def open_console(self, name: str) -> AbstractContextManager[Console]:
        """Watch a serial console."""

    def find_log(self, name: str) -> Path:
        """Find the console log."""

    def open_events(
        self, machine: str | None = None
    ) -> AbstractContextManager[trio.MemoryReceiveChannel[dict[str, Any]]]:
        """Listen to events (bounded; they say what was dropped) of one machine or of all."""
