"""Validation in torch agrees with the scores of the NumPy engine, in every protocol."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TEXT

from charlstm.model import load
from charlstm.net.engine import Engine
from charlstm.scoring import score
from charlstm.text.corpus import Corpus
from charlstm.training.device import Precision
from charlstm.training.network import LanguageModel, load_arrays
from charlstm.training.validation import (
    held_out_notes,
    quick_stateful_loss,
    stateful_loss,
    windowed_loss,
)

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


ENGLISH = (
    "the heron sat on the pier and thought of the tide that had gone out before the boat was home, "
    "while the woman who kept the light wrote of every ship that passed into her book, dozing. "
)
GERMAN = (
    "es war noch dunkel, als der alte mann die laterne nahm und den weg zum wasser hinunter "
    "ging, denn er wusste, dass die netze leer sein werden, wenn er nicht vor den anderen dort "
    "ist. "
)


def text_of(source: str, length: int, seed: int) -> str:
    """Words of a text in random order."""
    words = np.random.default_rng(seed).choice(source.split(), length // 4)
    return " ".join(words)[:length]


@pytest.mark.parametrize(
    ("trained", "held_out", "expected"),
    [
        (text_of(ENGLISH, 27_000, 1), text_of(ENGLISH, 3_000, 2), None),
        (text_of(ENGLISH, 27_000, 1), text_of(GERMAN, 3_000, 2), "another language"),
        (text_of(ENGLISH, 27_000, 1), text_of(ENGLISH, 3_000, 2).upper(), "never occur"),
        (text_of(ENGLISH, 27_000, 1), text_of(ENGLISH, 27_000, 1)[:3_000], "word for word"),
        (text_of(ENGLISH, 900, 1), text_of(ENGLISH, 100, 2), "too few"),
    ],
    ids=["alike", "language", "symbols", "copy", "short"],
)
def test_a_held_out_part_that_judges_badly_is_noted(
    make_corpus: Callable[..., Corpus], trained: str, held_out: str, expected: str | None
) -> None:
    notes = held_out_notes(make_corpus(trained + held_out), 0.1)
    if expected is None:
        assert notes == []
    else:
        assert len(notes) == 1
        assert expected in notes[0]


def test_new_symbols_of_a_text_that_has_many_are_no_sign_of_another_text(
    make_corpus: Callable[..., Corpus],
) -> None:
    frequencies = 1 / np.arange(1, 3_001)
    chosen = np.random.default_rng(3).choice(3_000, 9_000, p=frequencies / frequencies.sum())
    corpus = make_corpus("".join(map(chr, 0x4E00 + chosen)))
    trained, held_out = corpus.split(0.1)
    assert np.isin(held_out, trained, invert=True).mean() > 0.02
    assert held_out_notes(corpus, 0.1) == []


def test_a_copy_is_found_in_ids_of_two_bytes(make_corpus: Callable[..., Corpus]) -> None:
    text = "".join(map(chr, np.random.default_rng(3).integers(0x4E00, 0x4E00 + 600, 4_000)))
    (note,) = held_out_notes(make_corpus(text * 10), 0.1)
    assert "word for word" in note


def test_nothing_is_noted_where_nothing_is_held_out(make_corpus: Callable[..., Corpus]) -> None:
    assert held_out_notes(make_corpus("a" * 30), 0) == []
