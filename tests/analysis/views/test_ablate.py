"""``ablate``: a unit that nothing reads is not missed, and a rerun with other weights agrees."""

import numpy as np
import planted
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose

from charlstm.analysis.document import Flagged
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.views.ablate import AT_ONCE, ablate, chosen, view
from charlstm.errors import CharlstmError
from charlstm.model import Model

ALPHABET = '"abcdefgh'
TEXT = 'bad"cafe"dag"beach"abacdafegbahcbedfa'
WARMUP = "decafbad"
HIDDEN, LAYERS = 12, 2


def readers(layer: int) -> list[tuple[str, str]]:
    """The matrices that read h of a layer, each with its bias."""
    above = [(f"layers.{layer + 1}.weight_input", f"layers.{layer + 1}.bias")]
    return [
        ("output_weight", "output_bias"),
        (f"layers.{layer}.weight_hidden", f"layers.{layer}.bias"),
        *(above if layer < LAYERS - 1 else []),
    ]


def made(silent: tuple[int, int] | None = None) -> Model:
    """A random model; the unit (layer, unit) that is silent has no outgoing weights."""
    weights = random_weights(model_config(len(ALPHABET), HIDDEN, LAYERS), scale=0.6)
    if silent is not None:
        layer, unit = silent
        for matrix, _ in readers(layer):
            weights[matrix][:, unit] = 0
    return planted.model(weights, ALPHABET, layers=LAYERS)


def brute_force(layer: int, unit: int, value: float) -> float:
    """The loss of a model whose biases have what the held unit would send.

    The output layer reads the unit's place in every layer alike, so its part is added by hand.
    """
    model = made()
    weights = {name: array.copy() for name, array in model.file.weights.items()}
    output_weight, output_bias = weights["output_weight"], weights["output_bias"]
    own = (f"layers.{layer}.weight_hidden", f"layers.{layer}.bias")
    first_step = weights[own[0]][:, unit] * value
    for matrix, bias in readers(layer)[1:]:
        weights[bias] += weights[matrix][:, unit] * np.float32(value)
        weights[matrix][:, unit] = 0
    changed = planted.model(dict(weights), ALPHABET, layers=LAYERS)
    # Before the first character h is zero, not held: its state takes back what the bias adds.
    weights[own[1]] = weights[own[1]] - first_step
    unheld = planted.model(weights, ALPHABET, layers=LAYERS)
    bits = []
    text = changed.file.vocab.encode(WARMUP + TEXT)
    _, state = unheld.engine.step(text[:1], changed.engine.initial_state())
    for symbol in text[1:]:
        h = state[:, 0, 0].sum(axis=0)
        h[unit] += value - state[layer, 0, 0, unit]
        logits = output_weight @ h + output_bias
        p = np.exp(logits - logits.max())
        bits.append(-np.log(p[symbol] / p.sum()))
        _, state = changed.engine.step(np.array([symbol]), state)
    return float(np.mean(bits[len(WARMUP) :]))


def shown(model: Model, *units: int, layer: int) -> dict:
    subject = planted.subject(model, TEXT, WARMUP)
    data: dict = view(subject, Options(units=units, layer=layer)).to_dict()
    return data


@pytest.mark.parametrize("silent", [(0, 3), (1, 7)])
def test_unit_without_outgoing_weights_changes_nothing(silent: tuple[int, int]) -> None:
    layer, unit = silent
    data = shown(made(silent), *range(HIDDEN), layer=layer)
    assert [(u["mean"], u["zero"]) for u in data["units"] if u["unit"] == unit] == [(0.0, 0.0)]
    assert all(u["zero"] != 0 for u in data["units"] if u["unit"] != unit)


@pytest.mark.parametrize(("layer", "unit"), [(0, 0), (0, 5), (1, 2), (1, 11)])
def test_rerun_with_the_weights_changed_agrees(layer: int, unit: int) -> None:
    data = shown(made(), unit, layer=layer)
    mean = planted.subject(made(), TEXT, WARMUP)
    trace, _, _ = mean.engine.trace(
        np.concatenate([mean.warmup, mean.ids]), mean.engine.initial_state()
    )
    held = float(trace.states[len(WARMUP) :, layer, 0, unit].mean())
    base = made().score(WARMUP + TEXT).surprise_bits[len(WARMUP) + 1 :].mean() * np.log(2)
    assert data["loss"] == pytest.approx(base, abs=1e-6)
    (entry,) = data["units"]
    assert entry["zero"] == pytest.approx(brute_force(layer, unit, 0.0) - base, abs=2e-6)
    assert entry["mean"] == pytest.approx(brute_force(layer, unit, held) - base, abs=2e-6)


