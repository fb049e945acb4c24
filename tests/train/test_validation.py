"""Validation in torch agrees with the score of the NumPy engine, whichever way it is made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TEXT

from charlstm.model import load
from charlstm.net.engine import Engine
from charlstm.scoring import score
from charlstm.train.device import Precision
from charlstm.train.network import LanguageModel, load_arrays
from charlstm.train.validation import quick_stateful_loss, stateful_loss, windowed_loss

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = Precision(CPU, "float32"), Precision(CPU, "bfloat16")


@pytest.fixture(scope="module")
def judged(trained_run: Path) -> tuple[LanguageModel, Engine, np.ndarray]:
    """A trained model in torch and in NumPy, and a text long enough for segments."""
    model = load(trained_run)
    network = LanguageModel(model.file.config)
    load_arrays(network, dict(model.file.weights))
    ids = model.file.vocab.encode(TEXT * 80)
    lines = np.random.default_rng(7).integers(0, len(ids), 1500)  # some places are surprising
    ids[lines] = np.roll(ids, 1)[lines]
    assert len(ids) > 32 * 256
    return network, model.engine, ids


def test_segments_side_by_side_give_the_contiguous_loss(
    judged: tuple[LanguageModel, Engine, np.ndarray],
) -> None:
    network, _, ids = judged
    contiguous = stateful_loss(network, ids, FLOAT32)
    assert quick_stateful_loss(network, ids, FLOAT32) == pytest.approx(contiguous, abs=1e-3)


def test_validation_in_torch_equals_the_score(
    judged: tuple[LanguageModel, Engine, np.ndarray],
) -> None:
    network, engine, ids = judged
    ids = ids[:1500]
    assert stateful_loss(network, ids, FLOAT32) == pytest.approx(score(engine, ids).nats, abs=1e-4)
    for window in (10, 256, 2000):
        expected = score(engine, ids, window).nats
        assert windowed_loss(network, ids, FLOAT32, window) == pytest.approx(expected, abs=1e-4)


def test_bfloat16_validates_as_float32_does(
    judged: tuple[LanguageModel, Engine, np.ndarray],
) -> None:
    network, _, ids = judged
    try:
        reduced = quick_stateful_loss(network, ids, BFLOAT16)
    except RuntimeError:
        pytest.skip("bfloat16 is not supported here")
    assert reduced == pytest.approx(quick_stateful_loss(network, ids, FLOAT32), abs=0.003)
