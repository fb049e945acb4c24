"""``charlstm score``: how well a model predicts a text."""

import gzip
import io
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT, model_config, random_weights, untrained

import charlstm
from charlstm.cache import CACHE_VARIABLE
from charlstm.cli import run
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def score(folder: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))  # without the training text
    return lambda *arguments: run(["score", "-c", str(trained_run), *arguments])


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [
        (TEXT * 30, True),
        (TEXT * 2, True),
        (TEXT[:99], False),  # too short to tell
        (TEXT.swapcase() * 2, False),
        (TEXT + TEXT.swapcase(), False),
    ],
    ids=["whole", "part", "short", "other", "half"],
)
def test_a_score_on_the_training_text_is_noted_once(
    text: str,
    is_noted: bool,
    folder: Path,
    trained_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained_run.parents[1])
    (folder / "scored.txt").write_text(text, encoding="utf-8")
    score = ["score", str(folder / "scored.txt"), "--unknown", "replace", "-c", "small"]
    for more in ([], ["--json"], ["-c", "small", "--mix", "1,2"]):
        assert run([*score, *more]) == 0
        told = capsys.readouterr().err
        assert told.count("is in the training part of checkpoints/small") == is_noted


def test_a_held_out_part_is_no_training_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    lines = [f"{n} {n * n} {n**3} {n**4}\n" for n in range(400)]
    (folder / "numbers.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "end.txt").write_text("".join(lines[-30:]), encoding="utf-8")
    (folder / "start.txt").write_text("".join(lines[:30]), encoding="utf-8")
    charlstm.train("numbers.txt", steps=2, hidden_size=8, layers=1, progress=False).run()
    for text, is_noted in ("start.txt", True), ("end.txt", False):
        assert run(["score", text, "-c", "numbers"]) == 0
        assert ("in the training part" in capsys.readouterr().err) == is_noted


def test_json_has_the_documented_keys_and_consistent_numbers(
    score: Any, trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt", "--json") == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert shown.err == ""
    assert result["characters"] == len(TEXT) - 1
    assert result["protocol"] == "stateful"
    assert result["bits_per_char"] == pytest.approx(result["nats"] / math.log(2))
    assert result["perplexity"] == pytest.approx(math.exp(result["nats"]))
    assert result["nats"] == charlstm.load(trained_run).score(TEXT).nats


def test_windows_begin_from_zero_state(score: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("text.txt", "--json") == 0
    stateful = json.loads(capsys.readouterr().out)
    assert score("text.txt", "--json", "--window", "8") == 0
    windowed = json.loads(capsys.readouterr().out)
    assert windowed["protocol"] == "windowed"
    assert windowed["characters"] == stateful["characters"]
    assert windowed["nats"] > stateful["nats"]
    assert score("text.txt", "--json", "--window", str(len(TEXT))) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["nats"] == pytest.approx(stateful["nats"], rel=1e-5)


def test_line_has_the_numbers_and_the_protocol(
    score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert score("text.txt") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == (
        f"{result['bits_per_char']:.4f} bits per character  {result['nats']:.4f} nats  "
        f"perplexity {result['perplexity']:.3f}  {len(TEXT) - 1} characters  stateful\n"
    )
    assert score("text.txt", "--window", "8") == 0
    assert capsys.readouterr().out.endswith("windowed, 8\n")


def test_text_comes_from_stdin(
    score: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt") == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert score("-") == 0
    assert capsys.readouterr().out == from_file


def test_newest_run_is_used_and_named(
    folder: Path,
    trained_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained_run.parents[1])
    assert run(["score", str(folder / "text.txt")]) == 0
    assert capsys.readouterr().err.startswith("using checkpoints/small/step-")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["0 characters", "2"]),
        (b"N", ["1 character", "2"]),
        ("NED €".encode(), ["'€'", "--unknown skip"]),
        (gzip.compress(b"NED:"), ["text.txt", "0x8b", "gunzip"]),
        (b"NED: \xff", ["text.txt", "0xff", "offset 5", "iconv"]),
    ],
    ids=["empty", "one character", "unknown character", "packed", "invalid UTF-8"],
)
@pytest.mark.parametrize("option", [[], ["--window", "4"], ["--json"]], ids=str)
def test_text_that_cannot_be_scored_is_one_line(
    data: bytes,
    words: list[str],
    option: list[str],
    score: Any,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "text.txt").write_bytes(data)
    assert score("text.txt", *option) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words), shown.err


@pytest.mark.parametrize(("policy", "predicted"), [("skip", 3), ("replace", 4)])
def test_unknown_characters_are_left_out_or_replaced(
    policy: str,
    predicted: int,
    score: Any,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "text.txt").write_text("N€ED:", encoding="utf-8")
    assert score("text.txt", "--unknown", policy, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["characters"] == predicted
    assert "1 of 5 characters: not in the vocabulary" in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nix.txt"], 1, "nix.txt"),
        (["."], 1, "."),
        (["text.txt", "--window", "0"], 2, "--window"),
        (["text.txt", "--window", "-1"], 2, "--window"),
        (["text.txt", "--window", "wide"], 2, "--window"),
        (["text.txt", "--unknown", "guess"], 2, "--unknown"),
        ([], 2, "FILE"),
    ],
)
def test_mistake_is_one_line(
    arguments: list[str],
    code: int,
    word: str,
    score: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert score(*arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n", shown.err)
    assert word.lower() in shown.err.lower()


def test_byte_model_scores_any_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    config = model_config(len(vocab))
    file = ModelFile(config, vocab, random_weights(config), "", {"step": 0})
    checkpoint = write_checkpoint(folder, file, ResumeState({}, {}))
    (folder / "data.bin").write_bytes(b"\xff\x00\xc3\r\n\xef\xbb\xbf")
    assert run(["score", "-c", str(checkpoint), str(folder / "data.bin"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["characters"] == 7
    assert run(["score", "-c", str(checkpoint), str(folder / "data.bin")]) == 0
    assert re.search(r"bits per byte .* 7 bytes ", capsys.readouterr().out)


# -- positions, colour, segments, adaptation ------------------------------------------------------


def test_the_most_surprising_characters_are_listed(
    score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt", "--json", "--top", "3") == 0
    top = json.loads(capsys.readouterr().out)["top"]
    bits = [entry["surprise_bits"] for entry in top]
    assert len(bits) == 3
    assert bits == sorted(bits, reverse=True)
    assert all(TEXT[entry["position"]] == entry["character"] for entry in top)
    assert score("text.txt", "--top", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + 3
    assert [float(line.split()[0]) for line in lines[2:]] == pytest.approx(bits, abs=0.06)
    first = top[0]["position"]
    assert int(lines[2].split()[1]) == TEXT.count("\n", 0, first) + 1
    assert score("text.txt", "--json") == 0
    assert "top" not in json.loads(capsys.readouterr().out)


def test_positions_are_those_in_the_file_where_characters_are_left_out(
    score: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"\U0001d11e{TEXT}\U0001d11e\U0001d11e{TEXT}"
    (folder / "strange.txt").write_text(text, encoding="utf-8")
    command = ("strange.txt", "--unknown", "skip", "--top", "40")
    assert score(*command, "--json") == 0
    top = json.loads(capsys.readouterr().out)["top"]
    assert all(text[entry["position"]] == entry["character"] for entry in top)
    assert any(entry["position"] > len(TEXT) + 3 for entry in top)
    assert score(*command) == 0
    first = capsys.readouterr().out.splitlines()[2].split()
    before = text[: top[0]["position"]]
    assert [int(first[1]), int(first[2])] == [
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
    ]


def test_colour_prints_the_text_before_the_score(
    score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt", "--color") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(TEXT)  # a pipe has no colours
    assert shown.out.removeprefix(TEXT).count("\n") == 1
    assert shown.err.startswith("note: --color has no effect")


def test_segments_are_labelled(
    score: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.txt").write_text(TEXT * 6, encoding="utf-8")
    assert score("text.txt", "--segments", "2") == 0
    assert capsys.readouterr().out.endswith("  stateful, in 2 segments\n")
    assert score("text.txt", "--segments", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["protocol"], result["segments"], result["adaptive"]) == ("stateful", 2, False)
    assert score("text.txt", "--segments", "99") == 2
    assert re.fullmatch(r"charlstm: --segments is 99, [^\n]+\n", capsys.readouterr().err)


def test_adaptation_is_labelled(score: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("text.txt") == 0
    plain = capsys.readouterr().out
    assert score("text.txt", "--adapt") == 0
    adaptive = capsys.readouterr().out
    assert adaptive.endswith("  stateful, adaptive\n")
    assert adaptive.split()[0] != plain.split()[0]
    assert score("text.txt", "--adapt", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["adaptive"] is True
    assert f"{result['bits_per_char']:.4f}" == adaptive.split()[0]


@pytest.mark.parametrize(
    "arguments",
    ["--adapt --window 5", "--segments 2 --window 5", "--adapt --segments 2", "--color --json"],
)
def test_what_cannot_be_done_together_is_wrong_usage(
    arguments: str, score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("text.txt", *arguments.split()) == 2
    assert "cannot be used together" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "N"])
def test_adaptation_needs_a_character_to_predict(
    text: str, score: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "short.txt").write_text(text, encoding="utf-8")
    assert score("short.txt", "--adapt") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: the text has [01] characters?, [^\n]+\n", shown.err)


def test_another_unicode_form_is_read_with_a_note(
    score: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("NED\u00e9")
    config = model_config(len(vocab))
    file = ModelFile(config, vocab, random_weights(config), "", {"step": 0})
    model = str(write_checkpoint(tmp_path, file, ResumeState({}, {})))
    results = []
    for typed in ("NED\u00e9N", "NEDe\u0301N"):
        (folder / "text.txt").write_text(typed, encoding="utf-8")
        assert run(["score", "text.txt", "-c", model]) == 0
        results.append(capsys.readouterr())
    assert results[0].out == results[1].out
    assert results[0].err == ""
    assert re.fullmatch(r"[^\n]*Unicode form of the vocabulary[^\n]*\n", results[1].err)


@pytest.mark.skipif(os.name == "nt", reason="devices")
def test_a_text_without_end_is_refused(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("charlstm.files.MAX_STREAM_BYTES", 1 << 20)
    for command in (
        ["score", "/dev/zero", "-c", str(trained_run)],
        ["sample", "--prime-file", "/dev/zero", "-c", str(trained_run)],
        ["inspect", "--file", "/dev/zero", "-c", str(trained_run)],
    ):
        assert run(command) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("charlstm: /dev/zero has more than 1 MiB")


def test_a_text_that_memory_has_no_room_for_is_refused_before_it_is_read(
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("charlstm.files.memory_present", lambda: 64 << 20)
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate(20 << 30)  # sparse: it takes no room on the disk
    for command in (
        ["score", str(huge), "-c", str(trained_run)],
        ["sample", "--prime-file", str(huge), "-c", str(trained_run)],
        ["inspect", "--file", str(huge), "-c", str(trained_run)],
    ):
        assert run(command) == 1
        shown = capsys.readouterr().err
        assert shown.startswith(f"charlstm: {huge} has more than 2 MiB")
        assert f"head -c {2 << 20} " in shown


def test_int8_scores_are_close_and_labelled(
    score: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.txt").write_text(TEXT * 20)
    results = {}
    for precision in ("float32", "int8"):
        assert score("text.txt", "--precision", precision, "--json") == 0
        results[precision] = json.loads(capsys.readouterr().out)
        assert results[precision]["precision"] == precision
    difference = abs(results["int8"]["bits_per_char"] - results["float32"]["bits_per_char"])
    assert 0 < difference < 0.01
    assert score("text.txt", "--precision", "int8") == 0
    assert capsys.readouterr().out.endswith("  stateful, int8\n")
    assert score("text.txt", "--precision", "int8", "--adapt") == 2
    assert "--adapt and --precision int8 cannot be used together" in capsys.readouterr().err


def test_several_models_are_scored_as_their_mean(
    trained_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = untrained(tmp_path, Vocabulary("\nNEDé: "))
    (tmp_path / "a.txt").write_text("NED: é\n" * 9, encoding="utf-8")
    command = [
        "score",
        str(tmp_path / "a.txt"),
        "-c",
        str(trained_run),
        "-c",
        other,
        "--mix",
        "3,1",
    ]
    expected = charlstm.mix([charlstm.load(trained_run), charlstm.load(other)], [3, 1])
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nats"] == pytest.approx(expected.score("NED: é\n" * 9).nats)
    assert (found["models"], found["mix"]) == ([str(trained_run), other], [0.75, 0.25])
    assert run(command) == 0
    assert "stateful, mean of 2 models" in capsys.readouterr().out
    assert run([*command, "--adapt"]) == 2
    assert "--adapt works with one model" in capsys.readouterr().err
