"""``charlstm runs``: what there is, one of them in full, and disk space got back."""

import io
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from charlstm.cache import CACHE_VARIABLE
from charlstm.cli import run
from charlstm.files import Lock
from charlstm.runs import lock as run_lock
from charlstm.runs import pointers
from charlstm.text.cache import cached_corpora
from charlstm.text.corpus import Corpus

ONE_LINE = r"charlstm: [^\n]+\n"


class Terminal(io.StringIO):
    """A stdin with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def checkpoints(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``checkpoints/`` with the runs old and new (of the same content) and broken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "checkpoints"
    now = time.time()
    for name, age in (("old", 300), ("new", 200)):
        shutil.copytree(trained_run, folder / name)
        recorded = json.loads((folder / name / pointers.POINTER_FILE).read_text())
        content = json.dumps({**recorded, "saved": now - age})
        (folder / name / pointers.POINTER_FILE).write_text(content)
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    os.utime(folder / "broken" / "run.json", (now - 400, now - 400))
    (folder / "no-run").mkdir()
    return folder


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name != "lock"}


def copy_checkpoint(run_path: Path, name: str) -> str:
    """One more checkpoint, to which nothing points."""
    last = pointers.read_pointers(run_path).last
    assert last is not None
    shutil.copytree(run_path / last, run_path / name)
    return name


def add_superfluous(run_path: Path, name: str = "step-00000001") -> str:
    """A checkpoint as a run with a larger --keep would have left it."""
    copy_checkpoint(run_path, name)
    recorded = json.loads((run_path / pointers.POINTER_FILE).read_text())
    recorded["kept"] = [name, *recorded["kept"]]
    (run_path / pointers.POINTER_FILE).write_text(json.dumps(recorded))
    return name


@pytest.mark.parametrize("given", [["new"], ["runs", "new"]], ids=" ".join)
def test_a_run_in_place_of_a_command_is_answered_by_a_command_that_works(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(given) == 2
    advised = capsys.readouterr().err.partition("for the run of that name:\ncharlstm ")[2].split()
    assert "new" in advised
    assert run([*advised, *(["--length", "3"] if "sample" in advised else [])]) == 0


def test_the_remedy_for_a_damaged_run_is_a_command(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "new" / "run.json").write_text("{")
    assert run(["runs", "show", "new"]) == 1
    assert "charlstm train --init-from checkpoints/new" in capsys.readouterr().err


# -- the table ---------------------------------------------------------------------------------


def test_table_lists_the_runs_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    header, *rows = shown.out.splitlines()
    assert header.split() == ["run", "model", "params", "corpus", "steps", "best", "age", "disk"]
    assert [row.split()[0] for row in rows] == ["new", "old", "broken"]
    assert re.fullmatch(
        r"new +lstm 2×24 +\S+k +small +150/150 +\d\.\d{4} +3 min +\d+\.\d [kM]B *", rows[0]
    )


def test_damaged_run_is_listed_with_its_problem(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in ("200", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["runs"]) == 0
        (row,) = [r for r in capsys.readouterr().out.splitlines() if r.startswith("broken")]
        assert "damaged" in row


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_table_keeps_names_and_numbers_whole_in_any_width(
    columns: int,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "a-name-as-long-as-some-are"
    (checkpoints / "old").rename(checkpoints / long)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    for line, name in zip(lines[1:], ("new", long), strict=False):
        assert line.startswith(f"{name} ")
        assert "…" not in line
        assert "150/150" in line


@pytest.mark.parametrize("name", ["a-name-as-long-as-some-are", "漢" * 20])
@pytest.mark.parametrize("columns", [30, 20])
def test_where_names_do_not_fit_they_are_shortened_and_the_steps_are_not(
    columns: int,
    name: str,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (checkpoints / "old").rename(checkpoints / name)
    shutil.rmtree(checkpoints / "broken")
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert all("150/150" in line for line in lines[1:])
    assert lines[2].startswith(name[:3])
    assert "…" in lines[2]


def test_json_has_a_row_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["new", "old", "broken"]
    new = rows["new"]
    assert new["path"] == "checkpoints/new"
    assert (new["model"], new["corpus"]) == ("lstm 2×24", "small")
    assert (new["step"], new["total_steps"]) == (150, 150)
    assert new["parameters"] > 0
    assert new["characters"] > 0
    assert new["best_loss"] > 0
    assert new["disk_bytes"] > 4 * new["parameters"]
    assert new["problem"] == ""
    assert "damaged" in rows["broken"]["problem"]


def test_without_runs_the_remedy_is_printed(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(checkpoints)
    assert run(["runs"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"[^\n]*checkpoints/[^\n]*\ncharlstm train[^\n]*\n", shown.err)
    assert run(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["runs", "show"]) == 1
    assert re.fullmatch(ONE_LINE + "charlstm train YOUR.txt\n", capsys.readouterr().err)
    assert not checkpoints.exists()


def test_control_characters_in_a_name_are_made_visible(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "old").rename(checkpoints / "o\x1b[2Jd")
    assert run(["runs"]) == 0
    assert run(["runs", "show", "o\x1b[2Jd"]) == 0
    shown = capsys.readouterr().out
    assert "o␛[2Jd" in shown
    assert "\x1b" not in shown


# -- show --------------------------------------------------------------------------------------


def test_show_tells_all_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", "old"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    facts = {line.split("  ")[0]: line for line in shown.out.splitlines()}
    assert "checkpoints/old" in facts["run"]
    assert "lstm 2×24" in facts["model"]
    assert "small.txt" in facts["corpus"]
    assert "150 of 150" in facts["steps"]
    assert "nats per character at step" in facts["best validation"]
    assert "(best" in facts["checkpoints"]
    assert "last)" in facts["checkpoints"]
    assert re.search(r"^ *learning rate +0\.02$", shown.out, re.MULTILINE)
    assert re.search(r"^ *seed +3$", shown.out, re.MULTILINE)


def test_show_means_the_newest_run_if_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "new"
    assert shown["model_settings"]["hidden_size"] == 24
    assert shown["train_settings"]["seed"] == 3
    assert {shown["best"], shown["last"]} <= set(shown["checkpoints"])
    assert shown["created"].startswith("20")


@pytest.mark.parametrize(("name", "word"), [("nix", "'nix'"), ("broken", "damaged")])
def test_show_of_what_cannot_be_shown_is_one_line(
    name: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "show", name]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(ONE_LINE, shown.err)
    assert word in shown.err


# -- prune -------------------------------------------------------------------------------------


def test_prune_deletes_only_what_is_superfluous(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((checkpoints / "old" / pointers.POINTER_FILE).read_text())
    best = copy_checkpoint(checkpoints / "old", "step-00000099")
    recorded |= {"best": best, "kept": [best, recorded["last"]]}
    (checkpoints / "old" / pointers.POINTER_FILE).write_text(json.dumps(recorded))
    before = files_below(checkpoints)
    name = add_superfluous(checkpoints / "old")
    (checkpoints / "new" / ".charlstm-12345678").mkdir()
    (checkpoints / "new" / ".charlstm-12345678" / "model.json").write_text("half")
    assert run(["runs", "prune", "--yes"]) == 0
    told = capsys.readouterr().err
    assert f"old/{name}" in told
    assert re.search(r"^freed \d", told, re.MULTILINE)
    assert re.search(r"^skipped checkpoints/broken: .*damaged", told, re.MULTILINE)
    assert files_below(checkpoints) == before
    assert run(["sample", "-c", "old", "--length", "3", "--seed", "1"]) == 0
    capsys.readouterr()
    assert run(["runs", "prune", "--yes"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "nothing to prune"


def test_prune_of_a_named_run_leaves_the_others(checkpoints: Path) -> None:
    names = [add_superfluous(checkpoints / run_name) for run_name in ("old", "new")]
    assert run(["runs", "prune", "old", "--yes"]) == 0
    assert not (checkpoints / "old" / names[0]).exists()
    assert (checkpoints / "new" / names[1]).exists()


def test_prune_asks_and_takes_no_for_an_answer(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    superfluous = checkpoints / "old" / add_superfluous(checkpoints / "old")
    for answer, code in (("n\n", 0), ("\n", 0), ("", 130)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert run(["runs", "prune"]) == code
        assert superfluous.is_dir()
    shown = capsys.readouterr()
    assert "Delete these" in shown.err
    assert shown.out.strip() == ""
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(["runs", "prune"]) == 0
    assert not superfluous.exists()


class Meanwhile(Terminal):
    """Somebody who says yes after something has happened."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__("y\n")
        self._happens = happens

    def readline(self, *size: int) -> str:
        self._happens()
        return super().readline(*size)


