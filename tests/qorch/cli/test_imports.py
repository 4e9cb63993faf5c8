"""What the command line loads: it is started for every question."""

import re
import subprocess
import sys

SLOW = {"asyncio", "email", "http", "rich", "ssl", "subprocess", "tempfile", "unittest"}


def find_modules(qorch, *words):
    """The modules that a command loads."""
    command = [sys.executable, "-X", "importtime", *qorch.words[1:], *words]
    done = subprocess.run(command, env=qorch.env, capture_output=True, check=True, text=True)
    return set(re.findall(r"\| +\d+ \| +(\S+)", done.stderr))


def test_ls_loads_click_and_the_standard_library(qorch, served):
    """`qorch ls` loads no other library, and none of the slow modules of the standard one."""
    modules = find_modules(qorch, "ls")
    tops = {name.partition(".")[0] for name in modules}
    assert (
        tops - sys.stdlib_module_names - {"click", "qorch", "sitecustomize", "_distutils_hack"}
        == set()
    )
    assert tops & SLOW == set()


def test_ls_loads_few_modules_of_ours(qorch, served):
    """Of qorch itself a client needs no more than this."""
    ours = {name for name in find_modules(qorch, "ls") if name.startswith("qorch.")}
    assert ours <= {
        "qorch.api",
        "qorch.api.rendezvous",
        "qorch.api.wire",
        "qorch.cli",
        "qorch.cli.documents",
        "qorch.cli.errors",
        "qorch.cli.group",
        "qorch.cli.options",
        "qorch.cli.output",
        "qorch.cli.verbs",
        "qorch.client",
        "qorch.lock",
        "qorch.paths",
    }
