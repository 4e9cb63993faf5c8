"""Requests about machines' disks. Standard library only: the command line imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from qorch.client import Client, Report


class BlockClient(NamedTuple):
    """Snapshots, moves, backups and jobs, over a client of the control API.

    All methods raise ClientError. A request with `report` goes on if the client leaves.
    """

    client: Client

    def find_snapshots(self, name: str) -> list[dict[str, Any]]:
        """A machine's snapshots, parents first."""
        answer: list[dict[str, Any]] = self.client.ask("GET", _path(name, "snapshots"))
        return answer

    def create_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        report: Report,
        description: str = "",
        freeze: bool | None = None,
        memory: bool = False,
    ) -> None:
        """Freeze all disks of a machine as they are, at one moment, and keep its memory."""
        body = {"description": description, "freeze": freeze, "memory": memory}
        self.client.follow("POST", _path(name, "snapshots", snapshot), body, report)

    def revert_snapshot(
        self, name: str, snapshot: str, *, report: Report, memory: bool = True
    ) -> None:
        """Go back to a snapshot, and to its memory if it has any."""
        body = {"memory": memory}
        self.client.follow("POST", _path(name, "snapshots", snapshot, "revert"), body, report)

    def remove_snapshot(self, name: str, snapshot: str, *, report: Report) -> None:
        """Remove a snapshot, and merge what only it needed."""
        self.client.follow("DELETE", _path(name, "snapshots", snapshot), {}, report)

    def move_disk(
        self, name: str, disk: str, *, pool: str, report: Report, image_format: str | None = None
    ) -> None:
        """Move a disk's data into another pool or format."""
        body = {"pool": pool, "image_format": image_format}
        self.client.follow("POST", _path(name, "disks", disk, "move"), body, report)

    def grow_disk(self, name: str, disk: str, *, size: int, report: Report) -> None:
        """Make a disk `size` bytes large."""
        self.client.follow("POST", _path(name, "disks", disk, "resize"), {"size": size}, report)

    def limit_disk(self, name: str, disk: str, *, limits: dict[str, int], report: Report) -> None:
        """Change what a running disk may do, by the names of `throttle` in vm.toml."""
        body = {"limits": limits}
        self.client.follow("POST", _path(name, "disks", disk, "throttle"), body, report)

    def change_medium(
        self, name: str, disk: str, *, path: str | None, force: bool = False, report: Report
    ) -> None:
        """Put an image (an absolute path) into a drive, or take out what is in it.

        `force` opens a tray that the guest has locked.
        """
        body = {"path": path, "force": force}
        self.client.follow("POST", _path(name, "disks", disk, "medium"), body, report)

    def flatten_disk(self, name: str, disk: str, *, report: Report) -> None:
        """Cut a disk off from the images it builds on."""
        self.client.follow("POST", _path(name, "disks", disk, "flatten"), {}, report)

    def find_backups(self, name: str, directory: str) -> list[dict[str, Any]]:
        """The complete backups of a machine in a directory (an absolute path), oldest first."""
        path = _path(name, "backups") + f"?directory={quote(directory, safe='')}"
        answer: list[dict[str, Any]] = self.client.ask("GET", path)
        return answer

    def create_backup(
        self,
        name: str,
        directory: str,
        *,
        report: Report,
        incremental: bool = False,
        freeze: bool | None = None,
    ) -> None:
        """Copy a machine's disks into a directory, or what has changed since the last time."""
        body = {"directory": directory, "incremental": incremental, "freeze": freeze}
        self.client.follow("POST", _path(name, "backups"), body, report)

    def restore_backup(self, name: str, directory: str, backup: str, *, report: Report) -> None:
        """Give a stopped machine's disks what a backup holds."""
        body = {"directory": directory, "backup_id": backup}
        self.client.follow("POST", _path(name, "backups", "restore"), body, report)

    def serve_backup(
        self,
        name: str,
        socket: str,
        *,
        report: Report,
        since: str | None = None,
        checkpoint: str | None = None,
        freeze: bool | None = None,
    ) -> None:
        """Serve a machine's disks on a socket (an absolute path) until `end_export`.

        `report` is given one line, of the type `ready`, with the ids of the `disks`. If the client
        leaves, they are served no longer, and no checkpoint is kept.
        """
        body = {"socket": socket, "since": since, "checkpoint": checkpoint, "freeze": freeze}
        self.client.follow("POST", _path(name, "export"), body, report)

    def end_export(self, name: str) -> None:
        """End what `serve_backup` serves: all of it was read."""
        self.client.ask("DELETE", _path(name, "export"))

    def find_jobs(self) -> list[dict[str, Any]]:
        """What is being done to the disks of running machines."""
        answer: list[dict[str, Any]] = self.client.ask("GET", "/v1/jobs")
        return answer

    def pause_machine(self, name: str, *, report: Report) -> None:
        """Stop a guest's clock until it is resumed."""
        self.client.follow("POST", _path(name, "pause"), {}, report)

    def resume_machine(self, name: str, *, report: Report) -> None:
        """Let a guest go on that was paused, by somebody or for lack of space."""
        self.client.follow("POST", _path(name, "resume"), {}, report)

    def cancel_job(self, name: str, job: str | None = None) -> None:
        """End a machine's jobs, or one of them."""
        self.client.ask("DELETE", _path(name, "jobs"), {"job": job})


def _path(name: str, *more: str) -> str:
    words = (quote(word, safe="", errors="surrogatepass") for word in (name, *more))
    return "/".join(("/v1/machines", *words))
