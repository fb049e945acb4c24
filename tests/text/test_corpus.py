"""A text is encoded once, mapped from the cache later, and split at its end."""

import errno
import io
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import MIXED, PLAIN, text_of, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlstm.cache import CACHE_VARIABLE, cache_folder
from charlstm.errors import CharlstmError, UsageError
from charlstm.text import cache as cached
from charlstm.text import corpus, encoder
from charlstm.text import found as finding
from charlstm.text import sources as texts
from charlstm.text.corpus import (
    Corpus,
    find_encoded,
    open_corpus,
    reopen_corpus,
)
from charlstm.text.sources import STDIN, TextSource

MakeCorpus = Callable[..., Corpus]


def same(one: Corpus | None, other: Corpus) -> bool:
    assert one is not None
    return (one.digest, one.vocab, one.counts) == (other.digest, other.vocab, other.counts) and (
        np.array_equal(one.ids, other.ids)
    )


# -- content -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [MIXED, MIXED.encode("utf-16-le").decode("latin-1"), "\r\n" * 10])
def test_a_text_is_kept_character_by_character(make_corpus: MakeCorpus, text: str) -> None:
    assert text_of(make_corpus(text)) == text


@pytest.mark.usefixtures("small_chunks")
def test_chunk_borders_within_characters_do_not_matter(make_corpus: MakeCorpus) -> None:
    for shift in range(8):
        text = "x" * shift + MIXED
        assert text_of(make_corpus(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=20))
@example("\ufeff" * 21)
def test_any_text_comes_back_from_its_ids(text: str) -> None:
    found = open_corpus([STDIN], stdin=io.BytesIO(("\ufeff" + text).encode()))
    assert text_of(found) == text


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=20))
def test_any_bytes_come_back_from_their_ids(data: bytes) -> None:
    found = open_corpus([STDIN], as_bytes=True, stdin=io.BytesIO(data))
    assert np.asarray(found.ids).tobytes() == data
    assert len(found.vocab) == 256


def test_symbols_are_sorted_and_counted(make_corpus: MakeCorpus) -> None:
    found = make_corpus(MIXED)
    occurrences = Counter(MIXED)
    assert found.vocab.symbols == "".join(sorted(occurrences))
    assert found.counts == tuple(occurrences[s] for s in found.vocab.symbols)
    assert len(found) == len(MIXED)


def test_bytes_are_counted_over_all_256_symbols(make_corpus: MakeCorpus) -> None:
    data = b"\xff\x00" * 10 + b"a"
    found = make_corpus(data, as_bytes=True)
    assert [(i, n) for i, n in enumerate(found.counts) if n] == [(0, 10), (97, 1), (255, 10)]


@pytest.mark.usefixtures("small_chunks")
def test_progress_has_the_activity_and_the_bytes_done(tmp_path: Path) -> None:
    reported: dict[str, list[int]] = {}

    def report(activity: str, done: int, total: int | None) -> None:
        assert total == len(PLAIN)
        reported.setdefault(activity, []).append(done)

    open_corpus([write(tmp_path / "a.txt", PLAIN)], progress=report)
    steps = [8, 16, 24, 32, 40, len(PLAIN)]
    assert reported == {"checking": [len(PLAIN)], "reading": steps, "renumbering": steps}
    open_corpus([tmp_path / "a.txt"], progress=report)
    assert reported["verifying"] == steps