def test_change_where_a_feature_holds_is_over_its_characters() -> None:
    subject = planted.subject(made(), TEXT)
    inside = np.array([c in "ab" for c in TEXT], dtype=float)
    means = np.full((LAYERS, HIDDEN), 0.3)
    everywhere = np.ones(len(TEXT))
    result = ablate(
        subject.engine, subject.ids, subject.warmup, ((1, 2),), means,
        {"ab": inside, "rest": 1 - inside, "all": everywhere},
    )  # fmt: skip
    count = inside[:-1].sum()
    parts = result.where["ab"] * count + result.where["rest"] * (len(TEXT) - 1 - count)
    assert_allclose(parts / (len(TEXT) - 1), result.mean, atol=1e-12)
    assert_allclose(result.where["all"], result.mean, atol=1e-12)
    assert abs(result.where["ab"] - result.where["rest"]) > 1e-4


def test_more_units_than_fit_at_once_are_all_held() -> None:
    hidden = AT_ONCE
    weights = random_weights(model_config(len(ALPHABET), hidden), scale=0.3)
    model = planted.model(weights, ALPHABET)
    subject = planted.subject(model, TEXT[:9])
    every = view(subject, Options(units=tuple(range(hidden)))).to_dict()["units"]
    some = view(subject, Options(units=(40, 63))).to_dict()["units"]
    assert [u["unit"] for u in every] == list(range(hidden))
    for one in some:
        assert_allclose(one["mean"], every[one["unit"]]["mean"], atol=1e-6)
        assert_allclose(one["zero"], every[one["unit"]]["zero"], atol=1e-6)


def test_units_that_track_a_feature_are_held_though_nothing_reads_them() -> None:
    model = planted.tracker(hidden=48)
    planted_units = [planted.QUOTES, planted.BRACKETS, planted.LINE]
    model.file.weights["output_weight"][:, planted_units] = 0
    subject = planted.subject(model, planted.prose(1500))
    held = [(u["layer"], u["unit"]) for u in view(subject, Options(rows=12)).to_dict()["units"]]
    assert len(held) == len(set(held)) == 12
    assert {(0, unit) for unit in planted_units} < set(held)


def test_trackers_come_first_and_then_the_most_influential() -> None:
    h = np.random.default_rng(0).normal(size=(300, 2, 4))
    features = [(h[:, 1, 2] > 0) * 1.0, -h[:, 0, 3], (h[:, 1, 2] > 1) * 1.0]
    influences = np.arange(8.0).reshape(2, 4)
    others = [(1, 3), (1, 1), (1, 0), (0, 2), (0, 1), (0, 0)]
    assert chosen(h, features, influences) == [(1, 2), (0, 3), *others]


def test_only_units_of_the_layer_asked_for_are_held() -> None:
    assert {u["layer"] for u in shown(made(), layer=1)["units"]} == {1}


def sentence(subject: Subject, *units: int) -> str:
    (line,) = planted.findings(view(subject, Options(units=units)).document())
    return line


def is_flagged(subject: Subject, unit: int) -> bool:
    table = view(subject, Options(units=(unit,))).document().blocks[0]
    return any(isinstance(cell, Flagged) for cell in table.rows[0])


def test_most_missed_unit_is_named_and_red_only_above_two_standard_errors() -> None:
    model = planted.tracker(hidden=48)
    for unit in (0, 1, 2):
        model.file.weights["output_weight"][:, unit] *= 1e-4
    text = planted.prose(1500)
    whole = planted.subject(model, text)
    for unit in range(12):
        (data,) = view(whole, Options(units=(unit,))).to_dict()["units"]
        named = data["mean"] > 2 * data["mean_error"]
        shown = sentence(whole, unit)
        assert ("matters most" in shown) == named
        assert ("within 2 standard errors" in shown) != named
        assert f"layer 1 unit {unit}" in shown
        assert (data["mean"] > 2 * data["mean_error"]) == is_flagged(whole, unit)


@pytest.mark.parametrize(("length", "enough"), [(5, False), (500, False), (501, True)])
def test_short_text_has_no_errors_and_names_no_unit(length: int, enough: bool) -> None:
    short = planted.subject(planted.tracker(hidden=48), planted.prose(length))
    errors = [unit["mean_error"] for unit in view(short, Options()).to_dict()["units"]]
    assert all((error is not None) == enough for error in errors)
    assert ("501 characters or more" in sentence(short)) != enough


def test_text_of_one_character_is_refused() -> None:
    with pytest.raises(CharlstmError, match="2 characters"):
        view(planted.subject(made(), "a"), Options())
