"""``probe``: chance for random labels, nearly everything for what is linear in the states."""

import numpy as np
import planted
import pytest
from helpers import model_config, random_weights
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from charlstm.analysis.features import Feature
from charlstm.analysis.subject import Options
from charlstm.analysis.untrained import untrained_engine
from charlstm.analysis.views.probe import RIDGE, TYPE, control_labels, probe, scores, view

STEPS, SIZE = 4000, 12


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(SIZE, STEPS))


def test_random_labels_give_chance(values: np.ndarray) -> None:
    random = np.random.default_rng(1)
    labels = [(random.random(STEPS) < share) * 1.0 for share in (0.5, 0.1)]
    labels.append(random.integers(0, 9, STEPS) * 1.0)
    even, rare, count = scores(values, labels, [False, False, True])
    assert even == pytest.approx(0.5, abs=0.04)
    assert rare == pytest.approx(0.5, abs=0.06)
    assert count == pytest.approx(0, abs=0.07)


def test_planted_linear_features_are_read_off(values: np.ndarray) -> None:
    direction = np.random.default_rng(2).normal(size=SIZE)
    z = direction @ values
    labels = [(z > 0) * 1.0, (z > 1.5 * z.std()) * 1.0, np.round(3 * z)]
    even, rare, count = scores(values, labels, [False, False, True])
    assert even > 0.97
    assert rare > 0.9
    assert count > 0.99


def test_scores_are_those_of_scikit_learns_ridge_regression(values: np.ndarray) -> None:
    random = np.random.default_rng(5)
    states = 3 + 2 * values
    states[4] = 7  # a unit that never changes
    z = random.normal(size=SIZE) @ values + 3 * random.normal(size=STEPS)
    labels = [(z > 0) * 1.0, (z > 2) * 1.0, np.round(z)]
    scored = scores(states, labels, [False, False, True])
    half = STEPS // 2
    scaler = StandardScaler().fit(states[:, :half].T)
    fit, judge = (scaler.transform(part.T) for part in (states[:, :half], states[:, half:]))
    for label, score in zip(labels, scored, strict=True):
        ridge = Ridge(alpha=RIDGE * half).fit(fit, label[:half])
        fitted, predicted, truth = ridge.predict(fit), ridge.predict(judge), label[half:]
        if label is labels[2]:
            expected = np.corrcoef(predicted, truth)[0, 1]
        else:
            holds = label[:half] > 0
            middle = (fitted[holds].mean() + fitted[~holds].mean()) / 2
            expected = balanced_accuracy_score(truth > 0, predicted > middle)
        assert score == pytest.approx(expected, abs=1e-12)


def test_control_labels_are_one_for_each_three_characters_and_as_frequent() -> None:
    random = np.random.default_rng(3)
    ids = random.integers(0, 12, 20_000)
    values = (random.random(20_000) < 0.2) * 1.0
    labels = control_labels(ids, values)
    seen: dict[tuple[int, ...], float] = {}
    for t in range(TYPE - 1, len(ids)):
        key = tuple(ids[t - TYPE + 1 : t + 1])
        assert seen.setdefault(key, labels[t]) == labels[t]
    for place in range(TYPE):  # what differs in one character only has labels of its own
        rest: dict[tuple[int, ...], set[float]] = {}
        for key, label in seen.items():
            rest.setdefault(key[:place] + key[place + 1 :], set()).add(label)
        assert np.mean([len(labels) for labels in rest.values()]) > 1.5
    assert np.mean(list(seen.values())) == pytest.approx(0.2, abs=0.04)


def test_memorised_labels_have_no_selectivity() -> None:
    # States that spell out the last three characters: random labels of those are read off too.
    random = np.random.default_rng(4)
    ids = random.integers(0, 3, STEPS)
    padded = np.concatenate([[-1, -1], ids])
    kinds = padded[:-2] * 9 + padded[1:-1] * 3 + padded[2:]
    values = (kinds[None] == np.arange(27)[:, None]) * 1.0
    feature = Feature("a", (kinds % 2 == 0) * 1.0)
    (one,) = probe(values, values, ids, [feature])
    assert one.score > 0.99
    assert one.control > 0.99
    assert one.selectivity == pytest.approx(0, abs=0.01)


def test_planted_units_are_read_off_and_rare_features_left_out() -> None:
    data = view(planted.subject(planted.tracker(), planted.prose(4000)), Options()).to_dict()
    read = {one["feature"]: one for one in data["features"]}
    assert read["inside quotes"]["score"] > 0.97
    assert read["inside quotes"]["selectivity"] > 0.3
    assert read["position in line"]["score"] > 0.97
    assert "digit" not in read
    assert data["state"] == "tanh(c)"


def test_untrained_net_is_probed_alike_and_its_scores_need_no_training() -> None:
    model = planted.tracker(hidden=64)
    text = planted.prose(6000)
    shown = view(planted.subject(model, text), Options())
    read = {one["feature"]: one for one in shown.to_dict()["features"]}
    model.__dict__["engine"] = untrained_engine(model.file.config)
    other = view(planted.subject(model, text), Options())
    for one in other.to_dict()["features"]:
        assert one["score"] == one["untrained"] == read[one["feature"]]["untrained"]
    trained = [line for line in planted.findings(shown.document()) if "encode" in line]
    assert trained[0].startswith("The trained states encode ‘inside quotes’: 1.0")
    assert not [line for line in trained if "capital" in line]
    nothing, alike = planted.findings(other.document())
    assert nothing.startswith("No score exceeds both the untrained net and the control by 0.1")
    assert alike.startswith("An untrained net does about as well, or better, on ")
    assert "‘capital’" in alike


def test_untrained_states_are_of_the_layer_asked_for() -> None:
    weights = random_weights(model_config(len(planted.ALPHABET), 8, 2))
    model = planted.model(weights, layers=2)
    subject = planted.subject(model, planted.prose(2000))
    scored = [view(subject, Options(layer=layer)).to_dict()["features"] for layer in (0, 1, None)]
    assert len({tuple(one["untrained"] for one in features) for features in scored}) == 3
