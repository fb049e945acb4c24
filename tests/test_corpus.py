"""Any text is read exactly, encoded once, and mapped from the cache afterwards."""

import bz2
import errno
import gzip
import io
import lzma
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlstm import corpus, texts
from charlstm.corpus import CACHE_VARIABLE, Corpus, cache_folder, find_encoded, open_corpus
from charlstm.errors import CharlstmError, UsageError
from charlstm.texts import STDIN, Reading, corpus_name

MakeCorpus = Callable[..., Corpus]
PLAIN = "It was a wet day, and the heron sat down.\n"
# Characters of 1, 2, 3 and 4 bytes; CRLF, NUL, combining and joined characters.
MIXED = "a\r\nb\rc\0d e\u0301 é € 𐍈 👩\u200d👧 \u2028\x85 \ufeff end\n"


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


def same(one: Corpus | None, other: Corpus) -> bool:
    assert one is not None
    return (one.digest, one.vocab, one.counts) == (other.digest, other.vocab, other.counts) and (
        np.array_equal(one.ids, other.ids)
    )


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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
def test_progress_tells_the_characters_read_so_far(tmp_path: Path) -> None:
    told: list[int] = []
    open_corpus([write(tmp_path / "a.txt", PLAIN)], progress=told.append)
    assert told == [8, 16, 24, 32, 40, len(PLAIN)]


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


# -- encodings ---------------------------------------------------------------------------------


def test_a_byte_order_mark_is_dropped_and_said(make_corpus: MakeCorpus) -> None:
    found = make_corpus(b"\xef\xbb\xbf" + PLAIN.encode())
    assert text_of(found) == PLAIN
    assert len(found.notices) == 1
    assert "byte-order mark" in found.notices[0]
    assert "text-1.txt" in found.notices[0]
    assert make_corpus(PLAIN).notices == ()


@pytest.mark.usefixtures("small_chunks")
def test_the_mark_of_every_file_is_dropped_and_no_other(tmp_path: Path) -> None:
    one = write(tmp_path / "1.txt", "\ufeff" + PLAIN)
    two = write(tmp_path / "2.txt", "\ufeffa\ufeffb")
    found = open_corpus([one, two])
    assert text_of(found) == PLAIN + "a\ufeffb"
    assert len(found.notices) == 2


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "é\x85ÿ" * 10),
        ("utf-16", MIXED),
        ("utf-32", MIXED),
        ("utf-8-sig", MIXED),
        ("cp932", "日本語の文章。" * 5),
        ("gb18030", MIXED),
    ],
)
@pytest.mark.usefixtures("small_chunks")
def test_text_in_another_encoding_is_read(
    make_corpus: MakeCorpus, encoding: str, text: str
) -> None:
    assert text_of(make_corpus(text.encode(encoding), encoding=encoding)) == text


