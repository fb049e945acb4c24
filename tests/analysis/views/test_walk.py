"""``walk``: the terms that are shown add up to the states that torch and the oracle compute."""

import numpy as np
import planted
import pytest
import torch
from helpers import model_config, random_weights
from numpy.testing import assert_allclose
from reference import read_text

from charlstm.analysis.document import Table
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.views.walk import view
from charlstm.errors import UsageError
from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS

ALPHABET = "abcdefghi"
TEXT = "badcafedigbeach"
HIDDEN, LAYERS = 5, 2


def subject(cell: str, layers: int = LAYERS) -> Subject:
    weights = random_weights(model_config(len(ALPHABET), HIDDEN, layers, cell), scale=0.8)
    model = planted.model(weights, ALPHABET, cell, layers)
    model.__dict__["engine"] = Engine(model.file.config, weights, np.float64)
    return planted.subject(model, TEXT)


def recomposed(step: dict) -> np.ndarray:
    """What a step's terms give by its equation, from the words of the equation alone."""
    z = np.sum(list(step["terms"].values()), axis=0)
    if "σ" in step["equation"]:
        return 1 / (1 + np.exp(-z))
    return np.tanh(z) if "= tanh(" in step["equation"] else z


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layer", "at"), [(0, 0), (0, 9), (1, 14)])
def test_terms_recompose_to_the_states_of_the_oracle(cell: str, layer: int, at: int) -> None:
    walked = subject(cell)
    data = view(walked, Options(layer=layer, at=at)).to_dict()
    states = read_text(walked.model.file.weights, walked.ids, cell).states
    before = states[at - 1, layer] if at else np.zeros_like(states[0, layer])
    for s, name in enumerate(CELLS[cell].states):
        assert_allclose(data["before"][name], before[s], rtol=0, atol=1e-9)
    for step in data["steps"]:
        assert_allclose(step["value"], recomposed(step), rtol=0, atol=1e-9)
    by_name = {step["name"]: recomposed(step) for step in data["steps"]}
    assert_allclose(by_name["hidden state"], states[at, layer, 0], rtol=0, atol=1e-6)
    if "c" in CELLS[cell].states:
        assert_allclose(by_name["cell update"], states[at, layer, 1], rtol=0, atol=1e-6)


def test_terms_recompose_to_torch() -> None:
    walked = subject("lstm", layers=1)
    weights = walked.model.file.weights
    lstm = torch.nn.LSTM(8, HIDDEN, dtype=torch.float64)
    for theirs, ours in (
        ("weight_ih_l0", "layers.0.weight_input"),
        ("weight_hh_l0", "layers.0.weight_hidden"),
        ("bias_ih_l0", "layers.0.bias"),
    ):
        getattr(lstm, theirs).data = torch.tensor(weights[ours], dtype=torch.float64)
    lstm.bias_hh_l0.data.zero_()
    inputs = torch.tensor(weights["embedding"][walked.ids], dtype=torch.float64)
    with torch.no_grad():
        _, (h, c) = lstm(inputs[:, None])
    steps = {step["name"]: recomposed(step) for step in view(walked, Options()).to_dict()["steps"]}
    assert_allclose(steps["hidden state"], h[0, 0].numpy(), rtol=0, atol=1e-6)
    assert_allclose(steps["cell update"], c[0, 0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_printed_adds_up(cell: str) -> None:
    shown = view(subject(cell), Options(units=(3,)))
    tables = [block for block in shown.document().blocks if isinstance(block, Table)]
    steps = shown.to_dict()["steps"]
    assert len(tables) == len(steps)
    for table, step in zip(tables, steps, strict=True):
        row = dict(zip((c.title for c in table.columns), table.rows[0], strict=True))
        numbers = [float(str(row[name]).replace("−", "-")) for name in step["terms"]]
        if "z" in row:
            assert sum(numbers) == pytest.approx(float(str(row["z"]).replace("−", "-")), abs=3e-4)
        for number, terms in zip(numbers, step["terms"].values(), strict=True):
            assert number == pytest.approx(terms[3], abs=6e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_unit_is_the_one_whose_state_changes_most(cell: str) -> None:
    walked = subject(cell)
    states = read_text(walked.model.file.weights, walked.ids, cell).states[:, -1, -1]
    for at in (3, 8, 12):
        changes = np.abs(states[at] - states[at - 1])
        assert view(walked, Options(at=at)).to_dict()["unit"] == changes.argmax()


def test_guesses_are_the_likeliest_next_characters() -> None:
    walked = subject("lstm")
    logits = read_text(walked.model.file.weights, walked.ids).logits[-1]
    p = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-p)[:5]
    guesses = view(walked, Options()).to_dict()["guesses"]
    assert [g["character"] for g in guesses] == [ALPHABET[i] for i in best]
    assert_allclose([g["p"] for g in guesses], p[best], atol=1e-9)


@pytest.mark.parametrize("at", [-1, len(TEXT)])
def test_position_outside_the_text_is_refused(at: int) -> None:
    with pytest.raises(UsageError, match="`at`"):
        view(subject("lstm"), Options(at=at))
