"""``errors``: the kinds of characters that the model, with all its h and c, does not expect.

After Karpathy, Johnson & Fei-Fei (2015), section 4.4: an error is a character with a probability
below one half. Oracles remove errors one after the other; each error counts for the first oracle
that applies to it.
"""

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import Bar, Cell, Column, Document, Heading, Lines, Table
from charlstm.analysis.ngrams import probabilities
from charlstm.analysis.subject import Options, Subject, split_of
from charlstm.analysis.trace import pieces
from charlstm.errors import CharlstmError, plural
from charlstm.text.marks import PUNCTUATION, WORD
from charlstm.text.words import words_in

ORDER = 9
"""The longest n-gram."""
RECENT = 1000
"""Characters back within which a word counts as recent."""
RARE = 5
"""Most occurrences of a rare word in the training text."""
CATEGORIES = (
    (
        "n-gram",
        f"at least one of {ORDER} n-gram models of the training text, n = 1 to {ORDER}, gives the "
        "character a probability of one half or more",
    ),
    ("recent word", f"inside a word that already occurred in the last {RECENT:,} characters"),
    ("rare word", f"inside a word that occurs at most {RARE} times in the training text"),
    ("word start", "the first letter of a word"),
    ("after punctuation", f"after one of {PUNCTUATION}"),
    ("other", "everything else"),
)


@dataclass(frozen=True)
class Errors:
    """The errors of a text by category."""

    characters: int
    nats: float
    """Mean loss of the model."""
    ngram_nats: float
    """Mean loss of the longest n-gram model."""
    categories: tuple[str, ...]
    """(T,) category of each character; the empty string for no error."""
    loss: dict[str, float]
    """Nats of each category's errors, as a fraction of all nats of the text."""

    @property
    def total(self) -> int:
        """Number of errors."""
        return sum(1 for category in self.categories if category)

    def count(self, category: str) -> int:
        """Number of errors in one category."""
        return self.categories.count(category)


def categorise(
    text: str,
    errors: NDArray[np.bool_],
    expected_by_ngram: NDArray[np.bool_],
    training_words: Counter[str],
) -> tuple[str, ...]:
    """The category of each error of ``text`` (T,), in the order of ``CATEGORIES``."""
    inside: list[str | None] = [None] * len(text)
    starts = [False] * len(text)
    recent = [False] * len(text)
    last: dict[str, int] = {}
    for match in WORD.finditer(text):
        word, start, stop = match.group(), match.start(), match.end()
        starts[start] = True
        for t in range(start + 1, stop):
            inside[t] = word
            recent[t] = word in last and start - last[word] <= RECENT
        last[word] = start
    categories = []
    for t, character_is_error in enumerate(errors):
        word_here = inside[t]
        if not character_is_error:
            categories.append("")
        elif expected_by_ngram[t]:
            categories.append("n-gram")
        elif recent[t]:
            categories.append("recent word")
        elif word_here is not None and training_words[word_here] <= RARE:
            categories.append("rare word")
        elif starts[t]:
            categories.append("word start")
        elif t and text[t - 1] in PUNCTUATION:
            categories.append("after punctuation")
        else:
            categories.append("other")
    return tuple(categories)


def measure(subject: Subject) -> Errors:
    """Read the text, and compare with n-gram models of the run's training text.

    Raises:
        CharlstmError: the training text is no longer in the cache.
    """
    split = split_of(subject.model)
    if split is None:
        raise CharlstmError(
            "errors needs the model's training text, which is not in the cache",
            "to read it again, on the machine where the model was trained:",
            shlex.join(["charlstm", "sample", "-c", str(subject.model.path), "--novelty"]),
        )
    train = split[0]
    bits = np.empty(len(subject.ids))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        bits[piece.positions] = piece.bits
    bits[np.isnan(bits)] = 0  # a first character that nothing came before
    lead = subject.warmup[-ORDER:]
    ids = np.concatenate([lead, subject.ids])
    expected = np.zeros(len(ids), dtype=bool)
    p = np.ones(len(ids))

    def counting(done: int) -> None:
        subject.progress("counting n-grams", done, len(train))

    for order in probabilities(train, ids, len(subject.vocab), ORDER, counting):
        expected |= order >= 0.5
        p = order
    words = Counter(dict.fromkeys(WORD.findall(subject.text), 0))
    for some in words_in(train, subject.vocab):
        words.update(word for word in some if word in words)
    categories = categorise(subject.text, bits > 1, expected[len(lead) :], words)
    total = float(bits.sum()) or 1.0
    fractions = {
        name: sum(b for b, c in zip(bits, categories, strict=True) if c == name) / total
        for name, _ in CATEGORIES
    }
    return Errors(
        characters=len(bits),
        nats=float(bits.mean() * np.log(2)),
        ngram_nats=float(-np.log(p[len(lead) :]).mean()),
        categories=categories,
        loss={name: float(fraction) for name, fraction in fractions.items()},
    )


@dataclass(frozen=True)
class ErrorsView:
    """The errors of a model by category."""

    subject: Subject
    errors: Errors

    def to_dict(self) -> dict[str, Any]:
        """The counts, with what each category means."""
        errors = self.errors
        return {
            **self.subject.facts("errors"),
            "nats": errors.nats,
            "ngram_nats": errors.ngram_nats,
            "ngram_order": ORDER,
            "errors": errors.total,
            "categories": [
                {
                    "category": name,
                    "meaning": meaning,
                    "count": errors.count(name),
                    "share_of_loss": errors.loss[name],
                }
                for name, meaning in CATEGORIES
            ],
        }

    def document(self) -> Document:
        """A row for each category, and the losses of the model and of the n-gram model."""
        errors, total = self.errors, max(self.errors.total, 1)
        most = max(1, *(errors.count(name) for name, _ in CATEGORIES))
        rows: list[tuple[Cell, ...]] = [
            (
                name,
                f"{errors.count(name):,}",
                f"{errors.count(name) / total:.1%}",
                f"{errors.loss[name]:.1%}",
                Bar(errors.count(name) / most, from_left=True),
            )
            for name, _ in CATEGORIES
        ]
        columns = (
            Column("category"),
            Column("errors", right=True),
            Column("% of errors", right=True),
            Column("% of loss", right=True),
            Column(""),
        )
        summary = (
            f"{plural(errors.total, 'error')}, {errors.total / errors.characters:.1%} of the "
            "characters. An error is a character that the model gave a probability below one half.",
            f"Loss: {errors.nats:.4f} nats per character; a {ORDER}-gram model of the training "
            f"text scores {errors.ngram_nats:.4f}.",
        )
        meanings = tuple(f"{name}: {meaning}" for name, meaning in CATEGORIES)
        return Document(
            self.subject.title(
                f"Errors by category, with {' and '.join(self.subject.spec.states)}"
            ),
            (
                Lines(summary),
                Table(columns, tuple(rows)),
                Heading("Categories (each error counts for the first that applies)"),
                Lines(meanings, quiet=True),
            ),
        )


def view(subject: Subject, options: Options) -> ErrorsView:
    """The errors by category."""
    del options
    return ErrorsView(subject, measure(subject))