def test_prune_deletes_nothing_that_it_has_not_asked_about(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = checkpoints / "old"
    asked = old / add_superfluous(old)
    monkeypatch.setattr(sys, "stdin", Meanwhile(lambda: add_superfluous(old, "step-00000002")))
    assert run(["runs", "prune", "old"]) == 1
    assert "skipped checkpoints/old: it has changed" in capsys.readouterr().err
    assert asked.is_dir()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(["runs", "prune", "old"]) == 0
    assert not asked.exists()


def test_prune_deletes_no_other_run_that_has_taken_the_name(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange() -> None:
        (checkpoints / "old").rename(checkpoints / "renamed")
        shutil.copytree(checkpoints / "renamed", checkpoints / "old")

    monkeypatch.setattr(sys, "stdin", Meanwhile(exchange))
    before = files_below(checkpoints / "old")
    assert run(["runs", "prune", "--whole", "old"]) == 1
    assert files_below(checkpoints / "old") == before


def test_prune_with_nobody_to_ask_deletes_nothing(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    superfluous = checkpoints / "old" / add_superfluous(checkpoints / "old")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(["runs", "prune"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert superfluous.is_dir()


def test_whole_deletes_the_named_run_and_no_other(checkpoints: Path) -> None:
    assert run(["runs", "prune", "--whole", "--yes", "old"]) == 0
    assert {p.name for p in checkpoints.iterdir()} == {"new", "broken", "no-run"}


def test_whole_wants_names(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(checkpoints)
    assert run(["runs", "prune", "--whole", "--yes"]) == 2
    assert re.fullmatch(ONE_LINE, capsys.readouterr().err)
    assert files_below(checkpoints) == before


@pytest.mark.parametrize("arguments", [["new", "nix"], ["nix"], ["new*"], ["öld"]])
def test_prune_with_an_unknown_name_deletes_nothing(
    arguments: list[str], checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(checkpoints)
    assert run(["runs", "prune", "--whole", "--yes", *arguments]) == 1
    assert re.fullmatch(ONE_LINE, capsys.readouterr().err)
    assert files_below(checkpoints) == before


def test_run_in_training_is_not_pruned(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_superfluous(checkpoints / "old")
    before = files_below(checkpoints)
    with run_lock.lock(checkpoints / "old"):
        assert run(["runs", "prune", "--whole", "--yes", "old"]) == 1
        assert run(["runs", "prune", "--yes", "old"]) == 1
    assert "this process is already training checkpoints/old" in capsys.readouterr().err
    assert files_below(checkpoints) == before


def test_an_obstacle_is_noted_and_the_others_are_pruned(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy, free = (checkpoints / n / add_superfluous(checkpoints / n) for n in ("new", "old"))
    size = sum(p.stat().st_size for p in free.iterdir())
    (checkpoints / "link").symlink_to("old")
    with run_lock.lock(checkpoints / "new"):
        assert run(["runs", "prune", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "skipped checkpoints/new: this process is already training" in told
    assert told.count("step-00000001") == 2
    assert told.splitlines()[-1] == f"freed {size / 1000:.1f} kB"
    assert (busy.exists(), free.exists()) == (True, False)


def test_a_run_named_twice_is_deleted_once(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "prune", "--whole", "--yes", "old", "checkpoints/old"]) == 0
    told = capsys.readouterr().err
    assert told.count("run.json") == 1
    assert not (checkpoints / "old").exists()


def test_a_link_to_a_run_is_not_deleted_as_a_run(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "link").symlink_to("old")
    before = files_below(checkpoints)
    assert run(["runs", "prune", "--whole", "--yes", "link"]) == 1
    told = capsys.readouterr().err
    assert "skipped checkpoints/link: it is a link; name the folder that it points to\n" in told
    assert files_below(checkpoints) == before


def test_a_folder_that_is_no_run_is_not_deleted(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "book"
    book.mkdir()
    (book / "run.json").write_text("{}")
    (book / "precious").write_text("x")
    for name in ("book", "./book", str(book)):
        assert run(["runs", "prune", name, "--whole", "--yes"]) == 1
        assert "; delete its folder yourself\n" in capsys.readouterr().err
    shutil.copy(book / "run.json", tmp_path)
    assert run(["runs", "prune", ".", "--whole", "--yes"]) == 1
    assert (book / "precious").read_text() == "x"
    (checkpoints / "old").rename(checkpoints / "book")
    assert run(["runs", "prune", "book", "--whole", "--yes"]) == 0
    assert not (checkpoints / "book").exists()
    assert (book / "precious").read_text() == "x"


def test_what_somebody_else_put_into_a_run_stays_and_is_named(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "old" / "notes.txt").write_text("precious")
    assert run(["runs", "prune", "old", "--whole", "--yes"]) == 0
    assert (
        "kept checkpoints/old: it has files that charlstm did not write" in capsys.readouterr().err
    )
    assert files_below(checkpoints / "old") == {"notes.txt"}


def test_a_copy_of_a_checkpoint_is_left_alone_with_a_note(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_checkpoint(checkpoints / "old", "step-00000001")
    assert run(["runs", "prune", "old", "--yes"]) == 0
    assert "kept checkpoints/old/step-00000001" in capsys.readouterr().err
    assert (checkpoints / "old" / "step-00000001").is_dir()


def test_cache_deletes_the_encoded_texts_and_no_run(
    checkpoints: Path,
    make_corpus: Callable[..., Corpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    make_corpus()
    make_corpus("another text " * 50)
    assert len(cached_corpora()) == 2
    before = files_below(checkpoints)
    assert run(["runs", "prune", "--cache", "--yes"]) == 0
    assert capsys.readouterr().err.count("corpora") == 2
    assert cached_corpora() == []
    assert files_below(checkpoints) == before


def test_cache_deletes_what_killed_processes_left_and_nothing_of_anybody_else(
    cache: Path, make_corpus: Callable[..., Corpus]
) -> None:
    make_corpus()
    for name in ("brown/corpus.json", ".charlstm-01234567/ids.bin", ".charlstm-89abcdef/ids.bin"):
        (cache / name).parent.mkdir()
        (cache / name).write_text("{}")
    for name in (".charlstm-01234567.lock", ".charlstm-89abcdef.lock"):
        (cache / name).touch()
    living = Lock(cache / ".charlstm-89abcdef.lock")
    assert run(["runs", "prune", "--cache", "--yes"]) == 0
    living.release()
    assert {path.name for path in cache.iterdir()} == {
        *("brown", ".charlstm-89abcdef", ".charlstm-89abcdef.lock"),
    }


@pytest.mark.parametrize("more", [["old"], ["old", "--whole"]], ids=str)
def test_cache_is_pruned_by_itself(more: list[str], checkpoints: Path) -> None:
    before = files_below(checkpoints)
    assert run(["runs", "prune", "--cache", "--yes", *more]) == 2
    assert files_below(checkpoints) == before


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_signal_while_a_text_is_encoded_leaves_nothing_behind(
    number: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(signal, number):
        pytest.skip("there is no such signal here")
    (tmp_path / "b.txt").write_text("Row, said the heron. " * 20)

    def stop(*_: object) -> None:
        assert len(list(cache.iterdir())) == 2
        os.kill(os.getpid(), getattr(signal, number))

    monkeypatch.setattr("charlstm.text.encoder.IdFile.add", stop)
    for command in (["train", "b.txt"], ["train", "b.txt", "--resume", "-c", "old"]):
        assert run(command) == 130
        assert list(cache.iterdir()) == []


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_a_run_whose_text_has_no_end_is_refused(
    source: str,
    checkpoints: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / source)
    content = json.loads((checkpoints / "old" / "run.json").read_text())
    content["corpus"]["sources"] = [path]
    (checkpoints / "old" / "run.json").write_text(json.dumps(content))
    for command in (
        ["train", "--resume", "-c", "old"],
        ["sample", "-c", "old", "--seed", "1", "--novelty"],
        ["score", "-c", "old", path, "--adapt"],
    ):
        assert run(command) == 1
        assert f"the text came from {path} (a " in capsys.readouterr().err
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_run_that_is_far_too_large_for_the_machine_is_not_resumed(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("charlstm.files.memory_present", lambda: 1 << 20)
    assert run(["train", "--resume", "-c", "old"]) == 2
    assert "training needs about" in capsys.readouterr().err
