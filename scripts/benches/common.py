"""What benches share: contestants that take turns, medians, ratios, a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import attrs

WARM_UP = 2  # rounds that do not count


@attrs.frozen(kw_only=True)
class Duel:
    """One figure: `ours` beside `bare`, and how many times as long ours may take.

    `prepare` is called before each of them, and `undo` after it, untimed; so are `before_bare` and
    `before_ours`, each before its own.
    """

    name: str
    bare: Callable[[], object]
    ours: Callable[[], object]
    limit: float
    prepare: Callable[[], object] = lambda: None
    before_bare: Callable[[], object] = lambda: None
    before_ours: Callable[[], object] = lambda: None
    undo: Callable[[], object] = lambda: None


@attrs.frozen(kw_only=True)
class Result:
    """Medians in seconds."""

    duel: Duel
    bare: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times as long ours takes."""
        return self.ours / self.bare

    @property
    def met(self) -> bool:
        """Whether the limit holds."""
        return self.ratio <= self.duel.limit


def run(duels: list[Duel], rounds: int) -> bool:
    """Run all duels, print the table, and tell whether all limits hold."""
    print(f"{'':24}{'bare':>11}{'qorch':>11}{'ratio':>8}{'limit':>8}")
    results = [_run(duel, rounds) for duel in duels]
    for result in results:
        times = f"{result.bare * 1000:9.1f}ms{result.ours * 1000:9.1f}ms"
        mark = "" if result.met else "  above its limit"
        print(f"{result.duel.name:24}{times}{result.ratio:8.2f}{result.duel.limit:8.2f}{mark}")
    return all(result.met for result in results)


def _run(duel: Duel, rounds: int) -> Result:
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(rounds + WARM_UP):
        order = ("bare", "ours") if number % 2 else ("ours", "bare")  # nobody is always first
        for who in order:
            duel.prepare()
            getattr(duel, f"before_{who}")()
            started = time.perf_counter()
            getattr(duel, who)()
            took = time.perf_counter() - started
            duel.undo()
            if number >= WARM_UP:
                times[who].append(took)
    bare, ours = (statistics.median(times[who]) for who in ("bare", "ours"))
    return Result(duel=duel, bare=bare, ours=ours)
