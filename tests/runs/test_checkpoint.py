"""A checkpoint is whole, or it is refused by name; nothing in it is ever run."""

import ast
import errno
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from helpers import random_weights
from safetensors.numpy import load, save

import charlstm
from charlstm.errors import CharlstmError
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.runs import checkpoint
from charlstm.runs.checkpoint import (
    MANIFEST,
    MODEL_JSON,
    MODEL_TENSORS,
    TRAIN_JSON,
    TRAIN_TENSORS,
    ModelFile,
    ResumeState,
    read_model,
    read_resume_state,
    write_checkpoint,
)
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

FILES = (MANIFEST, MODEL_JSON, MODEL_TENSORS, TRAIN_JSON, TRAIN_TENSORS)
STATE = ResumeState(
    {"moments": np.linspace(-1, 1, 7), "generator": np.arange(11, dtype=np.uint8)},
    {"progress": {"step": 7, "best_loss": None}, "seconds": 1.25},
)


def model_file(vocab: Vocabulary = Vocabulary("\nabc"), excerpt: str = "abc\n") -> ModelFile:
    config = ModelConfig("lstm", len(vocab), embedding_size=2, hidden_size=3, layers=2)
    return ModelFile(config, vocab, random_weights(config), excerpt, {"step": 7, "run": "r"})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, model_file(), STATE)


def test_a_name_taken_by_a_dangling_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step-00000007").symlink_to(tmp_path / "unplugged")
    assert write_checkpoint(tmp_path, model_file(), STATE).name == "step-00000007-2"
    assert (tmp_path / "step-00000007").is_symlink()


def read_all(path: Path) -> tuple[ModelFile, ResumeState]:
    return read_model(path), read_resume_state(path)


def assert_same(one: ModelFile, other: ModelFile) -> None:
    assert replace(one, weights={}) == replace(other, weights={})
    assert one.weights.keys() == other.weights.keys()
    for name, array in one.weights.items():
        assert array.dtype == other.weights[name].dtype
        assert array.shape == other.weights[name].shape
        assert array.tobytes() == other.weights[name].tobytes(), name


def forge(path: Path, name: str, content: bytes) -> None:
    """Replace a file and vouch for it in the manifest, as someone who means harm would."""
    (path / name).write_bytes(content)
    forge_manifest(path, {})


