"""charlstm commands in forks of a process that has imported everything, to be stopped rudely.

A command costs what it does, not the second that importing torch takes, so hundreds of runs can
be killed. ``Bench`` starts them in a folder of its own and knows how an undisturbed run ends.
"""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from helpers import TEXT

STEPS = 12
SETTINGS = (
    "--hidden 8 --embed 4 --layers 1 --batch 2 --bptt 8 --precision float32 --device cpu --lr 0.02 "
    f"--patience 0 --dropout 0.1 --plain --steps {STEPS}"
).split()
LONGEST_WAIT = 300.0
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
"""Audit events at which a process can be made to kill itself: before each change to a folder."""

# -- the process that forks --------------------------------------------------------------------


def serve() -> None:
    """Fork for each order that comes as a line of JSON; answer with process id, then status."""
    import charlstm.cli.train
    import charlstm.training.distributed
    import charlstm.training.new_run  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _obey(order)
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _obey(order: dict[str, Any]) -> None:
    import charlstm.cli
    from charlstm.training import distributed, schedule, trainer

    os.chdir(order["folder"])
    os.environ.update(order.get("environment", {}))
    os.setpgid(0, 0)  # a group of its own has its parent outside, without which none is suspended
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also below a shell's "&"
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Every step is validated and saved: most of the time goes into saving. Weights do not depend
    # on it. What was handed to the system outlives a kill; only power cuts need the disk itself.
    schedule.EVALUATIONS, schedule.EVALUATION_FRACTION = 10**6, 10.0**6
    trainer.REPORT_SECONDS = trainer.SAVE_SECONDS = 0.0
    os.fsync = lambda descriptor: None
    for number, name in ((0, "in"), (1, "out"), (2, "err")):
        os.close(number)
        if (where := order[name]) is not None:
            flags = os.O_RDONLY if name == "in" else os.O_RDWR | os.O_CREAT | os.O_NOCTTY
            opened = os.open(where, flags, 0o666)
            if opened != number:  # a lower one is closed
                os.dup2(opened, number)
                os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        None if order[name] is None else os.fdopen(number, mode, closefd=False)
        for number, name, mode in ((0, "in", "r"), (1, "out", "w"), (2, "err", "w"))
    )
    if "longest_wait" in order:
        distributed.LONGEST_WAIT = timedelta(seconds=order["longest_wait"])
        distributed.ROLL_CALL = timedelta(seconds=1)
    if "dies_connecting" in order:  # after the first group, before the second
        distributed.dist.new_group = lambda **_: os.kill(os.getpid(), signal.SIGKILL)
    if "poison" in order:
        _poison(trainer, **order["poison"])
    if "pace" in order:
        _slow_down(trainer, order["pace"])
    if "kill_at" in order:
        changes_left = _kill_itself(order["kill_at"])
    sys.argv = ["charlstm", *order["arguments"]]
    code: object = 1
    try:
        charlstm.cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        if order.get("kill_at") == 0:  # never: the changes are counted
            print(f"changes: {-changes_left[0]}", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                code = 120  # as the interpreter ends where stdout cannot be written
        os._exit(code if isinstance(code, int) else 1)


def _kill_itself(change: int) -> list[int]:
    left = [change]

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in CHANGES:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return left


def _slow_down(trainer: Any, seconds: float) -> None:
    take_step = trainer.Trainer.take_step

    def slowly(self: Any) -> Any:
        time.sleep(seconds)
        return take_step(self)

    trainer.Trainer.take_step = slowly


def _poison(trainer: Any, what: str, value: float, step: int, times: int) -> None:
    """Spoil a number of the loss, the gradient or the weights at ``step``, ``times`` times."""
    import torch

    take_step = trainer.Trainer.take_step
    left = iter(range(times))

    def spoilt(self: Any) -> Any:
        if self.progress.step + 1 != step or next(left, None) is None:
            return take_step(self)
        if what == "gradient":
            hook = self.learner.model.output_weight.register_hook(
                lambda gradient: gradient.index_put((torch.tensor(0),), torch.tensor(value))
            )
            norm = take_step(self)
            hook.remove()
            return norm
        if what == "loss":
            learn = self.learner.step

            def learn_spoilt(*arguments: Any) -> Any:
                loss, norm = learn(*arguments)
                return loss + value, norm

            self.learner.step = learn_spoilt
            norm = take_step(self)
            self.learner.step = learn
            return norm
        norm = take_step(self)
        self.learner.model.layers[0].weight_hidden.data[0, 0] = value
        return norm

    trainer.Trainer.take_step = spoilt


# -- the side of the tests ---------------------------------------------------------------------


@dataclass
class Child:
    """A command under way, or ended."""

    number: int
    server: "subprocess.Popen[str]"
    err: Path | None
    started: float = field(default_factory=time.monotonic)
    code: int | None = None

    def signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        try:
            os.kill(self.number, number)
        except ProcessLookupError:
            pass

    def wait(self) -> int:
        """The exit code, or minus the signal that ended it."""
        if self.code is None:
            assert self.server.stdout is not None
            self.code = int(self.server.stdout.readline())
            assert self.told().count("Traceback") == 0, self.told()
        return self.code

    def told(self) -> str:
        """What it wrote to stderr."""
        try:
            return "" if self.err is None else self.err.read_text(errors="replace")
        except FileNotFoundError:  # killed before it had opened it
            return ""


class Bench:
    """A folder with a text, a process to fork from, and what an undisturbed run ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = folder / "tales.txt"
        self.text.write_text(TEXT * 4, encoding="utf-8")
        self._servers: list[subprocess.Popen[str]] = []
        self._count = 0
        child = self.start(["train", "tales.txt", "--name", "teacher", *SETTINGS])
        assert child.wait() == 0, child.told()
        child = self.start(self.train("undisturbed"))
        assert child.wait() == 0, child.told()
        child = self.start(self.train("once-more"))
        assert child.wait() == 0, child.told()
        self.seconds = time.monotonic() - child.started
        """How long a run takes."""
        self.bits = self.last_bits("undisturbed")
        assert self.last_bits("once-more") == self.bits
        child = self.start(self.train("counted"), kill_at=0)
        assert child.wait() == 0, child.told()
        self.changes = int(child.told().split()[-1])
        """How many changes a run makes to its folders."""

    def train(self, name: str) -> list[str]:
        """The arguments that begin a run, or go on with it where it exists."""
        if (self.folder / "checkpoints" / name).exists():
            return ["train", "--resume", "-c", name, "--plain"]
        teacher = str(self.folder / "checkpoints" / "teacher")
        return ["train", "tales.txt", "--name", name, "--teacher", teacher, *SETTINGS]

    def start(
        self,
        arguments: Sequence[str],
        *,
        server: int = 0,
        folder: Path | None = None,
        err: str | Path | None = "",
        out: str | Path | None = os.devnull,
        **order: Any,
    ) -> Child:
        """Start a command in a fork; ``order`` says what befalls it."""
        while len(self._servers) <= server:
            self._servers.append(self._new_server())
        process = self._servers[server]
        self._count += 1
        written = self.folder / f"err-{self._count}" if err == "" else None
        places = {
            "in": os.devnull,
            "out": None if out is None else str(out),
            "err": str(written or err) if err is not None else None,
        }
        asked = {"arguments": list(arguments), "folder": str(folder or self.folder)}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({**asked, **places, **order}) + "\n")
        process.stdin.flush()
        return Child(int(process.stdout.readline()), process, written)

    def start_group(
        self,
        arguments: Sequence[str],
        size: int = 2,
        orders: Sequence[dict[str, Any]] = (),
        **all_: Any,
    ) -> list[Child]:
        """Start ``size`` processes as torchrun does; ``orders`` say what befalls each of them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "test",
        }
        children = []
        for rank in range(size):
            own = {**all_, **(orders[rank] if orders else {})}
            numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment = {**common, **numbers, **own.pop("environment", {})}
            children.append(self.start(arguments, server=rank, environment=environment, **own))
        return children

    def _new_server(self) -> "subprocess.Popen[str]":
        here = Path(__file__).parent
        root = here.parents[1]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent, root))),
            "OMP_NUM_THREADS": "1",
            "CHARLSTM_CACHE": str(self.folder / "cache"),
            "TERM": "xterm-256color",
        }
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", "import forks; forks.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def last_bits(self, name: str, folder: Path | None = None) -> dict[str, bytes]:
        """All arrays of a run's last checkpoint, averaged weights and training state."""
        from charlstm.runs import pointers
        from charlstm.runs.checkpoint import read_model, read_resume_state

        path = (folder or self.folder) / "checkpoints" / name
        last = pointers.read_pointers(path).last
        assert last is not None
        arrays = dict(read_resume_state(path / last).tensors)
        arrays |= {f"average/{n}": a for n, a in read_model(path / last).weights.items()}
        return {name: array.tobytes() for name, array in arrays.items()}

    def limit_files(self, child: Child, size: int) -> None:
        """Let a running command write files of at most ``size`` bytes: a full disk, nearly."""
        try:
            hard = resource.prlimit(child.number, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(child.number, resource.RLIMIT_FSIZE, (size, hard))
        except (ProcessLookupError, PermissionError):
            pass  # it has ended

    def close(self) -> None:
        """End the processes."""
        for server in self._servers:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(LONGEST_WAIT)
            assert server.stdout is not None
            server.stdout.close()


def generator(seed: int, trial: int) -> random.Random:
    """The random numbers of one trial: seed and number reproduce a failure."""
    return random.Random(f"{seed} {trial}")
