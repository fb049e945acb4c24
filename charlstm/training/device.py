"""Choose the device, the precision and the number of CPU threads for training."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import nn

from charlstm.errors import CharlstmError, UsageError, check_choice
from charlstm.net.model_config import ModelConfig
from charlstm.training.network import LanguageModel
from charlstm.training.processes import started_by_torchrun

TRIALS = 3
WORTHWHILE, MUCH_SLOWER = 1.1, 1.5
REDUCED = {"cuda": ("bfloat16", "float16"), "mps": ("bfloat16", "float16")}
"""The formats that ``auto`` tries on each GPU, besides float32."""
BFLOAT16_CELLS = ("lstm", "lstm-1997", "coupled", "peephole")
BFLOAT16_UNITS = 128
"""On a CPU that multiplies bfloat16, models of these cells with this many units per layer train 1.5
to 2.7 times as fast in it as in float32; others about as fast, or slower
(docs/research/experiments/threads-and-memory.md)."""
DEVICES = ("auto", "cpu", "cuda", "mps")
MEMORY_WORDS = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")
"""Fragments of the out-of-memory errors of torch and its libraries."""
GPU_WORDS = (
    "CUDA error",
    "CUDA driver",
    "cuDNN error",
    "CUBLAS_STATUS",
    "MPS backend",
    "HIP error",
)
"""Fragments of the GPU errors of torch and its libraries."""


@dataclass(frozen=True)
class Precision:
    """A device and the format of its matrix products; weights and losses stay float32."""

    device: torch.device
    name: str

    def autocast(self) -> AbstractContextManager[None]:
        """The autocast context for forward passes; does nothing in float32."""
        if self.name == "float32":
            return nullcontext()
        context: AbstractContextManager[None] = torch.autocast(
            self.device.type, dtype=getattr(torch, self.name), cache_enabled=False
        )
        return context


def choose_device(name: str) -> tuple[torch.device, tuple[str, ...]]:
    """The device of this name, and notes for the user.

    ``auto`` picks the first GPU that works, or the CPU.

    Raises:
        UsageError: the device is not available or does not work.
    """
    notes = []
    if name == "auto":
        present: dict[str, Callable[[], bool]] = {
            "cuda": torch.cuda.is_available,
            "mps": torch.backends.mps.is_available,
        }
        for kind in (kind for kind, is_available in present.items() if _reports(is_available)):
            if not (trouble := _trouble_with(kind)):
                return torch.device(kind), ()
            notes.append(f"{kind} was found but does not work ({trouble}); training on the CPU")
        return torch.device("cpu"), tuple(notes)
    if not re.fullmatch(r"cuda:[0-9]{1,3}", name):
        check_choice("`device`", name, (*DEVICES, "cuda:N"))
    if trouble := _trouble_with(name):
        raise UsageError(
            f"device {name!r} is not available ({trouble})", "set `device` to cpu or auto"
        )
    return torch.device(name), ()


def _reports(is_available: Callable[[], bool]) -> bool:
    """Whether torch reports a GPU; a driver that raises counts as present."""
    try:
        return is_available()
    except Exception:  # a driver may raise anything
        return True


def _trouble_with(device: str) -> str:
    """Why a device cannot compute, in one line; empty if it can."""
    if device == "mps" and not _reports(torch.backends.mps.is_available):
        return "there is no GPU of Apple's"  # torch would list the backends of an operator
    try:
        (torch.ones(2, device=device) @ torch.ones(2, device=device)).item()
    except Exception as error:  # a driver may raise anything
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def threads_restored() -> Iterator[None]:
    """Give torch its threads back afterwards: the next run of this process begins as the first."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Number of CPU cores for this process; those that torchrun starts divide them equally."""
    cores = os.cpu_count() or 1
    with suppress(AttributeError, OSError):  # not on every system; a sandbox may forbid it
        cores = len(os.sched_getaffinity(0))
    return max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])) if started_by_torchrun() else cores


@contextmanager
def torch_errors_explained() -> Iterator[None]:
    """Turn out-of-memory and GPU errors into a ``CharlstmError``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if _is_gpu_error(error):
            raise CharlstmError(
                f"the GPU failed ({_first_line(error)})", "continue with `device` cpu"
            ) from None
        if not _is_memory_error(error):
            raise
        raise CharlstmError(
            "not enough memory for training",
            "use a smaller `hidden_size`, `batch` or `bptt`",
        ) from None


def _is_gpu_error(error: Exception) -> bool:
    """Whether a GPU failed for a reason other than running out of memory."""
    if _is_memory_error(error):
        return False
    newer = getattr(torch, "AcceleratorError", ())
    return isinstance(error, newer) or any(words in str(error) for words in GPU_WORDS)


def _is_memory_error(error: Exception) -> bool:
    """Whether memory ran out; torch has an error class for GPUs, and only messages for CPUs."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    # oneDNN: with "descriptor" after it, the processor lacks the format instead.
    return message.endswith("could not create a primitive") or any(
        words in message for words in MEMORY_WORDS
    )


