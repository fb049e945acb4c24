"""Tiny Shakespeare, where it is there: the split that published figures use, and learning."""

from pathlib import Path

import pytest
from helpers import model_config, train_config

from charlstm.events import Evaluated, RunFinished
from charlstm.model import load
from charlstm.text.corpus import open_corpus
from charlstm.training.new_run import begin


def test_split_is_that_of_published_figures(shakespeare: Path) -> None:
    corpus = open_corpus([shakespeare])
    train_ids, val_ids = corpus.split(0.1)
    assert (len(corpus), len(corpus.vocab)) == (1_115_394, 65)
    assert (len(train_ids), len(val_ids)) == (1_003_854, 111_540)


@pytest.mark.slow
def test_small_model_learns_words_in_seconds(shakespeare: Path, tmp_path: Path) -> None:
    corpus = open_corpus([shakespeare])
    settings = train_config(batch=32, bptt=64, steps=300, learning_rate=0.04, averaging=0.98)
    with begin(corpus, model_config(65, hidden=128), settings, root=tmp_path) as trainer:
        events = list(trainer.run())
    untrained = next(event for event in events if isinstance(event, Evaluated))
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert finished.val_loss is not None
    assert untrained.val_loss > 4  # about ln 65
    assert finished.val_loss < 2.0  # word by word; a bigram model has 2.45
    model = load(trainer.path)
    written = "".join(model.generate("ROMEO:\n", length=2000, temperature=0.5, seed=1))
    words = written.lower().split()
    assert (
        sum(word.strip(".,:;!?'") in {"the", "and", "to", "of", "my", "i"} for word in words) > 20
    )