def test_the_mark_of_utf_16_without_its_own_mark_is_dropped(make_corpus: MakeCorpus) -> None:
    found = make_corpus(("\ufeff" + PLAIN).encode("utf-16-be"), encoding="utf-16-be")
    assert text_of(found) == PLAIN
    assert "byte-order mark" in found.notices[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_text_that_announces_its_encoding_is_told_apart(
    make_corpus: MakeCorpus, encoding: str
) -> None:
    with pytest.raises(CharlstmError, match=f"use --encoding {encoding}$"):
        make_corpus(PLAIN.encode(encoding))


@pytest.mark.parametrize("chunk", [4, 8, 1 << 22])
@pytest.mark.parametrize("at", [20, 21, 22, 23, 24, 27])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_invalid_bytes_are_named_with_their_offset(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch, chunk: int, at: int, bad: bytes
) -> None:
    monkeypatch.setattr(texts, "CHUNK_BYTES", chunk)
    for end in (b"", b"abc"):
        with pytest.raises(CharlstmError) as caught:
            make_corpus("é".encode() * 10 + b"x" * (at - 20) + bad + end)
        assert f"byte 0x{bad[0]:02x} at offset {at:,}" in caught.value.message
        assert "text-" in caught.value.message
        assert "--encoding" in caught.value.hint
        assert "--bytes" in caught.value.hint


def test_an_offset_counts_within_its_own_file(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "1.txt", PLAIN), write(tmp_path / "2.txt", b"abc\xff")
    with pytest.raises(CharlstmError, match=r"2\.txt is not valid utf-8: byte 0xff at offset 3;"):
        open_corpus([good, bad])


@pytest.mark.parametrize("encoding", ["utf-9", "", "utf-8\0", "é"])
def test_an_unknown_encoding_is_a_usage_error(make_corpus: MakeCorpus, encoding: str) -> None:
    with pytest.raises(UsageError, match="is not known; try utf-8"):
        make_corpus(PLAIN, encoding=encoding)


@pytest.mark.parametrize("encoding", ["rot13", "base64", "hex", "bz2", "quopri", "undefined"])
def test_a_codec_that_is_no_text_encoding_is_a_usage_error(
    make_corpus: MakeCorpus, encoding: str
) -> None:
    with pytest.raises(UsageError, match="is not known; try utf-8"):
        make_corpus(PLAIN, encoding=encoding)


def test_utf_16_without_a_mark_is_refused(make_corpus: MakeCorpus) -> None:
    with pytest.raises(CharlstmError, match="utf-16"):
        make_corpus(PLAIN.encode("utf-16-le"), encoding="utf-16")


def test_utf_16_without_a_mark_is_skipped_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in" / "good.txt", PLAIN.encode("utf-16"))
    write(tmp_path / "in" / "bad.txt", PLAIN.encode("utf-16-le"))
    found = open_corpus([tmp_path / "in"], encoding="utf-16")
    assert text_of(found) == PLAIN
    assert "bad.txt" in found.notices[0]


def test_half_a_surrogate_pair_is_no_character(make_corpus: MakeCorpus) -> None:
    with pytest.raises(CharlstmError, match="unicode_escape"):
        make_corpus(rb"a smile is \ud83d\ude00 in JSON", encoding="unicode_escape")


# -- folders -----------------------------------------------------------------------------------


def test_a_folder_is_its_text_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    for name in ("b.txt", "a/z.md", "a/b/deep", "c.text.gz", "ä.txt"):
        content = f"<{name}>".encode()
        write(folder / name, gzip.compress(content) if name.endswith("gz") else content)
    found = open_corpus([folder])
    assert text_of(found) == "<a/b/deep><a/z.md><b.txt><c.text.gz><ä.txt>"
    assert found.notices == ()
    assert found.name == "books"


def test_files_of_a_folder_that_are_no_text_are_skipped_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    write(folder / "good.txt", PLAIN)
    reasons = {
        "photo.jpg": (b"text\0and a NUL", "binary"),
        "latin.txt": (b"caf\xe9", "not valid utf-8"),
        "cut.txt": ("€".encode()[:2], "not valid utf-8"),
        "empty.txt": (b"", "empty"),
        "bad.gz": (b"no gzip", "Not a gzipped file"),
    }
    for name, (content, _) in reasons.items():
        write(folder / name, content)
    found = open_corpus([folder])
    assert text_of(found) == PLAIN
    said = dict(notice.removeprefix("skipped ").split(": ", 1) for notice in found.notices)
    assert said.keys() == {str(folder / name) for name in reasons}
    for name, (_, reason) in reasons.items():
        assert reason in said[str(folder / name)]


def test_skipped_files_are_named_again_when_the_cache_answers(tmp_path: Path) -> None:
    write(tmp_path / "in" / "good.txt", "\ufeff" + PLAIN)
    write(tmp_path / "in" / "photo.jpg", b"\0")
    first, second = open_corpus([tmp_path / "in"]), open_corpus([tmp_path / "in"])
    assert len(first.notices) == 2
    assert first.notices == second.notices


@pytest.mark.usefixtures("small_chunks")
def test_a_nul_far_into_a_file_makes_it_binary(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.txt", PLAIN)
    write(tmp_path / "in" / "b.txt", PLAIN + "\0")
    assert text_of(open_corpus([tmp_path / "in"])) == PLAIN


def test_hidden_files_and_folders_are_left_out_without_a_word(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.txt", PLAIN)
    write(tmp_path / "in" / ".secret", "hidden")
    write(tmp_path / "in" / ".git" / "config", "hidden")
    found = open_corpus([tmp_path / "in"])
    assert text_of(found) == PLAIN
    assert found.notices == ()


def test_a_folder_below_a_hidden_one_is_read_when_it_is_named(tmp_path: Path) -> None:
    write(tmp_path / ".notes" / "a.txt", PLAIN)
    assert text_of(open_corpus([tmp_path / ".notes"])) == PLAIN


def test_a_folder_of_any_files_can_be_read_as_bytes(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.bin", bytes(range(256)))
    write(tmp_path / "in" / "b.bin", b"\xff" * 10)
    found = open_corpus([tmp_path / "in"], as_bytes=True)
    assert np.asarray(found.ids).tobytes() == bytes(range(256)) + b"\xff" * 10


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "in" / "photo.jpg", b"\0")
    with pytest.raises(CharlstmError, match="has no text file in it"):
        open_corpus([tmp_path / "in"])


def test_a_folder_with_the_name_of_a_file_is_a_folder(tmp_path: Path) -> None:
    for name in ("book.txt", "book.txt.gz"):
        write(tmp_path / name / "page", PLAIN)
        assert text_of(open_corpus([tmp_path / name])) == PLAIN


# -- compressed files --------------------------------------------------------------------------

COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".XZ": lzma.compress}


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_text_equals_the_plain_one(tmp_path: Path, ending: str) -> None:
    plain = open_corpus([write(tmp_path / "book.txt", MIXED)])
    packed = open_corpus([write(tmp_path / f"book.txt{ending}", COMPRESS[ending](MIXED.encode()))])
    assert text_of(packed) == MIXED
    assert packed.digest == plain.digest
    assert packed.name == plain.name == "book"


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "altered", "bad blocks", "something else"])
def test_a_damaged_compressed_file_is_an_error_that_names_it(
    tmp_path: Path, cache: Path, ending: str, damage: str
) -> None:
    content = np.random.default_rng(1).integers(32, 127, 3000, dtype=np.uint8).tobytes()
    packed = COMPRESS[ending](content)
    middle = len(packed) // 2
    damaged = {
        "cut": packed[:middle],
        "altered": packed[:middle] + bytes(20) + packed[middle + 20 :],
        "bad blocks": packed[:10] + b"\xff" * 20 + packed[30:],
        "something else": PLAIN.encode(),
    }[damage]
    path = write(tmp_path / f"book{ending}", damaged)
    with pytest.raises(CharlstmError, match=f"book{ending} cannot be read"):
        open_corpus([path])
    assert list(cache.iterdir()) == []


