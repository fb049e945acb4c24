"""Runs are never overwritten, found by any of their names, and held by one process."""

import datetime
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import model_config, train_config

from charlstm import files
from charlstm.errors import CharlstmError, UsageError
from charlstm.runs import run as runs
from charlstm.runs.catalogue import (
    find_checkpoint,
    find_run,
    is_run,
    list_runs,
    runs_folder,
    summarise,
)
from charlstm.runs.checkpoint import mark_unrecorded
from charlstm.runs.generation import Generation
from charlstm.runs.lock import check_lock, lock
from charlstm.runs.pointers import (
    POINTER_FILE,
    Pointers,
    add_checkpoint,
    last_written,
    read_pointers,
    resume_order,
    sweep,
)
from charlstm.runs.run import (
    METRICS_FILE,
    RUN_FILE,
    Budget,
    Revision,
    RunFile,
    create_run,
    read_run_file,
    safe_name,
    write_run_file,
)
from charlstm.text.sources import TextSource

RUN = RunFile(
    model=model_config(5),
    train=train_config(),
    source=TextSource(("/texts/a.txt", "/texts/\udcffb.gz"), "latin-1", False),
    digest="d" * 64,
    characters=1234,
    created="2025-01-02T03:04:05+00:00",
    budget=Budget((Revision(3, 70), Revision(9, 80))),
    init_from="/runs/old/step-00000005",
)


GENERATION = Generation.first(("large", "huge"), "tales", {"minutes": 60, "hidden_size": 8})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return create_run(tmp_path / "checkpoints", "tales", RUN)


def fake_checkpoint(run: Path, name: str) -> Path:
    (run / name).mkdir()
    (run / name / "manifest.json").write_text("{}")
    return run / name


def save(run: Path, step: int, *, best: bool, keep: int = 1) -> Pointers:
    saved = fake_checkpoint(run, f"step-{step:08d}")
    return add_checkpoint(run, saved, best=best, keep=keep)


def on_disk(run: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in run.glob("step-*"))


def steps(pointers: Pointers) -> tuple[int, int, list[int]]:
    def number(name: str | None) -> int:
        return int((name or "step-0").split("-")[1])

    return number(pointers.best), number(pointers.last), [number(n) for n in pointers.kept]


# -- making runs -------------------------------------------------------------------------------


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    first = create_run(tmp_path, "tales", RUN)
    (first / METRICS_FILE).write_text("precious")
    others = [create_run(tmp_path, "tales", replace(RUN, digest=d)) for d in "ab"]
    assert [path.name for path in (first, *others)] == ["tales", "tales-2", "tales-3"]
    assert (first / METRICS_FILE).read_text() == "precious"
    assert read_run_file(first) == RUN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tales", "tales-2", "tales-3"]


@pytest.mark.skipif(os.name == "nt", reason="permissions as POSIX has them")
@pytest.mark.parametrize(("text", "folder"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755)])
def test_who_may_not_read_the_text_may_not_read_its_run(
    text: int, folder: int, tmp_path: Path
) -> None:
    paths = [tmp_path / "public", tmp_path / "diary"]
    for path, mode in zip(paths, (0o644, text), strict=True):
        path.touch()
        path.chmod(mode)
    run = replace(RUN, source=TextSource(tuple(map(str, paths))))
    made = create_run(tmp_path / "checkpoints", "tales", run)
    assert made.stat().st_mode & 0o777 == folder


def test_a_name_taken_by_a_file_or_an_empty_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tales").write_text("a file")
    (tmp_path / "tales-2").mkdir()
    assert create_run(tmp_path, "tales", RUN).name == "tales-3"
    assert (tmp_path / "tales").read_text() == "a file"
    assert list((tmp_path / "tales-2").iterdir()) == []


def test_a_run_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(CharlstmError, match=r"cannot create a run in .*: permission denied"):
        create_run(tmp_path, "tales", RUN)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_runs_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(CharlstmError, match=r"cannot create a run in .*checkpoints: "):
        create_run(tmp_path / "checkpoints", "tales", RUN)
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_a_name_taken_by_a_dangling_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tales").symlink_to(tmp_path / "unplugged")
    run = create_run(tmp_path, "tales", RUN)
    assert run.name == "tales-2"
    assert (tmp_path / "tales").is_symlink()


