"""Quantities and names as people write them. All of them render back to what was read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Self

from qorch.errors import WrongValueError

Value = bool | int | str
"""What a property of QEMU's can be."""

_SIZES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "PiB": 1 << 50,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_DURATIONS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_DURATION = 100 * 365 * 86_400_000  # ms; a float of seconds still tells them apart
_LAST_CPU = 8191  # NR_CPUS of the largest kernels
_RATES = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
_LARGEST_RATE = 10**12
_SIZE = 'a number and a unit: "512MiB", "10GiB"'
_MAC = 'such as "52:54:00:12:34:56"; leave it out, and one is chosen'
_LARGEST_SIZE = (1 << 63) - 1  # QEMU's and the kernel's off_t


class Size(int):
    """A number of bytes, written with a unit: `"512MiB"`."""

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a size; ValueError says what is wrong with it."""
        if isinstance(text, int | float) and not isinstance(text, bool):
            raise WrongValueError(f'{text!r} has no unit: write "{text}MiB", for example', _SIZE)
        if not isinstance(text, str):
            raise WrongValueError(f"{text!r} is not a size", _SIZE)
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
        if match is None:
            raise WrongValueError(f"{text!r} is not a size", _SIZE)
        number, unit = match.groups()
        if not unit:
            raise WrongValueError(f'{text!r} has no unit: write "{number}MiB", for example', _SIZE)
        if unit not in _SIZES:
            message = f"{text!r} is not a size: the units are {', '.join(_SIZES)}"
            raise WrongValueError(message, _SIZE)
        size = Fraction(number) * _SIZES[unit]
        if size > _LARGEST_SIZE:
            message = f"{text!r} is more than any disk or memory can have"
            raise WrongValueError(message, _SIZE)
        if size.denominator != 1:
            raise WrongValueError(f"{text!r} is not a whole number of bytes", _SIZE)
        return cls(size)

    def __str__(self) -> str:
        for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
            if self and self % _SIZES[unit] == 0:
                return f"{self // _SIZES[unit]}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"


class Duration(float):
    """A number of seconds, exact to the millisecond, written with a unit: `"30s"`."""

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a duration; ValueError says what is wrong with it."""
        match = re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text if isinstance(text, str) else ""
        )
        if match is None or match[2] not in _DURATIONS:
            raise WrongValueError(
                f"{text!r} is not a duration",
                f'write "30s"; the units are {", ".join(_DURATIONS)}',
            )
        milliseconds = Fraction(match[1]) * _DURATIONS[match[2]]
        if milliseconds.denominator != 1 or milliseconds > _LONGEST_DURATION:
            message = f"{text!r} is not a whole number of milliseconds within 100 years"
            raise WrongValueError(message, 'such as "30s" or "1500ms"')
        return cls(int(milliseconds) / 1000)

    def __str__(self) -> str:
        return f"{round(self * 1000)}ms" if self % 1 else f"{int(self)}s"


class Rate(int):
    """A number of bits a second, written with a unit: `"100Mbit"`."""

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a rate; ValueError says what is wrong with it."""
        match = re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text if isinstance(text, str) else ""
        )
        if match is None or match[2] not in _RATES:
            raise WrongValueError(
                f"{text!r} is not a rate", 'write "100Mbit"; the units are bits a second'
            )
        rate = Fraction(match[1]) * _RATES[match[2]]
        if rate.denominator != 1 or not 8 <= rate <= _LARGEST_RATE:
            message = f"{text!r} is not a whole number of bits a second up to 1 Tbit"
            raise WrongValueError(message, 'such as "100Mbit"')
        return cls(rate)

    def __str__(self) -> str:
        for unit in ("Tbit", "Gbit", "Mbit", "kbit"):
            if self and self % _RATES[unit] == 0:
                return f"{self // _RATES[unit]}{unit}"
        return f"{int(self)}bit"

    def __repr__(self) -> str:
        return f"Rate({str(self)!r})"


class Mac(str):
    """A unicast MAC address in lower case with colons."""

    __slots__ = ()

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a MAC address; ValueError says what is wrong with it."""
        mac = str(text).lower().replace("-", ":")
        if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
            raise WrongValueError(f"{text!r} is not a MAC address", _MAC)
        if int(mac[:2], 16) & 1:
            message = f"{text!r} is a multicast address: its first octet must be even"
            raise WrongValueError(message, _MAC)
        return cls(mac)


class Name(str):
    """The name of a machine, network, pool or volume: one label of a host name (RFC 1123)."""

    __slots__ = ()

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a name; ValueError says what is wrong with it."""
        if not isinstance(text, str) or not re.fullmatch(
            r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text
        ):
            raise WrongValueError(
                f"{text!r} is no valid host name",
                "use up to 63 lower-case letters, digits and hyphens, with a letter or digit first"
                " and last",
            )
        return cls(text)


class CpuSet(frozenset[int]):
    """Host CPUs, written as a number or as the kernel writes lists: `"0-3,8"`."""

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a set of CPUs; ValueError says what is wrong with it."""
        if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
            return cls([text])
        if not isinstance(text, str) or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            raise WrongValueError(f"{text!r} is not a set of CPUs", 'write 3 or "0-3,8"')
        cpus: set[int] = set()
        for part in text.split(","):
            first, _, last = part.partition("-")
            low, high = int(first), int(last or first)
            if low > high:
                message = f"{text!r}: in {part} the larger number comes first"
                raise WrongValueError(message, f'write "{high}-{low}"')
            if high > _LAST_CPU:
                raise WrongValueError(f"{text!r}: no host has a CPU {high}", "they count from 0")
            cpus.update(range(low, high + 1))
        return cls(cpus)

    def __str__(self) -> str:
        return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in _runs(sorted(self)))


class Pin(CpuSet):
    """The host CPUs of a vCPU; `"any"`, which is none of them, leaves it where it is."""

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a set of CPUs, or `any`; ValueError says what is wrong with it."""
        return cls() if text == "any" else super().from_text(text)

    def __str__(self) -> str:
        return super().__str__() or "any"


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
