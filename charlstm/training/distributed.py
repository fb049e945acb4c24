"""Data-parallel training: the processes that torchrun has started share the streams of one run.

N processes do what one does, up to the order of summation. Process r has the r-th of N contiguous
blocks of the B streams. A step adds up one flat tensor over all processes: the gradients, the loss,
the request to stop and the time of process 0. So all processes see the same numbers, take the same
decisions and make the same calls. Process 0 alone reads and writes files.
"""

import atexit
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import perf_counter, sleep
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from charlstm.errors import CharlstmError, ExitCode, require
from charlstm.text.corpus import Corpus, find_encoded
from charlstm.training.device import available_cores
from charlstm.training.processes import Processes

LONGEST_WAIT = timedelta(minutes=5)
"""How long a process waits for the others before it gives up: a start, a step, a validation."""
PATIENT_WAIT = timedelta(days=2)
"""How long it waits while a text is encoded."""
ROLL_CALL = timedelta(seconds=10)
"""How long the processes have to answer when one of them has waited in vain."""
ASKED_AGAIN = 0.02
"""Seconds until process 0 looks for the others again while they start."""
CONTROL = 4
"""Numbers that a step carries besides the gradients: loss, requests to stop, time in two parts."""

T = TypeVar("T")


class ProcessGroup(Processes):
    """The processes that torchrun has started, connected by gloo, and by NCCL for GPUs.

    Raises:
        CharlstmError: they cannot be connected; or, in any method, one of them has died or hangs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._host = socket.gethostname()
        self.rank = int(os.environ["RANK"])
        if os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun sets 1, to be safe
            torch.set_num_threads(available_cores())
        with self._explained(LONGEST_WAIT):
            dist.init_process_group(
                "gloo",
                store=_store(),
                rank=self.rank,
                world_size=int(os.environ["WORLD_SIZE"]),
                timeout=LONGEST_WAIT,
            )
            atexit.register(_disconnect)
            self.size = dist.get_world_size()
            self._control = self._tensors = dist.group.WORLD
            self._patient = dist.new_group(timeout=LONGEST_WAIT)
            self._patient.set_timeout(PATIENT_WAIT)  # now that all are connected
            hosts = [""] * self.size
            dist.all_gather_object(hosts, self._host)
        self._hosts = hosts
        self._stopping, self._time = False, 0.0
        self._late: tuple[Tensor, torch.cuda.Event] | None = None

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """As described in ``Processes``."""
        try:
            yield
        except CharlstmError as error:
            if self.rank:
                error.message = f"process {self.rank} on {self._host}: {error.message}"
            raise

    def first(self, compute: Callable[[], T], *, patient: bool = False) -> T:
        """As described in ``Processes``."""
        if self.rank:
            received: list[Any] = [None, None]
            self._send(received, patient)
            result: T = self._unless_failed(received)
            return result
        try:
            value = compute()
        except BaseException as error:
            with suppress(CharlstmError):
                self._send([_exit_code(error), None], patient)
            raise
        self._send([None, value], patient)
        return value

    def _send(self, values: list[Any], patient: bool) -> None:
        group, wait = (self._patient, PATIENT_WAIT) if patient else (self._control, LONGEST_WAIT)
        with self._explained(wait):
            dist.broadcast_object_list(values, 0, group=group)

    def _unless_failed(self, received: Sequence[Any]) -> Any:
        """The value of an answer (exit code, value); exit if the other process has failed."""
        code, value = received
        if code is not None:
            raise SystemExit(code)  # the process that has failed says why
        return value

    def same_text(self, open_text: Callable[[], Corpus]) -> Corpus:
        """As described in ``Processes``."""
        corpus, error = None, None
        answer: tuple[int | None, Any] = (None, None)
        if os.environ["LOCAL_RANK"] == "0":
            try:
                corpus = open_text()
                answer = (None, (corpus.digest, corpus.source))
            except BaseException as raised:
                error, answer = raised, (_exit_code(raised), None)
        answers: list[Any] = [None] * self.size
        with self._explained(PATIENT_WAIT):
            dist.all_gather_object(answers, (os.environ["GROUP_RANK"], answer), group=self._patient)
        if error is not None:
            raise error
        texts = [(machine, self._unless_failed(found)) for machine, found in answers]
        self._compare([None if text is None else text[0] for _, text in texts])
        if corpus is None:
            mine = os.environ["GROUP_RANK"]
            digest, source = next(text for machine, text in texts if text and machine == mine)
            corpus = find_encoded(digest, source) or open_text()
        return corpus

    def _compare(self, digests: list[str | None]) -> None:
        """Refuse texts that differ; ``digests`` has one for the first process of each machine."""
        for rank, digest in enumerate(digests):
            if digest not in (None, digests[0]):
                error = CharlstmError(
                    f"{self._hosts[0]} and {self._hosts[rank]} have different texts",
                    "copy the text from one machine to the others",
                )
                raise error if self.rank == 0 else SystemExit(_exit_code(error))

    def use_device(self, name: str) -> None:
        """As described in ``Processes``; process r of a machine gets its r-th GPU."""
        require(
            ":" not in name or self.size == 1,
            f"`device` is {name}, but torchrun gives each process a GPU of its own",
            "set `device` to cuda",
        )
        if name == "cuda" and self._tensors is self._control:
            number, visible = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if number >= visible:
                raise CharlstmError(
                    f"there is no GPU for process {self.rank}: {self._host} has {visible}",
                    "start fewer processes, or set `device` to cpu",
                )
            torch.cuda.set_device(number)
            with self._explained(LONGEST_WAIT):
                self._tensors = dist.new_group(timeout=LONGEST_WAIT, backend="nccl")

    def block(self, batch: int) -> slice:
        """As described in ``Processes``."""
        number = next(n for n in range(min(self.size, batch), 0, -1) if batch % n == 0)
        require(
            batch % self.size == 0,
            f"`batch` is {batch}, but {self.size} processes must divide it equally",
            f"start {number} process{'es' if number > 1 else ''}",
        )
        size = batch // self.size
        return slice(self.rank * size, (self.rank + 1) * size)

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """As described in ``Processes``."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        # float32 holds 24 bits; the time needs more.
        now = torch.tensor(perf_counter() if self.rank == 0 else 0.0, dtype=torch.float64)
        rest = now - now.float()
        stop = torch.tensor(float(self._stop_requested))
        carried = torch.stack([stop, now.float(), rest.float()])
        parts = [g.flatten() for g in gradients]
        flat = torch.cat([*parts, loss.detach().float().view(1), carried.to(loss.device)])
        with self._explained(LONGEST_WAIT):
            dist.all_reduce(flat, group=self._tensors)
        flat[: 1 - CONTROL] /= self.size
        means = flat[:-CONTROL].split(  # type: ignore[no-untyped-call]
            [part.numel() for part in parts]
        )
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        stops, coarse, fine = self._read(flat[1 - CONTROL :])
        self._stopping, self._time = stops > 0, coarse + fine
        return flat[-CONTROL]

    def _read(self, carried: Tensor) -> list[float]:
        """The numbers that a step carried; on a GPU those of the step before.

        Reading those of this step would wait for it, and the GPU would wait for the next.
        """
        if carried.device.type == "cpu":
            return carried.tolist()
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copy = carried.to("cpu", non_blocking=True)
        done.record()
        before, self._late = self._late or (copy, done), (copy, done)
        before[1].synchronize()
        return before[0].tolist()

    def is_owner(self, index: int) -> bool:
        """As described in ``Processes``."""
        return index % self.size == self.rank

    def broadcast(self, tensors: Sequence[tuple[int, Tensor]]) -> None:
        """As described in ``Processes``."""
        with self._explained(LONGEST_WAIT):
            for index, tensor in tensors:
                dist.broadcast(tensor, index % self.size, group=self._tensors)

    @property
    def stopping(self) -> bool:
        """As described in ``Processes``."""
        return self._stopping

    def time_of_step(self, clock: Callable[[], float]) -> float:
        """As described in ``Processes``; ``clock`` must be ``time.perf_counter``."""
        return self._time

    def all(self, condition: bool) -> bool:
        """As described in ``Processes``."""
        return self.sum(float(not condition)) == 0

    def sum(self, value: float) -> float:
        """As described in ``Processes``."""
        total = torch.tensor(value, dtype=torch.float64)
        with self._explained(LONGEST_WAIT):
            dist.all_reduce(total, group=self._control)
        return total.item()

    def gather(self, state: Tensor) -> Tensor:
        """As described in ``Processes``."""
        blocks = [torch.empty_like(state) for _ in range(self.size)]
        with self._explained(LONGEST_WAIT):
            dist.all_gather(blocks, state.contiguous(), group=self._tensors)
        return torch.cat(blocks, dim=2)

    @contextmanager
    def _explained(self, wait: timedelta) -> Iterator[None]:
        """Turn the errors of ``torch.distributed`` into a ``CharlstmError``."""
        try:
            yield
        except RuntimeError as error:
            atexit.unregister(_disconnect)  # it would wait for the others
            if not hasattr(self, "_hosts"):
                raise CharlstmError(
                    f"the processes cannot connect to each other ({_first_line(error)})",
                    "check that their machines reach each other",
                ) from error
            if re.search("timed? ?out", str(error), re.IGNORECASE):
                raise CharlstmError(
                    f"{self._missing()} within {wait.total_seconds():g} s",
                    "the run is saved up to its last checkpoint",
                ) from error
            raise CharlstmError(
                f"lost the connection to another process ({_first_line(error)})",
                "that one reports why; the run is saved up to its last checkpoint",
            ) from error

    def _missing(self) -> str:
        """Which processes do not answer; process 0 calls the roll."""
        missing = [0] if self.size == 2 and self.rank else []

        def call() -> None:
            try:
                # Not in the group whose call has failed: its connections are closed.
                dist.monitored_barrier(self._patient, timeout=ROLL_CALL, wait_all_ranks=True)
            except RuntimeError as error:
                if self.rank == 0 and (found := re.search(r"Ranks? ([\d, ]+) failed", str(error))):
                    missing.extend(int(rank) for rank in re.findall(r"\d+", found[1]))

        # In a thread, because it waits for ever for a process 0 that hangs.
        roll_call = threading.Thread(target=call, daemon=True)
        roll_call.start()
        roll_call.join(2 * ROLL_CALL.total_seconds())
        named = (f"process {rank} on {self._hosts[rank]}" for rank in missing)
        return f"no answer from {', '.join(named) or 'another process'}"


