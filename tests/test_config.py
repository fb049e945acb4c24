"""Settings are checked when made, and come back from JSON as they were."""

import json
from dataclasses import asdict, fields, replace
from fractions import Fraction

import numpy as np
import pytest
from helpers import train_config

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, ExitCode, UsageError
from charlstm.net.model_config import ModelConfig
from charlstm.presets import default_settings

MODEL = ModelConfig("lstm", vocab_size=5, embedding_size=3, hidden_size=4, layers=2)
TRAIN = train_config()

# field, a value just inside a limit, a value just outside
MODEL_LIMITS = [
    ("vocab_size", 1, 0),
    ("vocab_size", 0x110000, 0x110001),
    ("embedding_size", 1, 0),
    ("embedding_size", 16384, 16385),
    ("hidden_size", 1, 0),
    ("hidden_size", 16384, 16385),
    ("layers", 1, 0),
    ("layers", 64, 65),
]
TRAIN_LIMITS = [
    ("batch", 1, 0),
    ("batch", 65536, 65537),
    ("bptt", 1, 0),
    ("bptt", 65536, 65537),
    ("steps", 1, 0),
    ("learning_rate", 1e-12, 0.0),
    ("learning_rate", 10.0, 10.001),
    ("adam_rate", 1e-12, 0.0),
    ("adam_rate", 10.0, 10.001),
    ("warmup_steps", 0, -1),
    ("final_rate", 0.0, -1e-9),
    ("final_rate", 1.0, 1.001),
    ("hold", 0.0, -1e-9),
    ("hold", 1.0, 1.001),
    ("weight_decay", 0.0, -1e-9),
    ("weight_decay", 1.0, 1.001),
    ("row_averaging", 0.0, -1e-9),
    ("row_averaging", 0.99999, 1.0),
    ("reset_every", 0, -1),
    ("reset_every", 10**12, 10**12 + 1),
    ("dropout", 0.0, -1e-9),
    ("dropout", 0.95, 0.951),
    ("dropout_masks", 1, 0),
    ("dropout_masks", 64, 65),
    ("clip", 1e-12, 0.0),
    ("averaging", 0.0, -1e-9),
    ("averaging", 0.99999, 1.0),
    ("val_fraction", 0.0, -1e-9),
    ("val_fraction", 0.9, 0.901),
    ("patience", 0, -1),
    ("keep", 1, 0),
    ("keep", 1_000_000, 1_000_001),
    ("seed", 0, -1),
    ("seed", 2**63 - 1, 2**63),
]
FLOATS = ("learning_rate", "adam_rate", "final_rate", "hold", "weight_decay", "dropout", "clip")
FLOATS += ("averaging", "row_averaging", "val_fraction")
WHOLE = sorted({name for name, _, _ in TRAIN_LIMITS} - set(FLOATS) | {"threads"})


@pytest.mark.parametrize(("name", "inside", "outside"), MODEL_LIMITS)
def test_model_limits(name: str, inside: int, outside: int) -> None:
    assert getattr(replace(MODEL, **{name: inside}), name) == inside
    with pytest.raises(UsageError):
        replace(MODEL, **{name: outside})


@pytest.mark.parametrize(("name", "inside", "outside"), TRAIN_LIMITS)
def test_train_limits(name: str, inside: float, outside: float) -> None:
    assert getattr(replace(TRAIN, **{name: inside}), name) == inside
    with pytest.raises(UsageError):
        replace(TRAIN, **{name: outside})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError):
        replace(TRAIN, **{name: value})


@pytest.mark.parametrize("budget", ["epochs", "minutes"])
def test_a_budget_may_be_any_positive_number(budget: str) -> None:
    assert getattr(train_config(steps=None, **{budget: 0.001}), budget) == 0.001
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=f"`{budget}` is"):
            train_config(steps=None, **{budget: value})


@pytest.mark.parametrize(
    "budgets",
    [
        {"epochs": None, "steps": None, "minutes": None},
        {"epochs": 1.0, "steps": 1, "minutes": None},
        {"epochs": 1.0, "steps": 1, "minutes": 1.0},
    ],
)
def test_exactly_one_budget_is_given(budgets: dict[str, float | None]) -> None:
    with pytest.raises(UsageError, match="set one of `epochs`, `steps` and `minutes`"):
        train_config(**budgets)


def test_an_error_names_value_limit_and_remedy() -> None:
    with pytest.raises(UsageError, match=r"`dropout` is 0.96, but must be at least 0 and at most"):
        replace(TRAIN, dropout=0.96)
    with pytest.raises(UsageError, match="`clip` is 0, but must be above 0"):
        replace(TRAIN, clip=0.0)
    with pytest.raises(UsageError, match="'float8'; choose one of auto, float32, bfloat16, "):
        replace(TRAIN, precision="float8")
    with pytest.raises(UsageError, match="'lstn'; choose one of lstm"):
        replace(MODEL, cell="lstn")


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [("seed", 2**63, 2**63 - 1), ("keep", 1_000_001, 1_000_000)],
)
def test_an_error_writes_whole_numbers_in_full(name: str, value: int, limit: int) -> None:
    with pytest.raises(UsageError) as caught:
        replace(TRAIN, **{name: value})
    message = str(caught.value).replace(",", "")
    assert str(value) in message
    assert str(limit) in message


