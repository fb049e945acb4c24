"""What is deleted of a run: what charlstm wrote there and does not need, and nothing else."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from charlstm.errors import CharlstmError, UsageError
from charlstm.files import disk_bytes
from charlstm.runs.checkpoint import mark_unrecorded
from charlstm.runs.lock import lock
from charlstm.runs.pointers import read_pointers
from charlstm.runs.prune import (
    delete_run,
    delete_superfluous,
    superfluous,
    unrecorded,
    written_by_charlstm,
)


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "tales")


def test_a_run_is_deleted_whole_if_all_of_it_is_charlstms(run: Path) -> None:
    (run / ".charlstm-01234567").mkdir()
    shutil.copytree(next(run.glob("step-*")), run / "teacher")
    size = disk_bytes(run)
    assert delete_run(run) == size
    assert not run.exists()


def test_a_run_whose_name_may_not_be_removed_is_emptied_and_counted(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir = Path.rmdir

    def refuse(path: Path) -> None:
        if path == run:
            raise PermissionError(errno.EACCES, "Permission denied")
        rmdir(path)

    size = disk_bytes(run)
    monkeypatch.setattr(Path, "rmdir", refuse)
    assert delete_run(run) == size
    assert list(run.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "step-00000150-backup/model.json",
        "step-00000150/notes.txt",
        "teacher/notes.txt",
        ".writing-essay",
        "metrics.jsonl.bak",
    ],
)
def test_what_somebody_else_put_there_stays(run: Path, name: str) -> None:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("precious")
    delete_run(run)
    assert [p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()] == [name]


def test_a_folder_in_the_place_of_a_file_stays(run: Path) -> None:
    (run / "metrics.jsonl").mkdir(exist_ok=True)
    (run / "metrics.jsonl" / "mine").touch()
    delete_run(run)
    assert (run / "metrics.jsonl" / "mine").exists()


def test_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    precious = shutil.copytree(run, tmp_path / "precious")
    (run / "step-00000001").symlink_to(next(precious.glob("step-*")))
    (run / "teacher").symlink_to(next(precious.glob("step-*")))
    (run / ".charlstm-01234567").symlink_to(precious)
    before = sorted(precious.rglob("*"))
    delete_run(run)
    assert sorted(precious.rglob("*")) == before
    assert {path.name for path in run.iterdir()} == {"step-00000001", "teacher"}


def test_a_copy_of_a_checkpoint_is_not_superfluous(run: Path) -> None:
    last = read_pointers(run).last
    assert last is not None
    copies = [shutil.copytree(run / last, run / name) for name in ("step-00000001", f"{last}-2")]
    assert superfluous(run) == []
    assert unrecorded(run) == copies
    mark_unrecorded(copies[0])  # as one that a killed save did not come to record
    assert superfluous(run) == [copies[0]]
    delete_superfluous(run)
    assert not copies[0].exists()
    assert copies[1].exists()


def test_of_a_run_that_may_not_be_changed_no_checkpoint_is_emptied(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(next(run.glob("step-*")), run / "step-00000001")
    mark_unrecorded(run / "step-00000001")
    before = sorted(run.rglob("*"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != run and access(path, mode))
    for delete in (delete_superfluous, delete_run):
        with pytest.raises(CharlstmError, match="cannot be changed: permission denied"):
            delete(run)
    assert sorted(path for path in run.rglob("*") if path.name != "lock") == [
        path for path in before if path.name != "lock"
    ]


def test_a_run_in_training_is_left_alone(run: Path) -> None:
    before = written_by_charlstm(run)
    for delete in (delete_run, delete_superfluous):
        with lock(run), pytest.raises(UsageError, match="already training"):
            delete(run)
    assert written_by_charlstm(run) == before
