"""``charlstm inspect --view``: every view on every medium, and what is refused."""

import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import model_config, random_weights
from rich.cells import cell_len
from typer.main import get_command

from charlstm.analysis.views import VIEWS
from charlstm.cli import run
from charlstm.cli.app import app
from charlstm.cli.inspect import COMMON, parameters_of
from charlstm.cli.option_names import option_of
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.runs.metrics import MetricsLog
from charlstm.runs.run import METRICS_FILE
from charlstm.text.corpus import open_corpus
from charlstm.text.vocabulary import Vocabulary

TEXT = (
    'NED: "Row," said the heron, (and sat down). It was a wet day.\n'
    "TAM: Which end do I hold? [He holds the wrong one.]\n\n"
)
NEEDS = {"match": ["--unit", "1", "--threshold", "0.1"]}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(viewed_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, above ``checkpoints/small``."""
    monkeypatch.chdir(viewed_run.parents[1])
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    return viewed_run.parents[1]


@pytest.fixture(scope="module")
def viewed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with metrics and its corpus in the cache."""
    from helpers import train_config

    from charlstm.training.new_run import begin

    folder = tmp_path_factory.mktemp("viewed")
    (folder / "small.txt").write_text(TEXT * 60, encoding="utf-8")
    corpus = open_corpus([folder / "small.txt"])
    config = model_config(len(corpus.vocab), hidden=12, layers=2)
    settings = train_config(steps=80, dropout=0.0)
    with begin(corpus, config, settings, root=folder / "checkpoints") as trainer:
        log = MetricsLog(trainer.path / METRICS_FILE)
        for event in trainer.run():
            log.write(event)
        log.close()
    return trainer.path


def inspect(view: str, *arguments: str) -> int:
    return run(["inspect", "-c", "small", "--view", view, *NEEDS.get(view, []), *arguments])


def as_json(view: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert inspect(view, "--json", *arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    found: dict[str, Any] = json.loads(shown.out, parse_constant=pytest.fail)
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_json_is_one_document_that_says_what_it_is_of(
    view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = as_json(view, capsys)
    assert data["checkpoint"].startswith("checkpoints/small/step-")
    assert (data["cell"], data["layers"], data["hidden_size"]) == ("lstm", 2, 12)
    assert data.get("view", "gates") == view


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("columns", [40, 80, 160])
def test_terminal_is_filled_but_not_overflowed(
    view: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert inspect(view) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "\x1b" not in shown.out
    lines = shown.out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert "lstm 2×12" in " ".join(shown.out.split())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_view_has_ascii_signs_where_the_stream_has_no_others(
    view: str, encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(view) == 0
    signs = capsys.readouterr().out
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", file)
    assert inspect(view) == 0
    shown = file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert shown.count("?") == signs.count("?")  # those of the text
    assert max(map(len, shown.splitlines())) <= 80


VALUES = {
    "text": ["Row, said the heron. " * 20],
    "file": ["--file", "words.txt"],
    "warmup": ["--warmup", "none"],
    "unknown": ["--unknown", "skip"],
    "layer": ["--layer", "1"],
    "gate": ["--gate", "forget"],
    "units": ["--unit", "5"],
    "state": ["--state", "h"],
    "at": ["--at", "2"],
    "features": ["--feature", "w=[a-h]"],
    "guesses": ["--guesses"],
    "threshold": ["--threshold", "0.2"],
    "left": ["--left", "0.3"],
    "right": ["--right", "0.7"],
    "rows": ["--rows", "2"],
}
"""An option, and a value of it that makes a difference."""


def test_options_are_those_of_some_views_or_of_all() -> None:
    parameters: Any = get_command(app).commands["inspect"].params  # type: ignore[attr-defined]
    assert {*VALUES, *COMMON} == {parameter.name for parameter in parameters}
    assert set(VALUES) == {name for view in VIEWS for name in parameters_of(view)}


@pytest.mark.parametrize("view", VIEWS)
def test_view_uses_an_option_or_refuses_it(
    view: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "words.txt").write_text("Row, said the heron. " * 20)
    assert inspect(view) == 0
    plain = capsys.readouterr().out
    for name, words in VALUES.items():
        code = inspect(view, *words)
        shown = capsys.readouterr()
        if name in parameters_of(view):
            assert (code, shown.err) == (0, ""), words
            assert (shown.out == plain) == (name == "unknown"), words
        else:
            assert (code, shown.out) == (2, ""), words
            option = words[0] if words[0].startswith("--") else "TEXT"
            line = rf"charlstm: --view {view} does not take {option}; it takes ([^\n]+)\n"
            told = re.fullmatch(line, shown.err)
            assert told, shown.err
            assert told[1].split(", ") == [option_of(name) for name in parameters_of(view)]


def test_manual_says_which_options_a_view_takes() -> None:
    page = (ROOT / "docs" / "reference" / "views.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*--.*) \| (.*) \|$", page, re.M)
    told: dict[str, set[str]] = {name: set() for name in VIEWS}
    for options, views in rows:
        names = re.findall(r"--(\w+)", options)
        listed = re.findall(r"`(\w+)`", views)
        for view in set(VIEWS) - set(listed) if views.startswith("all but") else listed:
            told[view] |= {*names, *(["text"] if "a text" in options else [])}
    renamed = {"units": "unit", "features": "feature"}
    assert told == {
        view: {renamed.get(name, name) for name in parameters_of(view)} for view in VIEWS
    }


@pytest.mark.parametrize("view", VIEWS)
def test_less_text_than_a_view_wants_is_reported(
    view: str, folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not cache.exists()
    code = inspect(view)
    shown = capsys.readouterr()
    if view == "errors":
        assert code == 1
        assert "not in the cache" in shown.err
        assert run(shlex.split(shown.err.splitlines()[-1])[1:]) == 0
        assert inspect(view) == 0
        return
    assert code == 0
    if VIEWS[view].reads:
        line = rf"note: .* not in the cache; {view} read only the [\d,]+ characters .*--file.*\n"
        assert re.fullmatch(line, shown.err)
        (folder / "words.txt").write_text("Row, said the heron. " * 20)
        assert inspect(view, "--file", "words.txt") == 0
        shown = capsys.readouterr()
    assert shown.err == ""


@pytest.mark.parametrize(("policy", "done"), [("skip", "skipped"), ("replace", "replaced")])
def test_characters_that_are_not_read_as_they_stand_are_counted(
    policy: str, done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect("walk", "Καλημέρα κόσμε", "--unknown", policy) == 0
    assert capsys.readouterr().err == f"{done} 13 of 14 characters: not in the vocabulary\n"
    assert inspect("walk", "a wet day", "--unknown", policy) == 0
    assert capsys.readouterr().err == ""


def test_characters_that_a_png_cannot_show_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("".join(sorted(set("漢字かな"))))
    config = model_config(len(vocab), hidden=6)
    model = ModelFile(config, vocab, random_weights(config), "漢字かな", {"step": 0})
    path = write_checkpoint(tmp_path, model, ResumeState({}, {}))
    for end in ("svg", "html"):
        assert run(["inspect", "-c", str(path), "漢字かな", f"--{end}", f"{tmp_path}/{end}"]) == 0
        assert capsys.readouterr().err == f"wrote {tmp_path}/{end}\n"
    assert run(["inspect", "-c", str(path), "漢字かな", "--png", f"{tmp_path}/x"]) == 0
    wrote, note = capsys.readouterr().err.splitlines()
    assert wrote == f"wrote {tmp_path}/x"
    assert note.startswith(f"note: the font of {tmp_path}/x lacks some characters")
    assert "such as 漢字かな; use --svg or --html" in note


@pytest.mark.parametrize("view", ["gates", "walk", "cell", "memory", "errors", "match"])
def test_one_is_not_counted_as_several(view: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["--rows", "1"] if "rows" in VIEWS[view].takes else []
    for text in ("N", "N" * 2, "N" * 81):  # one is counted, or left out
        assert inspect(view, text, *rows) == 0
        shown = capsys.readouterr().out
        assert not re.search(r"(?<![\d.,])1 (more )?(character|error|position|span|unit)s\b", shown)


@pytest.mark.parametrize("view", VIEWS)
def test_heading_says_which_state_it_is_about(
    view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(view) == 0
    title = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert re.search(r"\b[hc]\b|cell of|[Gg]ates?\b", title), title


def test_two_options_with_one_file_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "view")
    page, svg = str(tmp_path / "view"), str(tmp_path / "link")
    assert inspect("gates", "--html", page, "--svg", svg) == 2
    assert "--html and --svg name the same file" in capsys.readouterr().err
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("view", VIEWS)
def test_files_are_written_and_stdout_stays_empty(
    view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, svg, png = (str(tmp_path / f"view.{end}") for end in ("html", "svg", "png"))
    assert inspect(view, "--html", page, "--svg", svg, "--png", png) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"wrote {page}\nwrote {svg}\nwrote {png}\n"
    assert Path(page).read_text("utf-8").startswith("<!DOCTYPE html>")
    assert Path(svg).read_text("utf-8").startswith("<svg ")
    assert Path(png).read_bytes().startswith(b"\x89PNG")


def test_file_that_cannot_be_written_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect("gates", "--html", "nowhere/page.html") == 2
    assert "nowhere/page.html" in capsys.readouterr().err


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("view", [v for v in VIEWS if v not in ("errors", "drift")])
def test_view_shows_every_cell_or_says_in_a_line_why_not(
    view: str, cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("".join(sorted(set(TEXT))))
    config = model_config(len(vocab), hidden=6, cell=cell)
    model = ModelFile(config, vocab, random_weights(config), TEXT * 2, {"step": 1, "run": "r"})
    path = write_checkpoint(tmp_path, model, ResumeState({}, {}))
    code = run(["inspect", "-c", str(path), "--view", view, *NEEDS.get(view, [])])
    shown = capsys.readouterr()
    if view == "memory" and CELLS[cell].memory is None:
        assert code == 1
        assert shown.out == ""
        assert re.fullmatch(rf"charlstm: the view memory .* {cell}[^\n]+\n", shown.err)
    else:
        assert code == 0
        assert shown.out


def test_views_read_the_held_out_text_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    held = len(TEXT * 60) - int(len(TEXT * 60) * 0.9)
    data = as_json("find", capsys)
    assert data["warmup"] + data["characters"] == held
    cold = as_json("find", capsys, "--warmup", "none")
    assert (cold["warmup"], cold["characters"]) == (0, held)
    own = as_json("find", capsys, TEXT)
    assert own["characters"] == len(TEXT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["match", "--unit", "3,x"], ["--unit", "'3,x'", "3,17,40"]),
        (["match", "--unit", "3,12"], ["--unit", "12", "from 0 to 11"]),
        (["cell", "--unit", "3,4"], ["--unit", "one"]),
        (["cell", "--state", "z"], ["--state", "'z'", "h, c"]),
        (["walk", "--at", "999999"], ["--at"]),
        (["find", "--feature", "vowel"], ["--feature", "NAME=REGEX"]),
        (["moon"], ["--view", "'moon'", "find"]),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "-c", "small", "--view", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words), shown.err


def test_control_characters_of_a_text_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = Vocabulary("".join(sorted('ab"(\x1b\u202e\x07')))
    config = model_config(len(vocab), hidden=6)
    model = ModelFile(config, vocab, random_weights(config), vocab.symbols * 20, {"step": 0})
    path = write_checkpoint(tmp_path, model, ResumeState({}, {}))
    for view in (v for v in VIEWS if v not in ("errors", "drift")):
        assert run(["inspect", "-c", str(path), "--view", view, *NEEDS.get(view, [])]) == 0
        assert not set(capsys.readouterr().out) & set("\x1b\u202e\x07"), view


def test_no_view_imports_torch(viewed_run: Path) -> None:
    code = (
        "import json, sys; from charlstm.cli import run\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    assert run(arguments) == 0; assert 'torch' not in sys.modules, arguments"
    )
    common = ["inspect", "-c", str(viewed_run), "--json", "--view"]
    commands = [[*common, view, *NEEDS.get(view, [])] for view in VIEWS]
    subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], check=True, capture_output=True
    )


def test_every_view_is_a_module_and_has_a_section_in_the_docs() -> None:
    page = (ROOT / "docs" / "reference" / "views.md").read_text("utf-8")
    for name in VIEWS:
        module = ROOT / "charlstm" / "analysis" / "views" / f"{name}.py"
        docstring = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
        assert docstring.startswith(f"``{name}``"), name
        assert re.search(rf"^## `{name}`", page, re.MULTILINE), name


@pytest.mark.parametrize("view", VIEWS)
def test_section_of_a_view_names_every_field_of_its_json(
    view: str, viewed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "reference" / "views.md").read_text("utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = (one for one in section if one.startswith(f"`{view}`"))
    words = ["inspect", "-c", str(viewed_run), "--json", "--view", view, *NEEDS.get(view, [])]
    assert run(words) == 0
    fields = set(json.loads(capsys.readouterr().out))
    common = {"view", "checkpoint", "cell", "layers", "hidden_size", "warmup", "characters"}
    named = set(re.findall(r'[`"](\w+)[`"]', text))
    assert fields - common <= named


@pytest.mark.skipif(os.name == "nt", reason="FIFOs")
@pytest.mark.usefixtures("folder")
def test_only_regular_files_are_written_and_that_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    monkeypatch.setattr("charlstm.model.load", lambda _: pytest.fail("work has begun"))
    for command, option in (
        ("inspect", "--html"),
        ("inspect", "--svg"),
        ("inspect", "--png"),
        ("sample", "--save-state"),
    ):
        assert run([command, option, str(fifo)]) == 2
        told = f"charlstm: {option} {fifo} is a pipe, not a regular file"
        assert capsys.readouterr().err.startswith(told)
        assert fifo.is_fifo()
