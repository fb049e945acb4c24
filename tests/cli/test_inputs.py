"""Notes and advice about the texts that commands read."""

import io
import re
import sys
from pathlib import Path

import pytest

from charlstm.cli import run
from charlstm.cli.inputs import open_texts, progress_of, read_text
from charlstm.errors import CharlstmError

PROSE = "Row, said the heron.\nIt was a wet day.\n" * 20


class Keyboard(io.TextIOWrapper):
    """Stdin of somebody who types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("ends", "note"),
    [
        ("\n", ""),
        ("\r\n", "note: lines end with CR LF"),
        ("\r", "note: lines end with a carriage return"),
    ],
)
def test_line_ends_with_carriage_returns_are_noted_once(
    ends: str, note: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_bytes(PROSE.replace("\n", ends).encode())
    for _ in range(2):  # encoded, and from the cache
        open_texts(["a.txt"], quiet=False)
        err = capsys.readouterr().err
        assert err.startswith(note)
        assert err.count("note: ") == bool(note)
        assert err.endswith("charlstm train -\n") == bool(note)
    open_texts(["a.txt"], quiet=False, as_bytes=True)
    assert capsys.readouterr().err == ""


def test_a_few_carriage_returns_are_not_worth_a_note(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_bytes((PROSE + "a\r\n").encode())
    open_texts(["a.txt"], quiet=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
        ("utf-16-le", "utf-16le"),
        ("utf-16-be", "utf-16be"),
        ("latin-1", "latin1"),
        ("cp1252", "cp1252"),
    ],
)
def test_other_encodings_get_the_advice_that_helps(
    encoding: str, named: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prose = PROSE + {"latin-1": "é", "cp1252": "“é”"}.get(encoding, "")
    (folder / "a.txt").write_bytes(prose.encode(encoding))
    with pytest.raises(CharlstmError) as error:
        read_text("a.txt", as_bytes=False)
    assert f"iconv -f {named} -t utf-8" in str(error.value)
    assert prose.encode() == prose.encode(encoding).decode(named).encode()
    assert run(["train", "a.txt"]) == 1
    advised = "latin-1" if named == "latin1" else named
    assert f"--encoding {advised}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"%PDF-1.4 \xff", "a PDF file"),
        (b"PK\x03\x04\x14\x00\xff\xfe", ".docx"),
        (b"{\\rtf1 \xff", "an RTF file"),
    ],
    ids=str,
)
def test_files_that_are_no_plain_text_are_called_what_they_are(
    content: bytes, named: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_bytes(content + PROSE.encode())
    assert run(["train", "a.txt"]) == 1
    told = capsys.readouterr().err
    with pytest.raises(CharlstmError) as error:
        read_text("a.txt", as_bytes=False)
    assert named in told
    assert named in str(error.value)
    assert "--encoding" not in told
    assert "iconv" not in str(error.value)


TINY = ["--hidden", "8", "--layers", "1", "--steps", "2", "--threads", "1", "--batch", "2"]


def test_a_list_without_carriage_returns_stays_a_list(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_bytes(b"an item\r\nand one\r\n" * 50)
    assert run(["train", "a.txt", "--lines", *TINY]) == 0
    assert "tr -d '\\r' < TEXT | charlstm train - --lines\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "options", "note"),
    [
        (PROSE * 20, [], ""),
        (PROSE.replace("s", "\x1b") * 20, [], r"control or replacement characters .*'\\x1b'"),
        (PROSE.replace("s", "\ufffd") * 20, [], r"control or replacement characters .*'\\ufffd'"),
        (PROSE * 100 + "\0\ufeff", [], ""),  # a few are noise
        ("“" + PROSE * 20, ["--encoding", "latin-1"], "probably cp1252"),
        ("é" + PROSE * 20, ["--encoding", "latin-1"], ""),
        (PROSE.replace("s", "\x1b") * 20, ["--bytes"], ""),
        ("{\\rtf1 " + PROSE * 20, [], "is an RTF file, not plain text"),
        ("a line\r\n" * 100 + "a line\n" * 100, [], "50% of the lines end with CR LF"),
        ("a line\r\n" * 3 + "a line\n" * 100, [], ""),
        ("an item%%and one%%" * 50, ["--separator", "%%"], ""),
        ("an item\rand one\r" * 50, ["--separator", "\r"], ""),
    ],
    ids=[
        "prose",
        "escapes",
        "replaced",
        "a few",
        "Windows",
        "latin-1",
        "bytes",
        "RTF",
        "half CRLF",
        "hardly CRLF",
        "items",
        "CR between items",
    ],
)
def test_what_a_text_should_not_have_is_noted(
    text: str,
    options: list[str],
    note: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoding = "cp1252" if "latin-1" in options else "utf-8"
    (folder / "a.txt").write_bytes(text.encode(encoding))
    assert run(["train", "a.txt", *TINY, *options]) == 0
    told = capsys.readouterr().err.splitlines()
    noted = [one for one in told if re.search("control or|control char|CR LF|plain text", one)]
    assert len(noted) == bool(note), noted
    assert all(re.search(note, one) for one in noted)


def test_of_many_notices_of_a_kind_a_few_are_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        (folder / "many").mkdir(exist_ok=True)
        (folder / f"many/{number}.txt").write_bytes(b"\xef\xbb\xbf" + PROSE.encode() * 5)
        (folder / f"many/{number}.bin").write_bytes(b"\xff\xff")
    assert run(["train", "many", *TINY]) == 0
    told = capsys.readouterr().err
    assert told.count("skipped ") == told.count("byte-order mark") == 3
    assert told.count("… and 6 more like these\n") == 2


def test_a_file_format_in_ascii_is_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_text("{\\rtf1 " + PROSE, encoding="utf-8")
    assert read_text("a.txt", as_bytes=False).endswith(PROSE)
    assert capsys.readouterr().err == (
        "note: a.txt is an RTF file, not plain text; convert it first\n"
    )
    read_text("a.txt", as_bytes=True)
    assert capsys.readouterr().err == ""


def test_utf_8_with_a_few_nuls_is_read(folder: Path) -> None:
    (folder / "a.txt").write_text("a\0b\0 " + PROSE)
    assert read_text("a.txt", as_bytes=False).startswith("a\0b")


def test_progress_is_reported_every_few_seconds_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("charlstm.cli.inputs.time.monotonic", lambda: now)
    for is_terminal, expected in (True, "6,000 of 20,000 characters …\n"), (False, ""):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=is_terminal: shown)
        progress = progress_of(20_000)
        for second in range(10):
            now += 1
            progress(1_000 * (second + 2))
        assert capsys.readouterr().err == (
            expected + expected.replace("6,", "11,") if is_terminal else ""
        )
        now += 9
        progress(20_000)  # the end needs no report
        assert capsys.readouterr().err == ""


def test_waiting_for_the_keyboard_is_noted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard(io.BytesIO(PROSE.encode())))
    assert read_text("-", as_bytes=False) == PROSE
    assert capsys.readouterr().err.startswith("reading from the keyboard; press Ctrl-")
    monkeypatch.setattr(sys, "stdin", Keyboard(io.BytesIO(PROSE.encode())))
    open_texts(["-"], quiet=True)
    assert capsys.readouterr().err.startswith("reading from the keyboard; press Ctrl-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROSE.encode())))
    read_text("-", as_bytes=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--prime", r"Row\n"], r"in most shells: --prime $'Row\n'"),
        (["--stop", r"it's\n"], r"in most shells: --stop $'it\'s\n'"),
        (["--prime", "Row\n"], ""),
        (["--repeat-penalty", "1.05"], "use --dry 0.8"),
        (["--repeat-penalty", "1"], ""),
        (
            ["--temp", "0", "--top-p", "0.9", "--top-k", "9"],
            "takes the most likely character anyway",
        ),
        (["--temp", "0", "--top-k", "1"], ""),
        (["--temp", "0", "--count", "2"], "all 2 texts are identical"),
        (["--top-p", "1e-9", "--count", "2"], "all 2 texts are identical"),
        (["--match", "Row", "--count", "2"], "all 2 texts are identical"),
        (["--temp", "1", "--count", "2"], ""),
        (["--ban", r"\n"], r"in most shells: --ban $'\n'"),
        (["--ban", "\n"], ""),
        (["--ban", "\u00e9\u20ac"], "none of these characters is in the vocabulary"),
        (["--ban", "\u00e9R"], ""),
        (["--dry-base", "2"], "note: --dry-base has no effect without --dry"),
        (["--repeat-window", "9"], "--repeat-window has no effect without --repeat-penalty"),
        (["--repeat-window", "9", "--repeat-penalty", "0.95"], ""),
        (["--no-echo"], "--no-echo has no effect: there is no prime"),
        (["--no-echo", "--prime", "Row"], ""),
        (["--prime", "small.txt"], "--prime-file"),
        (["--unknown", "skip"], "--unknown has no effect: there is no prime"),
        (["--unknown", "skip", "--prime", "Row"], ""),
    ],
    ids=str,
)
def test_sample_notes_what_was_hardly_meant(
    options: list[str],
    note: str,
    trained_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained_run.parents[1])
    unknown = ["--unknown", "skip"] if "--prime" in options else []
    settings = ["-c", "small", "--length", "5", "--seed", "1", *unknown]
    assert run(["sample", *settings, *options]) == 0
    err = capsys.readouterr().err
    notes = [line for line in err.splitlines() if line.startswith(("note: ", "treating"))]
    notes = [line for line in notes if "cannot occur" not in line]
    assert len(notes) == bool(note)
    assert all(line.endswith(note) for line in notes)


@pytest.mark.parametrize(
    ("written", "read", "is_noted"),
    [
        ("utf-8", "latin-1", True),
        ("utf-8", "cp437", True),
        ("utf-8", "utf-16-le", True),
        ("utf-8", "utf-8-sig", False),
        ("utf-8-sig", "utf-8-sig", False),
        ("latin-1", "latin-1", False),
        ("cp1252", "cp1252", False),
        ("utf-16", "utf-16", False),
        ("utf-16-le", "utf-16-le", False),
        ("utf-32", "utf-32", False),
    ],
)
@pytest.mark.parametrize("accent", ["", "\u00e9"])
def test_utf_8_that_is_read_in_another_encoding_is_noted(
    written: str,
    read: str,
    is_noted: bool,
    accent: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = f"{accent}{PROSE}" * 20  # of an even number of bytes
    (folder / "a.txt").write_bytes(text.encode(written))
    corpus = open_texts(["a.txt"], quiet=True, encoding=read)
    is_noted = is_noted and corpus.vocab.decode(corpus.ids[:9].tolist()) != text[:9]
    told = capsys.readouterr().err
    assert told.count("valid UTF-8, but was read in another encoding; omit `encoding`") == is_noted
    assert "cp1252" not in told


@pytest.mark.parametrize("read", ["ascii", "utf-16", "utf-32", "shift_jis"])
def test_the_error_about_an_encoding_names_utf_8_where_it_is_right(
    read: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.txt").write_text("caf\u00e9, \u65e5\u672c\u8a9e\u3002" * 9 + "x", encoding="utf-8")
    assert run(["train", "a.txt", "--encoding", read]) == 1
    assert "set its encoding (--encoding utf-8" in capsys.readouterr().err


@pytest.fixture
def accented(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A run whose model knows \u00e9 as one character."""
    (folder / "a.txt").write_text("un \u00e9t\u00e9 sans elle\n" * 30, encoding="utf-8")
    small = ["--hidden", "8", "--layers", "1", "--steps", "2", "--threads", "1"]
    assert run(["train", "a.txt", *small, "--quiet"]) == 0
    capsys.readouterr()
    return "a"


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "e\u0301t\u00e9 ete\u0301", "--warmup", "e\u0301"],
        ["inspect", "ete", "--warmup", "e\u0301"],
        ["sample", "--interactive", "--length", "3", "--seed", "1"],
        ["sample", "--interactive", "--length", "3", "--seed", "1", "--prime", "e\u0301"],
        ["sample", "--length", "3", "--seed", "1", "--stop", "e\u0301", "--stop", "te\u0301"],
        ["sample", "--length", "3", "--seed", "1", "--stop", "e\u0301", "--prime", "e\u0301"],
    ],
    ids=str,
)
def test_another_unicode_form_is_noted_once(
    command: list[str],
    accented: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = "e\u0301te\u0301\nete\u0301\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert run([*command, "-c", accented]) == 0
    assert capsys.readouterr().err.count("Unicode form of the vocabulary") == 1


@pytest.mark.parametrize(
    "command", [["sample", "--seed", "1", "--prime"], ["inspect"]], ids=lambda words: words[0]
)
def test_unknown_characters_are_counted_in_the_form_that_is_read(
    command: list[str], accented: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "e\u0301\u20ac", "-c", accented, "--unknown", "skip"]) == 0
    assert "skipped 1 of 2 characters: not in the vocabulary\n" in capsys.readouterr().err
