"""Files and folders that are written before they get their names."""

import os
import time
from pathlib import Path

import pytest

from charlstm import files
from charlstm.files import ABANDONED_SECONDS, make_work_folder, memory_present


def test_work_folders_of_killed_processes_go_when_they_are_old(tmp_path: Path) -> None:
    abandoned, young, other = (tmp_path / name for name in (".new-a", ".new-b", "new-c"))
    for folder, age in ((abandoned, ABANDONED_SECONDS + 60), (young, 60.0), (other, 1e6)):
        folder.mkdir()
        (folder / "part").write_text("half")
        then = time.time() - age
        os.utime(folder, (then, then))
    made = make_work_folder(tmp_path, ".new-")
    assert sorted(tmp_path.iterdir()) == sorted([young, other, made])


def test_the_memory_of_this_machine_is_known_or_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (memory_present() or 1 << 30) >= 1 << 28

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(files.os, "sysconf", unknown, raising=False)
    assert memory_present() is None
