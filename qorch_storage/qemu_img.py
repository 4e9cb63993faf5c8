"""The words that qemu-img is told, and what it answers in JSON. Pure.

A passphrase is never among the words: qemu-img is told the file that it is in. Paths are absolute
and go where a colon or a comma in them means nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from qorch_storage.plan import ImageFormat, Preallocation, VolumePlan

_KEY, _NEW_KEY = "key0", "key1"


@attrs.frozen(kw_only=True)
class Source:
    """An image to read, and the file with its passphrase if it is encrypted."""

    path: Path
    format: ImageFormat
    passphrase_file: Path | None = None


@attrs.frozen(kw_only=True)
class Target:
    """Where a copy goes. `there`: it exists with its size; `zeroed`: and reads as zeroes."""

    path: Path
    there: bool = False
    zeroed: bool = False


def make_create_words(path: Path, plan: VolumePlan, size: int) -> list[str]:
    """`qemu-img create` for a new image of a plan."""
    words = [
        "qemu-img",
        "create",
        "-q",
        *_secret_object(plan.passphrase_file),
        "-f",
        plan.format.value,
    ]
    if plan.backing is not None:
        words += ["-b", str(plan.backing.path.absolute()), "-F", plan.backing.format.value]
    return [*words, *_creation(plan), str(path.absolute()), str(int(size))]


def make_convert_words(
    source: Source, new: Target, plan: VolumePlan, *, compress: bool = False
) -> list[str]:
    """`qemu-img convert -p` of one image, and all it builds on, into a new one."""
    words = ["qemu-img", "convert", "-p", *(["-c"] if compress else []), *_image_words(source)]
    name = words.pop()
    if plan.passphrase_file is not None:
        words += _secret_object(plan.passphrase_file, _NEW_KEY)
        options = _image_options(new.path, plan.format, _NEW_KEY)
        return [*words, "-n", "--target-image-opts", name, options]
    there = ["-n", *(["--target-is-zero"] if new.zeroed else [])]
    words += there if new.there else _creation(plan)
    return [*words, "-O", plan.format.value, name, str(new.path.absolute())]


def make_check_words(source: Source, repair: str | None = None) -> list[str]:
    """`qemu-img check`; `repair` is `leaks` or `all`."""
    words = ["qemu-img", "check", "--output=json", *(["-r", repair] if repair else [])]
    return [*words, *_image_words(source)]


def make_resize_words(source: Source, size: int, preallocation: Preallocation) -> list[str]:
    """`qemu-img resize` to a number of bytes, larger or smaller."""
    words = ["qemu-img", "resize", "-q", "--shrink"]
    if preallocation is not Preallocation.OFF:
        words.append(f"--preallocation={preallocation}")
    return [*words, *_image_words(source), str(int(size))]


def make_measure_words(source: Source, image_format: ImageFormat) -> list[str]:
    """`qemu-img measure`: how many bytes an image takes in a format."""
    words = ["qemu-img", "measure", "--output=json", "-O", image_format.value]
    return [*words, *_image_words(source)]


def make_info_words(source: Source) -> list[str]:
    """`qemu-img info`, of an image that may be in use."""
    return ["qemu-img", "info", "--force-share", "--output=json", *_image_words(source)]


@attrs.frozen(kw_only=True)
class Check:
    """What `qemu-img check` found: clusters that are lost (`leaks`) and what is wrong."""

    corruptions: int
    leaks: int
    errors: int
    repaired: int
    allocated_clusters: int | None = None
    total_clusters: int | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.corruptions or self.leaks or self.errors)


def parse_check(text: str) -> Check:
    """Read the JSON of `qemu-img check`. Raises ValueError."""
    data = _parse(text)
    return Check(
        corruptions=_count(data, "corruptions"),
        leaks=_count(data, "leaks"),
        errors=_count(data, "check-errors"),
        repaired=_count(data, "corruptions-fixed") + _count(data, "leaks-fixed"),
        allocated_clusters=_count(data, "allocated-clusters", None),
        total_clusters=_count(data, "total-clusters", None),
    )


def parse_measure(text: str) -> int:
    """Read the JSON of `qemu-img measure`: the bytes that the content takes. Raises ValueError."""
    required: int = _count(_parse(text), "required", required=True)
    return required


@attrs.frozen(kw_only=True)
class Answer:
    """What `qemu-img info` says of one image."""

    virtual_size: int
    backing_file: str | None
    backing_format: str | None
    encrypted: bool
    dirty: bool


def parse_info(text: str) -> Answer:
    """Read the JSON of `qemu-img info`. Raises ValueError."""
    data = _parse(text)
    return Answer(
        virtual_size=_count(data, "virtual-size", required=True),
        backing_file=_optional_text(data, "backing-filename"),
        backing_format=_optional_text(data, "backing-filename-format"),
        encrypted=data.get("encrypted", False) is True,
        dirty=data.get("dirty-flag", False) is True,
    )


def _creation(plan: VolumePlan) -> list[str]:
    options: dict[str, object] = {
        "preallocation": None if plan.preallocation is Preallocation.OFF else plan.preallocation,
        "cluster_size": plan.cluster_size,
        "compression_type": plan.compression,
        "lazy_refcounts": "on" if plan.lazy_refcounts else None,
    }
    if plan.passphrase_file is not None and plan.format is ImageFormat.LUKS:
        options["key-secret"] = _KEY
    elif plan.passphrase_file is not None:
        options |= {"encrypt.format": "luks", "encrypt.key-secret": _KEY}
    text = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
    return ["-o", text] if text else []


def _secret_object(secret: Path | None, name: str = _KEY) -> list[str]:
    if secret is None:
        return []
    return ["--object", f"secret,id={name},file={_doubled(secret.absolute())}"]


def _image_words(source: Source) -> list[str]:
    if source.passphrase_file is None:
        return ["-f", source.format.value, str(source.path.absolute())]
    options = _image_options(source.path, source.format, _KEY)
    return [*_secret_object(source.passphrase_file), "--image-opts", options]


def _image_options(path: Path, image_format: ImageFormat, key: str | None) -> str:
    options = f"driver={image_format},file.filename={_doubled(path.absolute())}"
    if key is None:
        return options
    return f"{options},{'' if image_format is ImageFormat.LUKS else 'encrypt.'}key-secret={key}"


def _doubled(path: Path) -> str:
    return str(path).replace(",", ",,")


def _parse(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(data, dict):
        raise ValueError(f"{text[:80]!r} is no JSON object")  # noqa: TRY004  wrong input
    return data


def _count(data: dict[str, Any], key: str, default: Any = 0, *, required: bool = False) -> Any:
    value = data.get(key, default)
    if value is default and not required:
        return value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {value!r}, which is no count")
    return value


def _optional_text(data: dict[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, which is no text")
    return value
