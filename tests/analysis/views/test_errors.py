"""``errors``: categories by hand, and a whole that is its parts."""

from collections import Counter
from pathlib import Path

import numpy as np
import planted
import pytest

import charlstm
from charlstm.analysis.document import Lines
from charlstm.analysis.subject import Options, Subject, held_out
from charlstm.analysis.views.errors import CATEGORIES, ORDER, categorise, view
from charlstm.errors import CharlstmError


def test_string_labelled_by_hand() -> None:
    text = "the cat. The cat, rare!  "
    errors = np.array([c != "e" for c in text])
    expected = np.zeros(len(text), dtype=bool)
    expected[2] = True
    words = Counter({"the": 50, "The": 50, "cat": 50, "rare": 5})
    by_hand = {
        0: "word start", 1: "other", 2: "", 3: "other", 4: "word start", 5: "other", 6: "other",
        7: "other", 8: "after punctuation", 9: "word start", 10: "other", 11: "", 12: "other",
        13: "word start", 14: "recent word", 15: "recent word", 16: "other",
        17: "after punctuation", 18: "word start", 19: "rare word", 20: "rare word", 21: "",
        22: "other", 23: "after punctuation", 24: "other",
    }  # fmt: skip
    categories = categorise(text, errors, expected, words)
    assert dict(enumerate(categories)) == by_hand
    expected[:] = True
    of_all = categorise(text, errors, expected, words)
    assert set(of_all) == {"n-gram", ""}
    # A word is recent only within a thousand characters.
    far = "cat" + " " * 998 + "cat cat"
    categories = categorise(far, np.ones(len(far), bool), np.zeros(len(far), bool), words)
    assert [categories[1002], categories[1006]] == ["other", "recent word"]


def test_categories_add_up_to_all_errors(trained_run: Path) -> None:
    model = charlstm.load(trained_run)
    known = held_out(model, 2000)
    assert known is not None
    # The run's own text repeats itself: n-grams expect all of it. This has errors of each kind.
    text = model.file.vocab.decode(known.tolist()) + "Reh oned oned, [hew] ..  gnol: (Tid)? ]I "
    ids = model.file.vocab.encode(text)
    data = view(Subject(model, ids[50:], ids[:50]), Options()).to_dict()
    assert [c["category"] for c in data["categories"]] == [name for name, _ in CATEGORIES]
    assert all(c["count"] for c in data["categories"])
    bits = model.score(text).surprise_bits[50:]
    assert sum(c["count"] for c in data["categories"]) == data["errors"] == (bits > 1).sum() > 0
    share = bits[bits > 1].sum() / bits.sum()
    assert sum(c["share_of_loss"] for c in data["categories"]) == pytest.approx(share, abs=1e-4)
    assert data["nats"] == pytest.approx(bits.mean() * np.log(2), abs=1e-4)


def test_category_of_ngrams_says_that_it_is_of_several_models(trained_run: Path) -> None:
    model = charlstm.load(trained_run)
    shown = view(Subject(model, *model.inspected("Row, said", None)), Options()).document()
    meanings = shown.blocks[-1]
    assert isinstance(meanings, Lines)
    assert meanings.lines[0].startswith(
        f"n-gram: at least one of {ORDER} n-gram models of the training text, n = 1 to"
    )


def test_model_whose_text_is_gone_is_refused() -> None:
    with pytest.raises(CharlstmError, match="not in the cache"):
        view(planted.subject(planted.tracker(), "abc"), Options())
