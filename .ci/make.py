"""Everything that is done with a checkout, by Python alone.

    python3 .ci/make.py demo       make the environment, train for two minutes, sample, inspect
    python3 .ci/make.py check      make the environment, run every check and test
    python3 .ci/make.py package    build wheel and sdist in dist, try the wheel by itself
    python3 .ci/make.py torture    break runs many times, as docs/project/reliability.md describes
    python3 .ci/make.py docs       write the generated pages of the docs: commands, defaults, API …
    python3 .ci/make.py prose      check spelling and wording of the docs and of the program's text
    python3 .ci/make.py pictures   train models and draw the pictures of the docs again
    python3 .ci/make.py outputs    train a model and refresh the outputs that the docs show
    python3 .ci/make.py site       build the documentation as a site, strictly
    python3 .ci/make.py environment   only make the environment

The environment is .venv. It is made once, and again when the required versions change.
"""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
BINARIES = "Scripts" if os.name == "nt" else "bin"
REQUIREMENTS = ("pyproject.toml", "constraints.txt")


def run(*command: str, environment: Path = ENVIRONMENT, folder: Path = ROOT) -> None:
    """Run a command of the environment in a folder; stop if it fails."""
    print("$", shlex.join(command), flush=True)
    arguments = [str(environment / BINARIES / command[0]), *command[1:]]
    with subprocess.Popen(arguments, cwd=folder) as process:
        # Ctrl-C reaches the command, too: wait for it to finish.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = process.wait()
        signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)


def install(*packages: str, environment: Path = ENVIRONMENT) -> None:
    """Make the environment, with the packages and torch in the versions of constraints.txt."""
    venv.create(environment, with_pip=True, clear=True)
    constraints = str(ROOT / "constraints.txt")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", constraints)
    # torch comes first and by its exact version: no other package may ask for a newer one.
    run("python", *pip, "torch", environment=environment)
    run("python", *pip, *packages, environment=environment)


def make_environment() -> None:
    """Install charlstm and what its development needs into .venv."""
    required = b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS)
    digest = hashlib.sha256(required).hexdigest()
    stamp = ENVIRONMENT / "made-from"
    if stamp.exists() and stamp.read_text() == digest:
        return
    install("-e", ".[dev,docs]")
    stamp.write_text(digest)


def demo() -> None:
    """What charlstm is, in three minutes."""
    run("charlstm", "train", "--minutes", "2", "--name", "demo")
    run("charlstm", "sample", "--temp", "0.8", "--length", "600")
    print(flush=True)  # in a pipe the text ends where it ends
    run("charlstm", "inspect", 'ODILE: "Is it the bell?" (She listens.)')
    activate = f"{BINARIES}\\activate" if os.name == "nt" else f". .venv/{BINARIES}/activate"
    print(f"\ncharlstm is in .venv. To use it yourself: {activate}")


def check() -> None:
    """Format, lint, types, prose, the site, a minute of fuzzing, tests."""
    run("ruff", "format", "--check", ".")
    run("ruff", "check", ".")
    run("mypy")
    prose()
    site()
    fuzz()
    run("python", "-m", "pytest", "-n", "auto", "--dist", "worksteal", "--durations=5")


def prose() -> None:
    """Check spelling and wording of the docs and of the program's own text."""
    run("python", ".ci/prose.py", "--strings")


def site() -> None:
    """Build the site in ./site; a broken link or anchor ends the build."""
    run("zensical", "build", "--strict", "--clean")


def pictures() -> None:
    """Draw every picture of the docs that shows a real run."""
    run("python", ".ci/docs/pictures.py")
    run("python", ".ci/docs/moving_picture.py")


def fuzz() -> None:
    """A minute of inputs made up to break what reads files, where the fuzzer can be had."""
    python = ENVIRONMENT / BINARIES / "python"
    if subprocess.run([python, "-c", "import atheris"], capture_output=True).returncode:
        print("atheris is not there: the readers are not fuzzed", flush=True)
        return
    run("python", "tests/torture/fuzz.py", "-max_total_time=60", "-verbosity=0")


def package() -> None:
    """Build wheel and sdist; install the wheel alone, away from the checkout, and use it."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run("python", "-m", "build")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as name:
        folder, environment = Path(name), Path(name) / "environment"
        os.environ["CHARLSTM_CACHE"] = str(folder / "cache")
        install(str(wheel), environment=environment)
        for words in (
            "train --steps 20 --hidden 32 --batch 8 --bptt 32 --name bundled",
            "sample --seed 1 --length 100",
            "inspect --rows 3",
        ):
            run("charlstm", *words.split(), environment=environment, folder=folder)
            print(flush=True)


TASKS = {
    "demo": demo,
    "check": check,
    "package": package,
    "torture": lambda: run("python", "tests/torture"),
    "prose": prose,
    "docs": lambda: run("python", ".ci/docs"),
    "pictures": pictures,
    "outputs": lambda: run("python", ".ci/docs/outputs.py"),
    "site": site,
    "environment": lambda: None,
}


def main() -> None:
    """Do what the command line names."""
    if sys.version_info < (3, 11):
        sys.exit(f"charlstm needs Python 3.11 or later; this is {sys.version.split()[0]}")
    if len(sys.argv) != 2 or sys.argv[1] not in TASKS:
        unknown = shlex.join(sys.argv[1:])
        sys.exit(f"no such task: {unknown}\n\n{__doc__}" if unknown else __doc__)
    make_environment()
    TASKS[sys.argv[1]]()


if __name__ == "__main__":
    main()
