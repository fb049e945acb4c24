"""Promises about runs that are killed, stopped, doubled, starved of disk or fed with NaN.

Each function makes ``trials`` trials and returns its figures; a trial's random numbers come from
the seed and its number alone, and the message of a failure names them.
"""

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from forks import STEPS, Bench, Child, generator

import charlstm
from charlstm.runs import pointers
from charlstm.runs import run as runs

Figures = dict[str, int | float]


@contextlib.contextmanager
def named(promise: str, seed: int, trial: int) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"{promise}: seed {seed}, trial {trial}")
        raise


def _finish(bench: Bench, name: str) -> Child:
    """Go on to the end, and compare to the bit with the run that nobody disturbed."""
    child = bench.start(bench.train(name))
    assert child.wait() == 0, child.told()
    path = bench.folder / "checkpoints" / name
    assert bench.last_bits(name) == bench.bits
    lines = (path / runs.METRICS_FILE).read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "run_finished"
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert not list(path.glob(".*")), list(path.glob(".*"))
    return child


def _stands_at(path: Path) -> str:
    """Where a run was killed, as far as its folder shows."""
    if not path.exists():
        return "before the run was there"
    if not pointers.read_pointers(path).kept:
        return "before the first checkpoint"
    unnamed = {p.name for p in path.glob("step-*")} - set(pointers.read_pointers(path).kept)
    if list(path.glob(".*")) or unnamed:
        return "while saving"
    return "at another moment"


def kill(bench: Bench, trials: int, seed: int) -> Figures:
    """1: SIGKILL at random moments and before random changes of the disk, up to three times."""
    places: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("kill", seed, trial):
            random = generator(seed, trial)
            name = f"killed-{seed}-{trial}"
            for _ in range(random.choice((1, 1, 2, 3))):
                if random.random() < 0.5:
                    before = random.randint(1, bench.changes)
                    child = bench.start(bench.train(name), kill_at=before)
                else:
                    moment = random.uniform(0.0, bench.seconds)
                    child = bench.start(bench.train(name))
                    time.sleep(moment)
                    child.signal(signal.SIGKILL)
                ended = child.wait()
                assert ended in (0, -signal.SIGKILL), (ended, child.told())
                if ended:
                    places[_stands_at(bench.folder / "checkpoints" / name)] += 1
            _finish(bench, name)
    return {"runs": trials, "kills": places.total(), **places}


