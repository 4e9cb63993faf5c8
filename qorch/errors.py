"""What can go wrong, in the user's words."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class QorchError(Exception):
    """The root of all of qorch's own errors: what is wrong, and what to do about it."""

    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.message


class WrongValueError(ValueError):
    """A value is not what its key takes; `hint` says what would be."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@attrs.frozen
class Problem:
    """One thing wrong with the input, and where: `vm.web.disk[0].size`.

    With `on_host` it is this host that lacks something: on another one the input may be right.
    """

    path: str
    message: str
    hint: str | None = None
    on_host: bool = False

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return text.replace("\n", "\\n")  # of a path: one problem is one line


@attrs.define(eq=False)
class InputError(QorchError):
    """What the user wrote cannot be done; every problem found is listed."""

    problems: tuple[Problem, ...] = ()

    @classmethod
    def from_problems(cls, problems: list[Problem]) -> InputError:
        """Join the problems of one input into one error; a single hint is kept as it is."""
        lines = "\n".join(str(problem) for problem in problems)
        hints = dict.fromkeys(
            problem.hint.replace("\n", "\\n") for problem in problems if problem.hint
        )
        return cls(lines, "\n".join(hints) or None, tuple(problems))


@attrs.define(eq=False)
class NotFoundError(QorchError):
    """There is no machine, network, pool or volume of that name."""


@attrs.define(eq=False)
class MachineError(QorchError):
    """A machine could not be started, stopped or reached."""


@attrs.define(eq=False)
class AgentError(QorchError):
    """The guest agent is not there, or refuses."""
