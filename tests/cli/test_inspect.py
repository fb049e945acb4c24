"""``charlstm inspect``: the documented JSON, the table, and a picture that fits any terminal."""

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import model_config, random_weights
from rich.cells import cell_len

import charlstm
from charlstm.cli import run
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.vocabulary import Vocabulary

GATES = ("input", "forget", "output")
LAYERS, UNITS = 2, 24
LINE = "NED: It was a wet day.\n"


@pytest.fixture(autouse=True)
def _folder(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is above ``checkpoints/small``; the terminal is 80 wide and no tty."""
    monkeypatch.chdir(trained_run.parents[1])
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


def inspect(*arguments: str) -> int:
    return run(["inspect", "-c", "small", *arguments])


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert inspect(*arguments, "--json") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    report: dict[str, Any] = json.loads(shown.out)
    return report


def shown_lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert inspect(*arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def by_position(report: dict[str, Any], share: str) -> np.ndarray:
    """Shares by position, layer and gate; (T, L, G)."""
    characters = report["characters"]
    return np.array([[[la[g][share] for g in GATES] for la in c["layers"]] for c in characters])


def test_model_without_gates_is_shown_by_its_hidden_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("\nNED: Itwasy.")
    config = model_config(len(vocab), cell="rnn")
    model = ModelFile(config, vocab, random_weights(config), "NED: I", {"step": 1, "run": "r"})
    path = write_checkpoint(tmp_path, model, ResumeState({}, {}))
    assert run(["inspect", "-c", str(path), "--gate", "hidden", "It was"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Hidden state h: rnn 1×24, 6 characters after 6 of warm-up\n")
    assert "█ low, below −0.9" in shown
    assert "▒ high, above 0.9" in shown
    assert "Layer 1, hidden state: " in shown
    assert not re.search(r"\b(gate|shut|open)\b", shown)


# -- json --------------------------------------------------------------------------------------


def test_json_has_the_documented_keys_and_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, LINE)
    assert report["checkpoint"].startswith("checkpoints/small/step-")
    assert (report["cell"], report["layers"], report["hidden_size"]) == ("lstm", LAYERS, UNITS)
    assert report["thresholds"] == {"left": 0.1, "right": 0.9}
    characters = report["characters"]
    assert [c["position"] for c in characters] == list(range(len(LINE)))
    assert "".join(c["character"] for c in characters) == LINE
    assert all(c["surprise_bits"] > 0 for c in characters)
    for character in characters:
        assert len(character["layers"]) == LAYERS
        for layer in character["layers"]:
            assert tuple(layer) == GATES
            for values in layer.values():
                assert set(values) == {"mean", "left", "right"}
                assert all(0 <= value <= 1 for value in values.values())
    assert [(u["layer"], u["gate"]) for u in report["units"]] == [
        (layer, gate) for layer in range(LAYERS) for gate in GATES
    ]
    assert all(len(u["left"]) == len(u["right"]) == UNITS for u in report["units"])


@pytest.mark.parametrize("share", ["left", "right"])
def test_shares_by_unit_and_by_position_count_the_same_events(
    share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = as_json(capsys, LINE)
    by_unit = np.array([unit[share] for unit in report["units"]]).mean(axis=1)
    at_positions = by_position(report, share).mean(axis=0).ravel()
    assert at_positions.max() > 0
    np.testing.assert_allclose(by_unit, at_positions)


def test_surprise_is_what_score_says(capsys: pytest.CaptureFixture[str]) -> None:
    cold = as_json(capsys, LINE, "--warmup", "none")["characters"]
    bits = charlstm.load("small").score(LINE).surprise_bits
    assert cold[0]["surprise_bits"] is None
    np.testing.assert_allclose([c["surprise_bits"] for c in cold[1:]], bits[1:], rtol=1e-4)


def test_warmup_is_read_first_and_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    whole = as_json(capsys, LINE, "--warmup", "none")
    rest = as_json(capsys, LINE[10:], "--warmup", LINE[:10])
    assert rest["characters"][0]["position"] == 0
    np.testing.assert_allclose(
        by_position(rest, "mean"), by_position(whole, "mean")[10:], atol=1e-6
    )
    excerpt = as_json(capsys, LINE)
    assert np.abs(by_position(excerpt, "mean") - by_position(whole, "mean")).max() > 1e-3


def test_without_a_text_the_held_out_excerpt_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    read = "".join(c["character"] for c in as_json(capsys)["characters"])
    excerpt = charlstm.load("small").file.excerpt
    assert read
    assert excerpt.endswith(read)
    # Its beginning warms the state up.
    assert len(excerpt) // 2 < len(read) < len(excerpt)


def test_text_comes_from_a_file_or_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "line.txt").write_bytes(LINE.encode())
    direct = as_json(capsys, LINE)
    assert as_json(capsys, "--file", str(tmp_path / "line.txt")) == direct
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINE.encode())))
    assert as_json(capsys, "--file", "-") == direct


@pytest.mark.parametrize("option", ["--html", "--svg", "--png"])
def test_a_picture_overwrites_only_a_picture(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("NED: the sea is grey today.\n" * 3)
    before = text.read_bytes()
    assert inspect("--file", str(text), option, str(text)) == 2
    assert f"{option} {text} already exists and is not a" in capsys.readouterr().err
    assert text.read_bytes() == before
    for _ in range(2):  # the second overwrites the first
        assert inspect("--file", str(text), option, str(tmp_path / "picture")) == 0


def test_thresholds_move_the_shares(capsys: pytest.CaptureFixture[str]) -> None:
    def total(*arguments: str) -> tuple[float, float]:
        report = as_json(capsys, LINE, *arguments)
        return by_position(report, "left").mean(), by_position(report, "right").mean()

    assert total("--left", "0", "--right", "1") == (0, 0)
    assert total("--left", "0.999999", "--right", "1") == (1, 0)
    assert total("--left", "0", "--right", "0.000001") == (0, 1)
    shut, open_ = total("--left", "0.3", "--right", "0.7")
    assert total()[0] < shut < 1
    assert total()[1] < open_ < 1


def test_layer_and_gate_narrow_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    whole = as_json(capsys, LINE)
    report = as_json(capsys, LINE, "--layer", "2", "--gate", "forget")
    for one, all_ in zip(report["characters"], whole["characters"], strict=True):
        assert one["layers"] == [{}, {"forget": all_["layers"][1]["forget"]}]
    assert report["units"] == [
        u for u in whole["units"] if (u["layer"], u["gate"]) == (1, "forget")
    ]


def test_unit_counts_one_unit_of_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    whole = as_json(capsys, LINE)
    units = [as_json(capsys, LINE, "--unit", str(unit)) for unit in range(UNITS)]
    assert set(by_position(units[3], "left").flat) <= {0, 1}
    mean = np.mean([by_position(unit, "right") for unit in units], axis=0)
    np.testing.assert_allclose(mean, by_position(whole, "right"))


# -- wrong usage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "0"], ["--layer", "0", "from 1 to 2"]),
        (["--layer", "3"], ["--layer", "3", "from 1 to 2"]),
        (["--gate", "garden"], ["--gate", "'garden'", "input, forget, output"]),
        (["--unit", "-1"], ["--unit", "-1", "from 0 to 23"]),
        (["--unit", "24"], ["--unit", "24", "from 0 to 23"]),
        (["--left", "-0.1"], ["--left", "-0.1"]),
        (["--right", "1.1"], ["--right", "1.1"]),
        (["--left", "nan"], ["--left", "nan"]),
        (["--left", "0.95", "--right", "0.9"], ["--left is 0.95", "--right is 0.9", "smaller"]),
        (["--right", "0.1"], ["--left is 0.1", "--right is 0.1", "smaller"]),
        (["--rows", "-1"], ["--rows", "-1"]),
        (["--view", "moon"], ["--view", "'moon'", "gates"]),
        (["--unknown", "guess"], ["--unknown", "'guess'", "skip"]),
        (["--file", "nix.txt"], ["--file"]),
    ],
)
def test_wrong_usage_is_one_line_that_names_it(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(LINE, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words), shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["NED €"], ["'€'", "--unknown skip"]),
        (["--file", "nix.txt"], ["nix.txt"]),
        ([LINE, "--warmup", "€"], ["'€'"]),
    ],
)
def test_what_cannot_be_read_is_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words), shown.err


# -- the table ---------------------------------------------------------------------------------


def rows(lines: list[str]) -> list[str]:
    """The lines of the table: a position, a sign, the surprise, the bars."""
    return [line for line in lines if re.match(r" *\d+ \S +(\d+\.\d)? +[█·▒]", line)]


def test_table_has_a_line_per_character_and_layer(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown_lines(capsys, LINE)
    signs = [line.split()[1] for line in rows(lines)]
    assert "".join(signs) == 2 * LINE.replace(" ", "␣").replace("\n", "↵")
    assert {"Layer 1", "Layer 2"} <= set(lines)
    heading = lines[0]
    assert f"{len(LINE)} characters after" in heading
    assert "below 0.1" in lines[1]
    assert "above 0.9" in lines[1]
    assert "from zero state" in shown_lines(capsys, LINE, "--warmup", "none")[0]


def test_table_shows_the_numbers_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, LINE)
    lines = rows(shown_lines(capsys, LINE))
    for t, line in enumerate(lines[: len(LINE)]):
        percents = [int(p) for p in re.findall(r"(\d+)%", line)]
        layer = report["characters"][t]["layers"][0]
        exact = [100 * layer[gate][share] for gate in GATES for share in ("left", "right")]
        np.testing.assert_allclose(percents, exact, atol=0.51)
        assert f"{report['characters'][t]['surprise_bits']:.1f}" in line


def test_picture_sentences_and_memory_follow_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    text = LINE * 3
    shown = "\n".join(shown_lines(capsys, text, "--rows", "3"))
    assert f"… {len(text) - 3} more characters; set --rows to 0 for all" in shown
    assert shown.count("┤") == 3 * 3  # three ticks in each gate's picture
    for layer in (1, 2):
        for gate in GATES:
            assert f"Layer {layer}, {gate} gate:" in shown
    assert re.search(r"layer unit +tau \n( +[12] +\d+ +[\d,]+\.\d \n){5}", shown)
    assert re.search(r", longest [\d,]+\.\d\.$", shown)


def test_longest_memories_are_those_that_the_sentences_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for layer in (1, 2):
        shown = "\n".join(shown_lines(capsys, LINE, "--layer", str(layer)))
        found = re.findall(r"^ +(\d) +\d+ +([\d,]+\.\d) $", shown, re.M)
        assert {number for number, _ in found} == {str(layer)}
        assert f"longest {found[0][1]}." in " ".join(shown.split())


def test_rows_limits_the_table_and_0_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    long = LINE * 5
    assert len(rows(shown_lines(capsys, long))) == 2 * 60
    assert len(rows(shown_lines(capsys, long, "--rows", "7"))) == 2 * 7
    assert len(rows(shown_lines(capsys, long, "--rows", "0"))) == 2 * len(long)


def test_layer_and_gate_narrow_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown_lines(capsys, LINE, "--layer", "2", "--gate", "forget")
    assert len(rows(lines)) == len(LINE)
    assert "Layer 1" not in lines
    lines = shown_lines(capsys, LINE * 3, "--layer", "2", "--gate", "forget")
    assert sum(line.count("┤") for line in lines) == 3


@pytest.mark.parametrize("columns", [200, 80, 40, 20, 10])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown_lines(capsys, LINE)
    assert max(map(cell_len, lines)) <= columns
    if columns >= 20:
        assert len(rows(lines)) == 2 * len(LINE)


def test_wide_characters_keep_the_columns_in_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("".join(sorted("a漢🙂\u0301\x1b\u202e")))
    config = model_config(len(vocab))
    file = ModelFile(config, vocab, random_weights(config), vocab.symbols, {"step": 0})
    checkpoint = write_checkpoint(tmp_path, file, ResumeState({}, {}))
    assert run(["inspect", "-c", str(checkpoint), vocab.symbols]) == 0
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\u202e")
    bars = [line for line in shown.splitlines() if re.match(r"[0-5] ", line)]
    assert len(bars) == len(vocab)
    starts = {cell_len(re.split("[█·▒]", line)[0]) for line in bars}
    assert len(starts) == 1
    assert max(map(cell_len, shown.splitlines())) <= 80


def test_pipe_gets_no_escape_codes_and_no_color_no_colors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    color = re.compile(r"\x1b\[([\d;]*;)?(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
    assert "\x1b" not in "\n".join(shown_lines(capsys, LINE))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert color.search("\n".join(shown_lines(capsys, LINE)))
    monkeypatch.setenv("NO_COLOR", "1")
    plain = "\n".join(shown_lines(capsys, LINE))
    assert "█" in plain or "▒" in plain
    assert not color.search(plain)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not color.search("\n".join(shown_lines(capsys, LINE)))


def test_characters_that_stdout_cannot_encode_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert inspect(LINE) == 0
    stdout.flush()
    assert b"Gates: lstm" in written.getvalue()


def test_json_has_a_time_constant_for_every_unit(capsys: pytest.CaptureFixture[str]) -> None:
    constants = as_json(capsys, LINE)["time_constant"]
    assert np.shape(constants) == (LAYERS, UNITS)
    assert all(math.isfinite(tau) and tau > 0 for layer in constants for tau in layer)


def test_sentences_are_of_the_gates_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown_lines(capsys, "Row, said the heron.", "--gate", "output", "--layer", "1")
    sentences = [line for line in lines if line.startswith("Layer")]
    assert [line.split(":")[0] for line in sentences[1:]] == ["Layer 1, output gate"]


def test_path_given_as_the_text_is_inspected_and_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "row"
    path.write_text("Row, said the heron.")
    assert inspect(str(path), "--unknown", "skip") == 0
    assert f"--file {path}" in capsys.readouterr().err


def test_run_given_as_the_text_is_inspected_and_noted(
    trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(str(trained_run), "--unknown", "skip") == 0
    assert f"\ncharlstm inspect -c {trained_run}\n" in capsys.readouterr().err


def test_warmup_that_is_the_name_of_a_file_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "Row").write_text("Row")
    assert inspect(LINE, "--warmup", "Row", "--view", "walk") == 0
    assert capsys.readouterr().err == "treating 'Row' as text, not a file name\n"


@pytest.mark.parametrize(("length", "drawn"), [(49, False), (50, True)])
def test_figure_over_few_characters_is_left_out(
    length: int, drawn: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown_lines(capsys, ("Row, said the heron. " * 3)[:length])
    assert any("Figure 3" in line for line in lines) == drawn


@pytest.mark.parametrize("view", ["gates", "find"])
def test_words_around_the_tables_take_few_lines(
    view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--rows", "0"] if view == "gates" else []
    lines = shown_lines(capsys, *([LINE] if view == "gates" else []), "--view", view, *options)
    if view == "gates":
        found = lines[next(n for n, line in enumerate(lines) if "Findings" in line) + 1 :]
        assert len(found) == 2 * (3 + 1)  # layers, gates and the memory
    else:
        header = next(n for n, line in enumerate(lines) if line.startswith("feature"))
        assert header == 1  # after the title; the notes are below
