"""The docs are enough to read a checkpoint and to run it: reference/checkpoints.md and
explanation/cells.md.

The reader below knows what these pages say, the safetensors format (eight bytes with the length of
a JSON header, the header, the numbers) and NumPy. It imports nothing of charlstm.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import MIXED, TEXT, model_config, random_weights

from charlstm.cli import run
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

# -- written from the docs alone ----------------------------------------------------------------


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    numbers = data[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32"
            begin, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(numbers[begin:end], "<f4").reshape(entry["shape"])
    return arrays


def check_manifest(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        data = (checkpoint / name).read_bytes()
        assert len(data) == entry["bytes"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    body = json.dumps({name: manifest[name] for name in ("format", "files")}, indent=1) + "\n"
    assert hashlib.sha256(body.encode("ascii")).hexdigest() == manifest["sha256"]


def sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def bits_per_char(checkpoint: Path, text: str) -> float:
    """The mean of -log2 p of every character but the first, by an lstm from zero state."""
    model = json.loads((checkpoint / "model.json").read_bytes())
    assert (model["format"], model["model"]["cell"]) == (1, "lstm")
    symbols = model["vocabulary"]["symbols"]  # Python counts code points
    weights = read_safetensors(checkpoint / "model.safetensors")
    layers, size = model["model"]["layers"], model["model"]["hidden_size"]
    h, c = np.zeros((layers, size)), np.zeros((layers, size))
    bits = []
    for character, following in pairwise(text):
        x = weights["embedding"][symbols.index(character)]
        for n in range(layers):
            z = (
                weights[f"layers.{n}.weight_input"] @ x
                + weights[f"layers.{n}.weight_hidden"] @ h[n]
                + weights[f"layers.{n}.bias"]
            )
            z_input, z_forget, z_candidate, z_output = z.reshape(4, size)
            c[n] = sigma(z_forget) * c[n] + sigma(z_input) * np.tanh(z_candidate)
            h[n] = sigma(z_output) * np.tanh(c[n])
            x = h[n]
        logits = weights["output_weight"] @ h.sum(axis=0) + weights["output_bias"]
        p = np.exp(logits - logits.max())
        bits.append(-math.log2(p[symbols.index(following)] / p.sum()))
    return sum(bits) / len(bits)


def digest(text: str) -> str:
    """The digest of a corpus of characters."""
    symbols = sorted(set(text))
    count = len(symbols)
    id_type = "u1" if count <= 256 else "<u2" if count <= 65_536 else "<u4"
    ids = np.array([symbols.index(character) for character in text]).astype(id_type)
    whole = "".join(symbols).encode() + hashlib.sha256(ids.tobytes()).hexdigest().encode()
    return hashlib.sha256(whole).hexdigest()


# -- agrees with charlstm -----------------------------------------------------------------------


def score(checkpoint: Path, text: str, folder: Path, capsys: Any) -> float:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    assert run(["score", str(path), "-c", str(checkpoint), "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["bits_per_char"])


def test_a_trained_checkpoint_can_be_read_from_the_docs(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pointers = json.loads((trained_run / "checkpoints.json").read_bytes())
    checkpoint = trained_run / pointers["best"]
    check_manifest(checkpoint)
    found = bits_per_char(checkpoint, TEXT)
    assert found == pytest.approx(score(checkpoint, TEXT, tmp_path, capsys), abs=6e-6)
    recorded = json.loads((trained_run / "run.json").read_bytes())["corpus"]
    assert recorded["digest"] == digest(Path(recorded["sources"][0]).read_text(encoding="utf-8"))


def test_ids_count_code_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = Vocabulary("".join(sorted(set(MIXED + "\U0001d11e\U0001f600z\ufffd"))))
    config = model_config(len(vocab), layers=2)
    file = ModelFile(config, vocab, random_weights(config), "", {"step": 0})
    checkpoint = write_checkpoint(tmp_path, file, ResumeState({}, {}))
    check_manifest(checkpoint)
    text = "a\U0001f600z\U0001d11e\ufffd e\u0301 \U0001f600 z"
    found = bits_per_char(checkpoint, text)
    assert found == pytest.approx(score(checkpoint, text, tmp_path, capsys), abs=6e-6)


@pytest.mark.parametrize("symbols", [9, 256, 257, 2000])
def test_the_digest_is_that_of_the_docs(symbols: int, make_corpus: Callable[..., Corpus]) -> None:
    text = "".join(chr(0x4E00 + n * n % symbols) for n in range(3000))
    text += "".join(chr(0x4E00 + n) for n in range(symbols))
    assert make_corpus(text).digest == digest(text)
