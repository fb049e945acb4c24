"""Shared fixtures: a private cache, corpora, a small trained run."""

import os
import signal

# torch's threads spin while they wait; on a busy machine that makes small tests many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import TEXT, model_config, train_config

from charlstm.cache import CACHE_VARIABLE
from charlstm.events import RunFinished
from charlstm.text import sources as texts
from charlstm.text.corpus import Corpus, open_corpus

# What a shell starts with "&" ignores Ctrl-C, and so does all that it starts; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHAKESPEARE = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"


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


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small finished run, named ``small``, below a folder ``checkpoints``."""
    from charlstm.training.new_run import begin

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
