"""Where, in which number format, and with how many threads a model trains."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import nn

from charlstm.errors import CharlstmError, UsageError, check_choice
from charlstm.net.model_config import ModelConfig
from charlstm.train.network import LanguageModel

TRIALS = 3
WORTHWHILE = 1.1
REDUCED = {"cpu": ("bfloat16",), "cuda": ("bfloat16", "float16"), "mps": ("bfloat16", "float16")}
"""The formats that ``auto`` tries on a device, besides float32."""
DEVICES = ("auto", "cpu", "cuda", "mps")
MEMORY_WORDS = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")
"""What the errors of torch and its libraries say where memory ends."""
GPU_WORDS = (
    "CUDA error",
    "CUDA driver",
    "cuDNN error",
    "CUBLAS_STATUS",
    "MPS backend",
    "HIP error",
)
"""What the errors of torch and its libraries have in them where a GPU fails."""


@dataclass(frozen=True)
class Precision:
    """A device and the format of its matrix products; weights and losses stay float32."""

    device: torch.device
    name: str

    def autocast(self) -> AbstractContextManager[None]:
        """The context that forward passes run in."""
        if self.name == "float32":
            return nullcontext()
        context: AbstractContextManager[None] = torch.autocast(
            self.device.type, dtype=getattr(torch, self.name), cache_enabled=False
        )
        return context


def choose_device(name: str) -> tuple[torch.device, tuple[str, ...]]:
    """A device by name, and notes about it; ``auto`` is the first GPU that works, or the CPU.

    Raises:
        UsageError: there is no such device here, or it does not work.
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
            notes.append(f"{kind} is there, but does not work ({trouble}): training on the CPU")
        return torch.device("cpu"), tuple(notes)
    check_choice("`device`", name, DEVICES)
    if trouble := _trouble_with(name):
        raise UsageError(
            f"the device {name!r} is not available here ({trouble})", "set `device` to cpu or auto"
        )
    return torch.device(name), ()


def _reports(is_available: Callable[[], bool]) -> bool:
    """Whether torch reports a GPU; a driver that fails already then is there, too."""
    try:
        return is_available()
    except Exception:  # a driver may raise anything
        return True


def _trouble_with(device: str) -> str:
    """Why nothing can be computed on a device, in a line, or the empty string."""
    try:
        (torch.ones(2, device=device) @ torch.ones(2, device=device)).item()
    except Exception as error:  # a driver may raise anything
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def available_cores() -> int:
    """The CPU cores that this process may use."""
    with suppress(AttributeError, OSError):  # not on every system; a sandbox may forbid it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def torch_errors_explained() -> Iterator[None]:
    """Turn what is raised where memory ends or a GPU fails into a ``CharlstmError``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if _is_gpu_error(error):
            raise CharlstmError(
                f"the GPU fails ({_first_line(error)})", "go on with `device` cpu"
            ) from None
        if not _is_memory_error(error):
            raise
        raise CharlstmError(
            "there is not enough memory for this training",
            "use a smaller `hidden_size`, `batch` or `bptt`",
        ) from None


def _is_gpu_error(error: Exception) -> bool:
    """Whether a GPU has failed, other than by running out of memory."""
    if _is_memory_error(error):
        return False
    newer = getattr(torch, "AcceleratorError", ())
    return isinstance(error, newer) or any(words in str(error) for words in GPU_WORDS)


def _is_memory_error(error: Exception) -> bool:
    """Whether memory has run out; torch says so by its own error on a GPU, in words on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    # oneDNN: with "descriptor" after it, the processor lacks the format instead.
    return message.endswith("could not create a primitive") or any(
        words in message for words in MEMORY_WORDS
    )


class Trial:
    """An untrained model on a device, to time forward and backward passes of a run's shape."""

    def __init__(self, config: ModelConfig, device: torch.device, batch: int, bptt: int) -> None:
        self.device = device
        self._model = LanguageModel(config).to(device)
        self._model.initialise(torch.Generator())
        self._ids = torch.zeros(bptt, batch, dtype=torch.int64, device=device)

    def seconds(self, precision: Precision) -> float:
        """The time of one pass over T characters of B streams.

        Raises:
            RuntimeError: the device does not have the precision, or too little memory.
        """
        start = time.perf_counter()
        with precision.autocast():
            logits, _ = self._model(self._ids, self._model.initial_state(self._ids.shape[1]))
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), self._ids.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self._model.output_bias.grad.sum().item()  # type: ignore[union-attr]  # waits for a GPU
        return time.perf_counter() - start


def choose_precision(name: str, trial: Trial) -> tuple[Precision, float]:
    """The precision to train in, and the seconds that a forward and backward pass took in it.

    ``auto`` is the first of ``REDUCED`` in which a trial of some passes is a tenth faster than in
    those before it, or float32.
    """
    device = trial.device
    names = ("float32", *REDUCED.get(device.type, ())) if name == "auto" else (name,)
    seconds = _best_seconds(trial, [Precision(device, name) for name in names])
    if not seconds:
        raise UsageError(f"{device.type} cannot train in {name} here", "set `precision` to float32")
    best = next(iter(seconds))
    for precision, taken in seconds.items():
        if taken * WORTHWHILE < seconds[best]:
            best = precision
    return best, seconds[best]


def choose_threads(precision: Precision, trial: Trial, seconds: float) -> tuple[int, float]:
    """How many of torch's threads to train with, and the seconds of a pass then.

    All of them, which take ``seconds``, or half, a quarter ... for as long as that makes a pass
    a tenth faster: in small products many threads wait for each other more than they compute.
    Never fewer than two, so that a core that is busy just now does not decide for hours.
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


def _best_seconds(trial: Trial, precisions: list[Precision]) -> dict[Precision, float]:
    """Best time of a pass in each precision that the device has, after one that is not counted.

    They are tried in turn: a moment in which the machine is busy then meets all of them.
    """
    best = dict.fromkeys(precisions, float("inf"))
    for attempt in range(TRIALS + 1):
        for precision in list(best):
            try:
                taken = trial.seconds(precision)
            except RuntimeError as error:
                if precision.name == "float32" or _is_memory_error(error):
                    raise
                del best[precision]  # the device does not have it
                continue
            if attempt:
                best[precision] = min(best[precision], taken)
    return best


@torch.no_grad()
def reading_seconds(model: LanguageModel, precision: Precision, batch: int, bptt: int) -> float:
    """Best time in which a model reads T characters of B streams, after one that is not counted.

    Raises:
        UsageError: the device does not have the precision for this model's cell.
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
                f"{precision.device.type} cannot read the teacher in {precision.name} here",
                "set `precision` to float32",
            ) from None
        logits.sum().item()  # waits for a GPU
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