def test_a_name_that_another_process_takes_in_between_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def be_slower(source: Path, target: Path) -> None:
        if target.name == "tales":
            target.mkdir()
            (target / RUN_FILE).write_text("the other's")
        rename(source, target)

    monkeypatch.setattr(os, "rename", be_slower)
    assert create_run(tmp_path, "tales", RUN).name == "tales-2"
    assert (tmp_path / "tales" / RUN_FILE).read_text() == "the other's"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("tales.v2_final-1", "tales.v2_final-1"),
        ("../../etc/passwd", "etc-passwd"),
        ("/absolute/path", "absolute-path"),
        ("C:\\windows\\x", "C-windows-x"),
        ("a\0b\n\x1b[31mc", "a-b-31mc"),
        ("..", "run"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("", "run"),
        ("  ", "run"),
        ("Война и мир", "run"),
        ("märchen é", "marchen-e"),
        ("x" * 5000, "x" * 60),
    ],
)
def test_any_text_makes_a_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", "", "\0", "x" * 5000])
def test_a_run_of_any_name_is_made_below_its_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "deep" / "checkpoints"
    path = create_run(root, name, RUN)
    assert path.parent == root
    assert list(root.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]


CREATE = """
import sys
from pathlib import Path
from charlstm.runs.run import create_run, read_run_file

run = read_run_file(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(8):
    print(create_run(Path(sys.argv[2]), "tales", run).name, flush=True)
"""


def test_processes_that_make_runs_at_once_get_distinct_folders(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    command = [sys.executable, "-c", CREATE, str(run), str(root)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for p in processes for name in p.communicate(timeout=60)[0].split()]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(names) == sorted(["tales", *(f"tales-{n}" for n in range(2, 25))])
    assert {path.name for path in root.iterdir()} == set(names)


# -- run.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        RUN,
        replace(RUN, budget=Budget(), init_from=None),
        replace(RUN, generation=GENERATION),
        replace(RUN, generation=GENERATION.next(61.5)),
        replace(RUN, train=train_config(steps=None, minutes=1.5)),
        replace(RUN, source=TextSource(("-",), "utf-8", True)),
    ],
)
def test_run_json_comes_back_as_it_was(run: Path, content: RunFile) -> None:
    write_run_file(run, content)
    assert read_run_file(run) == content


def test_run_json_is_replaced_in_one_step(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(path: Path, data: bytes, mode: int) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_durably", cut_short)
    with pytest.raises(OSError, match="No space"):
        write_run_file(run, replace(RUN, digest="new"))
    assert read_run_file(run) == RUN
    assert [path.name for path in run.iterdir()] == [RUN_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 10**6])
def test_a_damaged_run_json_is_named(run: Path, content: bytes) -> None:
    (run / RUN_FILE).write_bytes(content)
    with pytest.raises(CharlstmError, match=r"run\.json is damaged"):
        read_run_file(run)


def test_the_remedy_for_a_damaged_run_json_is_possible(tmp_path: Path) -> None:
    run = create_run(tmp_path, "tales", RUN).rename(tmp_path / "my tales")
    (run / RUN_FILE).write_text("{")
    with pytest.raises(CharlstmError, match="no checkpoint is in that folder"):
        read_run_file(run)
    save(run, 10, best=True)
    with pytest.raises(CharlstmError, match=r"weights: `init_from` '[^']*my tales'$"):
        read_run_file(run)
    assert find_checkpoint(str(run)) == run / "step-00000010"


def change(run: Path, **values: Any) -> None:
    content = json.loads((run / RUN_FILE).read_text())
    (run / RUN_FILE).write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("field", ["created", "model", "train", "corpus", "budget", "init_from"])
def test_every_missing_part_of_run_json_is_noticed(run: Path, field: str) -> None:
    content = json.loads((run / RUN_FILE).read_text())
    del content[field]
    (run / RUN_FILE).write_text(json.dumps(content))
    with pytest.raises(CharlstmError, match=r"run\.json"):
        read_run_file(run)


