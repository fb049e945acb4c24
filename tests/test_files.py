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
    monkeypatch.setattr(files, "CONTROL_GROUPS", Path("/nowhere"))
    assert memory_present() is None


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "5000000"}, 5_000_000),
        ("0::/", {"memory.max": "4096"}, 4096),
        ("0::/a", {"a/memory.max": "8192", "memory.max": "4096"}, 4096),
        ("4:cpu,memory:/a", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        # Within a container, where the path is the machine's.
        ("4:memory:/docker/x\n0::/", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("0::/a", {"a/memory.max": "max"}, None),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("4:cpu:/a\nnonsense", {"memory/a/memory.limit_in_bytes": "4096"}, None),
    ],
)
def test_the_memory_of_a_control_group_is_its_least_limit(
    groups: str,
    limits: dict[str, str],
    expected: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = memory_present()
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    (tmp_path / "cgroup").write_text(f"{groups}\n")
    monkeypatch.setattr(files, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(files, "CONTROL_GROUP_ROOT", tmp_path)
    found = memory_present()
    if expected is None:
        assert machine is None or (found or 0) >= machine
    else:
        assert found == expected
