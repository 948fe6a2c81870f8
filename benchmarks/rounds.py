"""Time several things against each other: alternating rounds, medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Cost(NamedTuple):
    """What one call takes, in milliseconds.

    Attributes:
      wall: on the clock.
      cpu: of all cores together, this process alone.
    """

    wall: float
    cpu: float


def measure(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float = 0.3
) -> dict[str, Cost]:
    """Return the median cost of each call over rounds that alternate between them.

    In a round each call runs once unmeasured, so that it does not pay for what its
    neighbour left in the caches or in spinning threads, then for ``seconds``.

    Args:
      calls: each waits for its result.
      rounds: how often every call gets its turn.
      seconds: about how long a turn lasts.

    Returns:
      The costs by name.
    """
    found: dict[str, list[Cost]] = {name: [] for name in calls}
    repeats = {
        name: max(1, round(seconds / _once(call))) for name, call in calls.items()
    }
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                call()
            scale = 1e3 / repeats[name]
            found[name].append(
                Cost(
                    scale * (time.perf_counter() - wall),
                    scale * (time.process_time() - cpu),
                )
            )
    return {
        name: Cost(*map(statistics.median, zip(*costs, strict=True)))
        for name, costs in found.items()
    }


def _once(call: Callable[[], object]) -> float:
    """Return the seconds of a second call; the first one compiles."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