@pytest.mark.parametrize("field", ["model", "train", "corpus", "budget"])
@pytest.mark.parametrize("value", [None, 3, "text", [1], {}])
def test_a_part_of_another_type_is_damage(run: Path, field: str, value: object) -> None:
    change(run, **{field: value})
    with pytest.raises(CharlstmError, match=r"run\.json"):
        read_run_file(run)


CORPUS = {"sources": ["/a"], "encoding": "utf-8", "bytes": False, "digest": "d", "characters": 5}


@pytest.mark.parametrize(
    "values",
    [
        {"corpus": {**CORPUS, "characters": math.inf}},
        {"corpus": {**CORPUS, "characters": -1}},
        {"budget": {"total_steps": 1 << 63, "known_at": 0}},
        {"budget": {"revisions": [[0, 1 << 63]]}},
        {"budget": {"revisions": [[0]]}},
        {"budget": {"revisions": [[5, 9], [5, 8]]}},
        {"budget": {"revisions": 3}},
        {"generation": 3},
        {"generation": {}},
        {"generation": {**GENERATION.to_dict(), "number": 3}},
        {"generation": {**GENERATION.to_dict(), "spent": None}},
        {"generation": {**GENERATION.to_dict(), "presets": ["large", 1]}},
        {"generation": {**GENERATION.to_dict(), "settings": {"seed": []}}},
        {"generation": {**GENERATION.to_dict(), "settings": {"of another version": 1}}},
        {"generation": {**GENERATION.to_dict(), "settings": {"vocab_size": 5}}},
        {"generation": {**GENERATION.to_dict(), "presets": ["tiny"] * 1_000_000}},
        {"budget": {"total_steps": 9, "known_at": True}},
        {"corpus": {**CORPUS, "sources": "/a"}},
        {"corpus": {**CORPUS, "encoding": None}},
        {"init_from": 5},
        {"format": "one"},
    ],
)
def test_values_that_cannot_be_are_damage(run: Path, values: dict[str, Any]) -> None:
    change(run, **values)
    with pytest.raises(CharlstmError, match=r"run\.json"):
        read_run_file(run)


def test_a_run_of_a_later_format_asks_for_an_update(run: Path) -> None:
    change(run, format=2)
    with pytest.raises(CharlstmError, match=r"has format 2, .* update charlstm"):
        read_run_file(run)


def test_a_missing_run_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(CharlstmError, match=r"run\.json cannot be read: no such file"):
        read_run_file(tmp_path)


# -- pointers ----------------------------------------------------------------------------------


def test_a_new_run_has_no_checkpoints(run: Path) -> None:
    assert read_pointers(run) == Pointers()


def test_only_best_and_last_stay(run: Path) -> None:
    assert steps(save(run, 10, best=True)) == (10, 10, [10])
    assert steps(save(run, 20, best=False)) == (10, 20, [10, 20])
    assert steps(save(run, 30, best=False)) == (10, 30, [10, 30])
    assert on_disk(run) == [10, 30]
    assert steps(save(run, 40, best=True)) == (40, 40, [40])
    assert on_disk(run) == [40]
    assert steps(read_pointers(run)) == (40, 40, [40])


