"""The plugin of the pytest in the test VM: writes each report down for the pytest outside.

Loaded first, by `-p`. Python is some 20 times slower in there, and hypothesis alone would take 20 s
to import, because pytest-trio does so where it finds it.
"""

import json
import os
import sys
from pathlib import Path

import pytest

sys.modules["hypothesis"] = None  # importing it raises ImportError


class Writer:
    """Writes reports as lines of JSON."""

    def __init__(self, config, path):
        self.config = config
        self.path = path

    def pytest_runtest_logreport(self, report):
        """Append one."""
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with self.path.open("a") as file:
            file.write(json.dumps(data) + "\n")


def pytest_configure(config):
    """Write to the file that the pytest outside named."""
    config.pluginmanager.register(Writer(config, Path(os.environ["TESTBED_REPORTS"])))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Make a failure of what is skipped: the test VM has what any test asks for."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in the test VM, where nothing is to be: {report.longrepr}"
    return report
