"""States in files: whole or not there, and read by no other model."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import charlstm
from charlstm import CharlstmError, Model
from charlstm.generate.text_state import FORMAT, TextState


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return charlstm.load(trained_run)


def other(model: Model, **changes: object) -> Model:
    return Model(replace(model.file, **changes), model.path)  # type: ignore[arg-type]


def test_a_text_goes_on_from_a_file(model: Model, tmp_path: Path) -> None:
    text = model.generate("NED:", length=40, seed=1)
    list(text)
    model.save_state(tmp_path / "a.state", text.state)
    found = model.load_state(tmp_path / "a.state")
    assert found.recent == text.state.recent
    assert np.array_equal(found.state, text.state.state)
    assert [p.name for p in tmp_path.iterdir()] == ["a.state"]


def test_where_a_model_came_from_does_not_matter_but_its_weights_do(
    model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.state"
    model.save_state(path, model.prefill("NED:"))
    other(model, training={"step": 9}, excerpt="").load_state(path)
    weights = {name: array.copy() for name, array in model.file.weights.items()}
    weights["output_bias"][0] += 1e-3
    symbols = model.file.vocab.symbols
    vocab = replace(model.file.vocab, symbols=symbols[:-1] + "€")
    for stranger in (other(model, weights=weights), other(model, vocab=vocab)):
        with pytest.raises(CharlstmError, match="another model"):
            stranger.load_state(path)


def test_a_file_that_is_no_state_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.state"
    with pytest.raises(CharlstmError, match="no such file"):
        model.load_state(path)
    for data in (b"", b"NED: Row", b"\xff" * 100, b"\x02" + bytes(7) + b"{}"):
        path.write_bytes(data)
        with pytest.raises(CharlstmError, match=r"a\.state is (damaged|not a resume state)"):
            model.load_state(path)
    path.write_bytes(bytes(1_000_000))
    with pytest.raises(CharlstmError, match="too large"):
        model.load_state(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"state": np.zeros((1, 2, 1, 24), np.float32)},
        {"recent": np.zeros((2, 2), np.int64)},
        {"recent": np.array([999])},
        {"recent": np.array([-1])},
        {"state": np.full((2, 2, 1, 24), np.nan, np.float32)},
        {"state": np.full((2, 2, 1, 24), 3e38, np.float32)},
        {"state": np.zeros((2, 2, 1, 24))},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.state"
    whole = {"state": np.zeros((2, 2, 1, 24), np.float32), "recent": np.zeros(3, np.int64)}
    metadata = {"format": FORMAT, "model": charlstm.runs.checkpoint.fingerprint(model.file)}
    save_file(whole, path, metadata=metadata)
    model.load_state(path)
    save_file({**whole, **arrays}, path, metadata=metadata)
    with pytest.raises(CharlstmError, match="do not match the model"):
        model.load_state(path)


def test_a_state_that_cannot_be_written_leaves_the_old_file(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.state"
    model.save_state(path, model.prefill("NED:"))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{function}", full)
            with pytest.raises(CharlstmError, match="no space left"):
                model.save_state(path, TextState(model.engine.initial_state()))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_only_a_state_is_overwritten(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time")
    with pytest.raises(CharlstmError, match="already exists and is not a resume state"):
        model.save_state(path, model.prefill("NED:"))
    assert path.read_text() == "Once upon a time"
    path.write_bytes(b"")
    for prime in ("NED:", "TAM:"):
        model.save_state(path, model.prefill(prime))


@pytest.mark.skipif(os.name == "nt", reason="FIFOs")
def test_a_pipe_is_neither_read_nor_replaced(model: Model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CharlstmError, match="pipe is not a regular file"):
        model.load_state(tmp_path / "pipe")
    with pytest.raises(CharlstmError, match="pipe is a pipe"):
        model.save_state(tmp_path / "pipe", model.prefill("NED:"))
    assert (tmp_path / "pipe").is_fifo()


def test_a_state_is_saved_where_a_link_leads(model: Model, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a.state")
    model.save_state(tmp_path / "link", model.prefill("NED:"))
    assert (tmp_path / "link").is_symlink()
    assert model.load_state(tmp_path / "a.state")
