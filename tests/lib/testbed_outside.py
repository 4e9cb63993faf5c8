"""The plugin that runs the tests marked `testbed` in the test VM, and reports them here.

One VM boots for all of them, and one pytest runs in it: what boots and imports takes half a minute.
Whichever process of pytest-xdist comes to such a test first runs the VM; the others wait for it.
A test without a complete report failed, and shows how the VM ended.
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
ENVIRONMENT = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONPATH": str(ROOT / "tests" / "lib"),
}


@attrs.frozen
class Run:
    """The VM's run for all tests of a session; its files are in a directory shared with it."""

    directory: Path
    names: tuple[str, ...]

    def find_reports(self, name):
        """The reports of a test as plain data, after the VM's run, which is done if need be."""
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.ended.exists():
                self.run()
        text = self.reports.read_text() if self.reports.exists() else ""
        whole = text.rpartition("\n")[0].splitlines()  # the last may be cut off with the VM
        return [data for data in map(json.loads, whole) if data["nodeid"] == name]

    def run(self):
        """Run all tests in the VM."""
        arguments = self.directory / "arguments"
        arguments.write_text("".join(f"{name}\n" for name in self.names))
        environment = {**ENVIRONMENT, "TESTBED_REPORTS": str(self.reports)}
        seconds = BOOT_SECONDS + TEST_SECONDS * len(self.names)
        with self.output.open("w") as output:
            for guest in GUESTS:  # in there is no network to build them from
                subprocess.run(
                    [ROOT / "scripts" / "guest", guest], stdout=output, stderr=output, check=False
                )
            done = subprocess.run(
                [
                    *("setpriv", "--pdeathsig", "TERM"),  # it must not outlive us
                    *(ROOT / "scripts" / "testbed", "--timeout", str(seconds)),
                    *("--modprobe", "kvm_amd", "--rw", self.directory),
                    *(word for item in environment.items() for word in ("--env", "=".join(item))),
                    *("--", *WORDS, f"@{arguments}"),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        self.ended.write_text(f"{done.returncode}\n")

    def find_end(self):
        """How the VM's run ended, for a test that has no report."""
        text = self.output.read_text(errors="replace")[-OUTPUT_END:]
        return f"scripts/testbed ended with {self.ended.read_text().strip()}:\n{text}"

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
    """Mark them as live, too: they need root and take their time; one worker waits for them all."""
    if item.get_closest_marker(MARKER):
        item.add_marker("live")
        item.add_marker(pytest.mark.xdist_group(MARKER))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session, config, items):
    """Put what takes longest first: the VM, then whole distributions, then what is live."""
    first = (MARKER, "slow", "live")
    items.sort(key=lambda item: tuple(item.get_closest_marker(name) is None for name in first))
    names = tuple(find_name(item) for item in items if item.get_closest_marker(MARKER))
    base = config._tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(config, "workerinput") else base
    session.stash[RUN] = Run(shared / MARKER, names)


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


def find_name(item):
    """A test's name, to which pytest-xdist adds the name of its group."""
    return item.nodeid.removesuffix(f"@{MARKER}")


def make_reports(item):
    """The reports of a test's phases, and a failure if it did not come to its end."""
    run = item.session.stash[RUN]
    reports = [
        item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        for data in run.find_reports(find_name(item))
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