class Trial:
    """An untrained model on a device, used to time forward and backward passes."""

    def __init__(self, config: ModelConfig, device: torch.device, batch: int, bptt: int) -> None:
        self.device = device
        self.config = config
        self._model = LanguageModel(config).to(device)
        self._model.initialise(torch.Generator())
        self._ids = torch.zeros(bptt, batch, dtype=torch.int64, device=device)

    def seconds(self, precision: Precision) -> float:
        """Seconds for one forward and backward pass over T characters of B streams.

        Raises:
            RuntimeError: the device does not support the precision, or memory runs out.
        """
        start = time.perf_counter()
        with precision.autocast():
            logits, _ = self._model(self._ids, self._model.initial_state(self._ids.shape[1]))
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), self._ids.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self._model.output_bias.grad.sum().item()  # type: ignore[union-attr]  # waits for a GPU
        return time.perf_counter() - start


def choose_precision(name: str, trial: Trial) -> tuple[Precision, float]:
    """The precision to train in, and the seconds of a forward and backward pass in it.

    On a CPU ``auto`` depends on the processor and the model alone, so that a busy moment does not
    decide. On a GPU it is float32, or a format of ``REDUCED`` if trials show it to be at least 10%
    faster.

    Raises:
        UsageError: the device does not support the precision.
    """
    device = trial.device
    if name == "auto" and device.type == "cpu":
        name = cpu_precision(trial.config)
    names = ("float32", *REDUCED.get(device.type, ())) if name == "auto" else (name,)
    seconds = _best_seconds(trial, [Precision(device, name) for name in names])
    if not seconds:
        raise UsageError(
            f"{device.type} does not support training in {name}", "set `precision` to float32"
        )
    best = next(iter(seconds))
    for precision, taken in seconds.items():
        if taken * WORTHWHILE < seconds[best]:
            best = precision
    return best, seconds[best]


def precision_note(precision: Precision, trial: Trial) -> tuple[str, ...]:
    """A note if ``auto`` chose a format for a CPU that proves much slower than float32.

    The choice stays, because another moment might say otherwise, and a run must not depend on that.
    """
    if precision.device.type != "cpu" or precision.name == "float32":
        return ()
    exact = Precision(precision.device, "float32")
    seconds = _best_seconds(trial, [precision, exact], trials=1)
    times = seconds[precision] / seconds[exact]
    if times < MUCH_SLOWER:
        return ()
    return (
        f"note: a step in {precision.name} takes {times:.1f} times as long as in float32 on this "
        "processor; `precision` float32 would be faster",
    )


def cpu_precision(config: ModelConfig) -> str:
    """The faster format for a model on this processor."""
    suits = config.cell in BFLOAT16_CELLS and config.hidden_size >= BFLOAT16_UNITS
    return "bfloat16" if suits and multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16: elsewhere it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def choose_threads(precision: Precision, trial: Trial, seconds: float) -> tuple[int, float]:
    """The number of CPU threads to train with, and the seconds per pass with that number.

    Starts with all threads, which take ``seconds`` per pass, and halves the number as long as each
    halving makes a pass at least 10% faster: for small products, threads spend more time waiting
    for each other than computing. Never fewer than two, so that a core that is briefly busy does
    not slow down the whole run.
    """
    chosen = torch.get_num_threads()
    while precision.device.type == "cpu" and chosen >= 4:
        torch.set_num_threads(chosen // 2)
        taken = _best_seconds(trial, [precision])[precision]
        if taken * WORTHWHILE > seconds:
            torch.set_num_threads(chosen)
            break
        chosen, seconds = chosen // 2, taken
    return chosen, seconds


def _best_seconds(
    trial: Trial, precisions: list[Precision], trials: int = TRIALS
) -> dict[Precision, float]:
    """Best seconds per pass in each precision that the device supports, after one warm-up pass.

    The precisions take turns, so a busy moment affects all of them alike.
    """
    best = dict.fromkeys(precisions, float("inf"))
    for attempt in range(trials + 1):
        for precision in list(best):
            try:
                taken = trial.seconds(precision)
            except RuntimeError as error:
                if precision.name == "float32" or _is_memory_error(error):
                    raise
                del best[precision]  # not supported by the device
                continue
            if attempt:
                best[precision] = min(best[precision], taken)
    return best


@torch.no_grad()
def reading_seconds(model: LanguageModel, precision: Precision, batch: int, bptt: int) -> float:
    """Best seconds for a forward pass over T characters of B streams, after one warm-up pass.

    Raises:
        UsageError: the device does not support the precision for this model's cell.
    """
    ids = torch.zeros(bptt, batch, dtype=torch.int64, device=precision.device)
    taken = []
    for _ in range(TRIALS + 1):
        start = time.perf_counter()
        try:
            with precision.autocast():
                logits, _ = model(ids, model.initial_state(batch))
        except RuntimeError as error:
            if _is_memory_error(error):
                raise
            raise UsageError(
                f"{precision.device.type} does not support running the teacher in {precision.name}",
                "set `precision` to float32",
            ) from None
        logits.sum().item()  # waits for a GPU
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
