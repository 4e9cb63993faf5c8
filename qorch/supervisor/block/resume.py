"""What to do with an operation that was cut short: by an error, a cancelled job, or a death."""

from __future__ import annotations

from qorch.block.jobs import make_job_id
from qorch.block.record import DiskChange, Journal, Step, Verb, Verdict, judge
from qorch.supervisor.block.backup import end_backup, undo_backup
from qorch.supervisor.block.finish import finish, undo
from qorch.supervisor.block.freeze import thaw
from qorch.supervisor.block.memory import let_go_on
from qorch.supervisor.block.merge import find_images, merge_images, tidy
from qorch.supervisor.block.move import copy_disk, end_move, end_stream, stream_disk
from qorch.supervisor.block.serve import take_down
from qorch.supervisor.block.settings import resume_medium
from qorch.supervisor.block.work import Work


async def resume(work: Work, *, go_on: bool) -> None:
    """Finish or undo what the journal says was begun; with `go_on`, also take jobs over.

    Raises MachineError, StorageError.
    """
    journal = work.records.read_journal(work.name)
    if journal is None:
        return
    verdict = await _judge(work, journal, go_on=go_on)
    if verdict is Verdict.UNDO and journal.holds and journal.step is Step.PIVOTING:
        journal = work.save(journal, Step.MADE)  # the guest goes on: nothing fits its disks then
    await let_go_on(work, journal)
    if journal.thaw and work.machine is not None:
        await thaw(work)
    match verdict:
        case Verdict.FINISH if journal.verb is Verb.MOVE:
            await end_move(work, journal)
        case Verdict.FINISH:
            await finish(work, journal)
        case Verdict.UNDO if journal.verb is Verb.BACKUP:
            await undo_backup(work, journal)
        case Verdict.UNDO if journal.verb is Verb.SERVE:
            await take_down(work, journal)
        case Verdict.UNDO:
            await undo(work, journal)
        case Verdict.GO_ON:
            await _go_on(work, journal, go_on=go_on)


async def _judge(work: Work, journal: Journal, *, go_on: bool) -> Verdict:
    running = work.machine is not None
    tops, jobs = {}, False
    if running:
        graph = await work.graph()
        tops = {disk: path for disk in graph.disks if (path := graph.top(disk)) is not None}
        found = await work.jobs()
        jobs = go_on and any(
            make_job_id(journal.verb, change.disk) in found for change in journal.disks
        )
    return judge(journal, running=running, tops=tops, jobs=jobs)


async def _go_on(work: Work, journal: Journal, *, go_on: bool) -> None:
    match journal.verb:
        case Verb.MERGE:
            await _go_on_merging(work, journal, go_on=go_on)
        case Verb.MOVE:
            await copy_disk(work, journal)
        case Verb.FLATTEN if go_on:
            await stream_disk(work, journal)
        case Verb.FLATTEN:
            await end_stream(work, journal)
        case Verb.MEDIUM if journal.medium is not None:
            await resume_medium(work, journal.medium)
        case Verb.BACKUP:
            await end_backup(work, journal)
        case _:
            await undo(work, journal)


async def _go_on_merging(work: Work, journal: Journal, *, go_on: bool) -> None:
    """Merge again, unless somebody has just cancelled that; the snapshot is gone either way."""
    if journal.snapshot is not None:
        name = journal.snapshot.name
        await work.put({}, work.record.without_snapshot(name))
    for change in journal.disks:
        images = await find_images(work, change.disk)
        if change.before.path in images.all and (go_on or await _is_merged(work, change)):
            await merge_images(work, journal)
    if go_on:
        await tidy(work, files=journal.files)
    else:
        work.records.clear_journal(work.name)


async def _is_merged(work: Work, change: DiskChange) -> bool:
    """Whether QEMU has put the lower image in the place of the upper one."""
    disk = (await work.graph()).disks.get(change.disk)
    return disk is not None and change.before.path not in disk.chain
