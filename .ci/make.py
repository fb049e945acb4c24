"""Everything that is done with a checkout, by Python alone.

    python3 .ci/make.py demo     make the environment, train for two minutes, sample, inspect
    python3 .ci/make.py check    make the environment, run every check and test

The environment is .venv, made once and again when the versions wanted change.
"""

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
BINARIES = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
WANTED = ("pyproject.toml", "constraints.txt")


def run(*command: str) -> None:
    """Run a command of the environment from the checkout's root; stop if it fails."""
    print("$", shlex.join(command), flush=True)
    with subprocess.Popen([str(BINARIES / command[0]), *command[1:]], cwd=ROOT) as process:
        # Ctrl-C reaches the command too: what it does about it is waited for.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = process.wait()
        signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)


def make_environment() -> None:
    """Install charlstm and what it needs into .venv, in the versions of constraints.txt."""
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in WANTED)).hexdigest()
    stamp = ENVIRONMENT / "made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", "constraints.txt")
    # torch comes first and by its exact version: no other package may ask for a newer one.
    run("python", *pip, "torch")
    run("python", *pip, "-e", ".[dev]")
    stamp.write_text(wanted)


def demo() -> None:
    """What charlstm is, in three minutes."""
    run("charlstm", "train", "--minutes", "2", "--name", "demo")
    run("charlstm", "sample", "--temp", "0.8", "--length", "600")
    run("charlstm", "inspect", 'ODILE: "Is it the bell?" (She listens.)')
    activate = (
        f"{BINARIES.name}\\activate" if os.name == "nt" else f". .venv/{BINARIES.name}/activate"
    )
    print(f"\ncharlstm is in .venv. To use it yourself: {activate}")


def check() -> None:
    """Format, lint, types, a minute of fuzzing, tests."""
    run("ruff", "format", "--check", ".")
    run("ruff", "check", ".")
    run("mypy")
    fuzz()
    run("python", "-m", "pytest", "--durations=5")


def fuzz() -> None:
    """A minute of inputs made up to break what reads files, where the fuzzer can be had."""
    if subprocess.run(
        [BINARIES / "python", "-c", "import atheris"], capture_output=True
    ).returncode:
        print("atheris is not there: the readers are not fuzzed", flush=True)
        return
    run("python", "tests/torture/fuzz.py", "-max_total_time=60", "-verbosity=0")


def main() -> None:
    """Do what the command line names."""
    tasks = {"demo": demo, "check": check, "environment": lambda: None}
    if sys.version_info < (3, 11):
        sys.exit(f"charlstm needs Python 3.11 or later; this is {sys.version.split()[0]}")
    if len(sys.argv) != 2 or sys.argv[1] not in tasks:
        sys.exit(__doc__)
    make_environment()
    tasks[sys.argv[1]]()


if __name__ == "__main__":
    main()
