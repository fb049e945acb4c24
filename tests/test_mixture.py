"""A mixture generates and scores as a model does."""

from pathlib import Path

import pytest
from helpers import untrained

import charlstm
from charlstm import Mixture, Model
from charlstm.errors import UsageError
from charlstm.text.vocabulary import Vocabulary


@pytest.fixture
def models(trained_run: Path, tmp_path: Path) -> list[Model]:
    other = untrained(tmp_path, Vocabulary("\nNEDé: "))
    return [charlstm.load(trained_run), charlstm.load(other)]


def test_one_model_mixed_with_itself_writes_as_it_does_alone(models: list[Model]) -> None:
    twice = charlstm.mix([models[0], models[0]], [0.3, 0.7])
    alone = models[0].generate("NED: ", length=100, seed=3, temperature=0.7)
    assert str(twice.generate("NED: ", length=100, seed=3, temperature=0.7)) == str(alone)
    text = "NED: TAM: " * 20
    assert twice.score(text).nats == pytest.approx(models[0].score(text).nats, rel=1e-5)


def test_a_text_goes_on_from_its_state_with_other_weights(models: list[Model]) -> None:
    mixture = charlstm.mix(models)
    assert mixture.weights == (0.5, 0.5)
    text = mixture.generate("NED: é", length=20, seed=1)
    str(text)
    only = mixture.reweighted([1, 0])
    rest = str(only.generate(state=text.state, length=50, seed=2))
    before = models[0].prefill("NED: " + str(text).replace("é", ""))
    assert rest == str(models[0].generate(state=before, length=50, seed=2))
    with pytest.raises(UsageError, match="not a state of this model"):
        models[0].generate(state=text.state)


def test_batches_constraints_and_stops_work_as_with_one_model(models: list[Model]) -> None:
    mixture = charlstm.mix(models)
    texts = mixture.generate_batch("é", count=3, length=40, seed=5, stop="N", match="[DE: ]*")
    for b, text in enumerate(texts):
        assert not set(text) - set("DE: ")
        assert text == str(mixture.generate("é", length=40, seed=5 + b, stop="N", match="[DE: ]*"))


def test_a_match_counts_only_on_models_that_have_a_weight(models: list[Model]) -> None:
    only = charlstm.mix(models).reweighted([1, 0])  # the other model has é
    assert not set(str(only.generate("NED: ", match="[éN]{50}", seed=1))) - {"N"}
    with pytest.raises(UsageError, match="`match` cannot be matched: after 'N'"):
        only.generate("NED: ", match="Né+", seed=1)


def test_the_score_is_that_of_the_mean_probability(models: list[Model]) -> None:
    text = "NED: " * 50
    both = charlstm.mix(models, [0.9, 0.1]).score(text)
    one, other = (2.0 ** -model.score(text).surprise_bits for model in models)
    p = 0.9 * one + 0.1 * other
    assert 2.0 ** -both.surprise_bits[1:] == pytest.approx(p[1:], rel=1e-4)


def test_what_cannot_be_mixed_is_refused(models: list[Model]) -> None:
    with pytest.raises(UsageError, match="list of models"):
        charlstm.mix([])
    with pytest.raises(UsageError, match="list of models"):
        charlstm.mix(["small"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"load them first, then mix\(\[one, other\]\)"):
        charlstm.mix(*models)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="2 numbers"):
        Mixture(models, [1])
    assert "0.5 × " in repr(charlstm.mix(models))