def test_the_latest_n_stay_besides_the_best(run: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        save(run, step, best=step == 10, keep=3)
    assert steps(read_pointers(run)) == (10, 50, [10, 30, 40, 50])
    assert on_disk(run) == [10, 30, 40, 50]


def test_only_what_nothing_points_to_is_deleted(run: Path) -> None:
    save(run, 10, best=True)
    mark_unrecorded(fake_checkpoint(run, "step-00000010-2"))
    fake_checkpoint(run, ".charlstm-0123dead")
    fake_checkpoint(run, ".writing-0123dead")
    theirs = {
        *("notes", "step-by-step-guide", "step-00000010-backup", "step-00000010-3"),
        *(".writing-essay", ".charlstm-notes", ".charlstm-0123dead-mine", ".writing-dead"),
    }
    for name in theirs:
        (run / name).mkdir()
        (run / name / "manifest.json").touch()
    (run / METRICS_FILE).write_text("{}\n")
    (run / ".run.json-mine").touch()
    before = files_in(run)
    save(run, 20, best=False)
    assert {path.name for path in run.iterdir()} == {
        *(RUN_FILE, POINTER_FILE, METRICS_FILE, ".run.json-mine", *theirs),
        *("step-00000010", "step-00000020"),
    }
    assert {path for path in before if path.parts[0] in theirs} <= files_in(run)


def files_in(run: Path) -> set[Path]:
    return {path.relative_to(run) for path in run.rglob("*")}


def test_a_note_in_a_checkpoint_outlives_the_checkpoint(run: Path) -> None:
    save(run, 10, best=True)
    (run / "step-00000010" / "note.txt").write_text("the best so far")
    save(run, 20, best=True)
    assert files_in(run / "step-00000010") == {Path("note.txt")}
    save(run, 30, best=True)
    assert (run / "step-00000010" / "note.txt").read_text() == "the best so far"
    assert on_disk(run) == [10, 30]


def test_a_checkpoint_that_is_a_link_is_not_followed_when_it_is_no_longer_needed(
    run: Path, tmp_path: Path
) -> None:
    save(run, 10, best=True)
    (run / "step-00000010").rename(tmp_path / "precious")
    (run / "step-00000010").symlink_to(tmp_path / "precious")
    save(run, 20, best=True)
    assert files_in(tmp_path / "precious") == {Path("manifest.json")}


def test_where_the_pointers_were_lost_nothing_is_deleted(run: Path) -> None:
    for step in (10, 20):
        save(run, step, best=False, keep=5)
    (run / POINTER_FILE).write_text("{")
    save(run, 30, best=True)
    assert on_disk(run) == [10, 20, 30]


@pytest.mark.parametrize("after", ["the checkpoint", "the pointers"])
def test_a_kill_within_a_save_leaves_nothing_for_good(
    run: Path, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 10, best=True)
    mark_unrecorded(fake_checkpoint(run, "step-00000020"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if after == "the checkpoint":
            patch.setattr(files, "replace_file", die)
        else:
            patch.setattr(runs.checkpoint, "delete_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            add_checkpoint(run, run / "step-00000020", best=True, keep=1)
    assert on_disk(run) == [10, 20]
    sweep(run)
    assert on_disk(run) == ([10] if after == "the checkpoint" else [20])


def test_nothing_is_deleted_unless_the_pointers_are_in_place(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 10, best=True)

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        save(run, 20, best=True)
    assert steps(read_pointers(run)) == (10, 10, [10])
    assert on_disk(run) == [10, 20]
    assert {p.name for p in run.iterdir() if p.is_file()} == {RUN_FILE, POINTER_FILE}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"best": null}',
        b'{"best": "step-00000030", "last": "step-00000030", "kept": []}',
        b'{"best": null, "last": [], "kept": null}',
        b'{"best": "../x", "last": "step-00000020", "kept": ["step-00000020", "../x"]}',
    ],
)
def test_damaged_pointers_are_made_good_by_looking(run: Path, content: bytes) -> None:
    save(run, 10, best=True)
    save(run, 20, best=False)
    (run / "step-00000030").mkdir()  # no manifest: never completed
    (run / POINTER_FILE).write_bytes(content)
    assert steps(read_pointers(run)) == (20, 20, [10, 20])


def test_after_damage_a_checkpoint_that_is_not_the_best_does_not_become_it(run: Path) -> None:
    save(run, 10, best=True)
    save(run, 20, best=False)
    (run / POINTER_FILE).unlink()
    assert steps(save(run, 30, best=False)) == (20, 30, [20, 30])


def test_the_best_checkpoint_is_found_when_the_pointers_are_lost(run: Path) -> None:
    save(run, 10, best=True, keep=5)
    for step, best_step in ((99999999, 99999999), (100000000, 99999999)):
        save(run, step, best=best_step == step, keep=5)
        model = run / f"step-{step:08d}" / "model.json"
        model.write_text(json.dumps({"training": {"best_step": best_step}}))
    (run / POINTER_FILE).unlink()
    assert steps(read_pointers(run)) == (99999999, 100000000, [10, 99999999, 100000000])


@pytest.mark.parametrize(
    ("init_from", "loss", "best"), [("/a", 1.5, 0), (None, 1.5, 20), ("/a", None, 20)]
)
def test_step_0_is_the_best_only_of_a_run_that_began_trained(
    run: Path, init_from: str | None, loss: float | None, best: int
) -> None:
    write_run_file(run, replace(RUN, init_from=init_from))
    for step in (0, 10, 20):
        save(run, step, best=False, keep=5)
        model = run / f"step-{step:08d}" / "model.json"
        model.write_text(json.dumps({"training": {"best_step": 0, "best_loss": loss}}))
    (run / POINTER_FILE).unlink()
    assert read_pointers(run).best == f"step-{best:08d}"
    summary = summarise(run)
    assert (summary.best_step, summary.best_loss) == ((None, None) if best else (0, loss))


def test_what_a_killed_process_left_is_deleted_by_the_next_save(run: Path) -> None:
    for name in (".charlstm-12345678", ".writing-12345678"):  # the second of older versions
        (run / name).mkdir()
        (run / name / "model.json").touch()
    for name in (RUN_FILE, POINTER_FILE, METRICS_FILE):
        (run / f".{name}-12345678").touch()
    (run / ".charlstm-87654321").touch()
    save(run, 10, best=True)
    assert not list(run.glob(".*"))


def test_a_lock_that_leads_out_of_the_run_is_not_followed(run: Path, tmp_path: Path) -> None:
    (run / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CharlstmError, match=r"lock cannot be opened: .*symbolic links"), lock(run):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "step-1/../../x", "step-", "step-1\n", "", ".", None, 3, ["step-1"]]
)
def test_names_that_are_no_checkpoints_are_ignored(run: Path, name: object) -> None:
    save(run, 10, best=True)
    good = "step-00000010"
    value = {"best": good, "last": good, "kept": [name, good]}
    (run / POINTER_FILE).write_text(json.dumps(value))
    assert steps(read_pointers(run)) == (10, 10, [10])
    for role in ("best", "last"):
        (run / POINTER_FILE).write_text(json.dumps({**value, role: name or "", "kept": [name]}))
        assert read_pointers(run) == Pointers(good, good, (good,))


