"""What training asks of the processes of a run, with the answers where there is only one."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from charlstm.errors import require

if TYPE_CHECKING:  # a run's text is checked before torch is imported
    from torch import Tensor, nn

    from charlstm.text.corpus import Corpus

T = TypeVar("T")
SET_BY_TORCHRUN = {
    *("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "GROUP_RANK"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
}
"""Environment variables that torchrun sets, and that are needed to find the other processes."""


class Processes:
    """The processes of a run: this one alone. ``distributed.ProcessGroup`` has several.

    All processes make the same calls in the same order. Each owns a contiguous block of the B
    streams; weights, optimiser and counters are the same in all of them.
    """

    rank, size = 0, 1

    def __init__(self) -> None:
        self._stop_requested = False

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Let the errors of processes other than 0 begin with their number and host."""
        yield

    # -- text and settings -----------------------------------------------------------------

    def first(self, compute: Callable[[], T], *, patient: bool = False) -> T:
        """The result of ``compute`` in process 0, in all processes.

        If it raises there, the other processes exit silently with the same exit code. With
        ``patient`` they wait for it without a limit.
        """
        return compute()

    def same_text(self, open_text: Callable[[], "Corpus"]) -> "Corpus":
        """The text, which one process of each machine opens; it must be the same everywhere.

        Raises:
            CharlstmError: it is not.
        """
        return open_text()

    def use_device(self, name: str) -> None:
        """Prepare for tensors on the device of this name.

        Raises:
            CharlstmError: there is none for this process.
        """

    # -- a step ----------------------------------------------------------------------------

    def block(self, batch: int) -> slice:
        """The streams of this process, of ``batch``.

        Raises:
            CharlstmError: the streams cannot be divided equally.
        """
        return slice(0, batch)

    def average_gradients(self, parameters: Iterable["nn.Parameter"], loss: "Tensor") -> "Tensor":
        """Replace the gradients by their mean over all processes; return the mean ``loss``."""
        return loss

    def is_owner(self, index: int) -> bool:
        """Whether this process does the work number ``index`` that is divided among them."""
        return True

    def broadcast(self, tensors: Sequence[tuple[int, "Tensor"]]) -> None:
        """Copy each tensor from the owner of the number next to it to all other processes."""

    # -- what all have to agree on ---------------------------------------------------------

    def request_stop(self) -> None:
        """Ask all processes to stop after a step; safe to call from a signal handler."""
        self._stop_requested = True

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested in any process, as known to all of them."""
        return self._stop_requested

    def time_of_step(self, clock: Callable[[], float]) -> float:
        """The time of the last step by the ``clock`` of process 0."""
        return clock()

    def all(self, condition: bool) -> bool:
        """Whether ``condition`` holds in all processes."""
        return condition

    def sum(self, value: float) -> float:
        """The sum of ``value`` over all processes."""
        return value

    def gather(self, state: "Tensor") -> "Tensor":
        """The state of all streams, (L, S, B, H), from that of each process's block."""
        return state


def check_batch(batch: int, size: int) -> None:
    """Raise ``UsageError`` unless ``size`` processes can divide ``batch`` streams equally."""
    below = batch // size * size
    nearest = below if below and batch - below <= size / 2 else below + size
    require(
        batch == below,
        f"`batch` is {batch}, but {size} processes must divide it equally",
        f"set it to {nearest}",
    )


def check_list(end: int | None, size: int) -> None:
    """Raise ``UsageError`` if ``size`` processes are to train on a list, which has an ``end``."""
    require(
        end is None or size == 1,
        f"{size} processes cannot train on a list together",
        "start a single process",
    )


def started_by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return os.environ.keys() >= SET_BY_TORCHRUN


def is_first() -> bool:
    """Whether this process is process 0, the only one that writes and shows anything."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def may_restart() -> bool:
    """Whether torchrun starts the processes again if one of them fails."""
    return started_by_torchrun() and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"


def all_processes() -> Processes:
    """The processes that train together with this one: those of torchrun, or this one alone."""
    return _group() if started_by_torchrun() else Processes()


@cache
def _group() -> Processes:
    from charlstm.training.distributed import ProcessGroup

    return ProcessGroup()
