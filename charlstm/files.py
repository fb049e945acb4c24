"""Atomic writes, output files, cleanup, locks, and JSON."""

import errno
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from charlstm.errors import AccessError, CharlstmError, UsageError, reason_of

RUNS_FOLDER, STUDIES_FOLDER = Path("checkpoints"), Path("studies")
"""The folders that charlstm creates in the working directory."""
MAX_JSON_BYTES = 1 << 26
MAX_STREAM_BYTES = 1 << 28
"""Most bytes read from a pipe or a device, which may be endless."""
BYTES_READ = 32
"""Bytes of memory needed for each byte of a text that is read at once, scores included."""
ABANDONED_SECONDS = 24 * 3600.0
CONTROL_GROUPS, CONTROL_GROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

OUTPUT_KINDS = {
    "html": ("an HTML file", b"<!doctype html"),
    "svg": ("an SVG file", b"<svg"),
    "png": ("a PNG file", b"\x89png"),
    "save_state": ("a resume state", b"charlstm-state-"),
}
"""What an output is, and what its first bytes have, in lower case."""
FIRST_BYTES = 4096

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_DENIED = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that deny access to a file that may be intact."""
_WITHOUT_LOCKS = {errno.ENOLCK, *_UNSUPPORTED}
_LEFTOVER = re.compile(
    r"\.charlstm-[0-9a-f]{8}(?:\.lock)?"
    # Versions before 0.2:
    r"|\.(?:new|writing|run\.json|metrics\.jsonl|checkpoints\.json)-[0-9a-f]{8}"
)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file and sync it to disk; raises ``OSError`` if the name is taken."""
    with open(path, "xb", opener=partial(os.open, mode=mode)) as file:
        file.write(data)
        file.flush()
        _sync(file.fileno(), path)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, if the system supports that."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that is writable but not readable
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # some network file systems do not support fsync
            raise _naming(error, path) from None