def test_files_are_joined_in_the_order_given(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.txt", "first, "), write(tmp_path / "2.txt", PLAIN)
    assert text_of(open_corpus([two, one])) == PLAIN + "first, "
    assert text_of(open_corpus([one, two, one])) == "first, " + PLAIN + "first, "


def test_the_validation_part_is_the_end_of_the_text(make_corpus: MakeCorpus) -> None:
    found = make_corpus("abcdefghij" * 10 + "end")
    for fraction, held_out in [(0.0, 0), (0.1, 11), (0.5, 52), (0.9, 93)]:
        train, val = found.split(fraction)
        assert (len(train), len(val)) == (103 - held_out, held_out)
        assert np.array_equal(np.concatenate([train, val]), found.ids)


# -- stdin -------------------------------------------------------------------------------------


def test_a_text_from_stdin_is_found_again_by_its_digest(cache: Path) -> None:
    stream = io.BytesIO(PLAIN.encode())
    found = open_corpus([STDIN], stdin=stream)
    assert text_of(found) == PLAIN
    assert found.name == "stdin"
    assert not stream.closed
    assert same(find_encoded(found.digest, TextSource((STDIN,))), found)
    assert find_encoded("0" * 64, TextSource((STDIN,))) is None


def test_the_same_text_from_stdin_is_kept_once(cache: Path) -> None:
    for _ in range(2):
        open_corpus([STDIN], stdin=io.BytesIO(PLAIN.encode()))
    open_corpus([STDIN], stdin=io.BytesIO(b"another text of some length"))
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_neighbour_does_not_hide_a_text_from_stdin(cache: Path) -> None:
    found = open_corpus([STDIN], stdin=io.BytesIO(PLAIN.encode()))
    write(cache / ("0" * 24) / "corpus.json", "{")
    assert same(find_encoded(found.digest, TextSource((STDIN,))), found)


@pytest.mark.skipif(os.name == "nt", reason="FIFOs")
def test_a_text_from_a_pipe_is_read_once_and_found_again_by_its_digest(
    tmp_path: Path, cache: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for text in (PLAIN, PLAIN.upper()):
        with ThreadPoolExecutor() as pool:
            pool.submit((tmp_path / "pipe").write_text, text)
            found = open_corpus([tmp_path / "pipe"])
        assert text_of(found) == text
        assert same(reopen_corpus(found.source, found.digest), found)


@pytest.mark.skipif(os.name == "nt", reason="FIFOs")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_never_end_is_not_opened_again(tmp_path: Path, cache: Path, kind: str) -> None:
    path = "/dev/zero" if kind == "device" else str(tmp_path / "pipe")
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(
        CharlstmError, match=rf"the text came from {path} \(a {kind}\) and is not in"
    ):
        reopen_corpus(TextSource((path,)), "0" * 64)
    if kind == "device":
        with pytest.raises(CharlstmError, match="is a device"):
            open_corpus([path])
    assert not cache.exists() or list(cache.iterdir()) == []


def test_stdin_is_given_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    with pytest.raises(UsageError, match="use - alone"):
        open_corpus([path, STDIN], stdin=io.BytesIO(PLAIN.encode()))


# -- cache -------------------------------------------------------------------------------------


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call no source can be read."""

    def fail(path: str) -> object:
        raise AssertionError(f"{path} was read again")

    return lambda: monkeypatch.setattr(texts, "opened", fail)


def test_a_text_is_read_once(tmp_path: Path, cache: Path, unreadable: Callable[[], None]) -> None:
    path = write(tmp_path / "a.txt", MIXED)
    first = open_corpus([path])
    unreadable()
    second = open_corpus([path])
    assert same(second, first)
    assert text_of(second) == MIXED
    assert {p.name for p in cache.glob("*/*")} == {"corpus.json", "ids.bin"}


def test_a_relative_path_finds_the_same_cache(
    tmp_path: Path, unreadable: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_corpus([write(tmp_path / "a.txt", PLAIN)])
    unreadable()
    monkeypatch.chdir(tmp_path)
    assert same(open_corpus(["a.txt"]), first)


def test_a_changed_text_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    before = open_corpus([path])
    status = path.stat()
    write(path, PLAIN.upper())  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = open_corpus([path])
    assert text_of(after) == PLAIN.upper()
    assert after.digest != before.digest
    assert text_of(before) == PLAIN


def test_a_text_that_changes_while_it_is_read_is_not_taken_for_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, identify = write(tmp_path / "text.txt", PLAIN), finding.FoundText.identified

    def changed(found: finding.FoundText, progress: finding.Progress) -> Any:
        result = identify(found, progress)
        write(path, MIXED)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(finding.FoundText, "identified", changed)
        assert text_of(open_corpus([path])) == MIXED
    write(path, PLAIN)
    assert text_of(open_corpus([path])) == PLAIN
    assert text_of(open_corpus([path])) == PLAIN


@pytest.mark.parametrize("how", ["same time", "same content"])
def test_a_small_text_is_known_by_its_content_and_not_by_its_time(
    tmp_path: Path, cache: Path, how: str
) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    before, status = open_corpus([path]), path.stat()
    if how == "same time":
        write(path, PLAIN.upper())
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert text_of(open_corpus([path])) == PLAIN.upper()
    else:
        os.utime(path, ns=(0, 0))
        assert same(open_corpus([path]), before)
        assert len(list(cache.iterdir())) == 1


def test_a_large_text_is_known_by_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "HASHED_BYTES", len(PLAIN) - 1)
    path = write(tmp_path / "a.txt", PLAIN)
    before, status = open_corpus([path]), path.stat()
    write(path, PLAIN.upper())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(open_corpus([path]), before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert text_of(open_corpus([path])) == PLAIN.upper()


def test_another_manner_of_reading_is_another_entry(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", "é" * 20)
    assert len(open_corpus([path])) == 20
    assert len(open_corpus([path], encoding="latin-1")) == 40
    assert len(open_corpus([path], as_bytes=True).vocab) == 256
    assert len(list(cache.iterdir())) == 3


DAMAGES = ["cut ids", "no ids", "empty ids", "zeros", "a pipe", "bad json", "empty json"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again(tmp_path: Path, cache: Path, damage: str) -> None:
    path = write(tmp_path / "a.txt", MIXED)
    digest = open_corpus([path]).digest
    (folder,) = cache.iterdir()
    ids, meta = folder / "ids.bin", folder / "corpus.json"
    content = ids.read_bytes()
    match damage:
        case "cut ids":
            ids.write_bytes(content[:-1])
        case "no ids":
            ids.unlink()
        case "empty ids":
            ids.write_bytes(b"")
        case "zeros":  # as a power cut leaves what was not synced
            ids.write_bytes(bytes(len(content)))
        case "a pipe":
            ids.unlink()
            os.mkfifo(ids)
        case "bad json":
            meta.write_text('{"vocabulary": [97, 97]}')
        case "empty json":
            meta.write_text("")
    again = open_corpus([path])
    assert again.digest == digest
    assert text_of(again) == MIXED
    assert ids.read_bytes() == content


def test_a_cache_entry_without_its_json_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    open_corpus([path])
    (folder,) = cache.iterdir()
    (folder / "corpus.json").unlink()
    assert text_of(open_corpus([path])) == PLAIN


def test_a_note_in_a_damaged_entry_stays_and_is_in_nobodys_way(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    open_corpus([path])
    (folder,) = cache.iterdir()
    (folder / "note").touch()
    (folder / "ids.bin").unlink()
    assert text_of(open_corpus([path])) == PLAIN
    assert {p.name for p in folder.iterdir()} == {"note", "ids.bin", "corpus.json"}
    assert list(cache.iterdir()) == [folder]


def test_a_cache_that_cannot_be_written_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    monkeypatch.setenv(CACHE_VARIABLE, str(path / "cache"))
    with pytest.raises(CharlstmError, match=f"not a directory; set {CACHE_VARIABLE} to a writable"):
        open_corpus([path])


def test_a_cache_below_a_name_too_long_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / ("x" * 300)))
    with pytest.raises(CharlstmError, match=f"set {CACHE_VARIABLE} to a writable"):
        open_corpus([write(tmp_path / "a.txt", PLAIN)])


def test_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(corpus, "_move_into_place", fail)
    with pytest.raises(CharlstmError, match="no space left on device; free some space"):
        open_corpus([write(tmp_path / "a.txt", PLAIN)])
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
def test_a_text_that_will_not_fit_is_refused_before_it_is_encoded(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", "abcdefgh" * 100)
    disk = shutil.disk_usage(tmp_path)
    pieces: list[int] = []

    def report(activity: str, done: int, total: int | None) -> None:
        if activity == "reading":
            pieces.append(done)

    def has(free: int, total: int = disk.total) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=free, total=total))

    has(free=791)
    with pytest.raises(CharlstmError) as caught:
        open_corpus([path], progress=report)
    assert "needs about 0 MB, but only 0 MB are available in the cache" in caught.value.message
    assert str(cache) in caught.value.message
    assert CACHE_VARIABLE in caught.value.hint
    assert pieces == [8]
    assert list(cache.iterdir()) == []
    has(free=0, total=0)  # a file system that does not know
    assert len(open_corpus([path])) == 800
    has(free=792)
    assert len(open_corpus([path], as_bytes=True)) == 800


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_new_cache_is_its_owners_alone_and_an_old_one_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    for name, mode in (("new", 0o700), ("old", 0o755)):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / name))
        open_corpus([write(tmp_path / "a.txt", PLAIN)])
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_private_text_is_private_in_a_shared_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "shared"))
    for mode, content in ((0o600, PLAIN), (0o644, PLAIN[::-1])):
        text = write(tmp_path / f"{mode:o}.txt", content)
        text.chmod(mode)
        open_corpus([text])
    (entries := cached.cached_corpora()).sort(key=lambda entry: entry.stat().st_mode)
    assert [entry.stat().st_mode & 0o777 for entry in entries] == [0o700, 0o755]


def test_the_cache_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder() == Path("/xdg/charlstm")
    for no_folder in ("", "relative", "~/.cache"):  # as the XDG specification has it
        monkeypatch.setenv("XDG_CACHE_HOME", no_folder)
        assert cache_folder().is_relative_to(Path.home())
    monkeypatch.setenv(CACHE_VARIABLE, "~/chosen")  # as in a file that no shell reads
    assert cache_folder() == Path.home() / "chosen"


# -- file systems ------------------------------------------------------------------------------


def refuse(number: int) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOSYS])
def test_where_nothing_can_be_mapped_the_ids_are_read(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "memmap", refuse(number))
    path = write(tmp_path / "a.txt", MIXED)
    for _ in range(2):  # encoded, then from the cache
        found = open_corpus([path])
        assert text_of(found) == MIXED
        with pytest.raises(ValueError, match="read-only"):
            found.ids[0] = 1


def test_a_cached_text_that_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", MIXED)
    open_corpus([path])
    for number in (errno.EIO, errno.EACCES, errno.ENOMEM):
        with monkeypatch.context() as patch:
            patch.setattr(np, "memmap", refuse(number))
            with pytest.raises(CharlstmError) as caught:
                open_corpus([path])
        assert os.strerror(number).lower() in caught.value.message
        assert str(cache) in caught.value.message
        assert CACHE_VARIABLE in caught.value.hint
        assert len(list(cache.glob("*/ids.bin"))) == 1


def test_a_full_cache_is_no_fault_of_the_text(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder.IdFile, "add", refuse(errno.ENOSPC))
    with pytest.raises(CharlstmError) as caught:
        open_corpus([write(tmp_path / "b.txt", PLAIN)])
    assert f"the cache {cache}: no space left" in caught.value.message
    assert "b.txt" not in caught.value.message
    assert CACHE_VARIABLE in caught.value.hint
    assert list(cache.iterdir()) == []


def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process without a home directory; where its cache is."""
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"charlstm-{os.getuid()}"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.skipif(os.name == "nt", reason="user ids")
def test_without_a_home_the_cache_is_a_private_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = homeless(monkeypatch, tmp_path)
    path = write(tmp_path / "a.txt", PLAIN)
    for _ in range(2):
        assert text_of(open_corpus([path])) == PLAIN
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(cached.cached_corpora()) == 1


@pytest.mark.skipif(os.name == "nt", reason="user ids")
@pytest.mark.parametrize("trap", ["a link", "a file", "another user's", "no room"])
def test_without_a_home_nobody_elses_folder_is_used(
    tmp_path: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = homeless(monkeypatch, tmp_path)
    match trap:
        case "a link":
            (tmp_path / "theirs").mkdir()
            folder.symlink_to(tmp_path / "theirs")
        case "a file":
            folder.touch()
        case "another user's":
            other = os.getuid() + 1
            monkeypatch.setattr(os, "getuid", lambda: other)
            (tmp_path / f"charlstm-{other}").mkdir()
        case "no room":
            monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "none"))
    with pytest.raises(CharlstmError, match=f"set {CACHE_VARIABLE} to"):
        open_corpus([write(tmp_path / "a.txt", PLAIN)])


KILLED = """
import os, signal, sys
from charlstm.text import cache as cached
from charlstm.text import corpus, encoder, found as finding

def stop(activity, done, total):
    if activity != "reading":
        return
    os.kill(os.getpid(), signal.SIGKILL)

corpus.open_corpus([sys.argv[1]], progress=stop)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_what_a_killed_process_has_begun_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path, cache: Path
) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    left = set(cache.iterdir())
    assert {p.suffix for p in left} == {"", ".lock"}
    assert set(cached.unfinished_corpora()) == left
    seen: list[set[Path]] = []

    def look(activity: str, *_: object) -> None:
        if activity != "reading":
            return
        seen.append(set(cache.iterdir()))
        assert cached.unfinished_corpora() == []
        if len(seen) == 1:  # another text is encoded meanwhile
            open_corpus([write(tmp_path / "b.txt", PLAIN * 2)])

    assert text_of(open_corpus([path], progress=look)) == PLAIN
    assert left.isdisjoint(seen[0])
    assert {p.suffix for p in cache.iterdir()} == {""}
    assert len(cached.cached_corpora()) == 2


MEETING = """
import os, sys, time
from pathlib import Path
from charlstm.text.corpus import open_corpus

meeting = Path(sys.argv[2])

def wait_for_the_other(activity, done, total):
    if activity != "reading":
        return
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.005)

