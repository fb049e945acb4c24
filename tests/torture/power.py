"""Promise about power cuts: every state a disk may be left in is a run that goes on.

A run is trained while each change to its folders is recorded: a file's bytes as they are written
and synced, entries made, renamed and removed, folders synced. Then the power is cut after every
change, and what was not yet synced is lost in every plausible way: all of it, none of it, the
changes up to some moment (as a journal would keep them), or any part of them; a file's bytes that
were not synced are gone, cut, or zeros.
"""

import builtins
import contextlib
import io
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forks import generator
from helpers import TEXT, model_config, train_config
from stops import Figures, named

from charlstm.errors import CharlstmError
from charlstm.events import Saved
from charlstm.runs import checkpoint, pointers
from charlstm.runs import lock as run_lock
from charlstm.runs import run as runs
from charlstm.runs.catalogue import find_checkpoint
from charlstm.text.corpus import open_corpus

Entries = dict[str, "Node"]


@dataclass(eq=False)
class Node:
    """A file or folder: what the system shows, and what is surely on the disk."""

    entries: Entries | None = None
    data: bytes = b""
    synced: bytes = b""
    synced_entries: Entries = field(default_factory=dict)
    pending: list[tuple[tuple[str, "Node | None"], ...]] = field(default_factory=list)
    """Changes of entries since the last sync, each of them whole: (name, what it is then) …"""

    def change(self, *changes: tuple[str, "Node | None"]) -> None:
        assert self.entries is not None
        self.pending.append(changes)
        _apply(self.entries, changes)


