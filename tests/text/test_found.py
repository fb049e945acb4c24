"""A text is found again by what the system records of its files, without reading them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import PLAIN, text_of, write

from charlstm.text import found as finding
from charlstm.text import sources
from charlstm.text.corpus import Corpus, open_corpus
from charlstm.text.found import find_text


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once."""
    monkeypatch.setattr(finding, "SETTLED_SECONDS", 0.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that have been opened since the list was last cleared."""
    names: list[str] = []
    opened, plain = sources.opened, open

    def noted(path: str) -> object:
        names.append(path)
        return opened(path)

    def noted_open(path: str, mode: str) -> object:
        names.append(path)
        return plain(path, mode)

    monkeypatch.setattr(sources, "opened", noted)
    monkeypatch.setattr(finding, "open", noted_open, raising=False)
    return names


def small_files(folder: Path) -> list[Path]:
    paths = [write(folder / f"{n % 3}" / f"{n}.txt", f"{n}: {PLAIN}") for n in range(12)]
    write(folder / "photo.jpg", b"\0")
    return paths


@pytest.mark.usefixtures("settled", "cache")
def test_a_cached_folder_is_opened_without_reading_a_file(tmp_path: Path, reads: list[str]) -> None:
    small_files(tmp_path / "in")
    first = open_corpus([tmp_path / "in"])
    assert len(set(reads)) == 13
    reads.clear()
    second = open_corpus([tmp_path / "in"])
    assert reads == []
    assert second == first
    assert text_of(second) == text_of(first)
    assert second.notices == first.notices == (f"skipped {tmp_path}/in/photo.jpg: a binary file",)


def rewritten(path: Path) -> None:
    status = path.stat()
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    rewritten(write(path.with_suffix(".new"), path.read_bytes()))
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("change", [rewritten, replaced])
@pytest.mark.parametrize("wait", [0.0, 2.1])
def test_a_changed_file_of_equal_size_is_noticed(
    tmp_path: Path, change: Callable[[Path], None], wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_files(tmp_path / "in")[5]
    if wait:
        # As if the files were old: what they record is trusted.
        monkeypatch.setattr(finding.time, "time", lambda: wait + os.stat(path).st_ctime)
    before = text_of(open_corpus([tmp_path / "in"]))
    time.sleep(0.02)  # a tick of the file system's clock
    change(path)
    after = text_of(open_corpus([tmp_path / "in"]))
    assert after == before.replace(f"5: {PLAIN}", f"5: {PLAIN}".upper())


def test_what_has_just_changed_has_no_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    assert find_text([path]).record() is None


@pytest.mark.usefixtures("settled", "cache")
def test_files_with_new_times_are_compared_once(tmp_path: Path, reads: list[str]) -> None:
    paths = small_files(tmp_path / "in")
    first = open_corpus([tmp_path / "in"])
    os.utime(paths[0], ns=(0, 0))
    for expected in (13, 0):
        reads.clear()
        assert open_corpus([tmp_path / "in"]).digest == first.digest
        assert len(set(reads)) == expected


@pytest.mark.usefixtures("settled")
def test_a_cache_from_before_records_is_used_and_gets_one(
    tmp_path: Path, cache: Path, reads: list[str]
) -> None:
    import json

    path = write(tmp_path / "a.txt", PLAIN)
    first = open_corpus([path])
    (meta,) = cache.glob("*/corpus.json")
    content = json.loads(meta.read_text())
    old = {k: v for k, v in content.items() if k not in ("record", "skipped")}
    meta.write_text(json.dumps(old))
    changed = (meta.parent / "ids.bin").stat().st_mtime_ns
    assert open_corpus([path]) == first
    assert json.loads(meta.read_text()) == content
    assert (meta.parent / "ids.bin").stat().st_mtime_ns == changed
    reads.clear()
    assert open_corpus([path]) == first
    assert reads == []


@pytest.mark.usefixtures("settled", "cache")
def test_another_folder_or_encoding_has_another_record(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.txt", PLAIN)
    records = {
        find_text([path]).record(),
        find_text([tmp_path / "in"]).record(),
        find_text([path], "latin-1").record(),
        find_text([path], as_bytes=True).record(),
        find_text([path, path]).record(),
    }
    assert len(records) == 5
    assert None not in records


def test_small_files_share_a_piece(tmp_path: Path, make_corpus: Callable[..., Corpus]) -> None:
    small_files(tmp_path / "in")
    found = find_text([tmp_path / "in"], as_bytes=True)
    reader = finding.TextReader(found)
    (piece,) = reader.pieces()
    assert piece.tobytes() == b"".join(Path(file.path).read_bytes() for file in found.files)
    assert reader.done == found.size == len(piece)