def forge_manifest(path: Path, changes: dict[str, Any]) -> None:
    entries = {
        file.name: {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in path.iterdir()
        if file.name != MANIFEST
    }
    body = {"format": 1, "files": entries, **changes}
    digest = hashlib.sha256((json.dumps(body, indent=1) + "\n").encode()).hexdigest()
    (path / MANIFEST).write_text(json.dumps({**body, "sha256": digest}))


def forge_model(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads((path / MODEL_JSON).read_text())
    forge(path, MODEL_JSON, json.dumps({**content, **changes}).encode())


# -- round trip --------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = model_file()
    odd = model.weights["output_bias"]
    odd[:] = [-0.0, np.float32(1e-45), checkpoint.LARGEST, -np.finfo(np.float32).tiny]
    path = write_checkpoint(tmp_path, model, STATE)
    assert path == tmp_path / "step-00000007"
    found, state = read_all(path)
    assert_same(found, model)
    assert state.values == STATE.values
    for name, array in STATE.tensors.items():
        assert state.tensors[name].dtype == array.dtype
        assert np.array_equal(state.tensors[name], array)


def test_arrays_in_any_memory_order_are_stored_by_their_values(tmp_path: Path) -> None:
    model = model_file()
    turned = {name: np.asfortranarray(array) for name, array in model.weights.items()}
    strided = {"every_other": np.arange(20.0)[::2], "turned": np.arange(6.0).reshape(2, 3).T}
    path = write_checkpoint(tmp_path, replace(model, weights=turned), ResumeState(strided, {}))
    found, state = read_all(path)
    assert_same(found, model)
    for name, array in strided.items():
        assert np.array_equal(state.tensors[name], array)


def test_a_single_number_keeps_its_shape(tmp_path: Path) -> None:
    state = ResumeState({"adam/step": np.array(3, dtype=np.float32)}, {})
    found = read_resume_state(write_checkpoint(tmp_path, model_file(), state))
    assert found.tensors["adam/step"].shape == ()


@pytest.mark.parametrize(
    "vocab",
    [
        Vocabulary("".join(map(chr, range(32))) + '"\\\x7f\x85\u2028\u2029\ufeff\ufffe'),
        Vocabulary("\0é€\U0001f600\U0010ffff"),
        Vocabulary(BYTE_SYMBOLS, "bytes"),
    ],
)
def test_any_vocabulary_comes_back(tmp_path: Path, vocab: Vocabulary) -> None:
    model = model_file(vocab, excerpt=vocab.decode(range(len(vocab))))
    found = read_model(write_checkpoint(tmp_path, model, STATE))
    assert found.vocab == vocab
    assert found.excerpt == model.excerpt


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    first, second, third = (write_checkpoint(tmp_path, model_file(), STATE) for _ in range(3))
    assert [p.name for p in (first, second, third)] == [
        "step-00000007",
        "step-00000007-2",
        "step-00000007-3",
    ]
    assert_same(read_model(second), model_file())


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", ["empty", "half", "one short", "one more"])
def test_a_file_of_another_length_is_refused_by_name(saved: Path, name: str, size: str) -> None:
    data = (saved / name).read_bytes()
    cut = {"empty": b"", "half": data[: len(data) // 2], "one short": data[:-2]}
    (saved / name).write_bytes(cut.get(size, data + b"x"))
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


def test_a_file_of_another_length_is_not_read_into_memory(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (saved / MODEL_TENSORS).write_bytes(b"x" * 10_000)
    read_files: list[str] = []
    read_bytes = Path.read_bytes

    def noted(path: Path) -> bytes:
        read_files.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    with pytest.raises(CharlstmError, match="is damaged: it has 10,000 bytes, but"):
        read_model(saved)
    assert read_files == [MANIFEST, MODEL_JSON]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_refused_by_name(saved: Path, name: str) -> None:
    (saved / name).unlink()
    (saved / name).mkdir()
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


@pytest.mark.parametrize("name", FILES)
def test_a_single_flipped_bit_is_noticed_anywhere(saved: Path, name: str) -> None:
    data = (saved / name).read_bytes()
    generator = random.Random(name)
    for place in generator.sample(range(len(data)), 50):
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.randrange(8)
        (saved / name).write_bytes(flipped)
        with pytest.raises(CharlstmError) as caught:
            read_all(saved)
        # A later format is the checkpoint's affair, not one file's.
        assert str(saved if name == MANIFEST else saved / name) in caught.value.message


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_of_another_checkpoint_is_refused_by_name(
    tmp_path: Path, saved: Path, name: str
) -> None:
    model = replace(model_file(), excerpt="cba\n")
    model.weights["output_bias"][0] += 1
    tensors = {"moments": np.zeros(7), "generator": STATE.tensors["generator"]}
    other = write_checkpoint(
        tmp_path, model, ResumeState(tensors, {**STATE.values, "seconds": 1.26})
    )
    assert (other / name).stat().st_size == (saved / name).stat().st_size
    shutil.copy(other / name, saved / name)
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


def test_two_files_changed_about_are_refused(saved: Path) -> None:
    model, train = saved / MODEL_TENSORS, saved / TRAIN_TENSORS
    model.rename(saved / "aside")
    train.rename(model)
    (saved / "aside").rename(train)
    with pytest.raises(CharlstmError, match=MODEL_TENSORS):
        read_model(saved)
    with pytest.raises(CharlstmError, match=TRAIN_TENSORS):
        read_resume_state(saved)


# -- harm --------------------------------------------------------------------------------------


def test_a_later_format_asks_for_an_update(saved: Path) -> None:
    forge_manifest(saved, {"format": 2})
    for read in (read_model, read_resume_state):
        with pytest.raises(CharlstmError, match=r"format 2, .* reads up to 1; update charlstm"):
            read(saved)


@pytest.mark.parametrize("number", [0, -1, "1", None, 1.5])
def test_a_format_that_never_was_is_refused(saved: Path, number: object) -> None:
    forge_manifest(saved, {"format": number})
    with pytest.raises(CharlstmError, match="format"):
        read_model(saved)


@pytest.mark.parametrize("name", [MANIFEST, MODEL_JSON, TRAIN_JSON])
@pytest.mark.parametrize("content", [b"[1]", b"null", b"{", b"\xff\xfe"])
def test_json_that_is_no_object_is_refused(saved: Path, name: str, content: bytes) -> None:
    if name == MANIFEST:
        (saved / name).write_bytes(content)
    else:
        forge(saved, name, content)
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


@pytest.mark.parametrize("name", [MANIFEST, MODEL_JSON])
@pytest.mark.parametrize("depth", [100, 900, 1200, 3000, 10**5])
def test_json_that_is_nested_deep_is_refused(saved: Path, name: str, depth: int) -> None:
    content = b'{"format": 1, "files": ' + b"[" * depth + b"]" * depth + b"}"
    if name == MANIFEST:
        (saved / name).write_bytes(content)
    else:
        forge(saved, name, content)
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


def test_a_file_of_a_terabyte_that_the_manifest_vouches_for_is_not_read(saved: Path) -> None:
    with (saved / TRAIN_TENSORS).open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    manifest = json.loads((saved / MANIFEST).read_text())
    manifest["files"][TRAIN_TENSORS] = {"bytes": 1 << 40, "sha256": "0" * 64}
    body = {"format": 1, "files": manifest["files"]}
    digest = hashlib.sha256((json.dumps(body, indent=1) + "\n").encode()).hexdigest()
    (saved / MANIFEST).write_text(json.dumps({**body, "sha256": digest}))
    with pytest.raises(
        CharlstmError, match=r"train\.safetensors is too large: 1,099,511,627,776 bytes"
    ):
        read_resume_state(saved)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_system_does_not_give_is_not_called_lost(
    saved: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(CharlstmError, match=f"{name} cannot be read") as refused:
        read_all(saved)
    assert refused.value.hint == ""  # another checkpoint would not help


def test_too_little_memory_for_a_checkpoint_is_not_damage(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As damage it would be passed over when a run is resumed, and its steps lost."""

    def full(_: bytes) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(checkpoint, "load", full)
    for read in (read_model, read_resume_state):
        with pytest.raises(MemoryError):
            read(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(saved: Path, name: str) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(CharlstmError, match=f"{name} cannot be read: .* not a regular file"):
        read_all(saved)


def test_json_larger_than_allowed_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.files.MAX_JSON_BYTES", 100)
    with pytest.raises(CharlstmError, match=r"manifest\.json is damaged: .* at most 100"):
        read_model(saved)


@pytest.mark.parametrize("name", [MODEL_TENSORS, TRAIN_TENSORS])
@pytest.mark.parametrize("claimed", [2**64 - 1, 2**63, 100_000_001, 90_000_000, 0])
def test_a_header_that_claims_another_size_is_refused(saved: Path, name: str, claimed: int) -> None:
    data = (saved / name).read_bytes()
    forge(saved, name, struct.pack("<Q", claimed) + data[8:])
    with pytest.raises(CharlstmError) as caught:
        read_all(saved)
    assert str(saved / name) in caught.value.message


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]},
        {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(saved: Path, entry: dict[str, Any]) -> None:
    header = json.dumps({"x": entry}).encode()
    forge(saved, TRAIN_TENSORS, struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CharlstmError, match=TRAIN_TENSORS):
        read_resume_state(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {**w, "embedding": w["embedding"].T.copy()},
        lambda w: {**w, "embedding": w["embedding"].ravel()},
        lambda w: {**w, "embedding": w["embedding"].astype(np.float64)},
        lambda w: {**w, "embedding": w["embedding"].view(np.int32)},
        lambda w: {**w, "one_more": np.zeros(1, np.float32)},
        lambda w: {n.replace("output_bias", "bias"): a for n, a in w.items()},
    ],
    ids=["turned", "flat", "float64", "int32", "one more", "renamed"],
)
def test_arrays_that_do_not_fit_the_settings_are_refused(
    saved: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    weights = load((saved / MODEL_TENSORS).read_bytes())
    forge(saved, MODEL_TENSORS, save(change(weights)))
    with pytest.raises(CharlstmError, match=f"{MODEL_TENSORS} is damaged: its arrays do not match"):
        read_model(saved)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cells_arrays_come_back_and_none_may_be_missing_or_cut(
    tmp_path: Path, cell: str
) -> None:
    plain = model_file()
    config = replace(plain.config, cell=cell)
    model = replace(plain, config=config, weights=random_weights(config))
    saved = write_checkpoint(tmp_path, model, STATE)
    assert_same(read_model(saved), model)
    for name in CELLS[cell].layer_shapes(1, 1):
        name = f"layers.1.{name}"
        # What is cut from one array goes to another, so that the file's size gives nothing away.
        array = model.weights[name]
        cut = {**model.weights, name: array[:-1], "one_more": array[-1:].copy()}
        renamed = {n.replace(name, "other"): a for n, a in model.weights.items()}
        for weights in (cut, renamed):
            forge(saved, MODEL_TENSORS, save(weights))
            with pytest.raises(CharlstmError, match="its arrays do not match"):
                read_model(saved)


def test_settings_larger_than_the_weights_are_refused_before_reading_them(saved: Path) -> None:
    config = {**model_file().config.to_dict(), "hidden_size": 16384, "layers": 64}
    forge_model(saved, {"model": config})
    with pytest.raises(CharlstmError, match=f"{MODEL_TENSORS} is damaged: .* cannot hold"):
        read_model(saved)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    model = model_file()
    model.weights["embedding"][1, 1] = number
    path = write_checkpoint(tmp_path, model, STATE)
    with pytest.raises(
        CharlstmError, match=f"{MODEL_TENSORS} is damaged: it has weights that are not finite"
    ):
        read_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": {"kind": "characters", "symbols": "ab"}},
        {"vocabulary": {"kind": "runes", "symbols": "\nabc"}},
        {"vocabulary": {"kind": "characters", "symbols": 4}},
        {"vocabulary": None},
        {"model": None},
        {"model": {"cell": "lstm"}},
        {"excerpt": 3},
        {"excerpt": "a" * 100_000},
        {"training": None},
    ],
)
def test_a_description_with_something_amiss_is_refused_by_name(
    saved: Path, change: dict[str, Any]
) -> None:
    forge_model(saved, change)
    with pytest.raises(CharlstmError) as caught:
        read_model(saved)
    assert str(saved / MODEL_JSON) in caught.value.message


@pytest.mark.parametrize("symbols", ["", "aabc", "abcd", "a\ud800c"])
def test_a_vocabulary_that_cannot_be_is_refused_by_name(saved: Path, symbols: str) -> None:
    kind = "bytes" if symbols == "abcd" else "characters"
    forge_model(saved, {"vocabulary": {"kind": kind, "symbols": symbols}})
    with pytest.raises(CharlstmError) as caught:
        read_model(saved)
    assert str(saved / MODEL_JSON) in caught.value.message


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [1],
        {MODEL_JSON: {}},
        {MODEL_JSON: {"bytes": "many"}},
        {MODEL_TENSORS: None},
        {MODEL_TENSORS: {"bytes": "many"}},
        {"nan": float("nan")},
    ],
)
def test_a_manifest_with_something_amiss_is_refused(saved: Path, entries: object) -> None:
    forge_manifest(saved, {})
    if isinstance(entries, dict):
        entries = {**json.loads((saved / MANIFEST).read_text())["files"], **entries}
    forge_manifest(saved, {"files": entries})
    with pytest.raises(CharlstmError, match="is damaged"):
        read_model(saved)


def test_nothing_is_ever_unpickled() -> None:
    unsafe = {"pickle", "cPickle", "_pickle", "dill", "joblib", "marshal", "shelve", "torch"}
    folder = Path(charlstm.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Attribute):
                names = ["pickle"] if ast.unparse(node) in ("np.load", "numpy.load") else []
            assert not unsafe & {name.split(".")[0] for name in names}, path


def test_reading_a_model_does_not_import_torch(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from charlstm.runs.checkpoint import read_model\n"
        "assert read_model(Path(sys.argv[1])).weights; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True, timeout=60)


# -- dying while writing -----------------------------------------------------------------------


@pytest.mark.parametrize("nth", range(1, len(FILES) + 1))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, error: BaseException
) -> None:
    written: list[Path] = []

    def write_some(path: Path, data: bytes) -> None:
        written.append(path)
        path.write_bytes(data[: len(data) // 2])
        if len(written) == nth:
            raise error

    monkeypatch.setattr(checkpoint, "write_durably", write_some)
    with pytest.raises(type(error)):
        write_checkpoint(tmp_path, model_file(), STATE)
    assert len(written) == nth
    assert list(tmp_path.iterdir()) == []


def test_a_failure_to_rename_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_checkpoint(tmp_path, model_file(), STATE)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_has_its_name_only_when_every_file_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write_durably, rename = checkpoint.write_durably, os.rename

    def note_write(path: Path, data: bytes) -> None:
        write_durably(path, data)
        done.append(path.name)
        assert not list(tmp_path.glob("step-*"))

    def note_rename(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(checkpoint, "write_durably", note_write)
    monkeypatch.setattr(checkpoint, "sync_folder", lambda folder: done.append("sync"))
    monkeypatch.setattr(os, "rename", note_rename)
    write_checkpoint(tmp_path, model_file(), STATE)
    assert set(done[:5]) == set(FILES)
    assert done[5:] == ["sync", "rename", "sync"]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_mark_that_is_a_link_is_not_followed(saved: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (saved / checkpoint.UNRECORDED).unlink()
    (saved / checkpoint.UNRECORDED).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        checkpoint.mark_unrecorded(saved)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("training", [{"step": "7"}, {"step": [7]}, {"step": -7}, {"run": ["r"]}])
def test_training_data_of_another_type_are_damaged(training: dict[str, Any], saved: Path) -> None:
    content = json.loads((saved / MODEL_JSON).read_bytes())
    forge(saved, MODEL_JSON, json.dumps({**content, "training": training}).encode())
    with pytest.raises(CharlstmError, match="is damaged: its training data"):
        read_model(saved)
