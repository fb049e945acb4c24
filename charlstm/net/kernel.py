"""The compiled kernel: whole steps of a quantised model in one call, where a C compiler is present.

``kernel.c`` is compiled on first use, for the processor at hand, and kept in the cache. Without it,
or with ``CHARLSTM_KERNEL=off``, ``quantised`` computes the same in NumPy; ``why_missing`` says why.
"""

import ctypes
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.cache import make_in_cache
from charlstm.errors import CharlstmError, reason_of

SWITCH = "CHARLSTM_KERNEL"
"""Environment variable; ``off`` or ``0`` turns the kernel off."""
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
NO_COMPILER = f"there is no C compiler ({', '.join(COMPILERS)})"
COMPILE_SECONDS = 60
TEXTS_PER_THREAD, CHARACTERS_PER_THREAD = 8, 100
"""Fewest texts, and fewest characters of all of them, for which a thread of its own pays: to start
one and to wait for it takes as long as about 50 characters."""


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

        useful = min(batch // TEXTS_PER_THREAD, steps * batch // CHARACTERS_PER_THREAD)
        threads = min(_threads(), useful)
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
    started = []
    for part in pairwise(ends[1:]):
        thread = Thread(target=run, args=part)
        try:
            thread.start()
            started.append(thread)
        except RuntimeError:  # the system has no more threads
            run(*part)
    run(*ends[:2])
    for thread in started:
        thread.join()


def _pack(library: ctypes.CDLL, matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    packed = np.empty(library.packed_size(*matrix.shape), np.int8)
    library.pack(matrix.ctypes.data, *matrix.shape, packed.ctypes.data)
    return packed


def kernel() -> ctypes.CDLL | None:
    """The compiled kernel, or None where there is none or the user turned it off."""
    return None if _is_off() else _load()[0]


def why_missing() -> str:
    """Why there is no kernel; empty if there is one, or if the user can do nothing about it."""
    return "" if _is_off() else _load()[1]


def _is_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in ("off", "0")


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The kernel, or None and the reason."""
    if os.name == "nt":
        return None, ""
    integer, address = ctypes.c_int64, ctypes.c_void_p
    try:
        loaded = ctypes.CDLL(str(_library()))
        loaded.packed_size.argtypes, loaded.packed_size.restype = [integer, integer], integer
        loaded.pack.argtypes, loaded.pack.restype = [address, integer, integer, address], None
        loaded.run.argtypes = [address, address, *[integer] * 4, address, address]
    except OSError as error:
        return None, reason_of(error)
    except CharlstmError as error:
        return None, error.message
    except AttributeError:
        return None, "the compiler has made something else"
    return loaded, ""


def _library() -> Path:
    """The compiled library, from the cache or new.

    Raises:
        CharlstmError: it cannot be compiled, or the cache belongs to another user.
        OSError: the cache cannot be written.
    """
    level, flags = _level()
    source = SOURCE.read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, flags)).encode()).hexdigest()[:16]
    stem = f"{sys.platform}-{platform.machine()}-{level}-{key}"
    folder = make_in_cache("kernels", 0o700)
    if folder.stat().st_uid != os.getuid():
        raise CharlstmError(f"{folder} belongs to another user")
    folder.chmod(0o700)  # a copied cache has other modes
    for path in folder.glob(f"{stem}-*.so"):
        if _is_own(path) and path.name == _name(stem, path):
            return path
    return _compile(folder, stem, flags)


def _name(stem: str, library: Path) -> str:
    """The name of a library, with a digest: one that is damaged would end the process."""
    return f"{stem}-{hashlib.sha256(library.read_bytes()).hexdigest()[:16]}.so"


def _compile(folder: Path, stem: str, flags: Sequence[str]) -> Path:
    """Compile the kernel and return its library; raises as ``_library``."""
    import shutil  # these three are slow to import, and needed once
    import subprocess
    from tempfile import TemporaryDirectory

    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise CharlstmError(NO_COMPILER)
    # Two processes may compile at the same time, in containers with the same number.
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as work:
        new = Path(work, "kernel.so")
        try:
            subprocess.run(
                [compiler, *FLAGS, *flags, str(SOURCE), "-o", str(new)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMPILE_SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise CharlstmError(f"{compiler} took more than {COMPILE_SECONDS} s") from None
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise CharlstmError(f"{compiler} failed: {reason[:200]}") from None
        new.chmod(0o700)  # compilers go by the umask, and others must not change the file
        return new.replace(folder / _name(stem, new))


def _is_own(path: Path) -> bool:
    """Whether the file belongs to this user, and nobody else may change it."""
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
