"""Several works that are timed in turns, so that a machine that slows down slows all of them."""

import time
from collections.abc import Callable, Sequence


def turns(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each work in each round, the first round left out."""
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, of_work in zip(works, seconds, strict=True):
            start_s = time.perf_counter()
            work()
            if number > 0:
                of_work.append(time.perf_counter() - start_s)
    return seconds
