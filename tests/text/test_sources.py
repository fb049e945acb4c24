"""Files, folders, encodings and compressed texts are read strictly, or named and refused."""

import bz2
import errno
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import MIXED, PLAIN, text_of, write

from charlstm.errors import CharlstmError, UsageError
from charlstm.text import sources as texts
from charlstm.text.corpus import Corpus, open_corpus
from charlstm.text.sources import TextSource

MakeCorpus = Callable[..., Corpus]


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
    with pytest.raises(CharlstmError, match=f"use `encoding` {encoding}$"):
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
        assert "`encoding`" in caught.value.hint
        assert "`as_bytes`" in caught.value.hint


def test_an_offset_counts_within_its_own_file(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "1.txt", PLAIN), write(tmp_path / "2.txt", b"abc\xff")
    with pytest.raises(CharlstmError, match=r"2\.txt is not valid utf-8: byte 0xff at offset 3;"):
        open_corpus([good, bad])


@pytest.mark.parametrize("encoding", ["utf-9", "", "utf-8\0", "é"])
def test_an_unknown_encoding_is_a_usage_error(make_corpus: MakeCorpus, encoding: str) -> None:
    with pytest.raises(UsageError, match=r"unknown encoding .*; try utf-8"):
        make_corpus(PLAIN, encoding=encoding)


@pytest.mark.parametrize("encoding", ["rot13", "base64", "hex", "bz2", "quopri", "undefined"])
def test_a_codec_that_is_no_text_encoding_is_a_usage_error(
    make_corpus: MakeCorpus, encoding: str
) -> None:
    with pytest.raises(UsageError, match=r"unknown encoding .*; try utf-8"):
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


def test_the_root_of_the_file_system_is_refused() -> None:
    with pytest.raises(CharlstmError, match="root of the file system"):
        texts.find_text(["/"])


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
    reported = dict(notice.removeprefix("skipped ").split(": ", 1) for notice in found.notices)
    assert reported.keys() == {str(folder / name) for name in reasons}
    for name, (_, reason) in reasons.items():
        assert reason in reported[str(folder / name)]


def test_what_may_not_be_looked_at_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "books"
    write(folder / "good.txt", PLAIN)
    write(folder / "theirs/more.txt", PLAIN)
    write(folder / "link.txt", PLAIN)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder / "theirs")
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path == folder / "link.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    notices: list[str] = []
    texts._list_files([folder], "utf-8", False, notices, ())
    assert sorted(notices) == [
        f"skipped {folder / name}: permission denied" for name in ("link.txt", "theirs")
    ]


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
    with pytest.raises(CharlstmError, match="no text files in folder"):
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


# -- what is refused ---------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.txt", "none.gz", "a\0b"):
        with pytest.raises(CharlstmError, match=r"no such file: .*; check the path"):
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
    assert TextSource((source, "/x/other.txt")).name == name