def _apply(entries: Entries, changes: tuple[tuple[str, Node | None], ...]) -> None:
    for name, node in changes:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Disk:
    """Passes what happens below ``root`` to a model of a file system; ``cut`` after each change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Node(entries={})
        self.on_change: Any = lambda: None
        self._paused = False

    def _node(self, path: Path) -> Node | None:
        node = self.top
        for part in path.relative_to(self.root).parts:
            found = (node.entries or {}).get(part)
            if found is None:
                return None
            node = found
        return node

    def _where(self, path: Any, folder: int | None = None) -> Path | None:
        """The absolute path, if it is below the root."""
        base = Path(os.readlink(f"/proc/self/fd/{folder}")) if folder is not None else Path.cwd()
        whole = Path(os.path.normpath(base / os.fspath(path)))
        return whole if whole.is_relative_to(self.root) and whole != self.root else None

    def _see(self) -> None:
        """Files that are open for writing: their bytes as they stand now."""
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and (node := self._node(path)) is not None:
                node.data = path.read_bytes()

    def _change(self, path: Path, *changes: tuple[str, Node | None]) -> None:
        folder = self._node(path.parent)
        assert folder is not None
        folder.change(*changes)
        self.on_change()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Stand between the program and the system's calls."""
        original = {
            name: getattr(os, name)
            for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync")
        }
        opened = io.open

        def open_(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            path = None if isinstance(file, int) else self._where(file)
            fresh = path is not None and not path.exists()
            stream = opened(file, mode, *more, **options)
            if path is not None and (fresh or "w" in mode):
                if fresh:
                    self._change(path, (path.name, Node()))
                else:
                    self._see()
                    self.on_change()
            return stream

        def mkdir(path: Any, *more: Any, dir_fd: int | None = None) -> None:
            original["mkdir"](path, *more, dir_fd=dir_fd)
            if (at := self._where(path, dir_fd)) is not None:
                self._change(at, (at.name, Node(entries={})))

        def rename(source: Any, target: Any) -> None:
            self._see()
            one, two = self._where(source), self._where(target)
            original["replace"](source, target)
            if one is not None and two is not None:
                assert one.parent == two.parent
                self._change(one, (one.name, None), (two.name, self._node(one)))

        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            at = self._where(path, dir_fd)
            call = original["rmdir" if at is not None and at.is_dir() else "unlink"]
            call(path, dir_fd=dir_fd)
            if at is not None:
                self._change(at, (at.name, None))

        def fsync(descriptor: int) -> None:
            at = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            node = self._node(at) if at.is_relative_to(self.root) else None
            if node is not None:
                self._see()
                node.synced = node.data
                if node.entries is not None:
                    node.synced_entries, node.pending = dict(node.entries), []
                self.on_change()

        replaced = {"mkdir": mkdir, "rename": rename, "replace": rename, "fsync": fsync}
        replaced |= {"unlink": remove, "remove": remove, "rmdir": remove}
        try:
            for name, call in replaced.items():
                setattr(os, name, call)
            io.open = builtins.open = open_  # type: ignore[assignment]
            yield
        finally:
            for name, call in original.items():
                setattr(os, name, call)
            io.open = builtins.open = opened

    def leave(self, target: Path, random: random.Random, way: str) -> None:
        """Write what the disk holds after the power was cut, one of many possibilities."""
        self._leave(self.top, target, random, way)

    def _leave(self, node: Node, target: Path, random: random.Random, way: str) -> None:
        if node.entries is None:
            target.write_bytes(_remains(node, random, way))
            return
        target.mkdir(exist_ok=True)
        entries = dict(node.synced_entries)
        count = len(node.pending)
        until = {"all": count, "none": 0}.get(way, random.randint(0, count))
        for place, changes in enumerate(node.pending):
            if place < until if way != "any" else random.random() < 0.5:
                _apply(entries, changes)
        for name, child in entries.items():
            self._leave(child, target / name, random, way)


def _remains(node: Node, random: random.Random, way: str) -> bytes:
    if node.data == node.synced or way == "all":
        return node.data
    size = random.randint(0, len(node.data))
    kept = (node.synced, node.data[:size], node.data[:size] + bytes(len(node.data) - size))
    return node.synced if way == "none" else random.choice(kept)


WAYS = ("all", "none", "until", "any")


def power_cut(folder: Path, trials: int, seed: int) -> Figures:
    """1: the power is cut after every change of a run that has a teacher; ``trials`` losses of each
    kind are sampled."""
    from charlstm.training import new_run, schedule

    figures: Counter[str] = Counter()
    text = folder / "tales.txt"
    text.write_text(TEXT * 4, encoding="utf-8")
    corpus = open_corpus([text])
    root = folder / "disk"
    root.mkdir()
    disk = Disk(root)
    announced = [-1]
    left = folder / "left"

    def cut() -> None:
        disk._see()
        figures["changes"] += 1
        change = figures["changes"]
        for trial in range(trials):
            for way in WAYS:
                if trial and way in ("all", "none"):
                    continue
                with named(f"power_cut, change {change}, {way}", seed, trial):
                    shutil.rmtree(left, ignore_errors=True)
                    disk.leave(left, generator(seed, change * trials + trial), way)
                    figures[_assert_goes_on(left / "checkpoints", announced[0])] += 1

    def undisturbed() -> None:
        with _paused(disk):
            cut()

    disk.on_change = undisturbed
    settings = train_config(steps=4, batch=2, bptt=8, keep=1, distillation=0.5)
    model = model_config(len(corpus.vocab), hidden=4)
    alone = replace(settings, distillation=0.0)
    with new_run.begin(corpus, model, alone, root=folder) as teacher:
        for _ in teacher.run():
            pass
    before = schedule.EVALUATIONS, schedule.EVALUATION_FRACTION
    schedule.EVALUATIONS, schedule.EVALUATION_FRACTION = 10**6, 10.0**6
    try:
        with disk.recording():
            begun = new_run.begin(
                corpus,
                model,
                settings,
                root=root / "checkpoints",
                name="cut",
                teacher=find_checkpoint(str(teacher.path)),
            )
            with begun as trainer:
                announced[0] = 0
                for event in trainer.run():
                    if isinstance(event, Saved):
                        announced[0] = event.step + 1
    finally:
        schedule.EVALUATIONS, schedule.EVALUATION_FRACTION = before
    # The model saw all that happened: it shows the folders as they are.
    shutil.rmtree(left)
    disk.leave(left, generator(seed, 0), "all")
    assert _tree(left) == _tree(root)
    assert figures["changes"] > 50
    return dict(figures)


@contextlib.contextmanager
def _paused(disk: Disk) -> Iterator[None]:
    """What the test itself does is not recorded: it is outside the root."""
    before, disk.on_change = disk.on_change, lambda: None
    try:
        yield
    finally:
        disk.on_change = before


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if path.name != run_lock.LOCK_FILE  # holds nothing, and is opened by a library
    }


def _assert_goes_on(root: Path, announced: int) -> str:
    """What was announced as saved can be read, with all before it; ``announced`` is steps + 1."""
    path = root / "cut"
    if announced < 0 and not (path / runs.RUN_FILE).exists():
        return "no run yet"
    assert runs.read_run_file(path).model.hidden_size == 4
    assert checkpoint.read_model(path / runs.TEACHER).config.hidden_size == 4
    if announced > 0:
        model = checkpoint.read_model(find_checkpoint(str(path)))
        assert model.training["step"] >= 0
    for candidate in pointers.resume_order(path):
        try:
            found = checkpoint.read_model(candidate).training["step"]
            checkpoint.read_resume_state(candidate)
        except CharlstmError:
            continue
        assert found >= announced - 1, (found, announced)
        return "goes on from a checkpoint"
    assert announced <= 0, announced
    return "begins again from its settings"