def _naming(error: OSError, path: Path) -> OSError:
    """``error`` with ``path`` as its file name, if it came from the system."""
    if error.strerror:
        error.filename = str(path)
    return error


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically: readers see the old content or the new.

    The file keeps the mode, owner and group of the one that it replaces, as far as the system
    allows; its owner may always write it. If its group cannot be kept, no group may read it.
    """
    work = path.with_name(work_name())
    try:
        old = path.stat() if path.is_file() and not path.is_symlink() else None
        # What nobody else may read is never readable to them, not even while it is written.
        write_durably(work, data, 0o666 if old is None else 0o600)
        if old is not None:
            for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
                with suppress(OSError, AttributeError):
                    os.chown(work, owner, group)
            mode = stat.S_IMODE(old.st_mode) | stat.S_IWUSR
            with suppress(OSError):
                same_group = work.stat().st_gid == old.st_gid
                os.chmod(work, mode if same_group else mode & ~stat.S_IRWXG)
        os.replace(work, path)
    except BaseException as error:
        work.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _naming(error, path)  # the user does not know the temporary name
        raise
    sync_folder(path.parent)


def open_to_append(path: Path) -> FileIO:
    """A regular file of charlstm's own, opened to append to; it is made if it is not there.

    A symbolic link is not followed: in a folder from somebody else it may lead to any file.

    Raises:
        OSError: it cannot be opened, is a link, or is no regular file.
    """
    # A pipe that nobody reads would be waited for.
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise OSError(f"{path.name} is a symbolic link")
    file = open(path, "ab", buffering=0, opener=lambda at, flags: os.open(at, flags | more, 0o666))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is no ordinary file")
    return file


# -- files that the user names -----------------------------------------------------------------


def output_file(path: Path, kind: str | None = None) -> Path:
    """The regular file to write for ``path``, after symbolic links; it need not exist yet.

    With a ``kind`` of ``OUTPUT_KINDS``, a file of another kind is not overwritten: it may be the
    text that is read, or part of a run.

    Raises:
        UsageError: ``path`` is a folder, device, pipe or socket, or cannot be written.
    """
    remedy = "choose another file"
    try:
        target = Path(os.path.realpath(path))
    except (
        OSError,
        ValueError,
    ) as error:  # the working directory was deleted, or a NUL in the name
        raise UsageError(f"{path} cannot be written: {reason_of(error)}", remedy) from None
    try:
        if _names_open_file(path):
            raise UsageError(f"{path} cannot be written: it refers to an open file", remedy)
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is {_kind(mode)}, not a regular file", remedy)
        if kind is not None:
            what, mark = OUTPUT_KINDS[kind]
            with path.open("rb") as file:
                first = file.read(FIRST_BYTES).lower()
            if first and mark not in first:
                raise UsageError(f"{path} already exists and is not {what}", remedy)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be written: {reason_of(error)}", remedy) from None
    if not target.parent.is_dir():
        raise UsageError(f"{path} is in a folder that does not exist", remedy)
    for written in (target, target.parent):
        if written.exists() and not os.access(written, os.W_OK):
            raise UsageError(f"{path} cannot be written: permission denied", remedy)
    return target


def write_output(path: Path, data: bytes, kind: str | None = None) -> None:
    """Write ``data`` atomically to a file that the user named.

    Every option that writes a file uses this. Raises as ``output_file``, and ``OSError``.
    """
    replace_file(output_file(path, kind), data)


def _names_open_file(path: Path) -> bool:
    """Whether a path is a link to an open file, like /dev/stdout."""
    links = 0
    while path.is_symlink() and links < 40:  # the limit of the systems
        folder = Path(os.path.realpath(path.parent))
        if folder.is_relative_to("/proc"):
            return True
        path, links = folder / os.readlink(path), links + 1
    return False


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_text_bytes(file: BinaryIO, name: str) -> bytes:
    """The whole content of an open file: as much as the memory has room for, once it is read.

    Of a pipe or a device, which may never end, it is at most ``MAX_STREAM_BYTES``.

    Raises:
        CharlstmError: there is more in what is called ``name``.
        OSError: it cannot be read.
    """
    most = MAX_STREAM_BYTES if (memory := memory_present()) is None else memory // BYTES_READ
    size, total, parts = 0, 0, list[bytes]()
    try:
        status = os.fstat(file.fileno())
        regular, size = stat.S_ISREG(status.st_mode), status.st_size
    except OSError:  # a stream of Python's own has no descriptor
        regular = False
    if not regular:
        most = min(most, MAX_STREAM_BYTES)
    # The files of /proc say that they are empty, and may have no end.
    while max(size, total) <= most and (part := file.read(1 << 20)):
        parts.append(part)
        total += len(part)
    if max(size, total) > most:
        part_bytes = min(most, MAX_STREAM_BYTES)
        raise CharlstmError(
            f"{name} has more than {most >> 20:,} MiB, which is the most that can be read at once",
            f"give a part of it, with head -c {part_bytes} FILE or the like, and -",
        )
    return b"".join(parts)


# -- unfinished files and folders --------------------------------------------------------------


def work_name() -> str:
    """A unique temporary name for a file or folder that is being written."""
    return f".charlstm-{os.urandom(4).hex()}"


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders in ``folder``: in use, or left by a killed process."""
    try:
        return sorted(path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name))
    except FileNotFoundError:
        return []


def abandoned(folder: Path) -> list[Path]:
    """The ``leftovers`` that no running process uses.

    A long task holds a lock next to its temporary folder. Without a lock, anything older than
    ``ABANDONED_SECONDS`` counts as abandoned.
    """
    found = []
    for path in leftovers(folder):
        lock = path if path.suffix == ".lock" else path.with_name(f"{path.name}.lock")
        try:
            held = Lock(lock) if lock.exists() else None
        except (Locked, OSError):
            continue
        if held is not None:
            held.release()
        with suppress(OSError):
            # A clock that was set back gave times that are to come.
            old = abs(time.time() - path.lstat().st_mtime) > ABANDONED_SECONDS
            if old or (held is not None and not held.problem):
                found.append(path)
    return found


def remove(path: Path) -> None:
    """Delete a file, a link or a folder and its content, as far as the system allows."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def disk_bytes(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder; links are not followed."""
    total = 0
    parts = [path]
    while parts:
        part = parts.pop()
        with suppress(OSError):  # what cannot be read counts as 0
            status = part.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
            parts += part.iterdir() if stat.S_ISDIR(status.st_mode) else ()
    return total