def test_a_number_larger_than_any_float_is_refused() -> None:
    with pytest.raises(UsageError):
        replace(MODEL, hidden_size=10**400)


@pytest.mark.parametrize("settings", [MODEL, TRAIN, train_config(steps=None, minutes=2.5)])
def test_settings_come_back_from_json(settings: ModelConfig | TrainConfig) -> None:
    stored = json.loads(json.dumps(settings.to_dict()))
    assert type(settings).from_dict(stored, "run.json") == settings


@pytest.mark.parametrize("settings", [MODEL, TRAIN])
def test_every_missing_field_is_noticed_and_named(settings: ModelConfig | TrainConfig) -> None:
    for field in fields(settings):
        if field.name in settings.OLD_VALUES:
            continue
        values = settings.to_dict()
        del values[field.name]
        with pytest.raises(CharlstmError, match=rf"run\.json has invalid .*{field.name}"):
            type(settings).from_dict(values, "run.json")


def test_files_of_earlier_versions_keep_the_values_that_they_were_trained_with() -> None:
    values = TRAIN.to_dict()
    for name in ("threads", "dropout_masks", "hold", "row_averaging", "reset_every"):
        del values[name]
    del values["distillation"]
    old = TrainConfig.from_dict(values, "run.json")
    assert (old.threads, old.dropout_masks, old.hold, old.distillation) == (0, 1, 0.0, 0.0)
    assert (old.row_averaging, old.reset_every) == (0.0, 0)


def test_the_defaults_are_todays_recipe() -> None:
    recipe = TrainConfig(batch=4, bptt=16, steps=1)
    _, preset = default_settings(10**6, 65, train={"batch": 4, "bptt": 16, "steps": 1})
    by_text = {"dropout": 0.1, "dropout_masks": 4, "hold": 0.0}
    assert preset == replace(recipe, **by_text)  # type: ignore[arg-type]
    assert (recipe.learning_rate, recipe.adam_rate, recipe.weight_decay) == (0.04, 0.01, 0.1)
    assert (recipe.row_averaging, recipe.reset_every) == (0.95, 100)


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(CharlstmError, match="unheard_of"):
        ModelConfig.from_dict({**asdict(MODEL), "unheard_of": 1}, "model.json")


@pytest.mark.parametrize("settings", [MODEL, TRAIN])
@pytest.mark.parametrize("value", ["1x", True, [1], {}, 1.5, None])
def test_every_field_of_another_type_is_named(
    settings: ModelConfig | TrainConfig, value: object
) -> None:
    refused = 0
    for field in fields(settings):
        if type(value).__name__ in _allowed(str(field.type)):
            continue
        refused += 1
        with pytest.raises(CharlstmError, match=rf"\({field.name}\)"):
            type(settings).from_dict({**settings.to_dict(), field.name: value}, "model.json")
    assert refused


def _allowed(declared: str) -> set[str]:
    names = {name for name in ("int", "float", "str") if name in declared}
    return names | ({"NoneType"} if "None" in declared else set())


@pytest.mark.parametrize("value", [None, [], "lstm", 3])
def test_settings_that_are_no_object_are_refused(value: object) -> None:
    with pytest.raises(CharlstmError, match=r"model\.json"):
        ModelConfig.from_dict(value, "model.json")


@pytest.mark.parametrize("change", [{"hidden_size": 0}, {"cell": "lstn"}])
def test_a_file_with_settings_out_of_range_is_damaged(change: dict[str, object]) -> None:
    with pytest.raises(CharlstmError, match=r"model\.json") as caught:
        ModelConfig.from_dict({**asdict(MODEL), **change}, "model.json")
    assert caught.value.exit_code == ExitCode.FAILED


def test_parameters_are_counted_as_by_hand() -> None:
    embedding = 5 * 3
    first = 4 * (4 * 3 + 4 * 4 + 4)  # four blocks of H rows: input, hidden, bias
    second = 4 * (4 * 4 + 4 * 4 + 4)
    output = 5 * 4 + 5
    assert MODEL.parameters == embedding + first + second + output == 312


def test_a_model_is_described_by_cell_layers_and_width() -> None:
    assert MODEL.describe() == "lstm 2×4"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [8.5, 8.0, np.float64(8), True, "8"])
def test_whole_numbers_are_whole(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is .*, but must be a whole number"):
        replace(TRAIN, **{name: value})


@pytest.mark.parametrize("name", ["embedding_size", "hidden_size", "layers"])
def test_a_models_sizes_are_whole(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is 8.5, but must be a whole number"):
        replace(MODEL, **{name: 8.5})


@pytest.mark.parametrize("value", [10**400, Fraction(10**400), Fraction(-(10**400))])
@pytest.mark.parametrize("name", FLOATS)
def test_a_number_that_no_float_holds_is_outside_the_limits(name: str, value: float) -> None:
    with pytest.raises(UsageError, match="number of more than 30 digits, but must be"):
        replace(TRAIN, **{name: value})


def test_numbers_of_other_types_can_be_written_to_json() -> None:
    config = replace(TRAIN, batch=np.int64(8), clip=np.float32(0.5), dropout=Fraction(1, 4))
    values = json.loads(json.dumps(config.to_dict()))
    assert (values["batch"], values["clip"], values["dropout"]) == (8, 0.5, 0.25)
    assert json.loads(json.dumps(replace(MODEL, layers=np.int8(3)).to_dict()))["layers"] == 3
