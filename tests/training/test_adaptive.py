"""Dynamic evaluation predicts before it learns, and forgets what it learnt at the end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TEXT

import charlstm
from charlstm import CharlstmError, Model
from charlstm.errors import UsageError
from charlstm.training.adaptive import FLOOR, Adaptation, score_adaptive
from charlstm.training.network import LanguageModel, load_arrays


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return charlstm.load(trained_run)


@pytest.fixture(scope="module")
def training(model: Model) -> np.ndarray:
    return model.file.vocab.encode(TEXT * 30).astype(np.uint8)


@pytest.fixture(scope="module")
def ids(model: Model) -> np.ndarray:
    return model.file.vocab.encode("wet which end said the NED heron; a? no " * 8, "skip")


def test_without_a_rate_it_is_the_stateful_score(
    model: Model, ids: np.ndarray, training: np.ndarray
) -> None:
    found = score_adaptive(model.file, ids, training, Adaptation(rate=0))
    plain = charlstm.scoring.score(model.engine, ids)
    assert np.allclose(found.surprise_bits[1:], plain.surprise_bits[1:], atol=1e-4)
    assert (found.adaptive, plain.adaptive) == (True, False)
    assert found.to_dict()["adaptive"] is True


def test_a_text_that_repeats_itself_gets_easier(
    model: Model, ids: np.ndarray, training: np.ndarray
) -> None:
    plain = charlstm.scoring.score(model.engine, ids)
    before = {name: array.copy() for name, array in model.file.weights.items()}
    found = score_adaptive(model.file, ids, training, Adaptation(rate=0.3))
    assert found.nats < plain.nats - 0.1
    assert all(np.array_equal(before[name], model.file.weights[name]) for name in before)


def test_a_text_without_a_character_to_predict_is_refused(
    model: Model, ids: np.ndarray, training: np.ndarray
) -> None:
    for length in (0, 1):
        with pytest.raises(CharlstmError, match="at least 2"):
            score_adaptive(model.file, ids[:length], training)
    assert score_adaptive(model.file, ids[:2], training).characters == 1


@pytest.mark.parametrize(
    "values", [{"piece": 0}, {"piece": 2.0}, {"rate": -0.1}, {"decay": np.inf}], ids=str
)
def test_rates_have_limits(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"^`{next(iter(values))}` is .*must be"):
        Adaptation(**values)  # type: ignore[arg-type]


def test_no_character_is_learnt_from_before_it_is_predicted(
    model: Model, ids: np.ndarray, training: np.ndarray
) -> None:
    whole = score_adaptive(model.file, ids, training, Adaptation(rate=0.1))
    for end in (41, 50):  # at a piece's end, and inside of one
        part = score_adaptive(model.file, ids[:end], training, Adaptation(rate=0.1))
        assert np.allclose(part.surprise_bits[1:], whole.surprise_bits[1:end], atol=1e-4)


def test_a_step_is_that_of_the_equation(
    model: Model, ids: np.ndarray, training: np.ndarray
) -> None:
    """The second piece is scored by weights that are computed here, one parameter at a time."""
    rates = Adaptation(piece=20, rate=0.1, decay=0.5)
    network = LanguageModel(model.file.config)
    load_arrays(network, dict(model.file.weights))
    names = [name for name, _ in network.named_parameters()]
    state, squares, starts = network.initial_state(16), [], np.arange(16) * (len(training) // 16)
    for number in range(min(200, (len(training) // 16 - 1) // 20)):
        piece = training[starts + np.arange(20 * number, 20 * number + 21)[:, None]]
        loss, state = mean_nats(network, piece, state)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        squares.append([gradient.numpy() ** 2 for gradient in gradients])
        state = state.detach()
    roots = [np.sqrt(np.mean(arrays, axis=0)) for arrays in zip(*squares, strict=True)]
    eta = rates.rate / model.file.config.parameters**0.5
    mean = np.concatenate([root.ravel() for root in roots]).mean()
    text, state, trained = ids[:61], network.initial_state(1), dict(model.file.weights)
    expected = []
    for start in (0, 20, 40):
        loss, state = mean_nats(network, text[start : start + 21, None], state)
        expected.append(loss.item())
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        state = state.detach()
        moved = {}
        for name, root, gradient, value in zip(
            names, roots, gradients, network.parameters(), strict=True
        ):
            pull = np.minimum(1, rates.decay * root / mean)
            theta = value.detach().numpy()
            step = eta * gradient.numpy() / (root + FLOOR * mean)
            moved[name] = theta + pull * (trained[name] - theta) - step
        load_arrays(network, moved)
    found = score_adaptive(model.file, text, training, rates).surprise_bits[1:] * np.log(2)
    assert np.allclose(found.reshape(3, 20).mean(axis=1), expected, atol=1e-4)


def mean_nats(
    network: LanguageModel, ids: np.ndarray, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.from_numpy(ids.astype(np.int64))
    logits, state = network(tensor[:-1], state)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tensor[1:].flatten()), state
