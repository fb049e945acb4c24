"""``find`` against planted units, brute force, and texts in which there is nothing to find."""

import numpy as np
import planted
import pytest
from numpy.testing import assert_allclose

from charlstm.analysis.document import Table
from charlstm.analysis.features import Feature, features_of
from charlstm.analysis.statistics import RATE, auc
from charlstm.analysis.subject import Options, find_view
from charlstm.analysis.units import read_units
from charlstm.analysis.untrained import untrained_engine
from charlstm.analysis.views.find import Association, Found, find, find_untrained, view
from charlstm.net.engine import Engine

TRACKED = {
    "inside quotes": planted.QUOTES,
    "bracket depth": planted.BRACKETS,
    "position in line": planted.LINE,
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    shown = view(planted.subject(planted.tracker(), planted.prose(6000)), Options(state="c"))
    return {one["feature"]: one for one in shown.to_dict()["features"]}


@pytest.mark.parametrize("name", TRACKED)
def test_planted_unit_comes_first_and_holds_on_the_other_half(
    name: str, found: dict[str, dict]
) -> None:
    best = found[name]["best"][0]
    assert (best["layer"], best["unit"]) == (0, TRACKED[name])
    score = best["held_out"]
    assert (abs(score) if found[name]["measure"] == "rho" else score) > 0.97


def test_untrained_net_is_scored_too_and_has_no_planted_unit(found: dict[str, dict]) -> None:
    for name in TRACKED:
        other = found[name]["untrained"]
        assert (abs(other) if found[name]["measure"] == "rho" else max(other, 1 - other)) < 0.8
        assert found[name]["best"][0]["strong"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_untrained_model_has_no_unit_that_is_strong(seed: int) -> None:
    model = planted.tracker(hidden=256)
    model.__dict__["engine"] = untrained_engine(model.file.config, seed)
    easy = Options(features=("a=a", "e=e"))
    shown = view(planted.subject(model, planted.prose(2000)), easy)
    best = [a for one in shown.to_dict()["features"] for a in one["best"]]
    assert max(abs(a["held_out"]) for a in best) > 0.9
    assert not any(a["strong"] for a in best)
    assert "No single unit tracks" in str(planted.findings(shown.document()))


@pytest.mark.parametrize(
    ("held_out", "is_count", "untrained", "strong"),
    [
        (0.91, False, None, True),
        (0.89, False, None, False),
        (0.09, False, 0.5, True),
        (0.95, False, 0.08, False),
        (0.97, False, 0.08, False),
        (0.98, False, 0.08, True),
        (1.0, False, 1.0, False),
        (1.0, True, 0.9, True),
        (0.85, True, 0.3, True),
        (-0.85, True, 0.8, False),
        (0.79, True, 0.3, False),
    ],
)
def test_strong_is_above_the_limit_and_well_above_the_untrained_net(
    held_out: float, is_count: bool, untrained: float | None, strong: bool
) -> None:
    best = (Association(0, 0.001, held_out, held_out),)
    assert bool(Found("x", is_count, False, 1, best, untrained).strong) == strong


def test_best_untrained_unit_is_chosen_on_one_half_and_scored_on_the_other() -> None:
    random = np.random.default_rng(2)
    labels = (random.random(2000) < 0.5) * 1.0
    values = random.normal(size=(40, 2000))
    values[7, :1000] += 3 * labels[:1000]
    values[9, 1000:] += 3 * labels[1000:]
    score, count = find_untrained(values, (Feature("x", labels),))["x"]
    assert score == pytest.approx(auc(values[7, 1000:], labels[1000:]), abs=1e-12)
    assert 1 <= count <= 3


def test_counts_of_an_untrained_net_are_shown() -> None:
    model = planted.tracker(hidden=48)
    model.__dict__["engine"] = untrained_engine(model.file.config)
    shown = view(planted.subject(model, planted.prose(4000)), Options())
    counts = [
        (one["discoveries"], one["untrained_discoveries"])
        for one in shown.to_dict()["features"]
        if not one["too_rare"]
    ]
    assert all(own == other for own, other in counts)
    assert max(counts) > (10, 10)
    table = next(b for b in shown.document().blocks if isinstance(b, Table))
    listed = [row[1] for row in table.rows if row[1] not in ("", "too rare")]
    assert listed == [f"{own}/{other}" for own, other in counts]


def test_units_whose_tanh_is_one_are_distinguished_by_c() -> None:
    model = planted.tracker()
    weights = {name: array.copy() for name, array in model.file.weights.items()}
    hidden = len(weights["layers.0.bias"]) // 4
    weights["layers.0.bias"][2 * hidden + planted.LINE] = 5  # c grows by 1 at each character
    shown = view(planted.subject(planted.model(weights), planted.prose(4000)), Options(state="c"))
    found = {one["feature"]: one for one in shown.to_dict()["features"]}
    best = found["position in line"]["best"][0]
    assert best["unit"] == planted.LINE
    assert best["held_out"] > 0.999
    assert shown.to_dict()["state"] == "c"


@pytest.mark.parametrize("view", ["find", "probe"])
@pytest.mark.parametrize(("shift", "saturated"), [(0, False), (40, True)])
def test_saturated_units_are_reported_with_what_helps(
    view: str, shift: float, saturated: bool
) -> None:
    model = planted.tracker()
    weights = {name: array.copy() for name, array in model.file.weights.items()}
    hidden = len(weights["layers.0.bias"]) // 4
    for block, bias in ((0, shift), (1, shift), (2, shift)):  # c + 1 at each character
        weights["layers.0.bias"][block * hidden : block * hidden + 8] += bias
    subject = planted.subject(planted.model(weights), planted.prose(2000))
    for state in ("c", "h"):
        shown = find_view(view)(subject, Options(state=state))
        assert (shown.to_dict()["saturated_units"] > 1) == (saturated and state == "c")
        warned = "Set `state` to h" in str(planted.findings(shown.document()))
        assert warned == (saturated and state == "c")


def test_untrained_net_has_the_weights_that_training_starts_from() -> None:
    config = planted.tracker().file.config
    engine = untrained_engine(config)
    trace, logits, _ = engine.trace(np.arange(9), engine.initial_state())
    assert not logits.any()
    assert trace.gates[:, 0, 1].mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.05)


def test_feature_that_the_text_lacks_is_called_too_rare(found: dict[str, dict]) -> None:
    assert found["digit"]["too_rare"]
    assert found["digit"]["best"] == []
    assert not found["capital"]["too_rare"]


def states(seed: int, length: int = 1600, hidden: int = 24) -> np.ndarray:
    """tanh(c) of an untrained net that reads a text; (H, T)."""
    model = planted.model(planted.untrained(hidden, seed))
    return read_units(planted.subject(model, planted.prose(length, seed)), "c")


def false_alarms(features: list[tuple[Feature, ...]]) -> int:
    """In how many of the texts an untrained net seems to track a feature of another text."""
    return sum(
        any(one.discoveries for one in find(states(seed), labels))
        for seed, labels in enumerate(features)
    )


TEXTS = 24
MOST = 5
"""With a rate of 5% more than 5 of 24 happen once in a thousand times."""


def test_untrained_net_tracks_nothing_of_a_text_that_it_does_not_read() -> None:
    assert RATE == 0.05
    labels = [features_of(planted.prose(1600, 1000 + seed)) for seed in range(TEXTS)]
    assert false_alarms(labels) <= MOST


def test_shuffled_labels_are_not_tracked() -> None:
    labels = []
    for seed in range(TEXTS):
        own = features_of(planted.prose(1600, seed))
        order = np.random.default_rng(seed).permutation(1600)
        labels.append(tuple(Feature(f.name, f.values[order], f.is_count) for f in own))
    assert false_alarms(labels) <= MOST


def test_units_are_read_after_the_warm_up() -> None:
    model = planted.tracker()
    whole = read_units(planted.subject(model, planted.prose(300)), "c")
    rest = planted.subject(model, planted.prose(300)[100:], planted.prose(300)[:100])
    assert_allclose(read_units(rest, "c"), whole[:, 100:], atol=1e-6)
    assert isinstance(model.engine, Engine)
