from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers import TEXT, model_config, train_config

from charlstm.errors import CharlstmError, UsageError
from charlstm.net.spec import CELLS
from charlstm.text.corpus import Corpus
from charlstm.training import device as device_module
from charlstm.training.device import (
    Precision,
    Trial,
    available_cores,
    choose_device,
    choose_precision,
    choose_threads,
    torch_errors_explained,
)
from charlstm.training.learner import Learner
from charlstm.training.network import LanguageModel

CPU = torch.device("cpu")
META = torch.device("meta")


@pytest.mark.parametrize("cell", CELLS)
def test_steps_keep_to_their_device_and_never_wait_for_it(
    cell: str, make_corpus: Callable[..., Corpus]
) -> None:
    """A device without numbers stands for a GPU.

    An operation between it and the CPU is an error, and so is reading a number from it, for which
    a GPU's queue would have to run dry.
    """
    corpus = make_corpus(TEXT * 20)
    model = model_config(len(corpus.vocab), 8, layers=2, cell=cell)
    config = train_config(dropout=0.2, weight_decay=0.1)
    teacher = LanguageModel(model).to(META).requires_grad_(False)
    learner = Learner(
        replace(config, distillation=0.5),
        corpus.split(0.1)[0],
        LanguageModel(model).to(META),
        Precision(META, "float32"),
        teacher,
    )
    for step in range(3):
        loss, norm = learner.step(step, 0.5)
    assert loss.device == norm.device == META
    with pytest.raises(RuntimeError, match="meta"):
        norm.item()


class FakeTrial(Trial):
    """A trial with given seconds per precision; other precisions are not supported."""

    def __init__(self, device: str, seconds: dict[str, float]) -> None:
        self.device = torch.device(device)
        self.config = model_config(7, 256)
        self.taken = seconds

    def seconds(self, precision: Precision) -> float:
        if precision.name not in self.taken:
            raise RuntimeError("not implemented")
        return self.taken[precision.name]


FULL, HALF = "float32", "bfloat16"


@pytest.mark.parametrize(
    ("device", "seconds", "expected"),
    [
        ("cuda", {FULL: 1.0, HALF: 0.5, "float16": 0.2}, ("float16", 0.2)),
        ("cuda", {FULL: 1.0, HALF: 0.5, "float16": 0.48}, (HALF, 0.5)),  # whose range is safe
        ("cuda", {FULL: 1.0, "float16": 0.2}, ("float16", 0.2)),  # before Ampere
        ("mps", {FULL: 1.0, "float16": 0.5}, ("float16", 0.5)),
        ("cuda", {FULL: 1.0, HALF: 0.95}, (FULL, 1.0)),  # not worth the rounding
        ("xpu", {FULL: 1.0, HALF: 0.5}, (FULL, 1.0)),
    ],
)
def test_precision_on_a_gpu_is_what_a_trial_says(
    device: str, seconds: dict[str, float], expected: tuple[str, float]
) -> None:
    precision, taken = choose_precision("auto", FakeTrial(device, seconds))
    assert (precision.name, taken) == expected
    assert precision.device == torch.device(device)


@pytest.mark.parametrize(
    ("cell", "units", "supported", "expected"),
    [
        ("lstm", 256, True, HALF),
        ("lstm", 256, False, FULL),
        ("lstm", 64, True, FULL),
        ("peephole", 128, True, HALF),
        ("gru", 512, True, FULL),
        ("rnn", 512, True, FULL),
    ],
)
def test_precision_on_a_cpu_is_that_of_the_processor_and_the_model(
    cell: str, units: int, supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "multiplies_bfloat16", lambda: supported)
    for seconds in {FULL: 1.0, HALF: 9.0}, {FULL: 9.0, HALF: 1.0}:  # whatever a busy moment says
        trial = FakeTrial("cpu", seconds)
        trial.config = model_config(7, units, cell=cell)
        precision, taken = choose_precision("auto", trial)
        assert (precision.name, taken) == (expected, seconds[expected])


@pytest.mark.parametrize(
    ("device", "precision", "seconds", "noted"),
    [
        ("cpu", HALF, {FULL: 1.0, HALF: 2.0}, True),
        ("cpu", HALF, {FULL: 1.0, HALF: 1.2}, False),
        ("cpu", FULL, {FULL: 2.0}, False),
        ("cuda", HALF, {HALF: 2.0}, False),  # there a trial has decided
    ],
)
def test_a_format_that_proves_slow_is_noted(
    device: str, precision: str, seconds: dict[str, float], noted: bool
) -> None:
    chosen = Precision(torch.device(device), precision)
    notes = device_module.precision_note(chosen, FakeTrial(device, seconds))
    assert ["takes 2.0 times as long as in float32" in note for note in notes] == [True] * noted


def test_a_busy_moment_does_not_decide() -> None:
    class Busy(FakeTrial):
        passes = 0

        def seconds(self, precision: Precision) -> float:
            self.passes += 1
            return super().seconds(precision) * (10 if self.passes > 5 else 1)

    precision, taken = choose_precision("auto", Busy("cuda", {FULL: 1.0, HALF: 0.5}))
    assert (precision.name, taken) == (HALF, 0.5)


