"""Checkpoints: folders of safetensors and JSON files that appear complete or not at all.

A checkpoint never changes once it has its name. ``manifest.json`` has the size and SHA-256 of every
other file, and a digest of itself, so truncated, altered or swapped files are detected before use.
Nothing is ever unpickled. docs/reference/checkpoints.md specifies the format.
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

from charlstm.errors import CharlstmError, plural
from charlstm.files import (
    MAX_JSON_BYTES,
    check_format,
    file_size,
    is_count,
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
LARGEST = 1e15
"""Above it, products of weights may overflow float32."""
UNRECORDED = ".charlstm-unrecorded"
"""Marker file of a checkpoint that its run does not record: not yet, or no longer."""
REMEDY = "use another checkpoint of the run, or train again"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelFile:
    """Everything that sampling, scoring and inspecting need."""

    config: ModelConfig
    vocab: Vocabulary
    weights: dict[str, NDArray[np.float32]]
    """The weight average, by the names of ``ModelConfig.shapes``."""
    excerpt: str
    """The start of the held-out text, which ``inspect`` reads by default."""
    training: dict[str, Any]
    """Where the model comes from: run, corpus, step, epoch, val_loss (nats per character) …"""


@dataclass(frozen=True)
class ResumeState:
    """What only resuming needs: optimiser state, random generators, position in the text."""

    tensors: Arrays
    values: dict[str, Any]


def write_checkpoint(folder: Path, model: ModelFile, state: ResumeState) -> Path:
    """Write a checkpoint in ``folder``; return its path once it is complete on disk.

    The files are written and synced in a temporary folder, which is then renamed: at any moment
    there is a complete checkpoint of that name or none. It is marked as ``UNRECORDED`` until the
    run records it, so that the run can delete it if the process is killed in between.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; nothing is left behind.
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
    """Write a checkpoint with the model alone, which can be loaded but not resumed.

    The files appear one by one, so ``folder`` must be in a temporary folder that is renamed later.
    """
    folder.mkdir()
    _write_files(folder, _model_files(model))


def _model_files(model: ModelFile) -> dict[str, bytes]:
    model_json = {
        "format": FORMAT,
        "model": model.config.to_dict(),
        "vocabulary": {"kind": model.vocab.kind, "symbols": model.vocab.symbols}
        | ({} if model.vocab.separator is None else {"separator": model.vocab.separator}),
        "training": model.training,
        "excerpt": model.excerpt,
    }
    return {MODEL_JSON: to_json(model_json), MODEL_TENSORS: _to_safetensors(model.weights)}


def mark_unrecorded(path: Path) -> None:
    """Mark a checkpoint as one that its run may delete, unless it is a link."""
    if not path.is_symlink():
        open_to_append(path / UNRECORDED).close()


def delete_checkpoint(path: Path) -> bool:
    """Delete the files that charlstm wrote to a checkpoint; return whether the folder is gone.

    A folder with other files stays, and so does a link to a folder.
    """
    if path.is_symlink():
        return False
    # The manifest first, so that it is no checkpoint; the marker last, so that a retry finds it.
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
    # safetensors ignores strides.
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def _free_name(folder: Path, name: str) -> Path:
    """``name``, or ``name-2`` …: a resumed run may reach a step that was saved before."""
    target, number = folder / name, 1
    while os.path.lexists(target):  # a dangling link also takes a name
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
    except (ValueError, RecursionError):  # NaN, or nested deeper than Python 3.12 can write
        body = b""
    if hashlib.sha256(body).hexdigest() != manifest.get("sha256"):
        raise CharlstmError(f"{file} is damaged: its checksum does not match", REMEDY)
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise CharlstmError(f"{file} is damaged: it has invalid entries", REMEDY)
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
        raise CharlstmError(f"{file} is not listed in {MANIFEST}", REMEDY)
    try:
        # Check the size first, so that no more memory is used than the manifest states.
        size = file_size(file)
        if size != expected["bytes"]:
            raise CharlstmError(
                f"{file} is damaged: it has {plural(size, 'byte')}, "
                f"but {MANIFEST} says {expected['bytes']:,}",
                REMEDY,
            )
        most = memory_present() if name.endswith(".safetensors") else MAX_JSON_BYTES
        if most is not None and size > most:
            raise CharlstmError(
                f"{file} is too large: {size:,} bytes, but at most {most:,} fit", REMEDY
            )
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error, REMEDY) from None
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise CharlstmError(f"{file} is damaged: its checksum does not match {MANIFEST}", REMEDY)
    return data


def _tensors(data: bytes, file: Path) -> Arrays:
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise CharlstmError(f"{file} is damaged: {error}", REMEDY) from None


