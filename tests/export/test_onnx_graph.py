"""The ONNX graph in onnxruntime against the NumPy engine, for every cell."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose

from charlstm.errors import CharlstmError
from charlstm.export import onnx_graph
from charlstm.export.onnx_graph import to_onnx
from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

SYMBOLS = "\n !abcdé😀"


def model_file(cell: str, layers: int = 3, hidden: int = 9) -> ModelFile:
    config = model_config(len(SYMBOLS), hidden=hidden, layers=layers, cell=cell)
    return ModelFile(config, Vocabulary(SYMBOLS), random_weights(config), "", {"run": "book"})


class Session:
    """The exported model in a runtime."""

    def __init__(self, file: ModelFile) -> None:
        self._session = runtime.InferenceSession(to_onnx(file, "1.2.3"))

    def read(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self._session.run(["logits", "new_state"], {"ids": ids, "state": state}))

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_characters_one_by_one_are_the_engine_s(cell: str, layers: int) -> None:
    file = model_file(cell, layers)
    engine, session = Engine(file.config, file.weights), Session(file)
    ids = np.random.default_rng(3).integers(0, len(SYMBOLS), 1000)
    state = expected_state = engine.initial_state()
    for step_ids in ids[:, None]:
        expected, expected_state = engine.step(step_ids, expected_state)
        logits, state = session.read(step_ids[None], state)
        assert_allclose(logits[0], expected, rtol=1e-5, atol=1e-5)
    assert_allclose(state, expected_state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_several_texts_at_once_go_on_from_any_state(cell: str, batch: int) -> None:
    file = model_file(cell)
    engine, session = Engine(file.config, file.weights), Session(file)
    generator = np.random.default_rng(4)
    state = generator.normal(size=engine.initial_state(batch).shape).astype(np.float32)
    ids = generator.integers(0, len(SYMBOLS), (50, batch))
    expected, expected_state = engine.forward(ids, state)
    logits, new_state = session.read(ids, state)
    assert logits.shape == (50, batch, len(SYMBOLS))
    assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert_allclose(new_state, expected_state, rtol=1e-5, atol=1e-5)


def test_the_file_says_what_it_is_and_what_its_numbers_mean() -> None:
    data = to_onnx(model_file("lstm"), "1.2.3")
    model = onnx.load_from_string(data)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert (model.producer_name, model.producer_version) == ("charlstm", "1.2.3")
    assert Session(model_file("lstm")).metadata == {
        "symbols": json.dumps(list(SYMBOLS)),
        "kind": "characters",
        "cell": "lstm",
        "run": "book",
        "version": "1.2.3",
    }


def test_a_model_of_bytes_says_so() -> None:
    config = model_config(256, hidden=5, layers=1, cell="gru")
    file = ModelFile(config, Vocabulary(BYTE_SYMBOLS, "bytes"), random_weights(config), "", {})
    metadata = Session(file).metadata
    assert metadata["kind"] == "bytes"
    assert json.loads(metadata["symbols"]) == [chr(byte) for byte in range(256)]
    assert metadata["run"] == ""


def test_a_model_of_a_list_has_the_separator_and_the_id_that_ends_an_item() -> None:
    vocab = Vocabulary("\n%abé\x1e", separator="\n%\n")
    config = replace(model_config(len(vocab)), end=vocab.end)
    metadata = Session(ModelFile(config, vocab, random_weights(config), "", {})).metadata
    assert (metadata["separator"], metadata["end"]) == ("\n%\n", "5")


def test_a_missing_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CharlstmError, match=r"pip install 'charlstm\[onnx\]'"):
        to_onnx(model_file("lstm"), "1")


def test_a_model_too_large_for_the_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LIMIT", 1000)
    with pytest.raises(CharlstmError, match="2 GiB"):
        to_onnx(model_file("lstm"), "1")
