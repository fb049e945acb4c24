"""Models with hand-set weights, whose units have known functions."""

from pathlib import Path
from string import ascii_letters

import numpy as np

from charlstm.analysis.document import FINDINGS, NOTES, Document, Heading, Lines
from charlstm.analysis.subject import Subject
from charlstm.model import Model
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import parameter_shapes
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import Vocabulary

ALPHABET = "".join(sorted("\n \"'()[].,:;!?0123" + ascii_letters))
SHUT, OPEN = -30.0, 30.0
QUOTES, BRACKETS, LINE = 3, 7, 11
"""Units of ``tracker`` that track a feature; all others are random."""


def model(
    weights: dict[str, np.ndarray], alphabet: str = ALPHABET, cell: str = "lstm", layers: int = 1
) -> Model:
    """A model of these weights."""
    embedding_size, hidden = weights["embedding"].shape[1], weights["output_weight"].shape[1]
    config = ModelConfig(cell, len(alphabet), embedding_size, hidden, layers)
    file = ModelFile(config, Vocabulary(alphabet), weights, "", {"run": "planted", "step": 0})
    return Model(file, Path("planted"))


def subject(model: Model, text: str, warmup: str = "") -> Subject:
    """The model, about to read the text."""
    vocab = model.file.vocab
    return Subject(model, vocab.encode(text), vocab.encode(warmup))


def findings(document: Document) -> tuple[str, ...]:
    """The sentences under the heading of the findings."""
    return _below(document, FINDINGS)


def notes(document: Document) -> tuple[str, ...]:
    """The sentences that explain a view."""
    return _below(document, NOTES)


def _below(document: Document, heading: str) -> tuple[str, ...]:
    lines = document.blocks[document.blocks.index(Heading(heading)) + 1]
    assert isinstance(lines, Lines)
    return lines.lines


def blank(
    hidden: int, alphabet: str = ALPHABET, cell: str = "lstm", layers: int = 1
) -> dict[str, np.ndarray]:
    """Zero weights; the embedding is one-hot, so that a column of W is what a character does."""
    size = len(alphabet)
    shapes = parameter_shapes(cell, size, size, hidden, layers)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights["embedding"] = np.eye(size, dtype=np.float32)
    return weights


def untrained(hidden: int = 32, seed: int = 0, alphabet: str = ALPHABET) -> dict[str, np.ndarray]:
    """Random weights, with the forget bias of 1 that training starts from."""
    random = np.random.default_rng(seed)
    weights = blank(hidden, alphabet)
    for name, array in weights.items():
        if name != "embedding":
            scale = hidden**-0.5 if "hidden" in name else 0.4
            array[:] = random.normal(0, scale, array.shape)
    weights["layers.0.bias"][hidden : 2 * hidden] += 1
    return weights


def tracker(hidden: int = 16, seed: int = 0) -> Model:
    """Random units, and one each for quotation marks, brackets and the position in the line."""
    weights = untrained(hidden, seed)
    x, h, b = (weights[f"layers.0.{n}"] for n in ("weight_input", "weight_hidden", "bias"))

    def row(block: str, unit: int) -> int:
        return ("input", "forget", "candidate", "output").index(block) * hidden + unit

    for unit in (QUOTES, BRACKETS, LINE):
        for block, bias in (("input", SHUT), ("forget", OPEN), ("candidate", 0), ("output", OPEN)):
            x[row(block, unit)] = h[row(block, unit)] = 0
            b[row(block, unit)] = bias
        h[:, unit] = 0
    quote = ALPHABET.index('"')
    # A quotation mark replaces the cell by the opposite of what it shows.
    x[row("forget", QUOTES), quote] = 2 * SHUT
    x[row("input", QUOTES), quote] = 2 * OPEN
    b[row("candidate", QUOTES)] = 5
    h[row("candidate", QUOTES), QUOTES] = -20
    for sign, step in (("(", 0.4), (")", -0.4)):
        column = ALPHABET.index(sign)
        x[row("input", BRACKETS), column] = 2 * OPEN
        x[row("candidate", BRACKETS), column] = step
    b[row("input", LINE)] = OPEN
    b[row("candidate", LINE)] = 0.02
    x[row("forget", LINE), ALPHABET.index("\n")] = 2 * SHUT
    x[row("input", LINE), ALPHABET.index("\n")] = 2 * SHUT
    return model(weights)


def prose(length: int, seed: int = 0) -> str:
    """Random words with quotations, brackets and lines of different lengths."""
    random = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    parts: list[str] = []
    quoted = depth = column = 0
    while sum(map(len, parts)) < length:
        word = "".join(random.choice(letters, random.integers(1, 8)))
        draw = random.random()
        if draw < 0.08:
            word = '"' + word if not quoted else word + '"'
            quoted = 1 - quoted
        elif draw < 0.14 and depth < 3:
            word, depth = "(" + word, depth + 1
        elif depth and draw < 0.24:
            word, depth = word + ")", depth - 1
        elif draw < 0.3:
            word = word.capitalize() + ","
        column += len(word) + 1
        ends = column > 30 and random.random() < 0.3
        column = 0 if ends else column
        parts.append(word + ("\n" if ends else " "))
    return "".join(parts)[:length]


def shift_register(order: int, alphabet: str, tables: np.ndarray) -> Model:
    """A model that predicts from its last ``order`` characters and from nothing else.

    Block k of its units holds the character k steps ago, one-hot; the logits of the next one are
    the sum over k of ``tables[k, character, next]`` (order, V, V).
    """
    size = len(alphabet)
    hidden = order * size
    weights = blank(hidden, alphabet)
    x, h, b = (weights[f"layers.0.{n}"] for n in ("weight_input", "weight_hidden", "bias"))
    for block, bias in (("input", OPEN), ("forget", SHUT), ("candidate", 0), ("output", OPEN)):
        start = ("input", "forget", "candidate", "output").index(block) * hidden
        b[start : start + hidden] = bias
    candidate = 2 * hidden
    for unit in range(hidden):
        if unit < size:
            x[candidate + unit, unit] = OPEN
        else:
            h[candidate + unit, unit - size] = OPEN
    for k in range(order):
        columns = slice(k * size, (k + 1) * size)
        weights["output_weight"][:, columns] = tables[k].T / np.tanh(1)
    return model(weights, alphabet)


def markov(length: int, tables: np.ndarray, seed: int = 0) -> np.ndarray:
    """Symbols of the source that ``shift_register`` predicts."""
    random = np.random.default_rng(seed)
    order, size, _ = tables.shape
    symbols = list(random.integers(0, size, order))
    for _ in range(length - order):
        logits = sum(tables[k, symbols[-1 - k]] for k in range(order))
        p = np.exp(logits - logits.max())
        symbols.append(int(random.choice(size, p=p / p.sum())))
    return np.array(symbols)


def entropy_rate(tables: np.ndarray) -> float:
    """Nats per symbol of an order-2 source, from its stationary distribution over pairs."""
    _, size, _ = tables.shape
    logits = tables[0][None, :, :] + tables[1][:, None, :]  # (before last, last, next)
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    pairs = np.full((size, size), 1 / size**2)
    for _ in range(2000):
        pairs = np.einsum("ab,abc->bc", pairs, p)
    return float(-(pairs[..., None] * p * np.log(p)).sum())
