"""``memory``: a constant gate gives back its tau, and an impulse fades by the retention."""

import math

import numpy as np
import planted
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose
from reference import read_text

from charlstm.analysis import trace as reading
from charlstm.analysis.subject import Options
from charlstm.analysis.views.memory import LAGS, measure, view
from charlstm.errors import CharlstmError
from charlstm.model import Model
from charlstm.net.spec import CELLS

ALPHABET = "abcdefghi"
TEXT = "".join(np.random.default_rng(0).choice(list(ALPHABET), 90))


def constant(tau: float) -> Model:
    """Forget gates of e^(-1/tau), and nothing else; a character ``a`` writes a 1 into the cell."""
    hidden = 3
    weights = planted.blank(hidden, ALPHABET)
    x, b = weights["layers.0.weight_input"], weights["layers.0.bias"]
    kept = math.exp(-1 / tau)
    b[:hidden] = planted.SHUT
    b[hidden : 2 * hidden] = math.log(kept / (1 - kept))
    b[2 * hidden :] = planted.OPEN
    x[:hidden, ALPHABET.index("a")] = 2 * planted.OPEN
    return planted.model(weights, ALPHABET)


@pytest.mark.parametrize("tau", [0.5, 3.0, 40.0, 1000.0])
def test_constant_gate_gives_back_its_time_constant(tau: float) -> None:
    memory = measure(planted.subject(constant(tau), TEXT))
    assert_allclose(memory.time_constant, tau, rtol=2e-4)
    assert_allclose(memory.half_life, tau * math.log(2), rtol=2e-4)
    assert memory.lags == tuple(lag for lag in LAGS if lag <= 90)
    for lag, kept in zip(memory.lags, memory.retention, strict=True):
        assert_allclose(kept, math.exp(-lag / tau), rtol=1e-3, atol=1e-6)


def test_impulse_into_the_cell_fades_by_the_retention() -> None:
    model = constant(12.0)
    text = "a" + "bcdefghi" * 8
    subject = planted.subject(model, text)
    trace, _, _ = model.engine.trace(subject.ids, model.engine.initial_state())
    c = trace.states[:, 0, 1, 0]
    memory = measure(subject)
    for lag, kept in zip(memory.lags, memory.retention[:, 0, 0], strict=True):
        if lag < len(text):
            assert c[lag] / c[0] == pytest.approx(kept, rel=1e-3)


@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.memory])
@pytest.mark.parametrize("chunk", [7, 512])
def test_retention_is_the_mean_product_of_the_oracles_gates(
    cell: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TRACE_CHUNK", chunk)
    weights = random_weights(model_config(len(ALPHABET), 5, 2, cell), scale=1.0)
    subject = planted.subject(planted.model(weights, ALPHABET, cell, 2), TEXT)
    gate = CELLS[cell].gates.index(CELLS[cell].memory or "")
    kept = read_text(weights, subject.ids, cell).gates[:, :, gate]
    memory = measure(subject)
    assert_allclose(memory.time_constant, -1 / np.log(kept).mean(axis=0), rtol=1e-4)
    for lag, retention in zip(memory.lags, memory.retention, strict=True):
        products = [kept[t : t + lag].prod(axis=0) for t in range(len(kept) - lag + 1)]
        assert_allclose(retention, np.mean(products, axis=0), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("cell", ["rnn", "lstm-1997"])
def test_cell_that_never_forgets_by_a_gate_is_refused(cell: str) -> None:
    weights = random_weights(model_config(len(ALPHABET), 5, 1, cell))
    subject = planted.subject(planted.model(weights, ALPHABET, cell), TEXT)
    with pytest.raises(CharlstmError, match=f"memory does not apply to the cell {cell}"):
        view(subject, Options())
