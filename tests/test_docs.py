"""The documents say what is so: every key, command, option and file in them exists."""

from __future__ import annotations

import re
import shlex
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import click
import pytest

from qorch.cli.verbs import qorch as verbs
from qorch.convert import SHORT_KEYS, make_plain, toml_name
from qorch.load import load_text
from qorch.spec import (
    AddressSpec,
    ChardevSpec,
    MemoryBackendSpec,
    RateSpec,
    Spec,
    VhostUserSpec,
    VirtioSpec,
)

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
NONE = "–"  # noqa: RUF001  a dash, as it stands in the tables
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
NO_COMMANDS = {"CHANGELOG.md"}


def name_of(path: Path) -> str:
    """A path as it is called in the repository."""
    return str(path.relative_to(ROOT))


# -- vm.toml ---------------------------------------------------------------------------------------


SHARED = {  # small tables that stand in many places, described once
    AddressSpec: "`address = { … }`",
    ChardevSpec: "`backend = { … }` of ports",
    MemoryBackendSpec: "`backend = { … }` of memory",
    RateSpec: "`rate_in = { … }`, `rate_out = { … }`",
    VhostUserSpec: "`vhost_user = { … }`",
    VirtioSpec: "`virtio = { … }`",
}


def find_classes(kind: type, path: str = "") -> Iterator[tuple[str, type]]:
    """Every class of the spec with the header that its table has, but for the shared ones."""
    hints = typing.get_type_hints(kind)
    for field in attrs.fields(kind):
        inner = hints[field.name]
        arguments = [argument for argument in typing.get_args(inner) if argument is not Ellipsis]
        origin = typing.get_origin(inner)
        for item in arguments or [inner]:
            if not (isinstance(item, type) and attrs.has(item)) or item in SHARED:
                continue
            place = f"{path}.{toml_name(field)}".removeprefix(".")
            if isinstance(origin, type) and issubclass(origin, Mapping):
                place += ".NAME"
            yield (f"[[{place}]]" if origin is tuple else f"[{place}]"), item
            yield from find_classes(item, place)


CLASSES = {
    "The file": Spec,
    **{f"`{header}`": kind for header, kind in find_classes(Spec)},
    **{title: kind for kind, title in SHARED.items()},
}


def read_tables() -> dict[str, dict[str, list[str]]]:
    """The rows of docs/vm.toml.md by section and key; the cells without their backquotes."""
    text = (ROOT / "docs" / "vm.toml.md").read_text()
    sections = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in body.splitlines()
            if line.startswith("| `")
        ]
        sections[title] = {row[0].strip("` "): row for row in rows}
    return sections


def test_every_table_of_vm_toml_is_described():
    """docs/vm.toml.md has a section for each table that a vm.toml can have, and no other."""
    assert read_tables().keys() == CLASSES.keys()


@pytest.mark.parametrize("section", CLASSES)
def test_every_key_of_vm_toml_is_described(section):
    """A section lists the keys of its table, all of them and no other."""
    kind = CLASSES[section]
    known = {toml_name(field) for field in attrs.fields(kind)}
    assert read_tables()[section].keys() == known | set(SHORT_KEYS.get(kind.__name__, {}))


@pytest.mark.parametrize("section", CLASSES)
def test_every_key_of_vm_toml_has_a_meaning(section):
    """Each row says what the key means, and of what type it is."""
    for key, row in read_tables()[section].items():
        assert len(row) == 4, key
        assert all(cell.strip("… ") for cell in row), key


@pytest.mark.parametrize("section", CLASSES)
def test_defaults_of_vm_toml_are_as_described(section):
    """A section gives each plain default as it would be written."""
    rows = read_tables()[section]
    for field in attrs.fields(CLASSES[section]):
        described = rows[toml_name(field)][2].strip("`")
        assert described == write_default(field), toml_name(field)


def write_default(field) -> str:
    """A field's default as the table has it."""
    if field.default is attrs.NOTHING:
        return "required"
    table = isinstance(field.default, attrs.Factory | tuple) or attrs.has(type(field.default))
    if field.default is None or table:
        return NONE
    value = make_plain(field.default)
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'


