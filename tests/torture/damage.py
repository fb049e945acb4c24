"""Promises about files that are damaged by chance or made to do harm.

Everything happens in one process: thousands of damaged files are read in the time that starting
a command takes. Commands are called as the command line calls them.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forks import generator
from helpers import TEXT, model_config, train_config
from safetensors.numpy import load, save
from stops import Figures
from stops import named as _named

from charlstm.cli import run
from charlstm.events import Saved
from charlstm.runs import checkpoint, pointers
from charlstm.runs import run as runs
from charlstm.runs.metrics import MetricsLog
from charlstm.text.corpus import Corpus, open_corpus

Bits = dict[str, bytes]
CHECKPOINT_FILES = (
    checkpoint.MANIFEST,
    checkpoint.MODEL_JSON,
    checkpoint.MODEL_TENSORS,
    checkpoint.TRAIN_JSON,
    checkpoint.TRAIN_TENSORS,
)


class Victim:
    """A small run with three checkpoints, kept intact next to the copy that is damaged."""

    def __init__(self, folder: Path) -> None:
        from charlstm.training import new_run

        self.folder = folder
        self.text = folder / "tales.txt"
        self.text.write_text(TEXT * 4, encoding="utf-8")
        self.corpus: Corpus = open_corpus([self.text])
        config = model_config(len(self.corpus.vocab), hidden=6)
        train = train_config(steps=30, batch=2, bptt=8, keep=3)
        with new_run.begin(self.corpus, config, train, root=folder / "intact") as trainer:
            self.intact = trainer.path
            log, saved = MetricsLog(self.intact / runs.METRICS_FILE), 0
            for event in trainer.run():
                log.write(event)
                saved += isinstance(event, Saved)
                if saved == 4:
                    trainer.request_stop()
            log.close()
        self.path = folder / "checkpoints" / "victim"
        self.path.parent.mkdir()
        self.names = pointers.read_pointers(self.intact).kept
        assert len(self.names) == 3
        self.bits = {name: self.read(self.intact / name) for name in self.names}
        self.texts = {name: self.sampled(self.intact / name)[1] for name in self.names}

    def restore(self) -> Path:
        """A fresh copy to be damaged."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.intact, self.path)
        return self.path

    @staticmethod
    def read(path: Path) -> Bits:
        """All arrays of a checkpoint; raises where it is damaged."""
        return _bits(checkpoint.read_model(path), checkpoint.read_resume_state(path))

    def sampled(self, path: Path) -> tuple[int, str, str]:
        """What ``charlstm sample`` answers: code, text, complaint."""
        return called("sample", "-c", str(path), "--length", "20", "--seed", "1")


def _bits(model: checkpoint.ModelFile, state: checkpoint.ResumeState) -> Bits:
    arrays = state.tensors | {f"average/{name}": array for name, array in model.weights.items()}
    return {name: array.tobytes() for name, array in arrays.items()}


