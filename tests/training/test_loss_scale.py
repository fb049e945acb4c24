from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from helpers import TEXT, model_config, train_config
from torch import Tensor, nn

from charlstm.events import StepDone
from charlstm.runs.checkpoint import read_resume_state
from charlstm.text.corpus import Corpus
from charlstm.training import loss_scale, new_run, resume
from charlstm.training.loss_scale import FIRST_SCALE, LossScale
from charlstm.training.schedule import rate_multiplier
from charlstm.training.trainer import Trainer

CPU = torch.device("cpu")
Begin = Callable[..., Trainer]


def loss_of(weight: Tensor, factor: float) -> Tensor:
    """``factor`` times the weights' sum, computed in float16 on the way."""
    return weight.half().float().sum() * factor


def backward(scale: LossScale, loss: Tensor, parameters: list[nn.Parameter]) -> None:
    scale.scaled(loss).backward()
    scale.unscale(parameters)


def test_gradient_too_small_for_float16_is_kept() -> None:
    weight, factor = nn.Parameter(torch.ones(3)), 2.0**-30
    loss_of(weight, factor).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 0, 0]  # what happens without a scale
    weight.grad = None
    backward(LossScale(CPU), loss_of(weight, factor), [weight])
    assert weight.grad.tolist() == [factor] * 3


def test_overflow_clears_all_gradients_and_halves_the_scale() -> None:
    scale, wild, tame = LossScale(CPU), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    backward(scale, loss_of(wild, 1e30) + tame.sum(), [wild, tame])
    assert wild.grad is not None
    assert tame.grad is not None
    assert wild.grad.tolist() == tame.grad.tolist() == [0, 0]
    assert scale.state.tolist() == [FIRST_SCALE / 2, 0]
    tame.grad = None
    backward(scale, tame.sum(), [tame])
    assert tame.grad.tolist() == [1, 1]
    assert scale.state.tolist() == [FIRST_SCALE / 2, 1]


def test_scale_is_doubled_after_a_while_and_stays_in_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    scale, weight = LossScale(CPU), nn.Parameter(torch.ones(1))
    seen = []
    for _ in range(40):
        weight.grad = None
        backward(scale, weight.sum(), [weight])
        seen.append(scale.state.tolist())
    assert seen[:4] == [[2**16, 1], [2**16, 2], [2**17, 0], [2**17, 1]]
    assert seen[-1][0] == 2**24
    for _ in range(40):
        backward(scale, weight.sum() * float("inf"), [weight])
    assert scale.state.tolist() == [1, 0]


@pytest.fixture
def begin(make_corpus: Callable[..., Corpus], tmp_path: Path) -> Iterator[Begin]:
    """A run of a cell whose products the CPU has in float16, too."""
    stack = ExitStack()

    def make(precision: str, steps: int = 40) -> Trainer:
        corpus = make_corpus(TEXT * 20)
        model = model_config(len(corpus.vocab), 16, cell="rnn")
        config = train_config(precision=precision, steps=steps)
        return stack.enter_context(new_run.begin(corpus, model, config, root=tmp_path))

    with stack:
        yield make


def losses(trainer: Trainer, first_scale: float = FIRST_SCALE) -> list[float]:
    learner, config = trainer.learner, trainer.run_file.train
    if config.precision == "float16":
        learner.tensors()["loss_scale"][0] = first_scale
    steps = ((step, rate_multiplier(step, 40, config)) for step in range(40))
    return [learner.step(step, multiplier)[0].item() for step, multiplier in steps]


def test_training_in_float16_learns_as_in_float32(begin: Begin) -> None:
    full, reduced = losses(begin("float32")), losses(begin("float16"))
    assert full[-1] < full[0] - 0.5
    assert reduced != full
    assert reduced == pytest.approx(full, abs=0.02)
    # Six steps overflow before the scale has come down; then it learns as well.
    late = losses(begin("float16"), first_scale=2.0**38)
    assert late[-1] < full[0] - 0.5


def test_scale_is_part_of_exact_resume(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus = make_corpus(TEXT * 20)
    model = model_config(len(corpus.vocab), 16, cell="rnn")
    config = train_config(precision="float16", steps=30)
    with new_run.begin(corpus, model, config, root=tmp_path) as trainer:
        for event in trainer.run():
            if isinstance(event, StepDone) and event.step >= 7:
                trainer.request_stop()
    assert trainer.progress.step < 30
    saved = read_resume_state(max(trainer.path.glob("step-*"))).tensors["loss_scale"]
    assert saved.tolist() == [FIRST_SCALE, trainer.progress.step]
    with resume.open_run(trainer.path, corpus) as resumed:
        assert resumed.learner.tensors()["loss_scale"].tolist() == saved.tolist()
