"""Checkpoints: a folder of safetensors and JSON, complete or not there at all.

A checkpoint is never changed once it has its name. ``manifest.json`` holds size and SHA-256 of
every other file, and a digest of itself, so a file that was cut, altered or swapped is noticed
before a number of it is used. Nothing is ever unpickled. docs/reference/checkpoints.md gives the
format.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from charlstm.errors import CharlstmError
from charlstm.files import (
    MAX_JSON_BYTES,
    check_format,
    file_size,
    make_work_folder,
    memory_present,
    open_to_append,
    parse_json,
    read_json,
    sync_folder,
    to_json,
    unreadable,
    write_durably,
)
from charlstm.net.model_config import ModelConfig
from charlstm.text.vocabulary import Vocabulary

FORMAT = 1
MANIFEST = "manifest.json"
MODEL_JSON, MODEL_TENSORS = "model.json", "model.safetensors"
TRAIN_JSON, TRAIN_TENSORS = "train.json", "train.safetensors"
MAX_EXCERPT = 1 << 16
UNRECORDED = ".charlstm-unrecorded"
"""Lies in a checkpoint that its run does not record: not yet, or no longer."""
REMEDY = "use another checkpoint of the run, or train again"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelFile:
    """All that sampling, scoring and inspecting need."""

    config: ModelConfig
    vocab: Vocabulary
    weights: dict[str, NDArray[np.float32]]
    """By the names of ``ModelConfig.shapes``; the averaged weights."""
    excerpt: str
    """The start of the held-out text: what ``inspect`` reads when given nothing."""
    training: dict[str, Any]
    """Where it comes from: run, corpus, step, epoch, val_loss (nats per character) …"""


@dataclass(frozen=True)
class ResumeState:
    """What only resuming needs."""

    tensors: Arrays
    values: dict[str, Any]


def write_checkpoint(folder: Path, model: ModelFile, state: ResumeState) -> Path:
    """Write a checkpoint below ``folder``; return its path once it is complete on disk.

    The files are written and synced in a temporary folder, which is then renamed: whenever the
    process dies, there is a whole checkpoint of that name or none. It is marked as ``UNRECORDED``
    until the run records it, so that what a kill in between leaves is known as the run's own.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    files = _model_files(model) | {
        TRAIN_JSON: to_json(state.values),
        TRAIN_TENSORS: _to_safetensors(state.tensors),
    }
    step = int(model.training["step"])
    work = make_work_folder(folder)
    try:
        mark_unrecorded(work)
        _write_files(work, files)
        target = _free_name(folder, f"step-{step:08d}")
        os.rename(work, target)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return target


def write_model(folder: Path, model: ModelFile) -> None:
    """Make ``folder`` a checkpoint that can be read and not resumed: it has the model alone.

    Unlike a whole one it comes file by file: its place is in a folder that has no name yet.
    """
    folder.mkdir()
    _write_files(folder, _model_files(model))


def _model_files(model: ModelFile) -> dict[str, bytes]:
    model_json = {
        "format": FORMAT,
        "model": model.config.to_dict(),
        "vocabulary": {"kind": model.vocab.kind, "symbols": model.vocab.symbols},
        "training": model.training,
        "excerpt": model.excerpt,
    }
    return {MODEL_JSON: to_json(model_json), MODEL_TENSORS: _to_safetensors(model.weights)}


def mark_unrecorded(path: Path) -> None:
    """Mark a checkpoint as one that its run may delete; a link is left alone, and not followed."""
    if not path.is_symlink():
        open_to_append(path / UNRECORDED).close()


def delete_checkpoint(path: Path) -> bool:
    """Delete the files that charlstm wrote into a checkpoint; return whether the folder is gone.

    A folder with anything else in it stays, and so does what is only a link to a folder.
    """
    if path.is_symlink():
        return False
    # Without its manifest it is no checkpoint, the mark goes last: so the next try finds it.
    for name in (MANIFEST, MODEL_JSON, MODEL_TENSORS, TRAIN_JSON, TRAIN_TENSORS, UNRECORDED):
        with suppress(OSError):
            (path / name).unlink()
    with suppress(OSError):
        path.rmdir()
    return not path.exists()


def _write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        write_durably(folder / name, data)
    write_durably(folder / MANIFEST, to_json(_manifest(files)))
    sync_folder(folder)


def _to_safetensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    # safetensors writes the memory as it lies, whatever the strides say.
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def _free_name(folder: Path, name: str) -> Path:
    """``name``, or ``name-2`` …: a resumed run may come to a step that was saved before."""
    target, number = folder / name, 1
    while os.path.lexists(target):  # a dangling link takes a name, too
        number += 1
        target = folder / f"{name}-{number}"
    return target


def _manifest(files: dict[str, bytes]) -> dict[str, Any]:
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    }
    body = {"format": FORMAT, "files": entries}
    return {**body, "sha256": hashlib.sha256(to_json(body)).hexdigest()}


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    manifest = read_json(file, REMEDY)
    check_format(manifest.get("format"), FORMAT, file, REMEDY)
    entries = manifest.get("files")
    try:
        body = to_json({"format": manifest["format"], "files": entries})
    except (ValueError, RecursionError):  # NaN; nested deeper than Python 3.12 writes
        body = b""
    if hashlib.sha256(body).hexdigest() != manifest.get("sha256"):
        raise CharlstmError(f"{file} is damaged: its checksum does not match", REMEDY)
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise CharlstmError(f"{file} is damaged: its entries cannot be read", REMEDY)
    return entries