def called(*arguments: str) -> tuple[int, str, str]:
    """One command in this process: exit code, stdout, stderr. A traceback is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    return code, out.getvalue(), err.getvalue()


def assert_complaint(err: str, *names: str) -> None:
    """One line that names a file and a remedy."""
    assert err.startswith("charlstm: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n"), err
    assert ";" in err, err
    assert any(name in err for name in names), (names, err)


# -- chance ------------------------------------------------------------------------------------


def _truncate(random: random.Random, file: Path, _: Path) -> None:
    os.truncate(file, random.randrange(file.stat().st_size))


def _flip(random: random.Random, file: Path, _: Path) -> None:
    data = bytearray(file.read_bytes())
    for _number in range(random.choice((1, 1, 1, 2, 50))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    file.write_bytes(data)


def _overwrite(random: random.Random, file: Path, _: Path) -> None:
    data = bytearray(file.read_bytes())
    begin = random.randrange(len(data))
    length = random.randint(1, len(data) - begin)
    data[begin : begin + length] = random.choice((bytes(length), random.randbytes(length)))
    file.write_bytes(data)


def _lengthen(random: random.Random, file: Path, _: Path) -> None:
    with file.open("ab") as end:
        end.write(random.randbytes(random.randint(1, 99)))


def _swap(random: random.Random, file: Path, other: Path) -> None:
    file.write_bytes(other.read_bytes())


def _lose(random: random.Random, file: Path, _: Path) -> None:
    file.unlink()


def _fold(random: random.Random, file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(random: random.Random, file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _link(random: random.Random, file: Path, _: Path) -> None:
    file.unlink()
    file.symlink_to(random.choice(("/dev/zero", "/nowhere", file.name, "/etc/passwd")))


ACCIDENTS: tuple[Callable[[random.Random, Path, Path], None], ...] = (
    _truncate,
    _flip,
    _overwrite,
    _lengthen,
    _swap,
    _lose,
    _fold,
    _pipe,
    _link,
)


def damage(victim: Victim, trials: int, seed: int) -> Figures:
    """2: files of a checkpoint cut, flipped, swapped, lost: noticed by name, and passed over."""
    from charlstm.training import resume

    figures: Counter[str] = Counter()
    contents = {file: file.read_bytes() for file in sorted(victim.intact.glob("step-*/*"))}
    for trial in range(trials):
        with _named("damage", seed, trial):
            random = generator(seed, trial)
            path = victim.restore()
            spoilt = random.choice((victim.names[2:], victim.names[1:]))
            for name in spoilt:
                file = path / name / random.choice(CHECKPOINT_FILES)
                content = file.read_bytes()
                others = [other for other, found in contents.items() if found != content]
                accident = random.choice(ACCIDENTS)
                accident(random, file, random.choice(others))
                figures[accident.__name__[1:]] += 1
                code, out, err = victim.sampled(path / name)
                if file.name in CHECKPOINT_FILES[:3]:  # what sampling reads
                    assert (code, out) == (1, ""), (accident, file, err)
                    assert_complaint(err, str(path / name))
                    # One whole manifest in another's place blames what does not fit it.
                    named = file.name != checkpoint.MANIFEST or file.is_file()
                    assert not named or file.name in err, (accident, err)
                else:
                    assert (code, out) == (0, victim.texts[name]), err
            intact = [name for name in victim.names if name not in spoilt]
            with resume.open_run(path, victim.corpus) as trainer:
                notices = " ".join(trainer.notices)
                assert notices.count("skipped a checkpoint") == len(spoilt), notices
                found = trainer._capture()
                assert _bits(found.model, found.state) == victim.bits[intact[-1]]
            figures["checkpoints passed over"] += len(spoilt)
    return {"runs": trials, **dict(sorted(figures.items()))}


def damage_beside(victim: Victim, trials: int, seed: int) -> Figures:
    """2: run.json, checkpoints.json, metrics.jsonl and the cached text, damaged likewise."""
    figures: Counter[str] = Counter()
    cached = Path(str(victim.corpus.ids.filename)).parent  # type: ignore[attr-defined]
    keep = victim.folder / "cached"
    shutil.copytree(cached, keep, dirs_exist_ok=True)
    best = pointers.read_pointers(victim.intact).best
    assert best is not None
    for trial in range(trials):
        with _named("damage_beside", seed, trial):
            random = generator(seed, trial)
            path = victim.restore()
            shutil.rmtree(cached)
            shutil.copytree(keep, cached)
            beside = (runs.RUN_FILE, pointers.POINTER_FILE, runs.METRICS_FILE)
            files = [path / name for name in beside] + sorted(cached.iterdir())
            file = random.choice(files)
            accident = random.choice(ACCIDENTS)
            accident(random, file, random.choice([other for other in files if other != file]))
            code, out, err = victim.sampled(path)
            assert (code, out) == (0, victim.texts[best]), (accident, file, err)
            code, _, err = called(
                "train", "--resume", "-c", str(path), "--steps", "31", "--quiet", "--plain"
            )
            figures[f"{file.name}: exit {code}"] += 1
            if code and accident is _fold:  # no file can take a folder's place
                assert code == 1, (accident, file, err)
                assert file.name in err, (accident, file, err)
            elif code:
                assert code == 1, (accident, file, err)
                assert file.name == runs.RUN_FILE, (accident, file, err)
                assert_complaint(err, str(file))
            else:
                assert runs.read_run_file(path).digest == victim.corpus.digest
    shutil.rmtree(cached)
    shutil.copytree(keep, cached)
    return {"runs": trials, **dict(sorted(figures.items()))}


# -- malice ------------------------------------------------------------------------------------

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\x08"
NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**30,
    10**400,
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    ESCAPES,
    "../../outside",
    "/etc/passwd",
    "\ud800",
    "a" * 5000,
    [],
    {},
    [[]] * 1000,
    {"__class__": "os.system"},
)


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _spoil(random: random.Random, value: Any) -> Any:
    """The same JSON with something nasty at some place, or a key gone, or one too many."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(sorted(value))
        changed = {**value, key: _spoil(random, value[key])}
        if random.random() < 0.1:
            del changed[key]
        elif random.random() < 0.05:
            changed[ESCAPES] = 1
        return changed
    if isinstance(value, list) and value and random.random() < 0.7:
        place = random.randrange(len(value))
        return [*value[:place], _spoil(random, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and random.random() < 0.3:
        return ESCAPES + value[len(ESCAPES) :]
    return (
        _deep(random.choice((100, 900, 5000))) if random.random() < 0.05 else random.choice(NASTY)
    )


def _spoil_tensors(random: random.Random, file: Path) -> None:
    import numpy as np

    arrays = load(file.read_bytes())
    name = random.choice(sorted(arrays))
    array = arrays[name]
    ways: list[Callable[[], Any]] = [
        lambda: np.full_like(array, 3.0e38 if array.dtype.kind == "f" else 99),
        lambda: np.full(array.shape, np.nan, np.float32),
        lambda: array.astype(random.choice((np.float64, np.int8, np.uint16, np.bool_))),
        lambda: array.reshape(-1)[:1],
        lambda: np.zeros((0,), np.float32),
        lambda: array[..., None],
    ]
    arrays[name] = random.choice(ways)()
    if random.random() < 0.2:
        arrays["../" + ESCAPES] = arrays.pop(name)
    file.write_bytes(save({n: np.asarray(a, order="C") for n, a in arrays.items()}))


def _seal(path: Path) -> None:
    """Vouch for what is there, as someone who means harm would."""
    entries = {}
    for file in sorted(path.iterdir()):
        if file.name != checkpoint.MANIFEST:
            data = file.read_bytes()
            entries[file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {"format": 1, "files": entries}
    digest = hashlib.sha256((json.dumps(body, indent=1) + "\n").encode()).hexdigest()
    (path / checkpoint.MANIFEST).write_text(json.dumps({**body, "sha256": digest}))


def hostile(victim: Victim, trials: int, seed: int) -> Figures:
    """3: checkpoints with nasty content and right checksums; every command survives them."""
    figures: Counter[str] = Counter()
    outside = victim.folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("as it was")
    before = Path.cwd()
    os.chdir(victim.folder)
    try:
        for trial in range(trials):
            with _named("hostile", seed, trial):
                random = generator(seed, trial)
                path = victim.restore()
                settings = json.loads((path / runs.RUN_FILE).read_text())
                settings["created"] = settings["corpus"]["sources"][0] = ESCAPES
                (path / runs.RUN_FILE).write_text(json.dumps(settings))
                last = path / victim.names[-1]
                names = [last / name for name in CHECKPOINT_FILES[1:]]
                names += [path / name for name in (runs.RUN_FILE, pointers.POINTER_FILE)]
                names += [path / runs.METRICS_FILE]
                for _ in range(random.choice((1, 1, 2))):
                    file = random.choice(names)
                    if file.suffix == ".safetensors":
                        _spoil_tensors(random, file)
                    else:
                        ending = "\n" if file.suffix == ".jsonl" else None
                        lines = file.read_text().split(ending) if ending else [file.read_text()]
                        lines = [line for line in lines if line.strip()]
                        place = random.randrange(len(lines))
                        with contextlib.suppress(ValueError, RecursionError):
                            lines[place] = json.dumps(_spoil(random, json.loads(lines[place])))
                        file.write_text((ending or "").join(lines) + (ending or ""))
                if random.random() < 0.1:
                    (path / "step-00000099").symlink_to(outside)
                    (path / ".charlstm-01234567").symlink_to(outside)
                _seal(last)
                for arguments in (
                    ("sample", "-c", str(last), "--length", "5", "--seed", "1"),
                    ("inspect", "-c", str(path), "Row"),
                    ("score", "-c", str(last), str(victim.text)),
                    ("runs",),
                    ("runs", "show", "victim"),
                    (
                        "train",
                        "--resume",
                        "-c",
                        "victim",
                        "--steps",
                        "31",
                        "--plain",
                        str(victim.text),
                    ),
                ):
                    code, out, err = called(*arguments)
                    figures[f"{arguments[0]}: exit {code}"] += 1
                    assert code in (0, 1, 2), (arguments, err)
                    lines = err.splitlines()
                    assert code == 0 or lines[-1].startswith("charlstm: ") or code == 1, err
                    shown = err if arguments[0] == "sample" else out + err
                    assert all(c.isprintable() or c in "\n" for c in shown), ascii(shown)
                assert sorted(p.name for p in outside.iterdir()) == ["precious"]
                assert (outside / "precious").read_text() == "as it was"
    finally:
        os.chdir(before)
    return {"runs": trials, **dict(sorted(figures.items()))}
