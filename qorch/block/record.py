"""What is kept of a machine's images beside its definition, and what to do when it was cut short.

The **record** says where each disk's data is now if that is not the image that its description
names, which snapshots there are, and which images were made for them. It lives as long as the
images do: a machine that is forgotten and defined again has its data and its snapshots.

The **journal** is there as long as an operation that takes several steps. It is written before the
first image is made and removed when the record says what is so. Whoever finds one decides by what
is there. Does QEMU run? Then the graph knows whether the operation took effect. Else the step does:
an overlay that is complete reads the same as the image below it, so that a snapshot can always be
carried on with; and a copy may only be used once the guest's requests were held back and all was
flushed, which is written down as `pivoting`; and so it is that a snapshot's memory is complete, or
that all its thin snapshots are made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.block.backup import BackupPlan
from qorch.plan import DiskImages, MachinePlan
from qorch_storage.plan import Backing, PoolPlan, PoolType, VolumePlan

VERSION = 1
RUNNING = "running"  # a machine's state


@attrs.frozen(kw_only=True)
class Volume:
    """A volume of a pool that was made for a machine."""

    pool: PoolPlan
    volume: VolumePlan

    @property
    def image(self) -> Backing:
        """Its image."""
        path = self.pool.volume_path(self.volume.name, self.volume.format)
        return Backing(path=path, format=self.volume.format)


@attrs.frozen(kw_only=True)
class Snapshot:
    """A machine as it was at a time: the images of its disks, its memory, its plan.

    `state` is what it did then. `frozen` tells whether the guest's file systems were, and `memory`
    is the file with its memory.
    """

    name: str
    parent: str | None
    time: float
    description: str = ""
    state: str
    frozen: bool = False
    memory: Path | None = None
    disks: Mapping[str, Backing]
    plan: MachinePlan

    @property
    def ran(self) -> bool:
        """Whether the guest ran then."""
        return self.state == RUNNING


@attrs.frozen(kw_only=True)
class Saved:
    """The memory that a machine goes on from when it is started, and what it is started as then.

    With `loaded` QEMU has it: the guest may have run since, and it does not fit the disks any more.
    """

    version: int = VERSION
    snapshot: str
    memory: Path
    state: str
    plan: MachinePlan
    loaded: bool = False

    @property
    def runs(self) -> bool:
        """Whether the guest ran when its memory was saved."""
        return self.state == RUNNING


@attrs.frozen(kw_only=True)
class Record:
    """A machine's images and snapshots; `current` is the snapshot that it went on from."""

    version: int = VERSION
    disks: tuple[DiskImages, ...] = ()
    volumes: tuple[Volume, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    current: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing that the definition does not."""
        return self == Record()

    def find(self, name: str) -> Snapshot | None:
        """The snapshot of that name."""
        return next((item for item in self.snapshots if item.name == name), None)

    def images_of(self, disk: str) -> DiskImages | None:
        """Where a disk's data is, if that is elsewhere."""
        return next((item for item in self.disks if item.disk == disk), None)

    def with_chain(self, disk: str, origin: Path, chain: tuple[Backing, ...]) -> Record:
        """The record with a disk's data in `chain[0]`."""
        others = tuple(item for item in self.disks if item.disk != disk)
        new = DiskImages(disk=disk, origin=origin, chain=chain)
        return attrs.evolve(self, disks=(*others, new))

    def with_volumes(self, made: tuple[Volume, ...], gone: tuple[Path, ...] = ()) -> Record:
        """The record with volumes that were made, and without those that are gone."""
        kept = [item for item in self.volumes if item not in made]
        volumes = tuple(item for item in (*kept, *made) if item.image.path not in gone)
        return attrs.evolve(self, volumes=volumes)

    def with_snapshot(self, snapshot: Snapshot) -> Record:
        """The record with one more snapshot, from which the machine goes on."""
        return attrs.evolve(self, snapshots=(*self.snapshots, snapshot), current=snapshot.name)

    def without_snapshot(self, name: str) -> Record:
        """The record without a snapshot; what came after it comes after its parent."""
        gone = self.find(name)
        if gone is None:
            return self
        return attrs.evolve(
            self,
            snapshots=tuple(
                attrs.evolve(item, parent=gone.parent) if item.parent == name else item
                for item in self.snapshots
                if item.name != name
            ),
            current=gone.parent if self.current == name else self.current,
        )

    def with_image_replaced(self, old: Path, new: Backing) -> Record:
        """The record with one image in the place of another one in all snapshots."""
        return attrs.evolve(
            self,
            snapshots=tuple(
                attrs.evolve(
                    item,
                    disks={
                        disk: new if image.path == old else image
                        for disk, image in item.disks.items()
                    },
                )
                for item in self.snapshots
            ),
        )

    def named_images(self) -> set[Path]:
        """The images that a snapshot needs as they are."""
        return {image.path for item in self.snapshots for image in item.disks.values()}


class Verb(enum.StrEnum):
    """What an operation does."""

    SNAPSHOT = "snapshot"
    REVERT = "revert"
    MERGE = "merge"
    MOVE = "move"
    FLATTEN = "flatten"
    BACKUP = "backup"
    SERVE = "serve"
    RESTORE = "restore"
    MEDIUM = "medium"


class Step(enum.StrEnum):
    """How far an operation has come."""

    MAKING = "making"
    MADE = "made"
    PIVOTING = "pivoting"
    REPLACED = "replaced"


@attrs.frozen(kw_only=True)
class DiskChange:
    """One disk's image, before and after."""

    disk: str
    before: Backing
    after: Backing


@attrs.frozen(kw_only=True)
class Medium:
    """What a drive is to have in it, if anything, and the nodes before and after, by name."""

    disk: str
    image: Backing | None
    old: str | None
    new: str | None


@attrs.frozen(kw_only=True)
class Journal:
    """An operation that was begun. `made` is removed if it is undone, `drop` when it is done.

    `socket` is what disks are served on, and `bitmaps` are those that go when they are no more.
    """

    version: int = VERSION
    verb: Verb
    step: Step = Step.MAKING
    disks: tuple[DiskChange, ...] = ()
    made: tuple[Volume, ...] = ()
    drop: tuple[Volume, ...] = ()
    files: tuple[Path, ...] = ()
    snapshot: Snapshot | None = None
    plan: MachinePlan | None = None
    thaw: bool = False
    backup: BackupPlan | None = None
    socket: Path | None = None
    bitmaps: tuple[str, ...] = ()
    medium: Medium | None = None

    @property
    def memory(self) -> Path | None:
        """The file that a snapshot's memory is written to; of no use unless it is complete."""
        taken = self.snapshot if self.verb is Verb.SNAPSHOT else None
        return taken.memory if taken else None

    @property
    def copies(self) -> tuple[Volume, ...]:
        """The thin snapshots of a snapshot's disks; of no use unless all are made."""
        made = self.made if self.verb is Verb.SNAPSHOT else ()
        return tuple(volume for volume in made if volume.pool.type is PoolType.LVM_THIN)

    @property
    def holds(self) -> bool:
        """Whether the guest is stopped for a moment, until all is at one."""
        return self.memory is not None or bool(self.copies)

    def is_past(self, step: Step) -> bool:
        """Whether it has come to a step."""
        order = list(Step)
        return order.index(self.step) >= order.index(step)

    def at(self, step: Step) -> Journal:
        """The same, further on."""
        return attrs.evolve(self, step=step)


class Verdict(enum.Enum):
    """What is to be done with an operation that was cut short."""

    FINISH = "finish"
    UNDO = "undo"
    GO_ON = "go on"


def judge(journal: Journal, *, running: bool, tops: Mapping[str, Path], jobs: bool) -> Verdict:
    """Decide, by the images that QEMU has on top if it runs, and whether its jobs are there."""
    if journal.verb in {Verb.MERGE, Verb.FLATTEN, Verb.MEDIUM}:  # never taken back
        return Verdict.GO_ON
    if journal.verb is Verb.SERVE:  # nobody is there to serve to
        return Verdict.UNDO
    if running:
        if jobs and journal.step is not Step.MAKING:
            return Verdict.GO_ON
        done = all(tops.get(change.disk) == change.after.path for change in journal.disks)
        if not journal.disks:
            done = bool(journal.copies) and journal.is_past(Step.PIVOTING)
        return Verdict.FINISH if done else Verdict.UNDO
    if journal.verb is Verb.BACKUP:  # its jobs have died
        return Verdict.UNDO
    late = journal.verb is Verb.MOVE or journal.holds
    complete = Step.PIVOTING if late else Step.MADE
    return Verdict.FINISH if journal.is_past(complete) else Verdict.UNDO
