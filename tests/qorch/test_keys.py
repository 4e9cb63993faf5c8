"""Every key of vm.toml does something: none is taken and then forgotten."""

import ast
import sys
from pathlib import Path

import attrs
import goldens
import pytest

import qorch.spec
from qorch.spec import MachineSpec

ROOT = Path(qorch.spec.__file__).parents[1]
TAKES_IN = ("spec", "importxml", "check", "convert.py", "load.py", "schema.py")
LIBRARIES = ("/attr/", "/cattrs/", "<attrs ", "<cattrs ")


def find_classes():
    """The classes of all tables, by name."""
    found = {}
    for module in [sys.modules[name] for name in sys.modules if name.startswith("qorch.spec")]:
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                found |= {name: value} if attrs.has(value) else {}
    assert MachineSpec.__name__ in found
    return found


def takes_in(file):
    """Whether a file of the project only reads, checks or writes documents."""
    path = Path(file)
    return not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] in TAKES_IN


def find_words():
    """Every attribute that the rest of the project's code reads, and every word in it."""
    for path in ROOT.rglob("*.py"):
        if not takes_in(path):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    yield node.attr
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.fixture
def seen(monkeypatch):
    """Whose fields the rest of the project reads, while it is watched."""
    found = set()

    def watch(cls):
        names = {field.name for field in attrs.fields(cls)}

        def read(self, name):
            if name in names:
                frame = sys._getframe(1)
                while frame and any(part in frame.f_code.co_filename for part in LIBRARIES):
                    frame = frame.f_back
                if frame and not takes_in(frame.f_code.co_filename):
                    found.add(f"{cls.__name__}.{name}")
            return object.__getattribute__(self, name)

        monkeypatch.setattr(cls, "__getattribute__", read, raising=False)

    for cls in find_classes().values():
        watch(cls)
    return found


def test_every_key_is_read(seen):
    """On the way to QEMU's words, or else its name is somewhere in the code that runs machines."""
    for name in goldens.find_names():
        goldens.make_lines(name)
    known = set(find_words())
    unread = {
        f"{name}.{field.name}"
        for name, cls in find_classes().items()
        for field in attrs.fields(cls)
        if field.name not in known
    }
    assert unread - seen == set()