# -- stdin -------------------------------------------------------------------------------------


def test_a_text_from_stdin_is_found_again_by_its_digest(cache: Path) -> None:
    stream = io.BytesIO(PLAIN.encode())
    found = open_corpus([STDIN], stdin=stream)
    assert text_of(found) == PLAIN
    assert found.name == "stdin"
    assert not stream.closed
    assert same(find_encoded(found.digest, Reading((STDIN,))), found)
    assert find_encoded("0" * 64, Reading((STDIN,))) is None


def test_the_same_text_from_stdin_is_kept_once(cache: Path) -> None:
    for _ in range(2):
        open_corpus([STDIN], stdin=io.BytesIO(PLAIN.encode()))
    open_corpus([STDIN], stdin=io.BytesIO(b"another text of some length"))
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_neighbour_does_not_hide_a_text_from_stdin(cache: Path) -> None:
    found = open_corpus([STDIN], stdin=io.BytesIO(PLAIN.encode()))
    write(cache / "0-first" / "corpus.json", "{")
    assert same(find_encoded(found.digest, Reading((STDIN,))), found)


def test_stdin_is_given_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    with pytest.raises(UsageError, match="give stdin alone"):
        open_corpus([path, STDIN], stdin=io.BytesIO(PLAIN.encode()))


# -- cache -------------------------------------------------------------------------------------


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and no source can be read any more."""

    def fail(path: Path) -> object:
        raise AssertionError(f"{path} was read again")

    return lambda: monkeypatch.setattr(texts, "opener", fail)


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


def test_a_cache_that_cannot_be_written_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    monkeypatch.setenv(CACHE_VARIABLE, str(path / "cache"))
    with pytest.raises(CharlstmError, match=f"set {CACHE_VARIABLE} to a folder"):
        open_corpus([path])


def test_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(corpus, "_move_into_place", fail)
    with pytest.raises(CharlstmError, match="no space left on device; free some space"):
        open_corpus([write(tmp_path / "a.txt", PLAIN)])
    assert list(cache.iterdir()) == []


def test_the_cache_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder() == Path("/xdg/charlstm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().is_relative_to(Path.home())


MEETING = """
import sys, time
from pathlib import Path
from charlstm import corpus

move, meeting = corpus._move_into_place, Path(sys.argv[2])

def wait_for_the_other(work, target):
    (meeting / work.name).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.005)
    move(work, target)

corpus._move_into_place = wait_for_the_other
print(corpus.open_corpus([sys.argv[1]]).digest)
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
    ("text", "problem"), [("", "is empty"), ("x" * 19, "has 19 characters"), ("\ufeff", "is empty")]
)
def test_a_text_that_is_too_short_is_refused(
    make_corpus: MakeCorpus, cache: Path, text: str, problem: str
) -> None:
    with pytest.raises(CharlstmError, match=rf"text-1\.txt {problem}, but must have at least 20"):
        make_corpus(text)
    assert list(cache.iterdir()) == []
    assert len(make_corpus("x" * 20)) == 20


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.txt", "none.gz", "a\0b"):
        with pytest.raises(CharlstmError, match=r"there is no file .*; check the path"):
            open_corpus([tmp_path / name])


def test_a_name_too_long_for_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CharlstmError, match="aaa"):
        open_corpus([tmp_path / ("a" * 300)])


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(CharlstmError, match=r"a\.txt cannot be read: permission denied"):
        open_corpus([path])


def test_a_file_that_fails_while_it_is_read_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BadDisk(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(texts, "opener", lambda path: BadDisk)
    with pytest.raises(CharlstmError, match=r"a\.txt cannot be read: input/output error"):
        open_corpus([write(tmp_path / "a.txt", PLAIN)])
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/x/tales.txt", "tales"),
        ("/x/tales.txt.gz", "tales"),
        ("/x/tales.v2.txt", "tales.v2"),
        ("/x/tales", "tales"),
        ("/x/.hidden", ".hidden"),
        ("-", "stdin"),
    ],
)
def test_a_corpus_is_named_after_its_first_source(source: str, name: str) -> None:
    assert corpus_name(Reading((source, "/x/other.txt"))) == name
