"""The compiled kernel: compiled once for a user, trusted only if it is whole, done without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import charlstm
from charlstm.cache import CACHE_VARIABLE
from charlstm.net.kernel import SWITCH, kernel

needs_kernel = pytest.mark.skipif(kernel() is None, reason="there is no C compiler here")


def python(code: str, umask: int = 0o022) -> tuple[str, str]:
    """Stdout and stderr of a new process, which has not loaded the kernel."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
    )
    return done.stdout, done.stderr


def test_without_a_compiler_numpy_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # nothing compiled yet
    monkeypatch.setenv("PATH", "")
    code = (
        "from charlstm.net.kernel import kernel\n"
        "from charlstm.net.model_config import ModelConfig\n"
        "from charlstm.net.quantised import QuantisedEngine\n"
        "import numpy as np\n"
        "assert kernel() is None\n"
        "config = ModelConfig('lstm', 5, 2, 3, 1)\n"
        "weights = {n: np.ones(s, np.float32) for n, s in config.shapes().items()}\n"
        "engine = QuantisedEngine(config, weights)\n"
        "print(engine.step(np.array([1]), engine.initial_state())[0].shape)\n"
    )
    assert python(code) == ("(1, 5)\n", "")


REASON = "from charlstm.net.kernel import kernel, why_missing; print(bool(kernel()), why_missing())"
LOADED = ("True \n", "")


@needs_kernel
def test_the_kernel_is_compiled_once_in_a_private_cache_whatever_the_umask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "new"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    assert python(REASON, umask=0o002) == LOADED
    (library,) = (cache / "kernels").iterdir()  # nothing else is left
    assert [path.stat().st_mode & 0o777 for path in (cache, library)] == [0o700, 0o700]
    monkeypatch.setenv("PATH", "")
    assert python(REASON, umask=0o002) == LOADED
    (cache / "kernels").chmod(0o775)  # as a copy has it
    assert python(REASON) == LOADED
    if os.geteuid() == 0:  # a folder of somebody else is neither used nor changed
        os.chown(cache / "kernels", 1234, -1)
        (cache / "kernels").chmod(0o777)
        assert "belongs to another user" in python(REASON)[0]
        assert (cache / "kernels").stat().st_mode & 0o777 == 0o777
        assert list((cache / "kernels").iterdir()) == [library]


@pytest.mark.skipif(os.name == "nt", reason="there is no kernel on Windows")
def test_a_missing_kernel_has_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))  # no folder can be made there
    assert python(REASON)[0].startswith("False not a directory")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert "False there is no C compiler (cc, " in python(REASON)[0]
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'no headers' >&2; exit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    assert python(REASON)[0] == f"False {compiler} failed: no headers\n"
    for off in ("off", "OFF", "0"):
        monkeypatch.setenv(SWITCH, off)
        assert python(REASON)[0] == "False \n"


@needs_kernel
def test_a_damaged_library_is_compiled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert python(REASON) == LOADED
    (library,) = tmp_path.glob("kernels/*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[:5000])  # loading it would end the process
    assert python(REASON) == LOADED
    assert library.read_bytes() == whole


@needs_kernel
def test_a_compiler_that_writes_something_else_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other.c").write_text("int other;")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "other.c", "-o", "other.so"], cwd=tmp_path, check=True
    )
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cp {tmp_path}/other.so "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert python(REASON) == ("False the compiler has made something else\n", "")
