"""What the tests share: a private cache, small texts, a small trained run, independent cells."""

import os
import signal

# torch's threads spin while they wait; on a busy machine that makes small tests many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from charlstm.config import TrainConfig
from charlstm.events import RunFinished
from charlstm.net.model_config import ModelConfig
from charlstm.text import sources as texts
from charlstm.text.corpus import CACHE_VARIABLE, Corpus, open_corpus

# What a shell starts with "&" ignores Ctrl-C, and so does all that it starts; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHAKESPEARE = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
TEXT = (
    'NED: "Row," said the heron, (and sat down). It was a wet day.\n'
    "TAM: Which end do I hold? [He holds the wrong one.]\n\n"
)
PLAIN = "It was a wet day, and the heron sat down.\n"
# Characters of 1, 2, 3 and 4 bytes; CRLF, NUL, combining and joined characters.
MIXED = "a\r\nb\rc\0d e\u0301 é € 𐍈 👩\u200d👧 \u2028\x85 \ufeff end\n"


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ[CACHE_VARIABLE]
    else:
        os.environ[CACHE_VARIABLE] = before


@pytest.fixture
def shakespeare() -> Path:
    """Tiny Shakespeare, for measuring; it is not part of the repository."""
    if not SHAKESPEARE.is_file():
        pytest.skip("tinyshakespeare.txt is not there")
    return SHAKESPEARE


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """A corpus of a given text (str or bytes)."""
    made = 0

    def make(text: str | bytes = TEXT * 20, **reading: object) -> Corpus:
        nonlocal made
        made += 1
        path = tmp_path / f"text-{made}.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return open_corpus([path], **reading)  # type: ignore[arg-type]

    return make


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of encoded corpora, empty."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of eight bytes, so that a few words have many borders."""
    monkeypatch.setattr(texts, "CHUNK_BYTES", 8)


def text_of(found: Corpus) -> str:
    return found.vocab.decode(found.ids.tolist())


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def model_config(
    vocab_size: int, hidden: int = 24, layers: int = 1, cell: str = "lstm", embedding: int = 8
) -> ModelConfig:
    return ModelConfig(cell, vocab_size, embedding, hidden, layers)


def train_config(**changes: object) -> TrainConfig:
    """Settings of a run of a second; ``changes`` replace fields. Steps are the budget."""
    values: dict[str, object] = {
        "batch": 4,
        "bptt": 16,
        "steps": 20,
        "learning_rate": 0.02,
        "adam_rate": 0.01,
        "warmup_steps": 4,
        "final_rate": 0.1,
        "weight_decay": 0.0,
        "dropout": 0.1,
        "clip": 1.0,
        "averaging": 0.9,
        "val_fraction": 0.1,
        "patience": 0,
        "keep": 1,
        "seed": 3,
        "device": "cpu",
        "precision": "float32",
        "row_averaging": 0.0,
        "reset_every": 0,
    }
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small finished run, named ``small``, below a folder ``checkpoints``."""
    from charlstm.train.session import begin

    folder = tmp_path_factory.mktemp("trained")
    text = folder / "small.txt"
    text.write_text(TEXT * 30, encoding="utf-8")
    corpus = open_corpus([text])
    opened = begin(
        corpus,
        model_config(len(corpus.vocab), layers=2),
        train_config(steps=150, dropout=0.0),
        root=folder / "checkpoints",
    )
    with opened as trainer:
        finished = list(trainer.run())[-1]
    assert isinstance(finished, RunFinished)
    return finished.path


@pytest.fixture
def folder(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, above ``checkpoints/small``."""
    monkeypatch.chdir(trained_run.parents[1])
    return trained_run.parents[1]


def random_weights(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> dict[str, np.ndarray]:
    """Weights of the model's shapes, drawn from a normal distribution; float32."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(0, scale, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