def test_a_run_resumes_from_the_last_checkpoint_then_from_those_before(run: Path) -> None:
    for step in (10, 20, 30):
        save(run, step, best=step == 10, keep=2)
    assert [path.name for path in resume_order(run)] == [
        "step-00000030",
        "step-00000020",
        "step-00000010",
    ]
    pointers = {"best": "step-00000030", "last": "step-00000020"}
    kept = ["step-00000010", "step-00000020", "step-00000030"]
    (run / POINTER_FILE).write_text(json.dumps({**pointers, "kept": kept}))
    assert next(resume_order(run)) == run / "step-00000020"


# -- finding -----------------------------------------------------------------------------------


def aged(path: Path, seconds: int) -> None:
    """Make a run this much older than a fixed moment, by all that it records."""
    moment = 1_700_000_000 - seconds
    change(path, created=datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat())
    if (path / POINTER_FILE).exists():
        change_pointers(path, saved=moment)


def change_pointers(run: Path, **values: Any) -> None:
    content = json.loads((run / POINTER_FILE).read_text())
    (run / POINTER_FILE).write_text(json.dumps({**content, **values}))


def test_runs_are_listed_by_when_they_were_last_written(tmp_path: Path) -> None:
    old, new = create_run(tmp_path, "old", RUN), create_run(tmp_path, "new", RUN)
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "file").write_text("")
    create_run(tmp_path, "x", RUN).rename(tmp_path / ".new-unfinished")
    aged(old, 20)
    aged(new, 10)
    assert list_runs(tmp_path) == [new, old]
    save(old, 10, best=True)  # later than both
    assert list_runs(tmp_path) == [old, new]
    assert list_runs(tmp_path / "none") == []


@pytest.mark.parametrize("years", [1, 8000 - 30])
def test_what_was_saved_last_is_the_newest_though_the_clock_was_set_back(
    tmp_path: Path, years: int
) -> None:
    first, second = create_run(tmp_path, "first", RUN), create_run(tmp_path, "second", RUN)
    for run in (first, second):
        save(run, 10, best=True)
    change_pointers(first, saved=time.time() + years * 365 * 86400)
    for step, run in enumerate((second, first, second, second, first), 11):
        save(run, step, best=True)
        assert list_runs(tmp_path)[0] == run
    assert summarise(first).age_seconds == 0


