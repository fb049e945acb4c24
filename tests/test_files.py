"""Files that users name, files that are written before they get their names, and locks."""

import errno
import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charlstm import files
from charlstm.errors import CharlstmError, UsageError
from charlstm.files import (
    ABANDONED_SECONDS,
    Lock,
    Locked,
    abandoned,
    disk_bytes,
    make_work_folder,
    memory_present,
    output_file,
    read_text_bytes,
    replace_file,
    sync_folder,
    write_durably,
    write_output,
)

# -- files that the user names -----------------------------------------------------------------


def test_an_output_makes_a_file_or_replaces_a_regular_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for data in (b"one", b"two"):
        write_output(path, data)
        assert path.read_bytes() == data
        path.chmod(0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="out") as failed:
        replace_file(tmp_path / "out", b"one")
    assert failed.value.filename == str(tmp_path / "out")
    with pytest.raises(OSError, match="moved") as failed:
        make_work_folder(tmp_path / "moved")
    assert failed.value.filename == str(tmp_path / "moved")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_an_output_goes_where_a_link_leads(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for data in (b"one", b"two"):  # a link to nothing first, then to a file
        write_output(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="FIFOs and sockets")
def test_only_a_regular_file_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.close()
    cases = {"fifo": "a pipe", "folder": "a folder", "device": "a device", "socket": "a socket"}
    for name, kind in cases.items():
        with pytest.raises(UsageError, match=f"{name} is {kind}, not a regular file"):
            write_output(tmp_path / name, b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cases)
    with pytest.raises(UsageError, match="/dev/null is a device"):
        output_file(Path("/dev/null"))


def test_an_output_that_cannot_be_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    cases = [tmp_path / "none" / "out", tmp_path / "loop", tmp_path / ("x" * 300), Path("a\0b")]
    for path in cases:
        with pytest.raises(UsageError, match="choose another file"):
            output_file(path)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_open_file_is_not_replaced_by_one_of_its_names(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        (tmp_path / "link").symlink_to(f"/dev/fd/{log.fileno()}")
        for path in (Path(f"/dev/fd/{log.fileno()}"), tmp_path / "link"):
            with pytest.raises(UsageError, match="refers to an open file"):
                write_output(path, b"data")
        assert os.fstat(log.fileno()).st_nlink == 1


def test_a_file_that_is_protected_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "out")
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError, match="permission denied"):
        write_output(tmp_path / "out", b"data")
    assert (tmp_path / "out").read_text() == "precious"


def test_what_may_never_end_is_read_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_STREAM_BYTES", 1 << 20)
    (tmp_path / "long").write_bytes(bytes(3 << 20))
    with (tmp_path / "long").open("rb") as file:
        assert len(read_text_bytes(file, "long")) == 3 << 20
    assert len(read_text_bytes(io.BytesIO(bytes(1 << 20)), "pipe")) == 1 << 20
    with pytest.raises(CharlstmError, match="pipe has more than 1 MiB"):
        read_text_bytes(io.BytesIO(bytes((1 << 20) + 1)), "pipe")
    with (
        Path("/dev/zero").open("rb") as file,
        pytest.raises(CharlstmError, match="more than 1 MiB"),
    ):
        read_text_bytes(file, "/dev/zero")


def test_a_file_that_says_it_is_empty_is_read_up_to_what_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "memory_present", lambda: files.BYTES_READ << 20)
    (tmp_path / "file").write_bytes(bytes(2 << 20))
    status = (tmp_path / "file").stat()
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((*status[:6], 0, *status[7:])))
    with (tmp_path / "file").open("rb") as file, pytest.raises(CharlstmError, match="than 1 MiB"):
        read_text_bytes(file, "file")


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_file_keeps_its_mode_and_is_never_more_open_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, modes = tmp_path / "private", list[int]()
    path.write_bytes(b"old")
    path.chmod(0o600)
    fsync = os.fsync

    def look(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert (path.stat().st_mode & 0o777, modes[0]) == (0o600, 0o600)
    path.chmod(0o440)
    replace_file(path, b"newer")
    assert (path.stat().st_mode & 0o777, modes[-2]) == (0o640, 0o600)


@pytest.mark.skipif(os.name == "nt", reason="groups as POSIX has them")
def test_another_group_never_gets_what_the_old_group_could_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, status = tmp_path / "of a project", Path.stat
    path.write_bytes(b"old")
    path.chmod(0o664)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def foreign(file: Path, **more: bool) -> os.stat_result:
        found = status(file, **more)
        group = found.st_gid + (file == path)
        return os.stat_result((*found[:5], group, *found[6:]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "chown", refuse)
        patch.setattr(Path, "stat", foreign)
        replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o604


# -- odd file systems --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_does_not_sync_is_written_all_the_same(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    replace_file(tmp_path / "file", b"data")
    sync_folder(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"data"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_an_error(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        replace_file(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        sync_folder(tmp_path)
    assert failed.value.filename == str(tmp_path)
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        write_durably(tmp_path / "new", b"data")
    assert failed.value.filename == str(tmp_path / "new")


def test_an_output_below_a_deleted_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def deleted() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", deleted)
    with pytest.raises(UsageError, match="out cannot be written: no such file or directory"):
        output_file(Path("out"))


def test_what_cannot_be_listed_counts_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"123")
    assert disk_bytes(tmp_path) == 7
    listed = os.listdir

    def failing(path: Path) -> list[str]:
        if Path(path).name == "folder":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listed(path)

    monkeypatch.setattr(os, "listdir", failing)
    monkeypatch.setattr(os, "scandir", failing)
    assert disk_bytes(tmp_path) == 4


def test_a_lock_that_the_system_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr("filelock.FileLock.acquire", stale)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)) as failed:
        Lock(tmp_path / "lock")
    assert failed.value.filename == str(tmp_path / "lock")


# -- unfinished files and folders --------------------------------------------------------------


def aged(path: Path, seconds: float) -> Path:
    path.mkdir()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_what_is_old_and_not_held_is_abandoned(tmp_path: Path) -> None:
    old = ABANDONED_SECONDS + 60
    left = [aged(tmp_path / name, old) for name in (".charlstm-0000000a", ".new-0000000b")]
    aged(tmp_path / ".charlstm-0000000c", 60.0)
    for theirs in (".charlstm-notes", ".new-a", ".new-0000000bc", "charlstm-0000000d"):
        aged(tmp_path / theirs, old)
    assert abandoned(tmp_path) == left
    assert abandoned(tmp_path / "none") == []


def test_what_comes_from_a_clock_that_was_set_back_is_abandoned(tmp_path: Path) -> None:
    left = aged(tmp_path / ".charlstm-0000000a", -ABANDONED_SECONDS - 60)
    assert abandoned(tmp_path) == [left]


def test_who_holds_a_lock_has_not_abandoned_its_work(tmp_path: Path) -> None:
    work = aged(tmp_path / ".charlstm-0000000a", ABANDONED_SECONDS + 60)
    lock = Lock(tmp_path / ".charlstm-0000000a.lock")
    assert abandoned(tmp_path) == []
    lock.release()
    os.utime(work)
    assert abandoned(tmp_path) == [work, lock.path]


# -- locks -------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from charlstm.files import Lock

lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_system_lets_go_of_a_lock_when_its_process_dies(tmp_path: Path) -> None:
    path, pipe = tmp_path / "lock", subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked):
            Lock(path)
        holder.kill()
    lock = Lock(path)
    assert not lock.is_lost()
    path.unlink()
    assert lock.is_lost()
    lock.release()


def test_a_lock_is_not_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


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