def read_model(path: Path) -> ModelFile:
    """Read the model of the checkpoint at ``path``.

    Raises:
        CharlstmError: a file is missing, altered, in a newer format, or contradicts the others.
    """
    manifest = _read_manifest(path)
    source = path / MODEL_JSON
    content = parse_json(_read_checked(path, manifest, MODEL_JSON), source, REMEDY)
    config = ModelConfig.from_dict(content.get("model"), str(source))
    vocab = _vocabulary(content.get("vocabulary"), source)
    if vocab.end != config.end:
        raise CharlstmError(f"{source} is damaged: `end` is not the end of its items", REMEDY)
    if len(vocab) != config.vocab_size:
        raise CharlstmError(
            f"{source} is damaged: {len(vocab)} symbols, but `vocab_size` is {config.vocab_size}",
            REMEDY,
        )
    excerpt, training = content.get("excerpt"), content.get("training")
    if not isinstance(excerpt, str) or not isinstance(training, dict):
        raise CharlstmError(f"{source} is damaged: no excerpt or no training data", REMEDY)
    if not is_count(training.get("step", 0)) or not isinstance(training.get("run", ""), str):
        raise CharlstmError(f"{source} is damaged: its training data", REMEDY)
    if len(excerpt) > MAX_EXCERPT:  # it is read whenever nothing else is named
        raise CharlstmError(f"{source} is damaged: an excerpt of {len(excerpt):,}", REMEDY)
    shapes = config.shapes()
    floats = config.parameters * 4
    stated = manifest.get(MODEL_TENSORS, {}).get("bytes", 0)
    if not floats <= stated <= floats + MAX_JSON_BYTES:
        raise CharlstmError(
            f"{path / MODEL_TENSORS} is damaged: {stated:,} bytes cannot hold "
            f"{plural(config.parameters, 'parameter')}",
            REMEDY,
        )
    file = path / MODEL_TENSORS
    weights = _tensors(_read_checked(path, manifest, MODEL_TENSORS), file)
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes or any(array.dtype != np.float32 for array in weights.values()):
        raise CharlstmError(f"{file} is damaged: its arrays do not match the settings", REMEDY)
    if not all(is_computable(array) for array in weights.values()):
        raise CharlstmError(f"{file} is damaged: it has weights that are not finite", REMEDY)
    return ModelFile(config, vocab, weights, excerpt, training)


def is_computable(array: NDArray[Any]) -> bool:
    """Whether products of such numbers stay finite, as those of any trained model do."""
    return bool((np.abs(array) <= LARGEST).all())  # False for NaN


def fingerprint(model: ModelFile) -> str:
    """SHA-256 of settings, vocabulary and weights, which identifies a model."""
    digest = hashlib.sha256(to_json(model.config.to_dict()))
    digest.update(to_json({"kind": model.vocab.kind, "symbols": model.vocab.symbols}))
    for name in model.config.shapes():
        digest.update(model.weights[name].tobytes())
    return digest.hexdigest()


def read_training(path: Path) -> dict[str, Any]:
    """The ``training`` of ``model.json``, unchecked and without loading the model; {} if lost."""
    try:
        found = read_json(path / MODEL_JSON, REMEDY).get("training")
    except CharlstmError:
        return {}
    return found if isinstance(found, dict) else {}


def _vocabulary(value: object, source: Path) -> Vocabulary:
    if isinstance(value, dict):
        symbols, kind, separator = map(value.get, ("symbols", "kind", "separator"))
        if (
            isinstance(symbols, str)
            and kind in ("characters", "bytes")
            and isinstance(separator, str | None)
        ):
            if any(
                "\ud800" <= symbol <= "\udfff" for symbol in symbols
            ):  # a surrogate, which cannot be encoded
                raise CharlstmError(
                    f"{source} is damaged: its vocabulary has half a character", REMEDY
                )
            try:
                return Vocabulary(symbols, kind, separator)
            except CharlstmError as error:
                raise CharlstmError(f"{source} is damaged: {error.message}", REMEDY) from None
    raise CharlstmError(f"{source} is damaged: it has no valid vocabulary", REMEDY)


def read_resume_state(path: Path) -> ResumeState:
    """Read what resuming needs from the checkpoint at ``path``; raises as ``read_model``."""
    manifest = _read_manifest(path)
    values = parse_json(_read_checked(path, manifest, TRAIN_JSON), path / TRAIN_JSON, REMEDY)
    tensors = _tensors(_read_checked(path, manifest, TRAIN_TENSORS), path / TRAIN_TENSORS)
    return ResumeState(tensors, values)