def make_work_folder(parent: Path) -> Path:
    """Create a temporary folder, to be renamed; ``tempfile`` would make it private."""
    work = parent / work_name()
    try:
        work.mkdir()
    except OSError as error:
        raise _naming(error, parent) from None  # the user does not know the temporary name
    return work


# -- locks -------------------------------------------------------------------------------------


class Locked(Exception):
    """Another process, or another part of this one, holds the lock."""


class Lock:
    """A lock file held by this process; the system releases it when the process ends.

    Raises:
        Locked: another process holds it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout  # slow to import, and most commands do not need it

        self.path = path
        self.problem = ""
        """Why the file system does not support locks; then nothing is locked."""
        # filelock's soft locks would take an existing file for a held lock.
        self._lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise Locked(str(path)) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise _naming(error, path) from None
            self.problem = reason_of(error)
        self._identity = self._on_disk()

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = self.path.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def is_lost(self) -> bool:
        """Whether the file was deleted or replaced: then another process may hold a new lock."""
        return not self.problem and self._on_disk() != self._identity

    def release(self) -> None:
        """Release the lock; the file stays."""
        self._lock.release()


# -- JSON --------------------------------------------------------------------------------------


def to_json(value: object) -> bytes:
    """``value`` as ASCII JSON, independent of encodings; raises ``ValueError`` for NaN."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("ascii")


def parse_json(data: bytes, source: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in ``data``.

    Raises:
        CharlstmError: it is not a JSON object, or is nested too deeply; ``source`` is its name.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CharlstmError(f"{source} is damaged: it is not a JSON object", remedy)
    return value


def check_format(found: object, newest: int, source: Path, remedy: str) -> None:
    """Raise ``CharlstmError`` unless ``found`` is the number of a format that can be read."""
    if type(found) is not int or found < 1:
        raise CharlstmError(f"{source} is damaged: its format is {found!r:.40}", remedy)
    if found > newest:
        raise CharlstmError(
            f"{source} has format {found}, but this version reads up to {newest}", "update charlstm"
        )


def is_count(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a nonnegative integer of at most 63 bits."""
    return type(value) is int and 0 <= value < 1 << 63


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file of at most 64 MiB.

    Raises:
        CharlstmError: the file cannot be read, is too large, or is not a JSON object.
    """
    try:
        size = file_size(path)
        if size > MAX_JSON_BYTES:
            raise CharlstmError(
                f"{path} is damaged: {size:,} bytes, but at most {MAX_JSON_BYTES:,} are allowed",
                remedy,
            )
        return parse_json(path.read_bytes(), path, remedy)
    except OSError as error:
        raise unreadable(path, error, remedy) from None


def unreadable(path: Path, error: OSError, remedy: str) -> CharlstmError:
    """The error for a file that cannot be read; ``remedy`` is dropped if access was denied."""
    message = f"{path} cannot be read: {reason_of(error)}"
    return AccessError(message) if error.errno in _DENIED else CharlstmError(message, remedy)


def file_size(path: Path) -> int:
    """The size of a regular file in bytes, to be checked before reading it.

    Raises:
        OSError: the file does not exist, or is a pipe or a device, which may be endless.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path.name} is not a regular file")
    return status.st_size


def memory_present() -> int | None:
    """Bytes of memory that this process may use, or None if unknown.

    This is the smallest of the machine's memory, the limits of the process's control groups (which
    a container sets), and the process's own limit (``ulimit -v``).
    """
    limits = [*_control_group_limits()]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        pass
    try:
        import resource

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    except (ImportError, AttributeError, OSError):
        pass
    return min((limit for limit in limits if limit > 0), default=None)


def _control_group_limits() -> Iterator[int]:
    """The memory limits of the process's control groups, from its own up to the root.

    In a container, version 1 may give the host's paths, which do not exist there; the root then has
    the container's limit.
    """
    try:
        lines = CONTROL_GROUPS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            root, name = CONTROL_GROUP_ROOT, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = CONTROL_GROUP_ROOT / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # "max" is no limit
                yield int((folder / name).read_text())
            if folder == root:
                break