print(open_corpus([sys.argv[1]], progress=wait_for_the_other).digest)
"""


def test_two_processes_may_encode_a_text_at_once(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.txt", MIXED * 100)
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    command = [sys.executable, "-c", MEETING, str(path), str(meeting)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert digests == {open_corpus([path]).digest}
    assert len(list(cache.iterdir())) == 1


# -- what charlstm has written -----------------------------------------------------------------


def test_a_folder_is_read_without_what_charlstm_has_written_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write(tmp_path / "a.txt", PLAIN)
    write(tmp_path / "deep" / "checkpoints" / "b.txt", "no run of charlstm's")
    before = open_corpus(["."])
    assert text_of(before) == PLAIN + "no run of charlstm's"
    run = '{"format": 1, "model": {}, "train": {}, "corpus": {}}'
    write(tmp_path / "checkpoints" / "a" / "run.json", run)
    write(tmp_path / "checkpoints" / "notes.txt", PLAIN)
    write(tmp_path / "studies" / "lag" / "results.json", "{}")
    write(tmp_path / "elsewhere" / "tales" / "run.json", run)
    write(tmp_path / "elsewhere" / "tales" / "deep" / "metrics.jsonl", "{}")
    after = open_corpus(["."])
    assert after.digest == before.digest
    names = ["cache/corpora", "checkpoints", "elsewhere/tales", "studies"]
    ignored = [notice for notice in after.notices if notice.startswith("ignored ")]
    assert ignored == [f"ignored {tmp_path / name}: written by charlstm" for name in names]
    monkeypatch.chdir(tmp_path / "deep")
    assert text_of(open_corpus(["checkpoints"])) == "no run of charlstm's"
    monkeypatch.chdir("/")
    write(tmp_path / "elsewhere" / "b.txt", PLAIN)
    assert text_of(open_corpus([tmp_path / "elsewhere"])) == PLAIN


# -- ids ---------------------------------------------------------------------------------------


def characters(count: int) -> str:
    """``count`` different characters; surrogates are left out."""
    points = (i for i in range(0x20, 0x110000) if not 0xD800 <= i < 0xE000)
    return "".join(chr(next(points)) for _ in range(count))


@pytest.mark.parametrize(
    ("symbols", "dtype"),
    [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)],
)
def test_ids_take_the_smallest_type_and_widen_on_the_way(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch, symbols: int, dtype: type
) -> None:
    monkeypatch.setattr(texts, "CHUNK_BYTES", 128 if symbols < 1000 else 1 << 14)
    text = characters(symbols)
    text = text[::-1] + text
    found = make_corpus(text)
    assert found.ids.dtype == dtype
    assert len(found.vocab) == symbols
    assert text_of(found) == text
    assert found.counts == (2,) * symbols


def test_ids_may_widen_twice_within_one_chunk(make_corpus: MakeCorpus) -> None:
    text = "plain start" + characters(70_000)
    found = make_corpus(text)
    assert found.ids.dtype == np.uint32
    assert text_of(found) == text


def test_ids_are_mapped_and_cannot_be_written(make_corpus: MakeCorpus) -> None:
    ids = make_corpus().ids
    assert isinstance(ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_equal_texts_have_one_digest_and_others_another(make_corpus: MakeCorpus) -> None:
    def digest(text: str, **reading: object) -> str:
        return make_corpus(text, **reading).digest

    text = "abcdefghijklmnopqrst"
    assert digest(text) == digest(text)
    others = [text[::-1], text + "a", text.upper(), text.replace("a", "b")]
    digests = {digest(text), digest(text, as_bytes=True), *map(digest, others)}
    assert len(digests) == 6


def test_two_corpora_of_the_same_files_are_equal(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    assert open_corpus([path]) == open_corpus([path])
    assert open_corpus([path]) != open_corpus([path], as_bytes=True)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"), [("", "has no"), ("x" * 19, "has 19"), ("\ufeff", "has no")]
)
def test_a_text_that_is_too_short_is_refused(
    make_corpus: MakeCorpus, cache: Path, text: str, problem: str
) -> None:
    with pytest.raises(CharlstmError, match=rf"text-1\.txt {problem} characters"):
        make_corpus(text)
    assert list(cache.iterdir()) == []
    assert len(make_corpus("x" * 20)) == 20
