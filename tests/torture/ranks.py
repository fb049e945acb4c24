"""Promises about a run of several processes: one is killed, hangs, is stopped or computes NaN.

As torchrun does, the processes are started together, and all again after one has failed.
"""

import collections
import json
import re
import signal
import time

from forks import Bench, Child, generator
from stops import Figures, named

from charlstm.runs import pointers
from charlstm.runs import run as runs

SIZE = 2
LONGEST_WAIT = 3.0
"""Seconds after which a process gives up waiting for one that hangs; five minutes for users."""


class GroupBench(Bench):
    """Knows how a run of two processes ends that nobody disturbs."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        begun = time.monotonic()
        self.finish("two")
        self.seconds = time.monotonic() - begun
        self.bits = self.last_bits("two")

    def finish(self, name: str) -> list[Child]:
        """Go on to the end of a run, in two processes."""
        children = self.start_group(self.train(name), SIZE)
        assert [child.wait() for child in children] == [0] * SIZE, told(children)
        return children

    def finish_to_the_bit(self, name: str) -> None:
        """Go on to the end, and compare with the run that nobody disturbed."""
        others = self.finish(name)[1:]
        assert all(child.told() == "" for child in others), told(others)
        assert self.last_bits(name) == self.bits
        path = self.folder / "checkpoints" / name
        assert not path.with_name(f"{name}-2").exists()
        assert not list(path.glob(".*")), list(path.glob(".*"))


def told(children: list[Child]) -> list[str]:
    return [child.told() for child in children]


def kill_rank(bench: GroupBench, trials: int, seed: int) -> Figures:
    """SIGKILL of a random process at a random moment, up to three times a run."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("kill_rank", seed, trial):
            random, name = generator(seed, trial), f"killed-{seed}-{trial}"
            for _ in range(random.choice((1, 1, 2, 3))):
                children = bench.start_group(bench.train(name), SIZE, longest_wait=LONGEST_WAIT)
                time.sleep(random.uniform(0.0, bench.seconds))
                victim = random.randrange(SIZE)
                children[victim].signal(signal.SIGKILL)
                codes = [child.wait() for child in children]
                # The others lose the connection; or all were done.
                assert codes[victim] in (0, -signal.SIGKILL), (codes, told(children))
                assert codes[1 - victim] in (0, 1), (codes, told(children))
                figures["kills"] += codes[victim] != 0
                figures["the other noticed"] += codes[1 - victim] == 1
            bench.finish_to_the_bit(name)
    return {"runs": trials, **figures}


def lost_at_start(bench: GroupBench, trials: int, seed: int) -> Figures:
    """A process dies while it connects to the others: they give up after a stated time."""
    longest = 0.0
    for trial in range(trials):
        with named("lost_at_start", seed, trial):
            random, name, victim = generator(seed, trial), f"lost-{seed}-{trial}", trial % SIZE
            orders: list[dict[str, object]] = [{}] * SIZE
            if trial // SIZE % 2 == 0:
                orders[victim] = {"dies_connecting": True}
            begun = time.monotonic()
            children = bench.start_group(bench.train(name), SIZE, orders, longest_wait=LONGEST_WAIT)
            if not orders[victim]:
                time.sleep(random.uniform(0.0, 0.1))
                children[victim].signal(signal.SIGKILL)
            assert children[1 - victim].wait() == 1, told(children)
            longest = max(longest, time.monotonic() - begun)
            expected = "no answer from|cannot connect|lost the connection"
            assert re.search(expected, children[1 - victim].told()), told(children)
            children[victim].wait()
            bench.finish_to_the_bit(name)
    return {"runs": trials, "longest wait, seconds": round(longest, 1)}


