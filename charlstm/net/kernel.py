"""The compiled kernel: whole steps of a quantised model in one call, where a C compiler is present.

``kernel.c`` is compiled on first use, for the processor at hand, and kept in the cache. Without a
compiler, or with ``CHARLSTM_KERNEL=off``, ``quantised`` computes the same in NumPy.
"""

import ctypes
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.cache import cache_folder
from charlstm.errors import CharlstmError

SWITCH = "CHARLSTM_KERNEL"
"""Environment variable; ``off`` turns the kernel off."""
SOURCE = Path(__file__).with_name("kernel.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
LEVELS = (
    ("avx512_vnni", ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma")),
    ("avx2", ("-mavx2", "-mfma")),
    ("asimddp", ("-march=armv8.2-a+dotprod",)),
)
"""What Linux calls the instructions that ``kernel.c`` can use, best first, and the compiler's flags
for them. Compilers for Apple's processors need no flag."""
COMPILE_SECONDS = 60
RETRY_SECONDS = 24 * 3600.0
"""Time after which a compiler that failed is tried again."""
TEXTS_PER_THREAD = 8
"""Fewest texts for which a thread of its own pays."""


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.c_int64),
        ("hidden_size", ctypes.c_int64),
        ("states", ctypes.c_int64),
        ("blocks", ctypes.c_int64 * 4),
        ("is_gru", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("matrices", ctypes.c_void_p),
        ("peepholes", ctypes.c_void_p),
    )


Matrix = tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]
"""Integers (R, C), scales (R,) and bias (R,); the first layer's bias is (V, R)."""


class KernelModel:
    """A model in the kernel's layout; the state is passed in and returned."""

    def __init__(
        self,
        library: ctypes.CDLL,
        matrices: Sequence[Matrix],
        blocks: Sequence[int],
        peepholes: Sequence[NDArray[np.float32] | None],
        states: int,
        hidden_size: int,
        *,
        is_gru: bool,
        end: int | None,
    ) -> None:
        """Arguments as in ``Model`` of kernel.c; ``matrices`` ends with the output layer."""
        self._run = library.run
        self._vocab_size = len(matrices[-1][0])
        packed = [_pack(library, integers) for integers, _, _ in matrices]
        self._kept: list[Any] = [matrices, packed, peepholes]  # C only has their addresses
        rows = (_Matrix * len(matrices))(
            *(
                _Matrix(*integers.shape, p.ctypes.data, scales.ctypes.data, bias.ctypes.data)
                for (integers, scales, bias), p in zip(matrices, packed, strict=True)
            )
        )
        addresses = (ctypes.c_void_p * len(peepholes))(
            *(None if p is None else p.ctypes.data for p in peepholes)
        )
        self._kept += [rows, addresses]
        model = _Model(
            len(peepholes),
            hidden_size,
            states,
            (ctypes.c_int64 * 4)(*blocks),
            is_gru,
            -1 if end is None else end,
            ctypes.addressof(rows),
            ctypes.addressof(addresses),
        )
        self._model = ctypes.byref(model)

    def read(
        self, ids: NDArray[np.int64], state: NDArray[np.float32], *, logits: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read ``ids`` (T, B) from ``state`` (L, S, B, H).

        Returns:
            Logits (T, B, V), or (0,) if they are not wanted, and the new state. For T = 0 the
            logits are (1, B, V), those after ``state``.

        Raises:
            MemoryError: there is no memory for the step.
        """
        steps, batch = ids.shape
        ids = np.ascontiguousarray(ids, np.int64)
        state = np.array(state, np.float32, order="C")
        shape = (steps or 1, batch, self._vocab_size) if logits else (0,)
        result = np.empty(shape, np.float32)
        addresses = ids.ctypes.data, state.ctypes.data, result.ctypes.data if logits else None
        failed: list[int] = []

        def run(first: int, last: int) -> None:
            read, written, wanted = addresses
            failed.append(self._run(self._model, read, steps, batch, first, last, written, wanted))

        threads = min(_threads(), batch // TEXTS_PER_THREAD)
        if threads <= 1:
            run(0, batch)
        else:
            _in_threads(run, batch, threads)
        if any(failed):
            raise MemoryError
        return result, state


@cache
def _threads() -> int:
    """The number of threads that BLAS would use: the user's setting, or one per processor."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if (chosen := os.environ.get(name, "")).isdecimal():
            return max(1, int(chosen))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_threads(run: Callable[[int, int], None], batch: int, count: int) -> None:
    """Call ``run`` with the first text, and the one after the last, of each of ``count`` parts."""
    ends = [batch * n // count for n in range(count + 1)]
    threads = [Thread(target=run, args=part) for part in pairwise(ends[1:])]
    for thread in threads:
        thread.start()
    run(*ends[:2])
    for thread in threads:
        thread.join()


def _pack(library: ctypes.CDLL, matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    packed = np.empty(library.packed_size(*matrix.shape), np.int8)
    library.pack(matrix.ctypes.data, *matrix.shape, packed.ctypes.data)
    return packed


def kernel() -> ctypes.CDLL | None:
    """The compiled kernel, or None without a compiler or where the user turned it off."""
    return None if os.environ.get(SWITCH) == "off" else _load()


@cache
def _load() -> ctypes.CDLL | None:
    try:
        library = _library()
        if library is None:
            return None
        loaded = ctypes.CDLL(str(library))
        integer, address = ctypes.c_int64, ctypes.c_void_p
        loaded.packed_size.argtypes, loaded.packed_size.restype = [integer, integer], integer
        loaded.pack.argtypes, loaded.pack.restype = [address, integer, integer, address], None
        loaded.run.argtypes = [address, address, *[integer] * 4, address, address]
    except (OSError, AttributeError, CharlstmError):  # AttributeError: it is some other library
        return None
    return loaded


def _library() -> Path | None:
    """The compiled library, from the cache or new; None if there is none to trust."""
    if os.name == "nt":
        return None
    level, flags = _level()
    source = SOURCE.read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, flags)).encode()).hexdigest()[:16]
    folder = cache_folder() / "kernels"
    path = folder / f"{sys.platform}-{platform.machine()}-{level}-{key}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(folder):
        return None
    if not (path.exists() and _is_own(path)) or _is_to_retry(path):
        _compile(path, flags)
    return path if path.exists() and path.stat().st_size else None


def _is_to_retry(path: Path) -> bool:
    """Whether this is the empty file of a compiler that failed long ago."""
    found = path.stat()
    return not found.st_size and abs(time.time() - found.st_mtime) > RETRY_SECONDS


def _compile(path: Path, flags: Sequence[str]) -> None:
    """Compile the kernel to ``path``, if there is a compiler; an empty file records a failure."""
    import shutil  # these three are slow to import, and needed once
    import subprocess
    import tempfile

    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return
    library = b""
    with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "kernel.so")
        subprocess.run(
            [compiler, *FLAGS, *flags, str(SOURCE), "-o", str(made)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMPILE_SECONDS,
            check=True,
        )
        library = made.read_bytes()
    # Half a library would end the process with a bus error; the compiler obeys a lax umask.
    work = path.with_name(files.work_name())
    try:
        files.write_durably(work, library, 0o600)
        work.replace(path)  # two processes may compile at the same time
    finally:
        work.unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    """Whether a file or folder belongs to this user, and nobody else may change it."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _level() -> tuple[str, tuple[str, ...]]:
    """The best instructions of this processor, and the compiler's flags for them."""
    with suppress(OSError):
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        for name, flags in LEVELS:
            if name in found.split():
                return name, flags
    return "plain", ()
