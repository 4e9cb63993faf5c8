"""UEFI variable stores: a machine's own copy of a template.

As qcow2 a store takes part in snapshots. Its virtual size is the template's, byte for byte: flash
has the size that firmware was built for.
"""

from __future__ import annotations

from pathlib import Path

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore, open_new_file
from qorch_storage.plan import Backing, ImageFormat
from qorch_storage.run import run


def make_variable_store(
    path: Path, image_format: ImageFormat, template: Backing, *, report: Report = ignore
) -> bool:
    """Make a store unless it is there; whether it was made. Raises StorageError."""
    if path.exists():
        return False
    try:
        with open_new_file(path, report=report) as new:
            report("copy variable store")
            run(
                [
                    *("qemu-img", "convert", "-f", template.format.value),
                    *("-O", image_format.value, str(template.path), str(new.path)),
                ],
                keep_fds=[new.lock_fd],
            )
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from error
    return True
