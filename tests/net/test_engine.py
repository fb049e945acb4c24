from dataclasses import dataclass

import numpy as np
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import DTypeLike
from reference import read_text

from charlstm.net.engine import Engine, chunks, gate, log_softmax
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, CellSpec, layer_prefix

VOCAB_SIZE = 11
IDS = np.random.default_rng(1).integers(0, VOCAB_SIZE, 40)


@dataclass(frozen=True)
class Subject:
    """A random model of 1 or 3 layers."""

    config: ModelConfig
    weights: dict[str, np.ndarray]

    def engine(self, dtype: DTypeLike = np.float64) -> Engine:
        return Engine(self.config, self.weights, dtype)


@pytest.fixture(params=[1, 3], ids=["1 layer", "3 layers"])
def layers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=CELLS)
def subject(request: pytest.FixtureRequest, layers: int) -> Subject:
    config = model_config(VOCAB_SIZE, hidden=7, layers=layers, cell=request.param)
    return Subject(config, random_weights(config))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_engine_agrees_with_the_reference(
    subject: Subject, dtype: DTypeLike, tolerance: float
) -> None:
    engine = subject.engine(dtype)
    expected = read_text(subject.weights, IDS, subject.config.cell)
    trace, logits, state = engine.trace(IDS, engine.initial_state())
    assert_allclose(trace.gates, expected.gates, rtol=0, atol=tolerance)
    assert_allclose(trace.states, expected.states, rtol=0, atol=tolerance)
    assert_allclose(logits, expected.logits, rtol=0, atol=tolerance)
    assert_array_equal(state[:, :, 0], trace.states[-1])
    assert {logits.dtype, state.dtype, trace.gates.dtype} == {np.dtype(dtype)}


def test_batch_of_texts_equals_single_texts(subject: Subject) -> None:
    engine = subject.engine()
    texts = IDS.reshape(4, 10)
    state = engine.initial_state(len(texts))
    steps = []
    for ids in texts.T:
        logits, state = engine.step(ids, state)
        steps.append(logits)
    for b, text in enumerate(texts):
        alone, alone_state = engine.forward(text, engine.initial_state())
        assert_allclose(np.array(steps)[:, b], alone, rtol=0, atol=1e-12)
        assert_allclose(state[:, :, b], alone_state[:, :, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 39, 40, 100])
def test_chunked_reading_equals_whole_reading(subject: Subject, size: int) -> None:
    engine = subject.engine()
    whole, whole_state = engine.forward(IDS, engine.initial_state())
    state, pieces = engine.initial_state(), []
    for chunk in chunks(IDS, size):
        logits, state = engine.forward(chunk, state)
        pieces.append(logits)
    assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-12)
    assert_array_equal(state, whole_state)


def test_trace_equals_read(subject: Subject) -> None:
    engine = subject.engine()
    start = engine.forward(IDS[:5], engine.initial_state())[1]
    _, traced, traced_state = engine.trace(IDS, start)
    logits, state = engine.forward(IDS, start)
    assert_allclose(traced, logits, rtol=0, atol=1e-12)
    assert_array_equal(traced_state, state)


