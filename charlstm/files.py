"""Files that are either the old one or the new one, never half of each."""

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError, reason_of

MAX_JSON_BYTES = 1 << 26
ABANDONED_SECONDS = 24 * 3600.0
CONTROL_GROUPS, CONTROL_GROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and see it onto the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """See a folder's entries onto the disk, where the system knows how."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: a reader sees the old content or the new."""
    work = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        write_durably(work, data)
        os.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_work_folder(parent: Path, prefix: str) -> Path:
    """A new folder to write in before it gets its name; ``tempfile`` would make it private.

    Those that a killed process left there are removed once they are ``ABANDONED_SECONDS`` old.
    """
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left)
    work = parent / f"{prefix}{secrets.token_hex(4)}"
    work.mkdir()
    return work


def to_json(value: object) -> bytes:
    """JSON in ASCII, so that no reader's encoding matters; NaN is refused."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("ascii")


def parse_json(data: bytes, source: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in ``data``.

    Raises:
        CharlstmError: it is no JSON object, or is nested too deep; ``source`` is named.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CharlstmError(f"{source} is damaged: it does not hold a JSON object", remedy)
    return value


def check_format(found: object, newest: int, source: Path, remedy: str) -> None:
    """Raise ``CharlstmError`` unless ``found`` is the number of a format that can be read."""
    if type(found) is not int or found < 1:
        raise CharlstmError(f"{source} is damaged: its format is {found!r:.40}", remedy)
    if found > newest:
        raise CharlstmError(
            f"{source} has format {found}; this charlstm reads up to {newest}", "update charlstm"
        )


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file of at most 64 MiB."""
    try:
        size = file_size(path)
        if size > MAX_JSON_BYTES:
            raise CharlstmError(
                f"{path} is damaged: {size:,} bytes, {MAX_JSON_BYTES:,} at most", remedy
            )
        return parse_json(path.read_bytes(), path, remedy)
    except OSError as error:
        reason = reason_of(error)
        raise CharlstmError(f"{path} cannot be read: {reason}", remedy) from None


def file_size(path: Path) -> int:
    """The bytes of an ordinary file, asked before it is read.

    Raises:
        OSError: it is not there, or a pipe or a device, which might never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path.name} is no ordinary file")
    return status.st_size


def memory_present() -> int | None:
    """Bytes of memory that this process may have, where the system says.

    It is the least of the machine's memory, the limits of the control groups that the process
    belongs to, which are those of a container, and its own limit (``ulimit -v``).
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
    """The memory limits of the process's control groups, from its own up to the root's.

    Within a container the paths of version 1 may be those of the machine, and not be there; the
    root's then has the container's limit.
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
