"""Who may import whom: one table over the real modules; a wrong import fails with its line."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
PACKAGES = ("qorch", "qorch_net", "qorch_storage")


@attrs.frozen
class Layer:
    """Modules, or packages with all that is in them, that know only layers above them here.

    Those of one layer do not know each other, but what is in a package knows the rest of it.
    A still layer touches no world: no clock, files, sockets, processes or event loop.
    """

    names: frozenset[str]
    still: bool


def still(*names: str) -> Layer:
    """A layer that touches no world."""
    return Layer(frozenset(names), still=True)


def moving(*names: str) -> Layer:
    """A layer that may."""
    return Layer(frozenset(names), still=False)


LAYERS = [  # lowest first
    # -- qorch_net: knows nothing of the others
    still("qorch_net.errors"),
    still("qorch_net.attributes", "qorch_net.plan", "qorch_net.records", "qorch_net.steps"),
    still("qorch_net.host", "qorch_net.rules", "qorch_net.sockets", "qorch_net.uplink"),
    still("qorch_net.check", "qorch_net.expressions", "qorch_net.notes", "qorch_net.shaping"),
    still("qorch_net.dnsmasq.config", "qorch_net.dnsmasq.leases", "qorch_net.foreign"),
    moving("qorch_net.netlink", "qorch_net.process", "qorch_net.forwarding", "qorch_net.sysctl"),
    moving("qorch_net.iptables", "qorch_net.listeners", "qorch_net.managers", "qorch_net.watch"),
    moving("qorch_net.firewalls", "qorch_net.macvtap", "qorch_net.plug"),
    moving("qorch_net.dnsmasq", "qorch_net.enslave", "qorch_net.probe", "qorch_net.tap"),
    moving("qorch_net.filter", "qorch_net.interfaces"),
    moving("qorch_net.network"),
    moving("qorch_net"),
    # -- qorch_storage: the same
    still("qorch_storage.errors"),
    still("qorch_storage.names", "qorch_storage.policy", "qorch_storage.qcow2"),
    still("qorch_storage.plan", "qorch_storage.lvm.report"),
    still("qorch_storage.info", "qorch_storage.foreign", "qorch_storage.qemu_img"),
    still("qorch_storage.tree"),
    moving("qorch_storage.files", "qorch_storage.locks", "qorch_storage.run"),
    moving("qorch_storage.firmware", "qorch_storage.image", "qorch_storage.lvm"),
    moving("qorch_storage.seed"),
    moving("qorch_storage.pool"),
    moving("qorch_storage.pools"),
    moving("qorch_storage.copies", "qorch_storage.volumes"),
    moving("qorch_storage"),
    # -- qorch: the road
    still("qorch.errors", "qorch.option", "qorch.paths", "qorch.place", "qorch.progress"),
    still("qorch.units", "qorch.url"),
    still("qorch.spec"),
    still("qorch.firmware", "qorch.capabilities", "qorch.capabilities.values"),
    still("qorch.check", "qorch.convert", "qorch.facts", "qorch.switch", "qorch.qmp.errors"),
    still("qorch.importxml", "qorch.schema"),
    still("qorch.load", "qorch.plan", "qorch.qmp.session"),
    still("qorch.helper"),
    still("qorch.handles", "qorch.block.graph", "qorch.block.jobs", "qorch.block.nodes"),
    still("qorch.block.commands"),
    still("qorch.block.backup"),
    still("qorch.block.record"),
    still("qorch.block.tree"),
    still("qorch.argv"),
    still("qorch.capabilities.check"),
    moving("qorch.capabilities.ask"),
    moving("qorch.capabilities.fit"),
    moving("qorch.lock", "qorch.nursery", "qorch.probe_devices", "qorch.process", "qorch.sockets"),
    moving("qorch.vsock"),
    moving("qorch.probe", "qorch.qmp", "qorch.state"),
    moving("qorch.agent", "qorch.console", "qorch.cmdline"),
    moving("qorch.helpers", "qorch.migration"),
    moving("qorch.machine", "qorch.resources", "qorch.block"),
    moving("qorch.leftovers", "qorch.ready"),
    moving("qorch.doctor"),
    moving("qorch.supervisor"),
    moving("qorch.api"),
    moving("qorch.client", "qorch.serve"),
    moving("qorch.block_client", "qorch.network_client", "qorch.storage_client"),
    moving("qorch.cli", "qorch.testing"),
    moving("qorch", "qorch.__main__"),
]

WORLD = frozenset(
    {"asyncio", "ctypes", "datetime", "fcntl", "os", "pwd", "random", "secrets", "select"}
    | {"shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "trio"}
    | {"urllib", "http", "logging", "psutil", "pycdlib", "pyroute2", "starlette", "hypercorn"}
)
STILL_MAY = {  # pure functions in modules that are not
    ("qorch.check.board", "datetime"): "whether there is such a day",
    ("qorch.importxml.features", "datetime"): "a point in time from its number",
    ("qorch.importxml.source", "urllib"): "urllib.parse.quote",
    ("qorch.paths", "os"): "os.fsencode",
    ("qorch.url", "urllib"): "urllib.parse",
    ("qorch_net.dnsmasq.leases", "datetime"): "datetime.fromtimestamp",
    ("qorch_net.expressions", "sys"): "sys.byteorder",
    ("qorch_net.sockets", "sys"): "sys.byteorder",
    ("qorch.argv.machine", "datetime"): "times that are given",
}
ONLY_IN = {  # a library is known in one place
    "asyncio": (),
    "cattrs": ("qorch.convert", "qorch.load", "qorch.state"),
    "click": ("qorch.cli",),
    "hypercorn": ("qorch.api.serve",),
    "psutil": ("qorch.process", "qorch_net.process"),
    "pycdlib": ("qorch_storage.seed",),
    "pyroute2": ("qorch_net.netlink",),
    "pytest": ("qorch.testing",),
    "qemu": ("qorch.qmp",),
    "rich": ("qorch.cli",),
    "starlette": ("qorch.api",),
    "tomllib": ("qorch.load",),
}
KNOWS_ONLY = {  # of the project's own modules; narrower than the layers
    "qorch_net": ("qorch_net",),
    "qorch_storage": ("qorch_storage",),
    # The command line is a client of the API and nothing else, but for `cmdline`, `import-xml` and
    # `schema`, which need none, `doctor` and `gc`, which look at the host, and `serve` and
    # `up --foreground`, which are a supervisor.
    "qorch.client": ("qorch.api.rendezvous", "qorch.api.wire", "qorch.paths"),
    "qorch.block_client": ("qorch.client",),
    "qorch.cli": (
        *("qorch.cli", "qorch.client", "qorch.cmdline", "qorch.serve"),
        *("qorch.block_client", "qorch.storage_client"),
        *("qorch.importxml", "qorch.schema"),
        *("qorch.doctor", "qorch.leftovers", "qorch.network_client"),
        *("qorch.api.rendezvous", "qorch.paths", "qorch.progress", "qorch.units"),
        *("qorch.errors", "qorch_net.errors", "qorch_storage.errors"),
    ),
    # The API is handed a supervisor; which one is none of its business.
    "qorch.api": (
        *(
            "qorch.api",
            "qorch.block.commands",
            "qorch.load",
            "qorch.lock",
            "qorch.paths",
            "qorch.progress",
            "qorch.spec",
            "qorch.units",
        ),
        *("qorch.errors", "qorch_net.errors", "qorch_storage.errors"),
        *("qorch_storage.copies", "qorch_storage.plan", "qorch_storage.qemu_img"),  # values only
    ),
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def is_within(name: str, place: str) -> bool:
    """Whether a module is that one, or in that package."""
    return name == place or name.startswith(f"{place}.")


@cache
def find_layer(name: str) -> tuple[int, str]:
    """The layer that lists a module, or a package around it: its index and the entry."""
    entries = [
        (entry, index)
        for index, layer in enumerate(LAYERS)
        for entry in layer.names
        if is_within(name, entry) and (entry not in PACKAGES or entry == name)
    ]
    assert entries, f"{name} is in no layer: add it to LAYERS"
    entry, index = max(entries, key=lambda found: len(found[0]))
    return index, entry


def find_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file names in import statements, wherever they stand, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else node.module), node.lineno


@functools.cache
def find_all_imports() -> list[tuple[str, str, str]]:
    """Each module, what it imports, and words for the message."""
    return [
        (name, target, f"{path.relative_to(ROOT)}:{line}: {name} imports {target}")
        for name, path in sorted(MODULES.items())
        for target, line in find_imports(path)
    ]


def find_narrow(name: str) -> tuple[str, ...]:
    """The modules of the project that a module may know; the layers may say less."""
    return next((known for place, known in KNOWS_ONLY.items() if is_within(name, place)), PACKAGES)


def test_imports_go_down():
    """A module imports only modules of lower layers, or of its own package."""
    for name, target, where in find_all_imports():
        if target in MODULES:
            mine, entry = find_layer(name)
            theirs, other = find_layer(target)
            assert theirs < mine or other == entry, f"{where}, which is not below it"
            if LAYERS[mine].still:
                assert LAYERS[theirs].still, f"{where}, which is not still"


def test_what_is_still_touches_no_world():
    """Still modules import nothing that could read a clock, a file, a socket or a process."""
    for name, target, where in find_all_imports():
        if LAYERS[find_layer(name)[0]].still:
            top = target.partition(".")[0]
            assert top not in WORLD or (name, top) in STILL_MAY, f"{where}, but it is still"


def test_libraries_stay_in_their_place():
    """pyroute2, psutil, qemu.qmp, click and the others are known where the table says."""
    for name, target, where in find_all_imports():
        places = ONLY_IN.get(target.partition(".")[0])
        if places is not None:
            assert any(is_within(name, place) for place in places), f"{where}; only {places} may"


def test_packages_know_only_what_they_should():
    """The sister packages know nobody, the command line only what a client of the API needs."""
    for name, target, where in find_all_imports():
        if target.partition(".")[0] in PACKAGES:
            known = find_narrow(name)
            assert any(is_within(target, place) for place in known), f"{where}; it knows {known}"


def test_every_module_is_in_a_layer():
    """Also one that imports nothing."""
    for name in MODULES:
        assert find_layer(name)


def test_the_table_names_only_what_is_there():
    """An entry without a module is a mistake, or left over."""
    entries = {entry for layer in LAYERS for entry in layer.names}
    stale = entries - MODULES.keys()
    assert not stale
    assert {name for name, _ in STILL_MAY} <= MODULES.keys()
