"""Coverage-guided fuzzing of what reads checkpoints, settings, metrics, vocabularies and texts.

    python tests/torture/fuzz.py -max_total_time=600 [CORPUS_FOLDER]

The first byte of an input says who reads the rest. A reader may raise CharlstmError; anything
else is a finding, which libFuzzer saves as crash-… with what it takes to make it again. Options
are libFuzzer's.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

try:
    import atheris
except ImportError:
    sys.exit("fuzzing needs atheris: pip install atheris")

if "FUZZ_FOLDER" not in os.environ:  # libFuzzer never returns: this process cleans up after it
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:
        environment = {**os.environ, "FUZZ_FOLDER": folder}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)

with atheris.instrument_imports(include=["charlstm", "safetensors", "json"]):
    from charlstm.errors import CharlstmError
    from charlstm.runs import checkpoint, metrics, pointers
    from charlstm.runs import run as runs
    from charlstm.text import sources as texts
    from charlstm.text.sources import TextSource
    from charlstm.text.vocabulary import UNKNOWN_POLICIES, Vocabulary

INTACT = ROOT / "tests" / "data" / "format-1"
FOLDER = Path(os.environ["FUZZ_FOLDER"])
RUN = FOLDER / "run"
shutil.copytree(INTACT, RUN)
STEP = next(RUN.glob("step-*"))
FILES = {path.name: path.read_bytes() for path in STEP.iterdir()}


def read_checkpoint(data: bytes, name: str, sealed: bool) -> None:
    """The checkpoint with one file replaced, with or without a manifest that vouches for it."""
    files = {**FILES, name: data}
    if sealed and name != checkpoint.MANIFEST:
        entries = {
            other: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for other, content in sorted(files.items())
            if other != checkpoint.MANIFEST
        }
        body = {"format": 1, "files": entries}
        digest = hashlib.sha256((json.dumps(body, indent=1) + "\n").encode()).hexdigest()
        files[checkpoint.MANIFEST] = json.dumps({**body, "sha256": digest}).encode()
        (STEP / checkpoint.MANIFEST).write_bytes(files[checkpoint.MANIFEST])
    (STEP / name).write_bytes(data)
    try:
        model = checkpoint.read_model(STEP)
        state = checkpoint.read_resume_state(STEP)
        if not sealed:
            assert {n: a.tobytes() for n, a in model.weights.items()} == WEIGHTS
            assert state.tensors.keys() == STATE
        checkpoint.read_training(STEP)
    finally:
        (STEP / name).write_bytes(FILES[name])
        (STEP / checkpoint.MANIFEST).write_bytes(FILES[checkpoint.MANIFEST])


WEIGHTS = {n: a.tobytes() for n, a in checkpoint.read_model(STEP).weights.items()}
STATE = checkpoint.read_resume_state(STEP).tensors.keys()


def read_beside(data: bytes, name: str) -> None:
    """A run with one of its small files replaced."""
    intact = (RUN / name).read_bytes() if (RUN / name).exists() else b""
    (RUN / name).write_bytes(data)
    try:
        found = pointers.read_pointers(RUN)
        assert found.best is None or found.best in found.kept
        metrics.read_lines(RUN / name)
        runs.read_run_file(RUN)
    finally:
        (RUN / name).write_bytes(intact)


def read_vocabulary(data: bytes) -> None:
    """Symbols, then a text to encode by each policy and decode."""
    whole = data.decode("utf-8", "surrogateescape" if data[:1] == b"s" else "replace")
    symbols, _, text = whole.partition("\n")
    vocab = Vocabulary("".join(sorted(set(symbols))))
    for policy in UNKNOWN_POLICIES[1:]:
        vocab.decode(vocab.encode(text, policy))
    assert vocab.decode(vocab.encode(symbols)) == symbols


def read_text(data: bytes) -> None:
    """A text in some encoding, as a corpus reads it."""
    encodings = ("utf-8", "utf-16", "utf-32", "utf-7", "latin-1", "shift_jis", "hz", "utf-8-sig")
    reading = TextSource(("x",), encodings[data[0] % len(encodings)], data[0] > 200)
    points = list(texts.decoded("x", io.BytesIO(data[1:]), reading, []))
    if reading.encoding == "latin-1" and not reading.as_bytes:
        assert b"".join(part.astype("u1").tobytes() for part in points) == data[1:]


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    names = sorted(FILES)
    which, rest = data[0] % 16, data[1:]
    try:
        if which < 10:
            read_checkpoint(rest, names[which % 5], sealed=which >= 5)
        elif which < 13:
            read_beside(rest, (runs.RUN_FILE, pointers.POINTER_FILE, runs.METRICS_FILE)[which - 10])
        elif which == 13:
            read_vocabulary(rest)
        else:
            read_text(rest)
    except CharlstmError:
        pass


def _seeds(folder: Path) -> None:
    """Intact inputs for each reader, to begin with."""
    folder.mkdir(exist_ok=True)
    inputs = [(i, content) for i, (_, content) in enumerate(sorted(FILES.items()))]
    inputs += [(i + 5, content) for i, content in inputs]
    inputs += [
        (10, (RUN / runs.RUN_FILE).read_bytes()),
        (11, (RUN / pointers.POINTER_FILE).read_bytes()),
    ]
    inputs += [(12, b'{"event": "step_done", "step": 1, "loss": 2.5}\n'), (13, "aé\nab".encode())]
    inputs += [(14, b"\0some text"), (15, b"\4latin")]
    for number, content in inputs:
        (folder / f"seed-{number}").write_bytes(bytes([number]) + content)


def main() -> None:
    _seeds(FOLDER / "seeds")
    atheris.Setup([*sys.argv, "-max_len=20000", str(FOLDER / "seeds")], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
