"""The int8 engine against the float32 engine, and the compiled kernel against both."""

import pickle
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose, assert_array_equal

from charlstm.net.engine import Array, Engine
from charlstm.net.kernel import SWITCH, kernel
from charlstm.net.quantised import QuantisedEngine, quantise
from charlstm.net.spec import CELLS

VOCAB_SIZE = 11
IDS = np.random.default_rng(1).integers(0, VOCAB_SIZE, 40)
SIZES = [7, 16, 67]
needs_kernel = pytest.mark.skipif(kernel() is None, reason="there is no C compiler here")


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def engines(
    cell: str,
    size: int,
    layers: int,
    monkeypatch: pytest.MonkeyPatch,
    end: int | None = None,
) -> tuple[QuantisedEngine, QuantisedEngine, Engine]:
    """One model with the kernel, in NumPy with int8 weights, and in float32."""
    config = replace(model_config(VOCAB_SIZE, size, layers, cell), end=end)
    weights = random_weights(config, scale=0.1)
    compiled = QuantisedEngine(config, weights)
    with monkeypatch.context() as patch:
        patch.setenv(SWITCH, "off")
        numpy = QuantisedEngine(config, weights)
    return compiled, numpy, Engine(config, weights)


def random_state(engine: Engine, batch: int) -> Array:
    state = np.random.default_rng(2).normal(0, 0.5, engine.initial_state(batch).shape)
    return state.astype(np.float32)


def test_quantised_numbers_are_within_half_a_step() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    rows[2] = 0
    integers, scales = quantise(rows)
    assert_array_equal(integers, np.rint(integers))
    assert_array_equal(np.abs(integers).max(axis=1), [127, 127, 0, 127, 127])
    assert (np.abs(integers * scales - rows) <= 0.5001 * scales).all()


@pytest.mark.parametrize("layers", [1, 3])
def test_int8_is_close_to_float32(cell: str, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, numpy, exact = engines(cell, 67, layers, monkeypatch)
    logits, state = numpy.forward(IDS, numpy.initial_state())
    expected, expected_state = exact.forward(IDS, exact.initial_state())
    for found, wanted in ((logits, expected), (state, expected_state)):
        error = np.abs(found - wanted).mean() / np.abs(wanted).mean()
        assert 1e-5 < error < 0.1


@needs_kernel
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 4, 7, 20])
def test_one_step_of_the_kernel_equals_numpy(
    cell: str, size: int, layers: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, numpy, _ = engines(cell, size, layers, monkeypatch)
    state, ids = random_state(compiled, batch), np.arange(batch) % VOCAB_SIZE
    before = state.copy()
    logits, new = compiled.step(ids, state)
    expected, expected_new = numpy.step(ids, state)
    # A difference of a rounding may move an activation of the layer above by one of its 127 steps.
    tolerance = 1e-5 if layers == 1 else 2e-2
    assert_allclose(new, expected_new, rtol=0, atol=tolerance)
    assert_allclose(logits, expected, rtol=0, atol=tolerance * 10)
    assert np.median(np.abs(new - expected_new)) < 1e-6
    assert_array_equal(state, before)
    assert_allclose(compiled.logits(new), logits, rtol=0, atol=0)


@needs_kernel
def test_one_call_for_many_steps_equals_many_calls(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, _, _ = engines(cell, 33, 2, monkeypatch)
    monkeypatch.setattr("charlstm.net.kernel._threads", lambda: 3)
    ids = np.random.default_rng(3).integers(0, VOCAB_SIZE, (7, 50))  # 350: three threads
    logits, state = compiled.forward(ids, compiled.initial_state(50))
    assert_array_equal(compiled.advance(ids, compiled.initial_state(50)), state)
    for text in (0, 17, 49):  # of different threads
        alone = compiled.initial_state()
        for t in range(len(ids)):
            expected, alone = compiled.step(ids[t, [text]], alone)
            assert_array_equal(logits[t, text], expected[0])
        assert_array_equal(state[:, :, text], alone[:, :, 0])


@needs_kernel
def test_the_kernel_reads_the_end_of_an_item_from_a_zero_state(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, numpy, _ = engines(cell, 16, 2, monkeypatch, end=3)
    ids = np.array([[1, 3], [3, 2], [2, 2]])
    logits, state = compiled.forward(ids, random_state(compiled, 2))
    expected, expected_state = numpy.forward(ids, random_state(compiled, 2))
    assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert_allclose(state, expected_state, rtol=1e-4, atol=1e-5)
    fresh, _ = compiled.forward(ids[1:, :1], compiled.initial_state())
    assert_allclose(logits[1:, 0], fresh[:, 0], rtol=1e-4, atol=1e-5)


@needs_kernel
def test_a_hold_and_a_trace_see_every_layer(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, numpy, _ = engines(cell, 16, 2, monkeypatch)
    seen = []

    def hold(layer: int, state: Array) -> None:
        seen.append(layer)
        state[:] = 0

    _, held = compiled.step(IDS[:1], random_state(compiled, 1), hold)
    assert seen == [0, 1]
    assert not held.any()
    trace, _, _ = compiled.trace(IDS, compiled.initial_state())
    assert_array_equal(trace.states, numpy.trace(IDS, numpy.initial_state())[0].states)


@needs_kernel
def test_texts_are_computed_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    compiled, _, _ = engines("lstm", 16, 1, monkeypatch)
    ids = np.tile(IDS[:, None], 40)
    expected, _ = compiled.forward(ids, compiled.initial_state(40))
    monkeypatch.setattr("charlstm.net.kernel._threads", lambda: 4)
    monkeypatch.setattr(Thread, "start", fail)
    assert_array_equal(compiled.forward(ids, compiled.initial_state(40))[0], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_a_pickled_engine_computes_the_same(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, _ = engines(cell, 7, 2, monkeypatch)
    again = pickle.loads(pickle.dumps(engine))
    logits, _ = engine.forward(IDS, engine.initial_state())
    assert_array_equal(again.forward(IDS, again.initial_state())[0], logits)