@pytest.mark.parametrize("batch", [1, 4])
def test_advancing_gives_the_state_of_reading_without_its_logits(
    subject: Subject, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = subject.engine(np.float32)
    ids = IDS if batch == 1 else IDS.reshape(10, 4)
    expected = engine.forward(ids, engine.initial_state(batch))[1]
    monkeypatch.setattr(engine, "_output_weight", None)
    assert_array_equal(engine.advance(ids, engine.initial_state(batch)), expected)


@pytest.mark.parametrize("method", ["step", "forward", "trace"])
def test_state_that_goes_in_is_left_as_it_was(subject: Subject, method: str) -> None:
    engine = subject.engine()
    state = engine.forward(IDS, engine.initial_state())[1]
    before = state.copy()
    *_, logits, after = getattr(engine, method)(IDS[:1], state)
    *_, logits_again, after_again = getattr(engine, method)(IDS[:1], state)
    assert_array_equal(state, before)
    assert_array_equal(logits, logits_again)
    assert_array_equal(after, after_again)


def test_zero_weights_leave_every_gate_half_open_and_every_state_zero(subject: Subject) -> None:
    zeros = {name: np.zeros_like(array) for name, array in subject.weights.items()}
    engine = Engine(subject.config, zeros)
    trace, logits, state = engine.trace(IDS, engine.initial_state())
    assert (trace.gates == 0.5).all()
    assert not state.any()
    assert not logits.any()


def test_large_pre_activations_saturate_and_do_not_overflow(subject: Subject) -> None:
    large = {name: array * np.float32(1e5) for name, array in subject.weights.items()}
    engine = Engine(subject.config, large)
    trace, logits, _ = engine.trace(IDS, engine.initial_state())
    saturating = trace.gates if engine.spec.gates else np.abs(trace.states)
    assert saturating.max() == 1
    assert not engine.spec.gates or saturating.min() == 0
    assert np.isfinite(logits).all()
    assert np.isfinite(log_softmax(logits)).all()


# -- what makes each cell that cell ------------------------------------------------------------


def of_cell(cell: str, layers: int) -> Subject:
    config = model_config(VOCAB_SIZE, hidden=7, layers=layers, cell=cell)
    return Subject(config, random_weights(config))


def test_input_and_forget_gate_of_coupled_sum_to_one(layers: int) -> None:
    engine = of_cell("coupled", layers).engine()
    trace, _, _ = engine.trace(IDS, engine.initial_state())
    i, f = (trace.gates[:, :, engine.spec.gates.index(gate)] for gate in ("input", "forget"))
    assert_allclose(i + f, 1, rtol=0, atol=1e-15)
    assert f.std() > 0.1


def test_lstm_1997_keeps_c_for_a_hundred_steps_with_its_input_gate_shut(layers: int) -> None:
    subject = of_cell("lstm-1997", layers)
    for layer in range(layers):
        prefix, rows = layer_prefix(layer), CELLS["lstm-1997"].block("input", 7)
        subject.weights[prefix + "weight_input"][rows] = 0
        subject.weights[prefix + "weight_hidden"][rows] = 0
        subject.weights[prefix + "bias"][rows] = -30
    engine = subject.engine(np.float32)
    state = np.random.default_rng(2).normal(0, 1, engine.initial_state().shape).astype(np.float32)
    ids = np.random.default_rng(3).integers(0, VOCAB_SIZE, 100)
    trace, _, _ = engine.trace(ids, state)
    c = trace.states[:, :, engine.spec.states.index("c")]
    assert_allclose(c, np.broadcast_to(state[:, 1, 0], c.shape), rtol=0, atol=1e-7)


def test_zero_peepholes_make_peephole_an_lstm(layers: int) -> None:
    subject = of_cell("peephole", layers)
    for layer in range(layers):
        subject.weights[layer_prefix(layer) + "weight_peephole"][:] = 0
    engine = subject.engine()
    plain = Engine(model_config(VOCAB_SIZE, 7, layers), subject.weights, np.float64)
    trace, logits, _ = engine.trace(IDS, engine.initial_state())
    expected, expected_logits, _ = plain.trace(IDS, plain.initial_state())
    assert_allclose(trace.gates, expected.gates, rtol=0, atol=1e-13)
    assert_allclose(trace.states, expected.states, rtol=0, atol=1e-13)
    assert_allclose(logits, expected_logits, rtol=0, atol=1e-13)


def test_an_open_update_gate_of_gru_keeps_h_whatever_is_read() -> None:
    subject = of_cell("gru", 1)
    subject.weights["layers.0.bias"][CELLS["gru"].block("update", 7)] = 100
    engine = subject.engine()
    state = np.full_like(engine.initial_state(), 0.3)
    assert_allclose(engine.forward(IDS, state)[1], state, rtol=0, atol=1e-12)


def test_specs_name_only_what_their_cells_have() -> None:
    for spec in CELLS.values():
        assert spec.memory is None or spec.memory in spec.gates
        assert all(set(blocks) <= set(spec.blocks) for blocks in spec.extras.values())
        assert spec.states[0] == "h"


@pytest.mark.parametrize("spec", CELLS.values(), ids=CELLS)
def test_blocks_cover_every_array_once_in_the_order_of_the_spec(spec: CellSpec) -> None:
    for array, shape in spec.layer_shapes(2, 3).items():
        values = np.arange(np.prod(shape)).reshape(shape)
        names = spec.extras.get(array, spec.blocks)
        parts = spec.split(values, array)
        assert tuple(parts) == names
        assert_array_equal(np.concatenate(list(parts.values())), values)
        for name in names:
            assert_array_equal(parts[name], values[spec.block(name, 3, array)])
        across = spec.split(values.T[None] if values.ndim == 1 else values.T, array, axis=1)
        assert_array_equal(across[names[-1]].ravel(), parts[names[-1]].T.ravel())


def test_gate_is_the_sigmoid_at_any_float() -> None:
    z = np.array([-3e38, -1000, -2, 0, 2, 1000, 3e38], dtype=np.float32)
    expected = [0, 0, 0.11920292, 0.5, 0.88079708, 1, 1]
    assert_allclose(gate(z), expected, rtol=0, atol=1e-7)


def test_log_softmax_is_the_log_of_probabilities_that_sum_to_one() -> None:
    logits = np.array([[1.0, 2.0, 4.0], [1000.0, -1000.0, 1000.0]])
    total = np.log(np.exp([1.0, 2.0, 4.0]).sum())
    expected = [[1 - total, 2 - total, 4 - total], [-np.log(2), -2000 - np.log(2), -np.log(2)]]
    assert_allclose(log_softmax(logits), expected, rtol=1e-12)
