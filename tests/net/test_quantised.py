"""The int8 engine against the float32 engine, and the compiled kernel against both."""

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
    cell: str, size: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[QuantisedEngine, QuantisedEngine, Engine]:
    """One model with the kernel, in NumPy with int8 weights, and in float32."""
    config = model_config(VOCAB_SIZE, size, layers, cell)
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
@pytest.mark.parametrize("batch", [1, 5, 6, 20])
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