def _is_entry(value: object) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("bytes")) is int
        and isinstance(value.get("sha256"), str)
    )


def _read_checked(path: Path, manifest: dict[str, Any], name: str) -> bytes:
    file = path / name
    expected = manifest.get(name)
    if expected is None:
        raise CharlstmError(f"{file} is not named in {MANIFEST}", REMEDY)
    try:
        # The size is checked first: no more memory is taken than the manifest vouches for.
        size = file_size(file)
        if size != expected["bytes"]:
            raise CharlstmError(
                f"{file} is damaged: it has {size:,} bytes, "
                f"not {expected['bytes']:,} as {MANIFEST} says",
                REMEDY,
            )
        most = memory_present() if name.endswith(".safetensors") else MAX_JSON_BYTES
        if most is not None and size > most:
            raise CharlstmError(f"{file} has {size:,} bytes, {most:,} at most", REMEDY)
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error, REMEDY) from None
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise CharlstmError(f"{file} is damaged: its checksum is not {MANIFEST}'s", REMEDY)
    return data


def _tensors(data: bytes, file: Path) -> Arrays:
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise CharlstmError(f"{file} is damaged: {error}", REMEDY) from None


def read_model(path: Path) -> ModelFile:
    """Read the model of the checkpoint at ``path``.

    Raises:
        CharlstmError: a file is missing, altered, of a later format, or does not fit the others.
    """
    manifest = _read_manifest(path)
    source = path / MODEL_JSON
    content = parse_json(_read_checked(path, manifest, MODEL_JSON), source, REMEDY)
    config = ModelConfig.from_dict(content.get("model"), str(source))
    vocab = _vocabulary(content.get("vocabulary"), source)
    if len(vocab) != config.vocab_size:
        raise CharlstmError(
            f"{source} is damaged: {len(vocab)} symbols, {config.vocab_size} stated", REMEDY
        )
    excerpt, training = content.get("excerpt"), content.get("training")
    if not isinstance(excerpt, str) or not isinstance(training, dict):
        raise CharlstmError(f"{source} is damaged: excerpt or training is missing", REMEDY)
    if len(excerpt) > MAX_EXCERPT:  # it is read whenever nothing else is named
        raise CharlstmError(f"{source} is damaged: an excerpt of {len(excerpt):,}", REMEDY)
    shapes = config.shapes()
    floats = config.parameters * 4
    stated = manifest.get(MODEL_TENSORS, {}).get("bytes", 0)
    if not floats <= stated <= floats + MAX_JSON_BYTES:
        raise CharlstmError(
            f"{path / MODEL_TENSORS} is damaged: {stated:,} bytes do not hold "
            f"{config.parameters:,} parameters",
            REMEDY,
        )
    file = path / MODEL_TENSORS
    weights = _tensors(_read_checked(path, manifest, MODEL_TENSORS), file)
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes or any(array.dtype != np.float32 for array in weights.values()):
        raise CharlstmError(f"{file} is damaged: its arrays do not fit the settings", REMEDY)
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise CharlstmError(f"{file} holds numbers that are not finite", REMEDY)
    return ModelFile(config, vocab, weights, excerpt, training)


def fingerprint(model: ModelFile) -> str:
    """SHA-256 over settings, vocabulary and weights: who has another writes another text."""
    digest = hashlib.sha256(to_json(model.config.to_dict()))
    digest.update(to_json({"kind": model.vocab.kind, "symbols": model.vocab.symbols}))
    for name in model.config.shapes():
        digest.update(model.weights[name].tobytes())
    return digest.hexdigest()


def read_training(path: Path) -> dict[str, Any]:
    """What ``model.json`` tells of the training, unchecked and without the model; {} if nothing."""
    try:
        found = read_json(path / MODEL_JSON, REMEDY).get("training")
    except CharlstmError:
        return {}
    return found if isinstance(found, dict) else {}


def _vocabulary(value: object, source: Path) -> Vocabulary:
    if isinstance(value, dict):
        symbols, kind = value.get("symbols"), value.get("kind")
        if isinstance(symbols, str) and kind in ("characters", "bytes"):
            if any("\ud800" <= symbol <= "\udfff" for symbol in symbols):  # cannot be written
                raise CharlstmError(f"{source} is damaged: half a character is a symbol", REMEDY)
            try:
                return Vocabulary(symbols, kind)
            except CharlstmError as error:
                raise CharlstmError(f"{source} is damaged: {error.message}", REMEDY) from None
    raise CharlstmError(f"{source} is damaged: its vocabulary cannot be read", REMEDY)


def read_resume_state(path: Path) -> ResumeState:
    """Read what resuming needs from the checkpoint at ``path``; raises as ``read_model``."""
    manifest = _read_manifest(path)
    values = parse_json(_read_checked(path, manifest, TRAIN_JSON), path / TRAIN_JSON, REMEDY)
    tensors = _tensors(_read_checked(path, manifest, TRAIN_TENSORS), path / TRAIN_TENSORS)
    return ResumeState(tensors, values)