def test_a_copy_keeps_the_order_of_the_runs(tmp_path: Path) -> None:
    for name, age in (("a", 20), ("b", 10), ("c", 30)):
        aged(create_run(tmp_path / "from", name, RUN), age)
    for name, age in (("d", 15), ("e", 5)):
        made = create_run(tmp_path / "from", name, RUN)
        save(made, 10, best=True)
        assert "saved" in json.loads((made / POINTER_FILE).read_text())
        assert last_written(made) == read_pointers(made).saved
        aged(made, age)
    for number, name in enumerate("bedac"):  # copied at other times than trained
        shutil.copytree(tmp_path / "from" / name, tmp_path / "to" / name)
        for file in (RUN_FILE, POINTER_FILE):
            if (tmp_path / "to" / name / file).exists():
                os.utime(tmp_path / "to" / name / file, (1_700_000_000 + number,) * 2)
    assert [path.name for path in list_runs(tmp_path / "to")] == ["e", "b", "d", "a", "c"]


@pytest.mark.parametrize("saved", [None, "x", -1, 1e18, 10**400, [1], True])
def test_without_a_recorded_time_that_of_the_file_counts(run: Path, saved: object) -> None:
    save(run, 10, best=True)
    change_pointers(run, saved=saved)
    os.utime(run / POINTER_FILE, (1_600_000_000,) * 2)
    assert last_written(run) == 1_600_000_000
    assert read_pointers(run).last == "step-00000010"


@pytest.mark.parametrize("below", ["", "tales", "tales/step-00000010"])
def test_runs_are_found_from_inside_their_folder(
    run: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = create_run(run.parent, "newer", RUN)
    for made, age in ((run, 20), (newer, 10)):
        save(made, 10, best=True)
        save(made, 20, best=True, keep=2)
        aged(made, age)
    monkeypatch.chdir(run.parent / below)
    assert [path.name for path in list_runs()] == ["newer", "tales"]
    for name in ("newer", None if below == "" else "newer"):
        assert find_run(name).samefile(newer)
        assert find_checkpoint(name).samefile(newer / "step-00000020")
    if below:
        step = "step-00000020" if below == "tales" else "step-00000010"
        for name in (None, "."):
            assert find_run(name, inside=True).samefile(run)
            assert find_run(name, inside=True).name == "tales"
            assert find_checkpoint(name).samefile(run / step)


def test_a_folder_called_checkpoints_without_runs_is_not_where_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints" / "project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkpoints" / "project")
    assert runs_folder() == Path("checkpoints")
    create_run(tmp_path / "others", "tales", RUN)
    monkeypatch.chdir(tmp_path / "others")
    assert runs_folder() == Path("checkpoints")
    monkeypatch.chdir(tmp_path / "checkpoints" / "project")
    write_run_file(tmp_path / "checkpoints" / "project", RUN)
    assert runs_folder() == Path("..")
    (tmp_path / "checkpoints" / "project" / "checkpoints").mkdir()
    assert runs_folder() == Path("checkpoints")


def test_a_file_of_a_checkpoint_or_a_run_means_that(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 10, best=True)
    save(run, 20, best=False)
    for name, step in (("step-00000020/manifest.json", 20), (RUN_FILE, 10)):
        assert find_checkpoint(str(run / name)) == run / f"step-{step:08d}"
        assert find_run(str(run / name), inside=True) == run
    with pytest.raises(CharlstmError, match="there is no run"):
        find_run(str(run / RUN_FILE))  # prune takes folders alone
    monkeypatch.chdir(run / "step-00000020")
    assert find_checkpoint("manifest.json").samefile(run / "step-00000020")
    assert find_run("manifest.json", inside=True).name == "tales"


def test_a_checkpoint_is_found_by_each_of_its_names(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 10, best=True)
    save(run, 20, best=False)
    root, best, last = run.parent, run / "step-00000010", run / "step-00000020"
    assert find_checkpoint(str(run), root) == best
    assert find_checkpoint("tales", root) == best
    assert find_checkpoint(str(last), root) == last
    assert find_checkpoint("tales/step-00000020", root) == last
    assert find_checkpoint(None, root) == best
    assert find_run("tales", root) == find_run(str(run), root) == find_run(None, root) == run
    monkeypatch.chdir(root.parent)
    assert find_checkpoint("tales") == Path("checkpoints/tales/step-00000010")
    assert find_checkpoint(None) == Path("checkpoints/tales/step-00000010")


def test_a_name_means_a_run_below_the_root_and_a_path_a_path(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)
    other = create_run(Path("."), "tales", RUN)
    save(run, 10, best=True)
    save(other, 10, best=True)
    for name, found in (
        ("tales", Path("checkpoints/tales")),
        ("./tales", Path("tales")),
        (str(other.absolute()), other.absolute()),
    ):
        assert find_run(name) == found
        assert find_checkpoint(name) == found / "step-00000010"
    monkeypatch.chdir(other)
    assert find_run(".") == Path.cwd()  # a run goes by the name of its folder
    monkeypatch.chdir(run.parent)
    assert find_run("tales") == Path("tales")  # there is no checkpoints/ here


def test_a_folder_is_a_run_if_its_settings_can_be_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / RUN_FILE).write_text("{}")
    assert is_run("tales")
    assert not is_run("book")


