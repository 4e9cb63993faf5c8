"""The second monitor of a machine, which is left free for people and tools."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from qorch.testing import Host


def ask_qemu(host: Host, command: str, **arguments: Any) -> Any:
    """One command on the monitor that is left free for people."""
    words = {key.replace("_", "-"): value for key, value in arguments.items()}
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(host.state.machine_run("web"))  # a path of any length
        sock.connect("monitor.sock")
        os.chdir("/")
        lines = sock.makefile("rw")
        lines.readline()
        for name, values in (("qmp_capabilities", {}), (command, words)):
            lines.write(json.dumps({"execute": name, "arguments": values}) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer
    return answer["return"]
