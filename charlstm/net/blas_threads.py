"""How many threads BLAS uses for one text: all of them, or one where that is faster at the moment.

BLAS threads wait for each other by spinning. A product with one vector takes some 50 µs, so on a
machine that is busy they wait for processor time that others have, a hundred times longer than they
work. On a quiet one a second thread makes reading up to 1.4 times as fast. The result has the same
bits either way.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

TRIAL = 16
"""Steps of each trial."""
MOST_CALLS = 16
"""Most calls from one trial to the next."""

Limit = Callable[[int | None], AbstractContextManager[Any]]
"""Makes a context in which BLAS uses this many threads; None for as many as before."""


class Pace:
    """Chooses the number of threads by trial, in calls that read many steps."""

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.perf_counter) -> None:
        self._limit, self._clock = limit, clock
        self._threads: int | None = None
        self._pause, self._calls = 1, 0

    def steps(self, count: int) -> Iterator[int]:
        """0 to ``count`` - 1; the caller does one step between two of them.

        A trial takes the first 2 * ``TRIAL`` steps of a call. As long as its result is the same,
        the next one comes after twice as many calls.
        """
        begin = 0
        if count >= 4 * TRIAL:
            self._calls -= 1
            if self._calls < 0:
                begin = 2 * TRIAL
                yield from self._try()
        with self._limit(self._threads):
            yield from range(begin, count)

    def _try(self) -> Iterator[int]:
        seconds = []
        for first, threads in ((0, None), (TRIAL, 1)):
            with self._limit(threads):
                start = self._clock()
                yield from range(first, first + TRIAL)
                seconds.append(self._clock() - start)
        best = 1 if seconds[1] < seconds[0] else None
        self._pause = 1 if best != self._threads else min(2 * self._pause, MOST_CALLS)
        self._threads, self._calls = best, self._pause


@cache
def pace() -> Pace:
    """The pace of this process's BLAS."""
    from threadpoolctl import ThreadpoolController  # not needed to write one text

    blas = ThreadpoolController().select(user_api="blas")
    return Pace(lambda threads: blas.limit(limits=threads))


def paced(count: int) -> Iterator[int]:
    """0 to ``count`` - 1, at the pace of this process's BLAS; short counts are not worth it."""
    return pace().steps(count) if count >= 4 * TRIAL else iter(range(count))
