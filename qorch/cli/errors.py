"""How a verb ends: exit status 0 done, 1 failed, 2 wrong input, 3 no such thing."""

from __future__ import annotations

import os
import sys

import click

from qorch.api.rendezvous import RendezvousError
from qorch.client import ClientError

DONE, FAILED, WRONG_INPUT, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130
_STATUS = {"input": WRONG_INPUT, "not-found": NOT_FOUND}


def run(command: click.Command) -> int:  # noqa: PLR0911  one return per kind of end
    """Run a command; every error is `error: …` and `hint: …` on stderr, never a traceback."""
    try:
        command.main(prog_name="qorch", standalone_mode=False)
        sys.stdout.flush()
    except ClientError as error:
        return _say(error.message, error.hint, _STATUS.get(error.kind, FAILED))
    except RendezvousError as error:
        return _say(error.message, error.hint, FAILED)
    except click.ClickException as error:
        return _say_usage(error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: be quiet
        return DONE
    except Exception as error:
        status = _status_of(error)
        if status is None:
            raise
        return _say(str(error), getattr(error, "hint", None), status)
    return DONE


def _status_of(error: Exception) -> int | None:
    """The status of an error of the library itself, which only some verbs have loaded."""
    if "qorch.errors" not in sys.modules:
        return None
    from qorch.errors import InputError, NotFoundError, QorchError
    from qorch_net.errors import NetError
    from qorch_storage.errors import StorageError

    if isinstance(error, InputError):
        return WRONG_INPUT
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    return FAILED if isinstance(error, QorchError | NetError | StorageError) else None


def _say_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else None
    return _say(error.format_message(), hint, WRONG_INPUT)


def _say(message: str, hint: str | None, status: int) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    for line in (hint or "").splitlines():
        print(f"hint: {line}", file=sys.stderr)
    return status
