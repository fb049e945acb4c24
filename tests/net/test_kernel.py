"""The cache of the compiled kernel: whom it trusts, and how often it calls the compiler."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import charlstm
from charlstm.cache import CACHE_VARIABLE
from charlstm.net.kernel import RETRY_SECONDS, kernel

pytestmark = pytest.mark.skipif(kernel() is None, reason="there is no C compiler here")
LOAD = "import os; os.umask(0o002); from charlstm.net.kernel import kernel; print(bool(kernel()))"


def loads(cache: Path, path: Path | None = None) -> bool:
    """Whether a new process has a kernel, with a lax umask; ``path`` has the compilers."""
    environment = {**os.environ, CACHE_VARIABLE: str(cache)}
    environment["PYTHONPATH"] = str(Path(charlstm.__file__).parents[1])
    if path is not None:
        environment["PATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout == "True\n"


def failing_compiler(folder: Path) -> Path:
    """A file that gets a byte with each call of a compiler, which always fails."""
    calls = folder / "calls"
    compiler = folder / "cc"
    compiler.write_text(f"#!/bin/sh\nprintf x >> '{calls}'\nexit 1\n")
    compiler.chmod(0o755)
    return calls


def test_a_kernel_compiled_under_a_lax_umask_is_kept(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert loads(tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache" / "kernels").iterdir()] == [".so"]
    assert loads(tmp_path / "cache", empty)  # without a compiler


def test_a_compiler_that_fails_is_not_called_by_every_command(tmp_path: Path) -> None:
    calls, cache = failing_compiler(tmp_path), tmp_path / "cache"
    assert not loads(cache, tmp_path)
    assert not loads(cache, tmp_path)
    assert calls.read_text() == "x"
    (found,) = (cache / "kernels").iterdir()
    long_ago = time.time() - RETRY_SECONDS - 60
    os.utime(found, (long_ago, long_ago))
    assert loads(cache)


def test_a_folder_that_others_may_write_is_neither_trusted_nor_filled(tmp_path: Path) -> None:
    calls, folder = failing_compiler(tmp_path), tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert not loads(tmp_path / "cache", tmp_path)
    assert not calls.exists()


@pytest.mark.parametrize("source", ["int other;", None])
def test_what_is_no_kernel_is_not_used(source: str | None, tmp_path: Path) -> None:
    assert loads(tmp_path)
    (library,) = (tmp_path / "kernels").iterdir()
    if source is None:
        library.write_bytes(b"no library")
    else:
        code = tmp_path / "other.c"
        code.write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", str(code), "-o", str(library)], check=True)
        library.chmod(0o700)
    assert not loads(tmp_path)
