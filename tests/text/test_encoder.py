"""Ids on disk equal those of a slow, obvious encoding."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from helpers import MIXED

from charlstm.text import encoder
from charlstm.text.encoder import IdFile, id_type
from charlstm.text.vocabulary import code_points


@pytest.mark.parametrize("block", [1, 7, 1 << 15])
@pytest.mark.parametrize("symbols", [40, 128, 300, 70_000])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_ids_counts_and_digest_are_those_of_sorted_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, symbols: int, order: str
) -> None:
    monkeypatch.setattr(encoder, "BLOCK", block)
    size = 501 if block < 100 else 200_001
    points = np.random.default_rng(0).integers(0, symbols, size).astype(np.uint32)
    points[0] = symbols - 1
    if order != "random":  # some pieces are ASCII, others not
        points = np.sort(points)[:: 1 if order == "rising" else -1]
    written = IdFile(tmp_path / "ids")
    for start in range(0, size, size // 5):
        piece = points[start : start + size // 5]
        written.add(piece.astype(np.uint8) if piece.max() < 128 else piece)
    done: list[int] = []
    digest, counts = written.finish(done.append)
    known, ids, expected = np.unique(points, return_inverse=True, return_counts=True)
    content = ids.astype(id_type(len(known))).tobytes()
    assert (tmp_path / "ids").read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()
    assert counts.tolist() == expected.tolist()
    assert sorted(written.seen) == known.tolist()
    assert done[-1] == written.written == len(content)


def test_symbols_that_are_known_before_keep_their_ids(tmp_path: Path) -> None:
    written = IdFile(tmp_path / "ids", range(256))
    written.add(np.frombuffer(MIXED.encode(), np.uint8))
    assert written.finish(lambda _: None)[1].sum() == len(MIXED.encode())
    assert (tmp_path / "ids").read_bytes() == MIXED.encode()


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 1), ("abé", 2), ("ab€", 2), ("ab𐍈", 4), ("", 1)]
)
def test_code_points_take_the_width_they_need(text: str, width: int) -> None:
    points = code_points(text)
    assert points.tolist() == [ord(c) for c in text]
    assert points.itemsize == width