# -- code blocks -----------------------------------------------------------------------------------


def find_blocks(language: str) -> Iterator[tuple[Path, int, str]]:
    """The fenced blocks of a language: document, line and text."""
    for document in DOCUMENTS:
        text = document.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield document, text.count("\n", 0, match.start()) + 1, match[1]


def as_parameters(blocks: Iterator[tuple[Path, int, str]]) -> list[typing.Any]:
    """Test parameters that are called by their place."""
    return [pytest.param(text, id=f"{name_of(doc)}:{line}") for doc, line, text in blocks]


def find_commands() -> Iterator[tuple[Path, int, str]]:
    """Lines of shell blocks and inline code that run qorch or one of our scripts."""
    for document, line, block in find_blocks("(?:sh|console)"):
        for offset, text in enumerate(block.splitlines()):
            command = text.removeprefix("$ ").partition(" #")[0].strip()
            if re.match(r"(sudo )?(\S*/)?(qorch|scripts/)", command):
                yield document, line + 1 + offset, command.removeprefix("sudo ")
    for document in DOCUMENTS:
        if document.name in NO_COMMANDS:
            continue
        prose = re.sub(r"^```.*?^```$", blank, document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for match in re.finditer(r"(?<!`)`((?:qorch |scripts/)[^`]+)`(?!`)", prose):
            command = " ".join(match[1].split())
            yield document, prose.count("\n", 0, match.start()) + 1, command


def blank(match: re.Match[str]) -> str:
    """As many lines, all empty."""
    return "\n" * match[0].count("\n")


def find_example_commands() -> Iterator[tuple[Path, int, str]]:
    """The commands in the comments of the examples."""
    for example in EXAMPLES:
        for number, line in enumerate(example.read_text().splitlines(), 1):
            if match := re.match(r"#.*?((?:qorch|scripts/\w+) .*?)(?:\s{2,}.*)?$", line):
                yield example, number, match[1]


@pytest.mark.parametrize("text", as_parameters(find_blocks("toml")))
def test_toml_in_documents_loads(text):
    """Every TOML block in the documents is a vm.toml without a mistake."""
    load_text(text, ROOT)


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_load(path):
    """Every example is a vm.toml without a mistake."""
    load_text(path.read_text(), path.parent)


def test_hello_boots_the_tiny_guest_as_it_wants():
    """examples/hello.toml has the tiny guest's own kernel command line."""
    path = ROOT / "examples" / "hello.toml"
    [vm] = load_text(path.read_text(), path.parent).vms.values()
    cmdline = (ROOT / "scripts" / "guests" / "files" / "tiny" / "cmdline").read_text().split()
    assert vm.append.split()[: len(cmdline)] == cmdline


@pytest.mark.parametrize("command", as_parameters([*find_commands(), *find_example_commands()]))
def test_commands_in_documents_exist(command):
    """Every command that the documents tell people to type has its script, verb and options."""
    words = shlex.split(re.split(r"\s[|>&]", command)[0])
    program = words.pop(0)
    if program.startswith("scripts/"):
        assert (ROOT / program).exists(), command
    elif Path(program).name == "qorch":
        check_qorch(words, command)


def check_qorch(words: list[str], command: str) -> None:
    """Follow the words through click's groups; every option must be one of its command."""
    here: click.Command = verbs
    context = click.Context(verbs)
    options = {option for parameter in here.params for option in parameter.opts}
    for word in words:
        if word.startswith("-") and word != "-":
            known = options | {"--help"}
            assert word.partition("=")[0] in known, f"{command}: no option {word}"
        elif isinstance(here, click.Group) and (found := here.get_command(context, word)):
            here = found
            for parameter in here.params:
                options |= {*parameter.opts, *parameter.secondary_opts}
        else:
            assert not isinstance(here, click.Group) or here is not verbs, f"{command}: {word}?"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    """Every link to a file of this repository leads to one."""
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), f"{name_of(document)}: {target}"
