"""A whole distribution on UEFI with Secure Boot, a TPM, a share and an agent."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio

from qorch.agent import Agent, open_agent
from qorch.block_client import BlockClient
from qorch.errors import AgentError
from qorch.testing import Host

pytestmark = [pytest.mark.live, pytest.mark.slow]

DOCUMENT = """
[vm.web]
cpus = 2
memory = "1GiB"
accel = "tcg"
firmware = {{ type = "uefi", secure_boot = true }}
tpm = "2.0"
guest_agent = true
cloud_init = {{ hostname = "web" }}

[[vm.web.disk]]
backing = "{debian}/disk.qcow2"

[[vm.web.share]]
path = "{share}"
tag = "data"
"""
VARIABLE = "/sys/firmware/efi/efivars/Qorch-d9a1c6ae-5a0e-4a30-8d1c-0f6c1b8e6c11"
FIRST = f"""
set -e
mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
printf '\\007\\000\\000\\000kept' >{VARIABLE}
echo "tpm $(cat /sys/class/tpm/tpm0/tpm_version_major)"
echo "pcr $(cat /sys/class/tpm/tpm0/pcr-sha256/0)"
echo "secure $(od -An -t u1 -j 4 /sys/firmware/efi/efivars/SecureBoot-*)"
mount -t virtiofs data /mnt
cat /mnt/from-host
echo from the guest >/mnt/from-guest
umount /mnt
"""
AFTER = "echo thawed >/root/after && sync -f /root/after && cat /root/after"
SECOND = f"""
mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
tail -c 4 {VARIABLE}
"""


async def run_in_guest(agent: Agent, script: str) -> str:
    """What a shell script prints in the guest."""
    arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture_output": True}
    started = await agent.execute("guest-exec", **arguments)
    while True:
        status = await agent.execute("guest-exec-status", pid=started["pid"])
        if status["exited"]:
            words = [base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data")]
            text = b"\n".join(words).decode()
            assert status["exitcode"] == 0, text
            return text
        await trio.sleep(0.5)


def ask(host: Host, script: str) -> str:
    """Wait until the agent is up, and have it run a script."""
    path = host.state.machine_run("web") / "agent.sock"

    async def main() -> str:
        with trio.fail_after(1500):
            while True:
                try:
                    async with open_agent(path) as agent:
                        await agent.ping()
                        return await run_in_guest(agent, script)
                except AgentError:
                    await trio.sleep(1)

    return trio.run(main)


def test_debian_on_uefi(qorch_host: Host, debian: Path, tmp_path: Path) -> None:
    """Secure Boot, TPM and share work, a variable survives; the agent freezes for a snapshot."""
    (tmp_path / "from-host").write_text("from the host\n")
    qorch_host.up(DOCUMENT.format(debian=debian, share=tmp_path), wait=None)
    lines = ask(qorch_host, FIRST).splitlines()
    assert "tpm 2" in lines
    assert any(line.startswith("pcr ") and set(line[4:]) != {"0"} for line in lines)
    assert "secure    1" in lines
    assert "from the host" in lines
    assert (tmp_path / "from-guest").read_text() == "from the guest\n"
    block = BlockClient(qorch_host.client)
    block.create_snapshot("web", "s1", freeze=True, report=lambda _: None)
    (row,) = block.find_snapshots("web")
    assert row["frozen"]
    assert set(row["disks"]) == {"disk0", "firmware-vars"}
    assert ask(qorch_host, AFTER).strip() == "thawed"
    qorch_host.client.stop_machine("web", report=lambda _: None, grace=600)
    qorch_host.client.start_machine("web", report=lambda _: None)
    assert ask(qorch_host, SECOND).startswith("kept")
