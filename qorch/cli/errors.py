"""How a verb ends: exit status 0 done, 1 failed, 2 wrong input, 3 no such thing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

import click

from qorch.api.rendezvous import RendezvousError
from qorch.client import ClientError

DONE, FAILED, WRONG_INPUT, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130
_STATUS = {"input": WRONG_INPUT, "not-found": NOT_FOUND}


def run(command: click.Group) -> int:
    """Run a command; every error is `error: …` and `hint: …` on stderr, never a traceback."""
    try:
        try:
            _invoke(command, sys.argv[1:])
        finally:
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads: be quiet, also when Python flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if os.environ.get("QORCH_DEBUG"):
            raise
        return _say(*_describe(error))
    return DONE


def for_each(names: Iterable[str], act: Callable[[str], None]) -> None:
    """Act on each; those after one that fails get their turn, and all errors are told."""
    errors = []
    for name in names:
        try:
            act(name)
        except ClientError as error:
            errors.append(error)
    if errors:
        hints = dict.fromkeys(error.hint for error in errors if error.hint)
        message = "\n".join(error.message for error in errors)
        raise ClientError(errors[0].kind, message, "\n".join(hints) or None) from errors[0]


def _invoke(command: click.Group, words: list[str]) -> None:
    if "_QORCH_COMPLETE" in os.environ:
        command.main(prog_name="qorch")
    with command.make_context("qorch", words or ["--help"]) as context:
        command.invoke(context)


def _describe(error: Exception) -> tuple[str, str | None, int]:
    if isinstance(error, ClientError):
        return error.message, error.hint, _STATUS.get(error.kind, FAILED)
    if isinstance(error, RendezvousError):
        return error.message, error.hint, FAILED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"see {context.command_path} --help" if context else None
        return error.format_message(), hint, WRONG_INPUT
    if (status := _find_status(error)) is not None:
        return str(error), getattr(error, "hint", None), status
    message = f"internal error: {type(error).__name__}: {error}"
    return message, "this is a bug in qorch; QORCH_DEBUG=1 shows where", FAILED


def _find_status(error: Exception) -> int | None:
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


def _say(message: str, hint: str | None, status: int) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    for line in (hint or "").splitlines():
        print(f"hint: {line}", file=sys.stderr)
    return status
