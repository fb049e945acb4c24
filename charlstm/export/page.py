"""Export to a web page: one HTML file in which a model reads, writes and shows its units.

``page.html`` is the template. ``model.js`` reads and samples, ``page.js`` shows; both run in one
scope. The file contains all three, with the weights in base64. The page loads nothing, and its
content security policy forbids it.

No data of a model or a text can become markup: titles are escaped, and the metadata is ASCII JSON
without ``<``, which the script only shows as text.
"""

import base64
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.subject import LoadedModel, Options, Subject, held_out
from charlstm.analysis.views.find import FindView
from charlstm.analysis.views.find import view as find
from charlstm.errors import CharlstmError, require
from charlstm.net.engine import Engine
from charlstm.net.spec import LEFT_SATURATED, RIGHT_SATURATED, layer_prefix
from charlstm.runs.checkpoint import ModelFile
from charlstm.scoring import score
from charlstm.show.printable import printable

PageFormat = Literal["float16", "float32"]
PRECISIONS: dict[str, Any] = {"float16": np.float16, "float32": np.float32}
LIMIT = 256_000_000
"""Maximum size in bytes: browsers reject strings above about half a gigabyte, phones far less."""
WATCHED = 10_000
"""Held-out characters that are searched for named units."""
PRODUCTS_PER_SECOND = 0.7e9
"""Multiplications per second of one core in a browser that also draws: benchmarks/page.py."""
MAX_SPEED = 2000
"""Maximum of the page's field Speed, in characters per second."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Page:
    """The HTML file, and its cost and speed."""

    html: bytes
    cost_bits: float | None
    """Bits per character lost by rounding, on the checkpoint's excerpt; None for float32, or if the
    excerpt is too short."""
    characters_per_second: float
    """Estimated speed on one core, at most ``MAX_SPEED``."""


def to_page(
    model: LoadedModel,
    version: str,
    *,
    title: str | None = None,
    precision: str = "float16",
) -> Page:
    """The page of a model.

    ``title`` is the run's name by default; ``precision`` is float16 or float32.

    Raises:
        UsageError: the precision is unknown.
        CharlstmError: the page would be too large for browsers, or a weight for the precision.
    """
    require(precision in PRECISIONS, f"`precision` is {precision!r}", "choose float16 or float32")
    file, config = model.file, model.file.config
    arrays = _arrays(file, PRECISIONS[precision])
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise CharlstmError(
            f"the model has weights that {precision} cannot hold", "set `precision` to float32"
        )
    size = sum(4 * -(-array.nbytes // 3) for array in arrays.values())
    if size > LIMIT:
        smaller = ", or set `precision` to float16" if precision == "float32" else ""
        raise CharlstmError(
            f"the page would be {size / 1e6:,.0f} MB, but browsers open at most "
            f"{LIMIT / 1e6:,.0f} MB reliably",
            f"export a smaller model{smaller}",
        )
    training = file.training
    run = training.get("run") or model.path.name
    meta = {
        **{"cell": config.cell, "layers": config.layers, "hidden": config.hidden_size},
        **{"blocks": model.engine.spec.blocks, "states": model.engine.spec.states},
        **{"gates": model.engine.spec.gates, "memory": model.engine.spec.memory},
        **{"left": LEFT_SATURATED, "right": RIGHT_SATURATED, "precision": precision},
        **{"kind": file.vocab.kind, "symbols": list(file.vocab.symbols), "end": config.end},
        "arrays": [[name, array.size] for name, array in arrays.items()],
        "named": _named_units(model),
        "version": version,
    }
    about = (
        f"{config.describe()}, {config.parameters:,} parameters, {len(file.vocab):,} "
        f"{file.vocab.kind}, trained for {training.get('step', 0):,} steps. "
        f"Made by charlstm {version}."
    )
    html = Template(_resource("page.html")).substitute(
        title=escape(printable(title or run, keep="")),
        about=escape(about),
        prime=escape(_prime(file)),
        left=LEFT_SATURATED,
        right=RIGHT_SATURATED,
        max_speed=MAX_SPEED,
        meta=json.dumps(meta).replace("<", "\\u003c"),
        weights=base64.b64encode(b"".join(a.tobytes() for a in arrays.values())).decode(),
        script=_resource("model.js") + _resource("page.js"),
    )
    products = config.parameters - file.weights["embedding"].size
    speed = min(PRODUCTS_PER_SECOND / products, MAX_SPEED)
    return Page(html.encode(), _cost(model, precision), speed)


def _arrays(file: ModelFile, dtype: Any) -> dict[str, Array]:
    """The weights as the script reads them, little-endian.

    ``table`` (V, R) replaces the first layer's input product: W_input embedding + bias.
    """
    weights, first = file.weights, layer_prefix(0)
    table = weights["embedding"] @ weights[f"{first}weight_input"].T + weights[f"{first}bias"]
    replaced = {"embedding", f"{first}weight_input", f"{first}bias"}
    arrays = {"table": table, **{n: a for n, a in weights.items() if n not in replaced}}
    little = np.dtype(dtype).newbyteorder("<")
    with np.errstate(over="ignore"):  # checked by the caller
        return {name: np.ascontiguousarray(array, little) for name, array in arrays.items()}


def _named_units(model: LoadedModel) -> list[dict[str, Any]]:
    """The units that ``inspect --view find`` calls strong, each with the feature it tracks."""
    ids = held_out(model, WATCHED)
    if ids is None:
        ids = model.file.vocab.encode(model.file.excerpt, "skip")
    warmup = len(ids) // 20
    try:
        found = find(Subject(model, ids[warmup:], ids[:warmup]), Options())
    except CharlstmError:  # the text is too short
        return []
    assert isinstance(found, FindView)
    named = []
    for one in found.found:
        for association in one.strong[:1]:
            layer, unit = divmod(association.unit, model.file.config.hidden_size)
            named.append({"layer": layer, "unit": unit, "part": found.state, "label": one.feature})
    return named


def _cost(model: LoadedModel, precision: str) -> float | None:
    """Bits per character lost on the excerpt by rounding the weights."""
    file = model.file
    ids = file.vocab.encode(file.excerpt, "skip")
    if precision == "float32" or len(ids) < 2:
        return None
    rounded = {
        n: a.astype(PRECISIONS[precision]).astype(np.float32) for n, a in file.weights.items()
    }
    engine = Engine(file.config, rounded)
    return score(engine, ids).bits_per_char - score(model.engine, ids).bits_per_char


def _prime(file: ModelFile) -> str:
    """A default prime: the first words of a paragraph of the held-out text, or of a line.

    A list has none: its items are short, and begin without one.
    """
    if file.vocab.end is not None:
        return ""
    excerpt = file.excerpt.encode(errors="ignore").decode()  # without bytes that are no text
    paragraphs = excerpt.split("\n\n")[1:]
    texts = (text.split() for text in (*paragraphs, excerpt))
    return " ".join(next((words for words in texts if words), [])[:3])[:40]


def _resource(name: str) -> str:
    return (files("charlstm.export") / name).read_text(encoding="utf-8")
