import dataclasses
import json
import math

import numpy as np
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose, assert_array_equal
from reference import Reading, read_text

from charlstm.analysis import trace as reading
from charlstm.analysis.saturation import (
    GateReport,
    Thresholds,
    findings,
    longest_memory,
    measure_gates,
)
from charlstm.errors import CharlstmError, UsageError
from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS, layer_prefix

SYMBOLS = "abcdefghi"
CONFIG = model_config(len(SYMBOLS), hidden=5, layers=2)
FORGET = 1
IDS = np.random.default_rng(3).integers(0, len(SYMBOLS), 60)
COLD = IDS[:0]


def measure(
    engine: Engine, ids: np.ndarray = IDS, warmup: np.ndarray = COLD, **options: object
) -> GateReport:
    symbols = tuple(SYMBOLS[i] for i in ids)
    return measure_gates(engine, ids, symbols, warmup, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return random_weights(CONFIG, scale=1.5)


@pytest.fixture(scope="module")
def engine(weights: dict[str, np.ndarray]) -> Engine:
    return Engine(CONFIG, weights, np.float64)


@pytest.fixture(scope="module")
def expected(weights: dict[str, np.ndarray]) -> np.ndarray:
    """(T, L, G, H) by the reference."""
    return read_text(weights, IDS).gates


def constant_gates(biases: np.ndarray) -> Engine:
    """All matrices are zero, so every gate is sigma of its bias (L, 4H) at every step."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in CONFIG.shapes().items()}
    for layer, bias in enumerate(biases):
        arrays[layer_prefix(layer) + "bias"] = bias.astype(np.float32)
    return Engine(CONFIG, arrays)


def constant_forget(value: float) -> GateReport:
    """Every forget gate is ``value`` at every step."""
    with np.errstate(divide="ignore"):
        bias = np.log(np.float64(value) / np.float64(1 - value)) if value < 1 else 100.0
    biases = np.zeros((2, 4, 5))
    biases[:, FORGET] = max(bias, -1000)
    return measure(constant_gates(biases.reshape(2, 20)))


# -- numbers -----------------------------------------------------------------------------------


def test_without_weights_the_fractions_are_those_of_sigma_of_the_biases() -> None:
    biases = np.random.default_rng(4).normal(0, 3, (2, 20))
    report = measure(constant_gates(biases))
    sigma = 1 / (1 + np.exp(-biases.reshape(2, 4, 5)[:, [0, 1, 3]]))  # input, forget, output
    shut, open_ = (sigma < 0.1).astype(float), (sigma > 0.9).astype(float)
    assert 0 < shut.sum() < shut.size
    assert 0 < open_.sum() < open_.size
    assert_array_equal(report.unit_left, shut)
    assert_array_equal(report.unit_right, open_)
    for t in range(len(IDS)):
        assert_array_equal(report.left[t], shut.mean(axis=-1))
        assert_array_equal(report.right[t], open_.mean(axis=-1))
        assert_allclose(report.mean[t], sigma.mean(axis=-1), rtol=0, atol=1e-6)
    summary = {(s.layer, s.gate): (s.left, s.right) for s in report.summary()}
    for layer in range(2):
        for g, gate in enumerate(("input", "forget", "output")):
            fractions = (shut[layer, g].mean(), open_[layer, g].mean())
            assert summary[layer, gate] == pytest.approx(fractions, abs=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0.1, 0.9), (0.3, 0.6), (0.0, 1.0)])
def test_report_agrees_with_the_reference(
    engine: Engine, expected: np.ndarray, left: float, right: float
) -> None:
    report = measure(engine, thresholds=Thresholds(left, right))
    shut, open_ = expected < left, expected > right
    assert_allclose(report.mean, expected.mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.left, shut.mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.right, open_.mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.unit_mean, expected.mean(axis=0), rtol=0, atol=1e-12)
    assert_allclose(report.unit_left, shut.mean(axis=0), rtol=0, atol=1e-12)
    assert_allclose(report.unit_right, open_.mean(axis=0), rtol=0, atol=1e-12)
    tau = -1 / np.log(expected[:, :, FORGET]).mean(axis=0)
    assert report.time_constant is not None
    assert_allclose(report.time_constant, tau, rtol=1e-10)


def test_summary_is_the_mean_over_units_and_steps(engine: Engine, expected: np.ndarray) -> None:
    for row in measure(engine).summary():
        gate = expected[:, row.layer, ("input", "forget", "output").index(row.gate)]
        measured = (row.left, row.right, row.mean)
        assert measured == pytest.approx(((gate < 0.1).mean(), (gate > 0.9).mean(), gate.mean()))


def test_gate_exactly_at_a_threshold_is_neither_shut_nor_open() -> None:
    half_open = constant_gates(np.zeros((2, 20)))
    assert not measure(half_open, thresholds=Thresholds(left=0.5)).left.any()
    assert not measure(half_open, thresholds=Thresholds(right=0.5)).right.any()


@pytest.mark.parametrize("thresholds", [{"left": -0.1}, {"right": 1.1}, {"left": math.nan}])
def test_threshold_that_is_no_fraction_is_refused(thresholds: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be at least 0 and at most 1"):
        Thresholds(**thresholds)


@pytest.mark.parametrize("ends", [(0.95, 0.9), (0.5, 0.5)])
def test_thresholds_that_a_gate_could_be_beyond_both_of_are_refused(
    ends: tuple[float, float],
) -> None:
    with pytest.raises(UsageError, match="`left` must be smaller"):
        Thresholds(*ends)


def test_unit_narrows_positions_to_that_unit(engine: Engine, expected: np.ndarray) -> None:
    whole, narrowed = measure(engine), measure(engine, unit=3)
    unit = expected[..., 3]
    assert_allclose(narrowed.mean, unit, rtol=0, atol=1e-12)
    assert_array_equal(narrowed.left, unit < 0.1)
    assert_array_equal(narrowed.right, unit > 0.9)
    assert_array_equal(narrowed.unit_left, whole.unit_left)
    assert_array_equal(narrowed.unit_mean, whole.unit_mean)


@pytest.mark.parametrize("unit", [-1, 5])
def test_unit_that_a_layer_does_not_have_is_refused(engine: Engine, unit: int) -> None:
    with pytest.raises(UsageError):
        measure(engine, unit=unit)


# -- the other cells ---------------------------------------------------------------------------


def of_cell(cell: str) -> tuple[GateReport, Reading]:
    """The report on a random model, and what the reference read."""
    config = dataclasses.replace(CONFIG, cell=cell)
    weights = random_weights(config, scale=1.5)
    return measure(Engine(config, weights, np.float64)), read_text(weights, IDS, cell)


def test_cell_without_gates_is_reported_by_its_hidden_state() -> None:
    report, read = of_cell("rnn")
    h = read.states
    assert report.gates == ("hidden",)
    assert report.limits == (-0.9, 0.9)
    assert_allclose(report.mean, abs(h).mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.left, (h < -0.9).mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.right, (h > 0.9).mean(axis=-1), rtol=0, atol=1e-12)
    assert_allclose(report.unit_left, (h < -0.9).mean(axis=0), rtol=0, atol=1e-12)
    assert 0 < report.unit_left.mean() < 1
    sentence = findings(report)[0]
    assert sentence.startswith("Layer 1, hidden state: ")
    assert "% below −0.9, " in sentence


@pytest.mark.parametrize("cell", CELLS)
def test_memory_is_that_of_the_gate_that_keeps_the_state(cell: str) -> None:
    report, read = of_cell(cell)
    gate = CELLS[cell].memory
    expected = {"lstm-1997": None, "rnn": None, "gru": "update"}.get(cell, "forget")
    assert gate == expected
    told = [sentence for sentence in findings(report) if "memory" in sentence]
    assert len(told) == (0 if gate is None else 2)
    if gate is None:
        assert report.time_constant is None
        return
    kept = read.gates[:, :, CELLS[cell].gates.index(gate)]
    assert report.time_constant is not None
    assert_allclose(report.time_constant, -1 / np.log(kept).mean(axis=0), rtol=1e-10)
    assert "memory of" in told[0]


# -- time constants ----------------------------------------------------------------------------


@pytest.mark.parametrize("forget", [0.1, 0.5, 0.9, 0.99])
def test_time_constant_of_a_constant_forget_gate(forget: float) -> None:
    tau = constant_forget(forget).time_constant
    assert tau is not None
    assert_allclose(tau, -1 / math.log(forget), rtol=1e-4)


def test_forget_gate_that_is_always_open_never_forgets() -> None:
    report = constant_forget(1)
    assert (report.time_constant == np.inf).all()
    assert report.to_dict("x")["time_constant"] == [[None] * 5] * 2


def test_forget_gate_that_is_always_shut_has_a_finite_time_constant() -> None:
    tau = constant_forget(0).time_constant
    assert tau is not None
    assert ((tau > 0) & (tau < 0.02)).all()


def test_longest_memory_ranks_units_by_time_constant(engine: Engine) -> None:
    report = measure(engine)
    for layers in (range(2), range(1, 2)):
        ranked = longest_memory(report, layers, 4)
        assert report.time_constant is not None
        shown = report.time_constant[list(layers)]
        assert [tau for _, _, tau in ranked] == sorted(shown.ravel())[:-5:-1]
        for layer, unit, tau in ranked:
            assert layer in layers
            assert report.time_constant[layer, unit] == tau


# -- reading -----------------------------------------------------------------------------------


def test_warmup_is_not_counted_but_sets_the_state(engine: Engine) -> None:
    whole, warm = measure(engine), measure(engine, IDS[20:], IDS[:20])
    assert (warm.warmup, len(warm.symbols), len(warm.mean)) == (20, 40, 40)
    for name in ("mean", "left", "right", "surprise_bits"):
        assert_allclose(getattr(warm, name), getattr(whole, name)[20:], rtol=0, atol=1e-12)
    for name in ("mean", "left", "right"):
        counted = getattr(whole, name)[20:].mean(axis=0)
        assert_allclose(getattr(warm, f"unit_{name}").mean(axis=-1), counted, atol=1e-12)
    cold = measure(engine, IDS[20:])
    assert np.abs(cold.mean[0] - warm.mean[0]).max() > 0.01


def test_surprise_is_of_the_character_read_and_unknown_where_nothing_came_before(
    engine: Engine, weights: dict[str, np.ndarray]
) -> None:
    logits = read_text(weights, IDS).logits
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    bits = measure(engine).surprise_bits
    assert math.isnan(bits[0])
    assert_allclose(bits[1:], -np.log2(p[np.arange(59), IDS[1:]]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 7, 59])
def test_chunked_report_equals_the_whole_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = measure(engine, warmup=IDS[:9])
    monkeypatch.setattr(reading, "TRACE_CHUNK", size)
    chunked = measure(engine, warmup=IDS[:9])
    for field in dataclasses.fields(GateReport):
        value, other = getattr(whole, field.name), getattr(chunked, field.name)
        if isinstance(value, np.ndarray):
            assert_allclose(other, value, rtol=0, atol=1e-10, err_msg=field.name)
        else:
            assert other == value


def test_progress_is_reported_after_each_chunk(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TRACE_CHUNK", 25)
    seen: list[int] = []
    measure(engine, progress=seen.append)
    assert seen == [25, 50, 60]


def test_nothing_to_read_is_refused(engine: Engine) -> None:
    with pytest.raises(CharlstmError, match="no text to inspect"):
        measure(engine, COLD, IDS)


# -- findings ----------------------------------------------------------------------------------


def test_json_has_exactly_the_documented_keys(engine: Engine) -> None:
    content = json.loads(json.dumps(measure(engine).to_dict("run/step-1"), allow_nan=False))
    assert set(content) == {
        "checkpoint",
        "cell",
        "layers",
        "hidden_size",
        "thresholds",
        "warmup",
        "characters",
        "units",
        "time_constant",
    }
    assert content["thresholds"] == {"left": 0.1, "right": 0.9}
    assert (content["layers"], content["hidden_size"], content["cell"]) == (2, 5, "lstm")
    for t, character in enumerate(content["characters"]):
        assert set(character) == {"position", "character", "surprise_bits", "layers"}
        assert (character["position"], character["character"]) == (t, SYMBOLS[IDS[t]])
        for layer in character["layers"]:
            assert set(layer) == {"input", "forget", "output"}
            assert all(set(gate) == {"mean", "left", "right"} for gate in layer.values())
    places = [(unit["layer"], unit["gate"]) for unit in content["units"]]
    assert places == [(n, gate) for n in range(2) for gate in ("input", "forget", "output")]
    for unit in content["units"]:
        assert set(unit) == {"layer", "gate", "left", "right"}
        assert len(unit["left"]) == len(unit["right"]) == 5
    assert np.shape(content["time_constant"]) == (2, 5)


def test_json_holds_the_reports_numbers(engine: Engine) -> None:
    report = measure(engine)
    content = report.to_dict("x")
    assert content["characters"][0]["surprise_bits"] is None
    assert content["characters"][7]["surprise_bits"] == report.surprise_bits[7]
    assert content["characters"][7]["layers"][1]["output"] == {
        "mean": report.mean[7, 1, 2],
        "left": report.left[7, 1, 2],
        "right": report.right[7, 1, 2],
    }
    assert content["units"][4]["right"] == report.unit_right[1, FORGET].tolist()


def test_findings_count_the_units_that_stay_open_or_shut() -> None:
    biases = np.zeros((2, 4, 5))
    biases[0, FORGET, :3], biases[0, FORGET, 3] = 9, -9
    sentences = findings(measure(constant_gates(biases.reshape(2, 20))))
    forget = next(sentence for sentence in sentences if "1, forget gate" in sentence)
    for part in ("20% shut", "60% open", "1 unit always shut,", "3 always open."):
        assert part in forget