def test_the_newest_checkpoint_is_that_of_the_newest_run_that_has_one(tmp_path: Path) -> None:
    with_one, without = create_run(tmp_path, "a", RUN), create_run(tmp_path, "b", RUN)
    save(with_one, 10, best=True)
    aged(with_one, 10)
    aged(without, 0)
    assert find_run(None, tmp_path) == without
    assert find_checkpoint(None, tmp_path) == with_one / "step-00000010"


def test_when_there_is_no_run_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    for find in (find_run, find_checkpoint):
        with pytest.raises(
            CharlstmError, match=r"there are no runs under .*; train one first:\ncharlstm"
        ):
            find(None, tmp_path / "checkpoints")


def test_runs_of_a_folder_above_and_behind_a_broken_link_are_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "notes")
    for name in (None, "tales"):
        with pytest.raises(CharlstmError, match=f", but under {tmp_path / 'checkpoints'}/"):
            find_checkpoint(name)
    Path("checkpoints").symlink_to(tmp_path / "unplugged")
    for name in (None, "tales"):
        with pytest.raises(CharlstmError, match=r"checkpoints is a link to .*/unplugged, which"):
            find_checkpoint(name)


def test_of_a_checkpoint_that_is_gone_the_others_are_named(run: Path) -> None:
    save(run, 20, best=True)
    for name in ("tales/step-00000010", str(run / "step-00000010")):
        for find in (find_checkpoint, partial(find_run, inside=True)):
            with pytest.raises(CharlstmError, match=r"no checkpoint .*tales has step-00000020$"):
                find(name, run.parent)


def test_an_unknown_run_is_named_with_the_known_ones(run: Path) -> None:
    for name in ("novel", str(run / "step-00000099"), "a\0b"):
        with pytest.raises(CharlstmError, match=r"there is no run .*checkpoints/: tales$"):
            find_checkpoint(name, run.parent)
    with pytest.raises(CharlstmError, match=r"there is no run 'tails'; did you mean tales\?$"):
        find_checkpoint("tails", run.parent)
    with pytest.raises(CharlstmError, match="there are no runs under"):
        find_run("tails", run / "none")


def test_of_many_runs_a_few_are_named_and_the_rest_counted(run: Path) -> None:
    for number in range(7):
        (run.parent / f"other-{number}").mkdir()
        write_run_file(run.parent / f"other-{number}", RUN)
    with pytest.raises(CharlstmError, match=r"(, other-\d){4} and 3 more$|other.* and 3 more$"):
        find_run("zzz", run.parent)


def test_a_name_too_long_for_a_file_is_no_run(tmp_path: Path) -> None:
    for find in (find_run, find_checkpoint):
        with pytest.raises(CharlstmError, match="there is no run"):
            find("a" * 300, tmp_path)


def refuse_to_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system treat ``folder`` as somebody else's, for any user who runs the tests."""
    real = os.stat

    def stat(path: object, **options: Any) -> os.stat_result:
        if isinstance(path, str | Path) and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)


