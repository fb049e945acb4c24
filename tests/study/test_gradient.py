import json
import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from helpers import model_config, random_weights
from numpy.testing import assert_allclose
from torch import nn

from charlstm.errors import CharlstmError
from charlstm.net.engine import Engine, log_softmax
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import ModelFile
from charlstm.study import gradient
from charlstm.study.gradient import (
    WARMUP,
    profile,
    scale_hidden,
    short_training,
    state_gradients,
    study_gradients,
    study_model,
    untrained_profile,
    windows,
)
from charlstm.study.results import Clipping, GradientProfile, GradientReport, growth
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.network import LanguageModel, load_arrays
from charlstm.training.optimiser import Optimiser

VOCAB_SIZE, REACH, TEXTS = 9, 12, 3
IDS = np.random.default_rng(4).integers(0, VOCAB_SIZE, (REACH + 1, TEXTS))


def wide(config: ModelConfig, weights: dict[str, np.ndarray]) -> LanguageModel:
    model = LanguageModel(config)
    load_arrays(model, weights)
    return model.double()


def loss_after(engine: Engine, ids: np.ndarray, state: np.ndarray) -> float:
    """-ln p of the last of ``ids`` (N,) once those before it were read from ``state``."""
    logits, _ = engine.forward(ids[:-1], state)
    return -float(log_softmax(logits[-1])[ids[-1]])


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_finite_differences_of_the_engine(cell: str) -> None:
    config = model_config(VOCAB_SIZE, hidden=4, layers=2, cell=cell)
    weights = random_weights(config, 1)
    engine = Engine(config, weights, np.float64)
    start = np.random.default_rng(2).uniform(-0.5, 0.5, engine.initial_state(TEXTS).shape)
    found = state_gradients(wide(config, weights), IDS, torch.from_numpy(start)).numpy()
    assert found.shape == (REACH, *start.shape)
    layers, states, _, size = start.shape
    for b in range(TEXTS):
        state = start[:, :, b : b + 1]
        for t in range(REACH):
            ids = IDS[t:, b]
            for layer, s, unit in product(range(layers), range(states), range(size)):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = state.copy()
                    moved[layer, s, 0, unit] += step
                    ends.append(loss_after(engine, ids, moved))
                expected = (ends[0] - ends[1]) / 2e-6
                assert found[REACH - 1 - t, layer, s, b, unit] == pytest.approx(
                    expected, rel=1e-5, abs=1e-9
                )
            _, state = engine.forward(ids[:1], state)


def test_without_hidden_weights_the_cell_carries_exactly_the_product_of_its_forget_gates() -> None:
    config = model_config(VOCAB_SIZE, hidden=5)
    weights = random_weights(config, 3)
    weights["layers.0.weight_hidden"][:] = 0
    found = state_gradients(
        wide(config, weights), IDS, torch.zeros(1, 2, TEXTS, 5, dtype=torch.float64)
    ).numpy()
    engine = Engine(config, weights, np.float64)
    for b in range(TEXTS):
        trace, logits, _ = engine.trace(IDS[:-1, b], engine.initial_state())
        forget, output = trace.gates[:, 0, 1], trace.gates[:, 0, 2]
        p = np.exp(log_softmax(logits[-1]))
        p[IDS[-1, b]] -= 1
        d_h = p @ weights["output_weight"].astype(np.float64)
        d_c = d_h * output[-1] * (1 - np.tanh(trace.states[-1, 0, 1]) ** 2)
        for k in range(1, REACH + 1):
            kept = forget[REACH - k :].prod(axis=0)
            assert_allclose(found[k - 1, 0, 1, b], kept * d_c, rtol=1e-12, atol=1e-15)
            assert_allclose(found[k - 1, 0, 0, b], 0)


def test_a_profile_holds_the_medians_of_the_norms_after_the_warm_up() -> None:
    config = model_config(VOCAB_SIZE, hidden=4, layers=2)
    weights = random_weights(config, 1)
    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, (WARMUP + REACH + 1, TEXTS))
    model = LanguageModel(config)
    load_arrays(model, weights)
    found = profile(model, ids, "me")
    double = wide(config, weights)
    _, state = double(torch.from_numpy(ids[:WARMUP]), double.initial_state(TEXTS).double())
    gradients = state_gradients(double, ids[WARMUP:], state).numpy()
    norms = np.sqrt((gradients**2).sum(axis=(1, 4)))
    assert found.c is not None
    assert_allclose(found.h, np.median(norms[:, 0], axis=-1))
    assert_allclose(found.c, np.median(norms[:, 1], axis=-1))
    assert (found.name, found.cell, len(found.h)) == ("me", "lstm", REACH)
    # What a step of training would clip, by torch's own function.
    logits, _ = double(torch.from_numpy(ids[WARMUP:-1]), state.detach())
    nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(ids[WARMUP + 1 :]).flatten()
    ).backward()
    assert found.step_norm == pytest.approx(nn.utils.clip_grad_norm_(double.parameters(), 1).item())
    assert profile(LanguageModel(model_config(VOCAB_SIZE, cell="gru")), ids, "gru").c is None


def test_growth_is_the_factor_of_a_geometric_sequence() -> None:
    assert growth(2.5 * 0.7 ** np.arange(20)) == pytest.approx(0.7)


