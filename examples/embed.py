"""What scripts/demo shows, from a trio program of one's own: .venv/bin/python examples/embed.py."""

import tempfile
import urllib.request
from pathlib import Path

import trio

import qorch

FILE = Path(__file__).with_name("hello.toml")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as page:  # noqa: S310  the guest's own page
        return page.read().decode()


async def main(state: Path) -> None:
    spec = qorch.load_text(FILE.read_text(), FILE.parent)
    async with qorch.open_supervisor(state) as supervisor:
        try:
            await supervisor.up(spec, wait=120)
            [web] = supervisor.find_machines()
            print(web)
            print(await trio.to_thread.run_sync(fetch, f"http://{web['ips'][0]}/"))
            print((await supervisor.show_machine("web"))["vcpus"])
        finally:
            await supervisor.down(spec, volumes=True)


with tempfile.TemporaryDirectory() as directory:
    trio.run(main, Path(directory))
