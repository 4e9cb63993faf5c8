"""The plugin that runs the tests marked `testbed` in the test VM, and reports them here.

One VM boots for all of them, and one pytest runs in it: what boots and imports takes half a minute.
Whichever process of pytest-xdist is first starts the VM, which runs beside all other tests; who
comes to a test of the VM's waits until it is through. A test without a complete report failed, and
shows how the VM ended.
"""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
MARKER = "testbed"
BOOT_SECONDS, TEST_SECONDS = 900, 120  # on a machine ten times slower than a quiet one
OUTPUT_END = 8000
GUESTS = ("bios", "tiny")  # that tests may ask for
WORDS = (
    *(sys.executable, "-m", "pytest", "-q", "-p", "testbed_inside", "-p", "pytest_trio.plugin"),
    *("-p", "qorch.testing.plugin", "-p", "no:cacheprovider"),
    # A test that hangs takes the rest with it, and shows where it stands.
    *("-o", "faulthandler_timeout=1200", "-o", "faulthandler_exit_on_timeout=true"),
)
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
TELL_END = 'status=0; "$@" || status=$?; echo $status >"$0"'
ENVIRONMENT = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONPATH": str(ROOT / "tests" / "lib"),
}


@attrs.define(eq=False)
class Run:
    """The VM's run for all tests of a session; its files are in a directory shared with it.

    It holds the lock until it has ended.
    """

    directory: Path
    names: tuple[str, ...]
    _process: subprocess.Popen | None = None

    def start(self):
        """Start it, unless another process has."""
        self.directory.mkdir(exist_ok=True)
        with self.lock.open("w") as lock, self.output.open("a") as output:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if self.ended.exists():
                return
            for guest in GUESTS:  # in there is no network to build them from
                subprocess.run(
                    [ROOT / "scripts" / "guest", guest], stdout=output, stderr=output, check=False
                )
            self._process = subprocess.Popen(
                [*DIES_WITH_US, "sh", "-c", TELL_END, self.ended, *DIES_WITH_US, *self._words()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
            )

    def _words(self):
        arguments = self.directory / "arguments"
        arguments.write_text("".join(f"{name}\n" for name in self.names))
        environment = {**ENVIRONMENT, "TESTBED_REPORTS": str(self.reports)}
        seconds = BOOT_SECONDS + TEST_SECONDS * len(self.names)
        yield from (ROOT / "scripts" / "testbed", "--timeout", str(seconds))
        yield from ("--modprobe", "kvm_amd", "--rw", self.directory)
        for item in environment.items():
            yield from ("--env", "=".join(item))
        yield from ("--", *WORDS, f"@{arguments}")

    def finish(self, *, end):
        """Wait for it, if it is ours; with `end`, have it end now."""
        if self._process is not None:
            if end:
                self._process.terminate()
            self._process.wait()

    def find_reports(self, name):
        """The reports of a test as plain data, once the VM is through."""
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        text = self.reports.read_text() if self.reports.exists() else ""
        whole = text.rpartition("\n")[0].splitlines()  # the last may be cut off with the VM
        return [data for data in map(json.loads, whole) if data["nodeid"] == name]

    def find_end(self):
        """How the VM's run ended, for a test that has no report."""
        text = self.output.read_text(errors="replace")[-OUTPUT_END:]
        status = self.ended.read_text().strip() if self.ended.exists() else "a signal"
        return f"scripts/testbed ended with {status}:\n{text}"

    @property
    def lock(self):
        return self.directory / "lock"

    @property
    def ended(self):
        return self.directory / "ended"

    @property
    def reports(self):
        return self.directory / "reports"

    @property
    def output(self):
        return self.directory / "output"


RUN = pytest.StashKey[Run]()


def pytest_itemcollected(item):
    """Mark them as live, too: they need root and take their time."""
    if item.get_closest_marker(MARKER):
        item.add_marker("live")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session, config, items):
    """Put what takes longest first, and last what the VM does meanwhile."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker(MARKER) is not None,
            item.get_closest_marker("slow") is None,
            item.get_closest_marker("live") is None,
        )
    )
    names = tuple(item.nodeid for item in items if item.get_closest_marker(MARKER))
    base = config._tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(config, "workerinput") else base
    session.stash[RUN] = Run(shared / MARKER, names)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """Start the VM."""
    run = session.stash.get(RUN, None)  # pytest-xdist's own process collects nothing
    if run is not None and run.names and not session.config.option.collectonly:
        run.start()


def pytest_sessionfinish(session, exitstatus):
    """Wait for the VM: others may."""
    if (run := session.stash.get(RUN, None)) is not None:
        run.finish(end=exitstatus == pytest.ExitCode.INTERRUPTED)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Report what the test did in the VM."""
    if item.get_closest_marker(MARKER) is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in make_reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    item.session._setupstate.teardown_exact(nextitem)  # of the test before, if it was none of ours
    return True


def make_reports(item):
    """The reports of a test's phases, and a failure if it did not come to its end."""
    run = item.session.stash[RUN]
    reports = [
        item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        for data in run.find_reports(item.nodeid)
    ]
    if not any(report.when == "teardown" for report in reports):
        reports.append(
            pytest.TestReport(
                nodeid=item.nodeid,
                location=item.location,
                keywords=dict.fromkeys(item.keywords, 1),
                outcome="failed",
                longrepr=run.find_end(),
                when="call",
            )
        )
    return reports