def test_small_hidden_weights_vanish_sooner_and_large_ones_explode() -> None:
    config = ModelConfig("rnn", VOCAB_SIZE, 8, 64, 1)
    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, (WARMUP + 60, 16))
    half, whole, double = (untrained_profile(config, ids, f) for f in (0.5, 1.0, 2.0))
    assert growth(half.h) < 0.6 < growth(whole.h) < 1 < growth(double.h)
    assert (half.name, whole.name, double.name) == ("rnn, W×0.5", "rnn", "rnn, W×2")
    assert double.h[-1] > 10
    assert half.step_norm < double.step_norm


def test_scaling_multiplies_the_hidden_matrices_alone() -> None:
    config = model_config(VOCAB_SIZE, layers=2)
    weights = random_weights(config)
    model = LanguageModel(config)
    load_arrays(model, weights)
    scale_hidden(model, 3.0)
    for name, parameter in model.named_parameters():
        factor = 3 if name.endswith("weight_hidden") else 1
        assert_allclose(parameter.detach(), factor * weights[name], rtol=1e-6)


def test_windows_are_spread_over_the_text() -> None:
    ids = np.arange(1000, dtype=np.uint32)
    found = windows(ids, 20)
    assert found.shape == (WARMUP + 21, gradient.TEXTS)
    assert (np.diff(found, axis=0) == 1).all()
    assert (found[0, 0], found[-1, -1]) == (0, 999)


def test_clipping_limits_what_reaches_the_optimiser(
    make_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus()
    config = ModelConfig("rnn", len(corpus.vocab), 8, 32, 1)
    norms: list[float] = []
    step = Optimiser.step

    def watch(self: Optimiser, multiplier: float) -> None:
        gradients = [p.grad for p in (*self._matrices.values(), *self._others.values())]
        norms.append(float(torch.stack([g.norm() for g in gradients if g is not None]).norm()))
        step(self, multiplier)

    monkeypatch.setattr(Optimiser, "step", watch)
    _, limited = short_training(corpus, config, 8, "rnn", clip=1.0, scale=4.0)
    assert max(norms) == pytest.approx(1, abs=1e-3)
    assert limited.largest_norm > 10
    norms.clear()
    _, free = short_training(corpus, config, 8, "rnn", clip=None, scale=4.0)
    assert norms[0] > 10
    assert free.largest_norm == pytest.approx(max(norms), rel=1e-3)
    assert free.median_norm == pytest.approx(np.median(norms), rel=1e-3)
    assert free.clipped == np.mean(np.array(norms) > 1)
    assert (limited.clip, free.clip) == (1.0, None)


def test_the_study_measures_every_cell_before_and_after_training(
    make_corpus: Callable[..., Corpus],
) -> None:
    corpus = make_corpus()
    told: list[str] = []
    report = study_gradients(
        corpus, ["rnn", "lstm"], hidden_size=8, reach=10, steps=2, report=told.append
    )
    assert [p.name for p in report.untrained] == ["rnn", "lstm", "rnn, W×0.5", "rnn, W×2"]
    assert [p.name for p in report.trained] == ["rnn", "lstm"]
    assert [(c.name, c.clip) for c in report.clippings] == [
        ("rnn", 1.0),
        ("lstm", 1.0),
        ("rnn, W×0.5", 1.0),
        ("rnn, W×0.5", None),
        ("rnn, W×2", 1.0),
        ("rnn, W×2", None),
    ]
    assert all(np.isfinite(c.val_loss) for c in report.clippings)
    assert len(told) == 7


def test_a_report_is_valid_json_where_gradients_overflow() -> None:
    values = np.array([1.0, np.inf, np.nan, 0.0])
    overflown = GradientProfile("rnn", "rnn", values, values[::-1], math.inf)
    clipping = Clipping("rnn", None, math.inf, math.nan, 0.5, math.nan)
    report = GradientReport((overflown,), (overflown,), (clipping,)).to_dict()
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again["untrained"][0]["h"] == [1.0, None, None, 0.0]
    assert again["untrained"][0]["step_norm"] is None
    assert again["clipping"][0]["largest_norm"] is None
    assert again["clipping"][0]["clipped"] == 0.5


@pytest.mark.parametrize(
    ("length", "remedy"), [(90, "set `reach` to at most 39"), (40, "use a run of a longer text")]
)
def test_the_remedy_for_a_short_excerpt_can_be_followed(length: int, remedy: str) -> None:
    config, vocab = model_config(2), Vocabulary("ab")
    file = ModelFile(config, vocab, random_weights(config), "ab" * (length // 2), {})
    with pytest.raises(CharlstmError) as refused:
        study_model(file, 100)
    assert refused.value.hint == remedy
    if length > WARMUP:
        assert len(study_model(file, 39).trained[0].h) == 39


def test_a_users_model_is_measured_on_its_excerpt() -> None:
    config = model_config(VOCAB_SIZE, cell="gru")
    vocab = Vocabulary("abcdefghi")
    file = ModelFile(config, vocab, random_weights(config), "abcdefghi" * 12, {})
    report = study_model(file, 30)
    ids = windows(vocab.encode(file.excerpt).astype(np.uint32), 30)
    model = LanguageModel(config)
    load_arrays(model, file.weights)
    assert_allclose(report.trained[0].h, profile(model, ids, "gru").h)
    assert report.untrained[0].h[0] != report.trained[0].h[0]
    with pytest.raises(CharlstmError, match="108 characters, too few for a reach of 58"):
        study_model(file, 58)
    assert study_model(file, 57).trained