def hang(bench: GroupBench, trials: int, seed: int) -> Figures:
    """A process is suspended: the other gives up after a stated time, and names it."""
    longest = 0.0
    for trial in range(trials):
        with named("hang", seed, trial):
            random, name = generator(seed, trial), f"hung-{seed}-{trial}"
            children = bench.start_group(
                bench.train(name), SIZE, pace=0.1, longest_wait=LONGEST_WAIT
            )
            path = bench.folder / "checkpoints" / name
            while not pointers.read_pointers(path).kept:
                time.sleep(0.01)
            victim = random.randrange(SIZE)
            children[victim].signal(signal.SIGSTOP)
            begun = time.monotonic()
            assert children[1 - victim].wait() == 1, told(children)
            longest = max(longest, time.monotonic() - begun)
            message = children[1 - victim].told()
            assert f"no answer from process {victim} on " in message, told(children)
            assert f"within {LONGEST_WAIT:g} s" in message, told(children)
            children[victim].signal(signal.SIGKILL)
            children[victim].wait()
            bench.finish_to_the_bit(name)
    return {"runs": trials, "longest wait, seconds": round(longest, 1)}


def poison_rank(bench: GroupBench, trials: int, seed: int) -> Figures:
    """NaN and infinities in the gradient or the weights of one process: all go back."""
    for trial in range(trials):
        with named("poison_rank", seed, trial):
            random, name = generator(seed, trial), f"poisoned-{seed}-{trial}"
            value = random.choice((float("nan"), float("inf")))
            what = random.choice(("gradient", "weights"))
            poison = {"what": what, "value": value, "step": random.randint(2, 10), "times": 1}
            orders: list[dict[str, object]] = [{}] * SIZE
            orders[random.randrange(SIZE)] = {"poison": poison}
            children = bench.start_group(bench.train(name), SIZE, orders)
            assert [child.wait() for child in children] == [0] * SIZE, told(children)
            text = (bench.folder / "checkpoints" / name / runs.METRICS_FILE).read_text()
            back = [line for line in map(json.loads, text.splitlines()) if "reason" in line]
            assert [line["event"] for line in back] == ["rolled_back", "run_finished"], back
            assert "not finite" in back[0]["reason"]
    return {"runs": trials}


def stop_rank(bench: GroupBench, trials: int, seed: int) -> Figures:
    """SIGINT, SIGTERM or SIGUSR1 to one process or to all: they stop, save once and exit 0."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("stop_rank", seed, trial):
            random, name = generator(seed, trial), f"stopped-{seed}-{trial}"
            children = bench.start_group(bench.train(name), SIZE, pace=0.1)
            path = bench.folder / "checkpoints" / name
            while not pointers.read_pointers(path).kept:
                time.sleep(0.002)
            time.sleep(random.uniform(0.0, 0.5))
            number = random.choice((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))
            for child in random.choice((children, children[:1], children[1:])):
                child.signal(number)
            assert [child.wait() for child in children] == [0] * SIZE, told(children)
            figures["saved"] += told(children)[0].count("stopped and saved")
            assert told(children)[1] == "", told(children)
            bench.finish_to_the_bit(name)
    return {"runs": trials, **figures}


def full_disk_rank(bench: GroupBench, trials: int, seed: int) -> Figures:
    """The disk of process 0 is full for a while or forever; the run goes on and reports it."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("full_disk_rank", seed, trial):
            random, name = generator(seed, trial), f"full-{seed}-{trial}"
            children = bench.start_group(bench.train(name), SIZE, pace=0.05)
            path = bench.folder / "checkpoints" / name
            while not pointers.read_pointers(path).kept:
                time.sleep(0.002)
            bench.limit_files(children[0], 4096)
            if random.random() < 0.5:
                time.sleep(random.uniform(0.0, bench.seconds / 2))
                bench.limit_files(children[0], -1)
            ended = [child.wait() for child in children]
            assert ended in ([0, 0], [1, 0]), told(children)
            text = children[0].told()
            assert (ended[0] == 1) == ("could not be saved: " in text), text
            figures["saves that failed"] += text.count("could not save")
            bench.finish_to_the_bit(name)
    return {"runs": trials, **figures}
