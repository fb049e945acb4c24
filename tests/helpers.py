"""Helpers for several test modules: small texts, small settings, random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from charlstm.config import TrainConfig
from charlstm.net.model_config import ModelConfig
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

TEXT = (
    'NED: "Row," said the heron, (and sat down). It was a wet day.\n'
    "TAM: Which end do I hold? [He holds the wrong one.]\n\n"
)
PLAIN = "It was a wet day, and the heron sat down.\n"
# Characters of 1, 2, 3 and 4 bytes; CRLF, NUL, combining and joined characters.
MIXED = "a\r\nb\rc\0d e\u0301 é € 𐍈 👩\u200d👧 \u2028\x85 \ufeff end\n"


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


def random_weights(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> dict[str, np.ndarray]:
    """Normally distributed random weights of the model's shapes; float32."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(0, scale, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }


def untrained(folder: Path, vocab: Vocabulary) -> str:
    """A checkpoint with random weights and this vocabulary."""
    config = replace(model_config(len(vocab)), end=vocab.end)
    file = ModelFile(config, vocab, random_weights(config), "", {"step": 0})
    return str(write_checkpoint(folder, file, ResumeState({}, {})))