def test_wanted_precision_is_taken_or_refused() -> None:
    trial = FakeTrial("cpu", {"float32": 1.0})
    assert choose_precision("float32", trial)[0].name == "float32"
    with pytest.raises(UsageError, match="cpu does not support training in bfloat16"):
        choose_precision("bfloat16", trial)


def test_a_trial_takes_some_time_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    trial = Trial(model_config(7, 4), CPU, 2, 3)
    assert trial.seconds(Precision(CPU, "float32")) > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({16: 1.0, 8: 0.8, 4: 0.5, 2: 0.6}, (4, 0.5)),
        ({16: 1.0, 8: 0.95, 4: 0.1}, (16, 1.0)),  # not worth it: no further is looked
        ({16: 1.0, 8: 0.8, 4: 0.6, 2: 0.3, 1: 0.1}, (2, 0.3)),
        ({2: 1.0, 1: 0.1}, (2, 1.0)),
        ({1: 1.0}, (1, 1.0)),
    ],
)
def test_threads_are_halved_while_that_is_faster_but_not_below_two(
    seconds: dict[int, float], expected: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = max(seconds)

    def set_threads(number: int) -> None:
        nonlocal threads
        threads = number

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", set_threads)

    class Threaded(FakeTrial):
        def seconds(self, precision: Precision) -> float:
            return seconds[threads]

    trial = Threaded("cpu", {})
    assert choose_threads(Precision(CPU, "float32"), trial, seconds[threads]) == expected
    assert threads == expected[0]


def test_matrix_products_are_in_the_precision_chosen() -> None:
    a = torch.ones(2, 2)
    for name in ("float32", "bfloat16", "float16"):
        with Precision(CPU, name).autocast():
            assert (a @ a).dtype == getattr(torch, name)


def test_a_gpu_that_is_reported_and_does_not_work_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(device_module, "_trouble_with", lambda _: "no kernel image")
    device, notes = choose_device("auto")
    assert device == CPU
    assert notes == ("cuda was found but does not work (no kernel image); training on the CPU",)
    monkeypatch.setattr(device_module, "_trouble_with", lambda _: "")
    assert choose_device("auto") == (torch.device("cuda"), ())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("MPS backend out of memory"),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError("Unable to allocate 8.00 TiB"),
    ],
)
def test_the_end_of_memory_becomes_an_error_with_advice(error: Exception) -> None:
    with (
        pytest.raises(CharlstmError, match="not enough memory") as refused,
        torch_errors_explained(),
    ):
        raise error
    assert "`batch`" in refused.value.hint


def test_an_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(CharlstmError, match="not enough memory"), torch_errors_explained():
        torch.empty(1 << 55)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), torch_errors_explained():
        raise RuntimeError("shape mismatch")


def test_the_end_of_memory_in_a_trial_is_not_a_missing_precision() -> None:
    class Full(FakeTrial):
        def seconds(self, precision: Precision) -> float:
            raise RuntimeError("can't allocate memory")

    with pytest.raises(CharlstmError, match="not enough memory"), torch_errors_explained():
        choose_precision("bfloat16", Full("cpu", {}))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_trouble_with", lambda _: "no driver")
    with pytest.raises(UsageError, match=r"'cuda' is not available \(no driver\)"):
        choose_device("cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one here")
def test_a_gpu_of_apples_that_is_not_there_is_refused_in_a_few_words() -> None:
    with pytest.raises(UsageError, match=r"'mps' is not available \(there is no GPU of Apple's\)"):
        choose_device("mps")


@pytest.mark.parametrize("count", ["2", "0", "many"])
def test_only_processes_of_torchrun_divide_the_cores(
    count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = available_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", count)
    assert available_cores() == cores


@pytest.mark.parametrize("name", ["meta", "nonsense", "cpu:x", "cuda:", "cuda:x", ""])
def test_another_name_is_no_device(name: str) -> None:
    with pytest.raises(UsageError, match=r"choose one of auto, cpu, cuda, mps, cuda:N$"):
        choose_device(name)


def test_a_gpu_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_trouble_with", lambda _: "")
    assert choose_device("cuda:1") == (torch.device("cuda:1"), ())


@pytest.mark.parametrize("error", [OSError("no libcuda"), KeyError("nvml"), AttributeError("_C")])
def test_a_driver_that_fails_when_asked_costs_the_gpu_and_not_the_training(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", failing)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "ones", failing)
    device, notes = choose_device("auto")
    assert device == CPU
    assert notes == (f"cuda was found but does not work ({error}); training on the CPU",)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_gpu_that_fails_during_training_is_one_line_with_advice(message: str) -> None:
    with pytest.raises(CharlstmError) as failed, torch_errors_explained():
        raise RuntimeError(message)
    assert failed.value.message == f"the GPU failed ({message.splitlines()[0]})"
    assert "`device` cpu" in failed.value.hint