def interrupt(bench: Bench, trials: int, seed: int) -> Figures:
    """7: Ctrl-C, SIGTERM and SIGHUP at random moments, sometimes twice."""
    figures: collections.Counter[str] = collections.Counter()
    longest = 0.0
    for trial in range(trials):
        with named("interrupt", seed, trial):
            random = generator(seed, trial)
            name = f"stopped-{seed}-{trial}"
            path = bench.folder / "checkpoints" / name
            number = random.choice((signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
            child = bench.start(bench.train(name))
            time.sleep(random.uniform(0.0, bench.seconds))
            begun = (path / runs.METRICS_FILE).exists()
            child.signal(number)
            asked = time.monotonic()
            twice = random.random() < 0.3
            if twice:
                time.sleep(random.uniform(0.0, 0.02))
                child.signal(number)
            ended = child.wait()
            longest = max(longest, time.monotonic() - asked)
            told = child.told()
            # Before the run has begun and after it is saved, the system may end the process:
            # the second of two signals may come when the first has been done.
            at_work = begun and " steps in " not in told and not twice
            allowed = {130, 0} if number == signal.SIGINT or at_work else {130, 0, -number}
            assert ended in allowed, (ended, told)
            if "stopped and saved" in told:
                assert ended != 0, told
                assert pointers.read_pointers(path).last is not None
            where = "finished before" if ended == 0 else "begun" if begun else "not begun"
            figures[where] += 1
            _finish(bench, name)
    return {"runs": trials, **figures, "longest wait, seconds": round(longest, 2)}


def interrupt_anywhere(bench: Bench, trials: int, seed: int) -> Figures:
    """7: Ctrl-C from the first instruction of the interpreter to its last, in real processes."""
    figures: collections.Counter[str] = collections.Counter()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(charlstm.__file__).parents[1]),
        "CHARLSTM_CACHE": str(bench.folder / "cache"),
    }
    longest = 0.0
    for trial in range(-1, trials):
        with named("interrupt_anywhere", seed, trial):
            name = f"anywhere-{seed}-{trial}"
            arguments = [sys.executable, "-m", "charlstm", *bench.train(name)]
            begun = time.monotonic()
            process = subprocess.Popen(
                arguments,
                cwd=bench.folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            if trial >= 0:
                # Python itself is not asked to stop before it has read its own start-up files.
                time.sleep(generator(seed, trial).uniform(0.1 * longest, 1.1 * longest))
                process.send_signal(signal.SIGINT)
            told = process.communicate()[1]
            longest = longest or time.monotonic() - begun
            figures[f"exit {process.returncode}"] += 1
            # Killed by the signal itself, as while torch is loaded: that is 130 to a shell, too.
            assert process.returncode in (0, 130, -signal.SIGINT), (process.returncode, told)
            assert "Traceback" not in told, told
            _finish(bench, name)
    return {"runs": trials, **figures}


def doubled(bench: Bench, trials: int, seed: int) -> Figures:
    """5: two that make a run of one name; two that resume one; a reader while one saves."""
    texts = refused = 0
    for trial in range(trials):
        with named("doubled", seed, trial):
            random = generator(seed, trial)
            name = f"both-{seed}-{trial}"
            arguments = bench.train(name)
            both = [bench.start(arguments, server=server) for server in (0, 1)]
            assert [child.wait() for child in both] == [0, 0], [child.told() for child in both]
            for made in (name, f"{name}-2"):
                assert bench.last_bits(made) == bench.bits
            name = f"one-{seed}-{trial}"
            child = bench.start(
                bench.train(name), pace=0.2
            )  # it is far from done when it is killed
            path = bench.folder / "checkpoints" / name
            texts += _sample_while(path, seconds=random.uniform(0.1, 0.5))
            child.signal(signal.SIGKILL)
            child.wait()
            arguments = bench.train(name)
            both = [bench.start(arguments, server=s, pace=0.2) for s in (0, 1)]
            ended = sorted(child.wait() for child in both)
            assert ended in ([0, 2], [0, 0]), [child.told() for child in both]
            if ended == [0, 2]:  # else one was done before the other began
                refused += 1
                assert any("another process is training" in c.told() for c in both)
            _finish(bench, name)
    assert refused, "of two that resume one run none was refused"
    return {"pairs": 2 * trials, "refused": refused, "texts sampled while saving": texts}


def _sample_while(path: Path, seconds: float) -> int:
    """Load and sample over and over while the run saves; each checkpoint is a whole one."""
    while not pointers.read_pointers(path).kept:
        time.sleep(0.002)
    end, texts = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        model = charlstm.load(path)
        assert len("".join(model.generate(length=3, seed=1))) == 3
        texts += 1
    return texts


def full_disk(bench: Bench, trials: int, seed: int) -> Figures:
    """4: from a random moment on, files are limited in size, forever or for a while."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("full_disk", seed, trial):
            random = generator(seed, trial)
            name = f"full-{seed}-{trial}"
            path = bench.folder / "checkpoints" / name
            child = bench.start(bench.train(name), pace=0.05)
            while not pointers.read_pointers(path).kept:
                time.sleep(0.002)
            time.sleep(random.uniform(0.0, bench.seconds / 2))
            bench.limit_files(child, random.choice((4096, 8192, 12288)))
            for_ever = random.random() < 0.5
            if not for_ever:
                time.sleep(random.uniform(0.0, bench.seconds / 2))
                bench.limit_files(child, -1)
            ended, told = child.wait(), child.told()
            figures[f"exit {ended}"] += 1
            figures["saves that failed"] += told.count("could not save")
            assert ended in (0, 1), told
            assert f"step {STEPS:,}" in told  # it went on to the end
            assert (ended == 1) == ("could not be saved: " in told), told
            assert len("".join(charlstm.load(path).generate(length=3, seed=1))) == 3
            _finish(bench, name)
    return {"runs": trials, **figures}


def small_disk(bench: Bench, trials: int, seed: int) -> Figures:
    """4: a file system of its own that something else fills while a run saves. Needs root."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("small_disk", seed, trial), _tmpfs(bench.folder / f"small-{seed}-{trial}") as d:
            if d is None:
                return {"runs": 0, "mounting is not permitted": 1}
            (d / "tales.txt").write_bytes(bench.text.read_bytes())
            random = generator(seed, trial)
            child = bench.start(bench.train("full"), folder=d, pace=0.05)
            path = d / "checkpoints" / "full"
            while not pointers.read_pointers(path).kept:
                time.sleep(0.002)
            time.sleep(random.uniform(0.0, bench.seconds / 4))
            filler = d / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            ended, told = child.wait(), child.told()
            figures[f"exit {ended}"] += 1
            figures["saves that failed"] += told.count("could not save")
            assert ended in (0, 1), told
            assert (ended == 1) == ("could not be saved: " in told), told
            assert len("".join(charlstm.load(path).generate(length=3, seed=1))) == 3
            filler.unlink()
            resumed = bench.start(["train", "--resume", "-c", "full", "--plain"], folder=d)
            assert resumed.wait() == 0, resumed.told()
            assert bench.last_bits("full", d) == bench.bits
    return {"runs": trials, **figures}


@contextlib.contextmanager
def _tmpfs(folder: Path) -> Iterator[Path | None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def poison(bench: Bench, trials: int, seed: int) -> Figures:
    """6: NaN, infinities and an exploding loss, put into loss, gradient and weights."""
    figures: collections.Counter[str] = collections.Counter()
    for trial in range(trials):
        with named("poison", seed, trial):
            random = generator(seed, trial)
            what = random.choice(("loss", "gradient", "weights"))
            spoilt = [float("nan"), float("inf"), float("-inf")]
            value = random.choice([*spoilt, 1e6] if what == "loss" else spoilt)
            times = random.choice((1, 1, 2, 100))
            name = f"poisoned-{seed}-{trial}"
            order = {"what": what, "value": value, "times": times}
            child = bench.start(
                bench.train(name), poison={**order, "step": random.randint(1, STEPS)}
            )
            ended = child.wait()
            path = bench.folder / "checkpoints" / name
            lines = [json.loads(s) for s in (path / runs.METRICS_FILE).read_text().splitlines()]
            back = [line for line in lines if line["event"] == "rolled_back"]
            scales = [0.5, 0.25, 0.125][: min(times, 3)]
            assert [line["rate_scale"] for line in back] == scales, (order, child.told())
            words = "exploded" if value == 1e6 else "not finite"
            assert all(words in line["reason"] for line in back), back
            assert ended == (1 if times == 100 else 0), (order, ended, child.told())
            assert lines[-1]["event"] == "run_finished"
            if times == 100:
                assert lines[-1]["reason"] == "diverged"
            for kept in pointers.read_pointers(path).kept:
                state = charlstm.runs.checkpoint.read_resume_state(path / kept)
                charlstm.runs.checkpoint.read_model(path / kept)  # refuses what is not finite
                assert all(np.isfinite(array).all() for array in state.tensors.values())
            figures[f"{what}, {len(back)} times back"] += 1
    return {"runs": trials, **dict(sorted(figures.items()))}