def test_a_run_that_may_not_be_looked_into_does_not_hide_the_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 10, best=True)
    other = create_run(run.parent, "secret", RUN)
    refuse_to_search(other, monkeypatch)
    assert list_runs(run.parent) == [run, other]
    assert find_checkpoint(None, run.parent).parent == run
    assert "permission denied" in summarise(other).problem
    for find in (find_checkpoint, find_run):
        with pytest.raises(CharlstmError, match=r"secret.run\.json cannot be read: permission"):
            read_run_file(find("secret", run.parent))


def test_a_run_without_a_checkpoint_is_recognised(run: Path) -> None:
    for name in ("tales", str(run), None):
        with pytest.raises(CharlstmError, match=r"tales has no checkpoint yet; wait for the first"):
            find_checkpoint(name, run.parent)


# -- lock --------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from charlstm.runs.lock import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_run_is_held_by_one_process_until_it_dies(run: Path) -> None:
    pipe = subprocess.PIPE
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=pipe, stdout=pipe, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another process is training"), lock(run):
            pass
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(timeout=60) == -signal.SIGKILL
        with lock(run):
            assert (run / "lock").exists()
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_and_no_other_process_blamed(
    run: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock(run) as problem:
        assert os.strerror(number).lower() in problem
        save(run, 10, best=True)
    monkeypatch.undo()
    with lock(run) as problem:
        assert problem == ""


def test_another_fault_of_a_lock_is_what_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(CharlstmError, match="input/output error"), lock(run):
        pass


@pytest.mark.parametrize("then", ["deleted", "replaced", "taken"])
def test_a_lock_that_was_deleted_stops_the_run_at_its_next_save(run: Path, then: str) -> None:
    with lock(run):
        save(run, 10, best=True)
        (run / "lock").rename(run / "old-lock")
        if then == "replaced":
            (run / "lock").touch()
        if then == "taken":
            command = [sys.executable, "-c", HOLD, str(run)]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        with pytest.raises(CharlstmError, match="lock was deleted or replaced: another process"):
            save(run, 20, best=True)
        with pytest.raises(CharlstmError, match="lock was deleted or replaced: another process"):
            write_run_file(run, replace(RUN, characters=1))
    assert read_pointers(run).last == "step-00000010"
    assert read_run_file(run) == RUN


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_run_whose_path_leads_to_another_run_by_now_is_not_written(
    run: Path, tmp_path: Path
) -> None:
    save(run, 10, best=True)
    link = tmp_path / "link"
    shutil.copytree(run, tmp_path / "other" / run.name)
    before = read_pointers(tmp_path / "other" / run.name)
    link.symlink_to(run.parent)
    with lock(link / run.name):
        save(link / run.name, 20, best=True)
        link.unlink()
        link.symlink_to(tmp_path / "other")
        with pytest.raises(CharlstmError, match="lock was deleted or replaced"):
            check_lock(link / run.name)
        with pytest.raises(CharlstmError, match="lock was deleted or replaced"):
            save(link / run.name, 30, best=True)
    assert read_pointers(tmp_path / "other" / run.name) == before
    assert read_pointers(run).last == "step-00000020"


def test_a_lock_is_let_go_after_an_error(run: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), lock(run):
        raise RuntimeError("inside")
    with lock(run), pytest.raises(UsageError), lock(run):
        pass


def test_a_locked_run_can_be_read(run: Path) -> None:
    with lock(run):
        assert read_run_file(run) == RUN
        assert list_runs(run.parent) == [run]


def test_the_time_of_a_run_is_utc_to_the_second() -> None:
    assert runs.now().endswith("+00:00")
    assert len(runs.now()) == len("2025-01-02T03:04:05+00:00")


@pytest.mark.parametrize("separator", [None, "\n", "\n%\n"])
def test_a_run_records_the_separator_of_a_list(tmp_path: Path, separator: str | None) -> None:
    recorded = replace(RUN, source=replace(RUN.source, separator=separator))
    run = create_run(tmp_path, "names", recorded)
    assert read_run_file(run) == recorded


def test_a_run_from_before_lists_is_that_of_a_text(run: Path) -> None:
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del value["corpus"]["separator"]
    (run / "run.json").write_text(json.dumps(value), encoding="utf-8")
    assert "end" not in value["model"]
    assert read_run_file(run) == RUN