def _store() -> Any:
    """Where the processes find each other's addresses.

    torchrun keeps its store when it starts the processes again, with the addresses of those that
    are dead. So those that start together use a part of their own, which process 0 names. An answer
    to a question that was just asked cannot be an old one.

    Raises:
        CharlstmError: a process does not start, or dies before it has said that it did.
    """
    begun = perf_counter()
    store, rank, size = next(rendezvous("env://", timeout=LONGEST_WAIT))
    if rank:
        question = secrets.token_hex(8)
        store.set(f"question/{rank}", question)
        name = store.get(f"answer/{question}").decode()
        store.set(f"{name}/{rank}", "")
    else:
        name = secrets.token_hex(8)
        while missing := [n for n in range(1, size) if not store.check([f"{name}/{n}"])]:
            if perf_counter() - begun > LONGEST_WAIT.total_seconds():
                raise CharlstmError(
                    f"no answer from process {', '.join(map(str, missing))} "
                    f"within {LONGEST_WAIT.total_seconds():g} s",
                    "start all processes again",
                )
            for other in missing:
                if store.check([f"question/{other}"]):
                    question = store.get(f"question/{other}").decode()
                    store.set(f"answer/{question}", name)
            sleep(ASKED_AGAIN)
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _exit_code(error: BaseException) -> int:
    if isinstance(error, CharlstmError):
        return int(error.exit_code)
    return int(ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.FAILED)


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^\[.*?\] ?", "", line).split(". ")[0].rstrip(". ")


def _disconnect() -> None:
    with suppress(Exception):  # the others may be gone
        dist.destroy_process_group()
