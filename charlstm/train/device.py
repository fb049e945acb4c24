"""Where, in which number format, and with how many threads a model trains."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from charlstm.errors import UsageError
from charlstm.net.model_config import ModelConfig
from charlstm.train.network import LanguageModel

TRIALS = 3
WORTHWHILE = 1.1
REDUCED = {"cpu": ("bfloat16",), "cuda": ("bfloat16", "float16"), "mps": ("bfloat16", "float16")}
"""The formats that ``auto`` tries on a device, beside float32."""


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


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU, or the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"the device {name!r} is not available here", "use --device cpu or --device auto"
        ) from None
    return device


def choose_precision(
    name: str, device: torch.device, config: ModelConfig, batch: int, bptt: int
) -> tuple[Precision, float]:
    """The precision to train in, and the seconds that a forward and backward pass took in it.

    ``auto`` is the first of ``REDUCED`` in which a trial of some passes is a tenth faster than in
    those before it, or float32.
    """
    names = ("float32", *REDUCED.get(device.type, ())) if name == "auto" else (name,)
    candidates = [Precision(device, name) for name in names]
    seconds = _seconds(*_trial(config, device, batch, bptt), candidates)
    if not seconds:
        raise UsageError(f"{device.type} cannot train in {name} here", "use --precision float32")
    best = next(iter(seconds))
    for precision, taken in seconds.items():
        if taken * WORTHWHILE < seconds[best]:
            best = precision
    return best, seconds[best]


def choose_threads(
    precision: Precision, config: ModelConfig, batch: int, bptt: int, seconds: float
) -> tuple[int, float]:
    """How many of torch's threads to train with, and the seconds of a pass then.

    All of them, which take ``seconds``, or half, a quarter ... for as long as that makes a pass
    a tenth faster: in small products many threads wait for each other more than they compute.
    Never fewer than two, so that a core that is busy just now does not decide for hours.
    """
    chosen = torch.get_num_threads()
    if precision.device.type != "cpu" or chosen < 4:
        return chosen, seconds
    model, ids = _trial(config, precision.device, batch, bptt)
    while chosen >= 4:
        torch.set_num_threads(chosen // 2)
        taken = _seconds(model, ids, [precision])[precision]
        if taken * WORTHWHILE > seconds:
            torch.set_num_threads(chosen)
            break
        chosen, seconds = chosen // 2, taken
    return chosen, seconds


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
        except RuntimeError:
            raise UsageError(
                f"{precision.device.type} cannot read the teacher in {precision.name} here",
                "use --precision float32",
            ) from None
        logits.sum().item()  # waits for a GPU
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def _trial(
    config: ModelConfig, device: torch.device, batch: int, bptt: int
) -> tuple[LanguageModel, torch.Tensor]:
    """An untrained model and characters (T, B) to read with it."""
    model = LanguageModel(config).to(device)
    model.initialise(torch.Generator())
    return model, torch.zeros(bptt, batch, dtype=torch.int64, device=device)


def _seconds(
    model: LanguageModel, ids: torch.Tensor, precisions: list[Precision]
) -> dict[Precision, float]:
    """Best time of a pass in each precision that the device has, after one that is not counted.

    They are tried in turn: a moment in which the machine is busy then meets all of them.
    """
    best = dict.fromkeys(precisions, float("inf"))
    for trial in range(TRIALS + 1):
        for precision in list(best):
            try:
                taken = _pass(model, ids, precision)
            except RuntimeError:
                if precision.name == "float32":
                    raise
                del best[precision]  # the device does not have it
                continue
            if trial:
                best[precision] = min(best[precision], taken)
    return best


def _pass(model: LanguageModel, ids: torch.Tensor, precision: Precision) -> float:
    """Seconds of a forward and a backward pass."""
    start = time.perf_counter()
    with precision.autocast():
        logits, _ = model(ids, model.initial_state(ids.shape[1]))
    loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    model.output_bias.grad.sum().item()  # type: ignore[union-attr]  # waits for a GPU
    return time.perf_counter() - start
