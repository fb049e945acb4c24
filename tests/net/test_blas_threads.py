"""The number of BLAS threads follows what is faster."""

from collections.abc import Iterator
from contextlib import contextmanager

from charlstm.net.blas_threads import Pace


class Machine:
    """A clock that runs at the speed of the threads in use."""

    def __init__(self) -> None:
        self.now, self.threads = 0.0, 2
        self.seconds = {1: 1.4, 2: 1.0}
        self.pace = Pace(self.limit, lambda: self.now)

    @contextmanager
    def limit(self, threads: int | None) -> Iterator[None]:
        before, self.threads = self.threads, threads or self.threads
        yield
        self.threads = before

    def read(self, count: int = 512) -> dict[int, int]:
        """Read ``count`` steps; the number of steps with each number of threads."""
        used = {1: 0, 2: 0}
        numbers = []
        for number in self.pace.steps(count):
            numbers.append(number)
            used[self.threads] += 1
            self.now += self.seconds[self.threads]
        assert numbers == list(range(count))
        assert self.threads == 2  # as before
        return used


def test_a_quiet_machine_uses_all_threads() -> None:
    machine = Machine()
    used = [machine.read() for _ in range(40)]
    assert sum(u[1] for u in used) < 0.01 * 40 * 512


def test_a_busy_machine_uses_one_thread() -> None:
    machine = Machine()
    machine.seconds = {1: 2.0, 2: 30.0}
    used = [machine.read() for _ in range(40)]
    assert used[0][2] <= 16
    assert sum(u[2] for u in used) < 0.01 * 40 * 512


def test_the_choice_follows_the_machine() -> None:
    machine = Machine()
    for _ in range(20):
        machine.read()
    machine.seconds = {1: 2.0, 2: 30.0}
    for _ in range(20):
        machine.read()
    assert machine.read()[1] > 480
    machine.seconds = {1: 1.4, 2: 1.0}
    for _ in range(20):
        machine.read()
    assert machine.read()[2] > 480


def test_a_few_steps_keep_the_choice() -> None:
    machine = Machine()
    machine.seconds = {1: 2.0, 2: 30.0}
    machine.read()
    assert machine.read(10) == {1: 10, 2: 0}
