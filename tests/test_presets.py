"""Default settings of a run, and the notes before it starts."""

from dataclasses import replace

import pytest

from charlstm import files
from charlstm.errors import UsageError
from charlstm.net.model_config import ModelConfig
from charlstm.presets import (
    LITTLE,
    PRESETS,
    Preset,
    advice,
    default_epochs,
    default_preset,
    default_settings,
    generation_minutes,
    generation_presets,
    memory_needed,
    require_memory,
)
from charlstm.text.vocabulary import Vocabulary

MODEL = ModelConfig("lstm", vocab_size=50, embedding_size=8, hidden_size=32, layers=1)
VOCAB = Vocabulary("".join(map(chr, range(33, 83))))
COUNTS = [1000] * 50
TRAIN = replace(default_settings(1000, 50)[1], batch=4, bptt=16, dropout_masks=1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_settings_within_the_limits(name: str) -> None:
    preset = PRESETS[name]
    characters = preset.characters // 10
    model, train = default_settings(characters, 100, preset=name)
    assert (model.vocab_size, model.hidden_size) == (100, preset.hidden_size)
    assert (model.layers, model.embedding_size) == (preset.layers, preset.embedding_size)
    assert (train.batch, train.bptt, train.dropout) == (preset.batch, preset.bptt, preset.dropout)
    assert train.epochs == default_epochs(preset, characters)


def test_without_a_preset_the_text_chooses_it() -> None:
    for characters in (1_000, 50_000, 500_000):
        named = default_settings(characters, 100, preset=default_preset(characters))
        assert default_settings(characters, 100) == named


def test_what_the_user_chose_is_kept_and_the_rest_is_default() -> None:
    plain_model, plain_train = default_settings(1_000_000, 100)
    model, train = default_settings(
        1_000_000, 100, model={"layers": 3}, train={"batch": 7, "seed": 9}
    )
    assert model == replace(plain_model, layers=3)
    assert train == replace(plain_train, batch=7, seed=9)


@pytest.mark.parametrize(("items", "held_out"), [(None, 0.1), (500, 0.1), (40_000, 0.025)])
def test_a_tenth_of_a_list_is_held_out_but_at_most_a_thousand_items(
    items: int | None, held_out: float
) -> None:
    assert default_settings(300_000, 30, items=items)[1].val_fraction == held_out
    given = default_settings(300_000, 30, items=items, train={"val_fraction": 0.2})
    assert given[1].val_fraction == 0.2


@pytest.mark.parametrize("budget", [{"steps": 10}, {"minutes": 1.5}, {"epochs": 2.0}])
def test_a_chosen_budget_replaces_the_default_one(budget: dict[str, float]) -> None:
    _, train = default_settings(1_000_000, 100, train=budget)
    given = {"epochs": train.epochs, "steps": train.steps, "minutes": train.minutes}
    assert {name: value for name, value in given.items() if value is not None} == budget


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match="'giant'; choose one of tiny, quick, small, medium, large, huge"
    ):
        default_settings(1_000, 100, preset="giant")
    with pytest.raises(UsageError, match="`preset` is ''"):
        default_settings(1_000, 100, preset="")


def test_a_choice_out_of_its_range_is_refused() -> None:
    with pytest.raises(UsageError, match="`hidden_size` is 0"):
        default_settings(1_000, 100, model={"hidden_size": 0})
    with pytest.raises(UsageError, match="2 budgets given"):
        default_settings(1_000, 100, train={"steps": 1, "minutes": 1.0})


def test_presets_grow_with_their_names() -> None:
    sizes = [default_settings(10**6, 65, preset=name)[0].parameters for name in PRESETS]
    assert list(PRESETS) == ["tiny", "quick", "small", "medium", "large", "huge"]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("characters", "preset"),
    [
        (20, "tiny"),
        (19_999, "tiny"),
        (20_000, "small"),
        (399_999, "small"),
        (400_000, "large"),
        (10**9, "large"),
    ],
)
def test_the_preset_suits_the_size_of_the_text(characters: int, preset: str) -> None:
    assert default_preset(characters) == preset


@pytest.mark.parametrize(
    ("characters", "minutes", "preset"),
    [
        (1_000, 60.0, "tiny"),
        (100_000, 60.0, "small"),
        (100_000, 0.9, "quick"),
        (10**6, 0.9, "quick"),
        (100_000, 1.0, "small"),
        (10**6, 1.0, "medium"),
        (10**6, 4.9, "medium"),
        (10**6, 5.0, "large"),
    ],
)
def test_a_short_time_asks_for_a_small_model(characters: int, minutes: float, preset: str) -> None:
    assert default_preset(characters, minutes) == preset
    chosen, _ = default_settings(characters, 100, train={"minutes": minutes})
    assert chosen.hidden_size == PRESETS[preset].hidden_size


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_budget_reads_the_presets_number_of_characters(preset: Preset) -> None:
    assert default_epochs(preset, preset.characters // 10) == 10.0
    assert default_epochs(preset, preset.characters // 5 * 4) == 1.2


@pytest.mark.parametrize(
    ("characters", "epochs"),
    [(0, 30.0), (20, 30.0), (10**6, 4.0), (15 * 10**6, 1.0), (10**8, 0.2), (10**12, 2e-05)],
)
def test_a_text_is_read_at_most_thirty_times_and_twenty_million_characters(
    characters: int, epochs: float
) -> None:
    assert default_epochs(PRESETS["medium"], characters) == epochs


@pytest.mark.parametrize(
    ("characters", "train", "dropout"),
    [
        (10**6, {}, 0.15),  # nine epochs
        (10**6, {"epochs": 15.0}, 0.15),
        (10**6, {"epochs": 2.2}, 0.12),
        (10**6, {"epochs": 2.0}, 0.1),
        (10**6, {"epochs": 0.5}, 0.1),
        (10**6, {"steps": 1100}, 0.13),  # 1100 * 32 * 64 characters
        (10**6, {"steps": 1}, 0.1),
        (8 * 10**6, {"minutes": 17.0}, 0.14),  # 2.4 epochs, where 1.1 take 8 minutes
        (10**6, {"minutes": 600.0}, 0.15),
        (10**6, {"minutes": 2.0}, 0.1),
        (10**7, {"minutes": 10.0}, 0.1),
        (10**8, {}, 0.1),
        (10**8, {"dropout": 0.3}, 0.3),
        (10**6, {"dropout": 0.0}, 0.0),
        (20, {}, 0.5),
        (100_000, {}, 0.3),
    ],
)
def test_what_is_hardly_read_twice_has_little_dropout(
    characters: int, train: dict[str, float], dropout: float
) -> None:
    assert default_settings(characters, 100, train=train)[1].dropout == dropout


@pytest.mark.parametrize(
    ("characters", "train", "dropout"),
    [(10**6, {}, 0.1), (100_000, {"minutes": 9.0}, 0.1), (10**6, {"dropout": 0.4}, 0.4)],
)
def test_a_taught_run_has_little_dropout(
    characters: int, train: dict[str, float], dropout: float
) -> None:
    _, settings = default_settings(characters, 100, with_teacher=True, train=train)
    assert (settings.distillation, settings.dropout) == (0.7, dropout)
    assert default_settings(characters, 100, train=train)[1].distillation == 0


@pytest.mark.parametrize(
    ("characters", "train", "hold"),
    [
        (10**6, {}, 0.67),  # nine epochs
        (10**6, {"epochs": 5.0}, 0.0),
        (10**6, {"epochs": 5.1}, 0.41),
        (10**6, {"epochs": 7.5, "dropout": 0.0}, 0.6),
        (10**6, {"epochs": 0.5}, 0.0),
        (10**6, {"steps": 4000}, 0.63),  # 4000 * 32 * 64 characters
        (10**6, {"minutes": 600.0}, 0.99),
        (10**6, {"minutes": 1e-300}, 0.0),
        (10**6, {"hold": 0.0}, 0.0),
        (10**8, {"hold": 0.4}, 0.4),
        (10**8, {}, 0.0),
        (20, {}, 0.9),
    ],
)
def test_in_many_epochs_the_rate_falls_in_the_last_three(
    characters: int, train: dict[str, float], hold: float
) -> None:
    assert default_settings(characters, 100, train=train)[1].hold == hold


def test_the_rate_of_a_taught_run_falls_from_the_start() -> None:
    assert default_settings(10**6, 100, with_teacher=True)[1].hold == 0.0
    assert default_settings(10**6, 100, with_teacher=True, train={"hold": 0.5})[1].hold == 0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_evens_rows_and_resets_states(preset: str) -> None:
    _, settings = default_settings(10**6, 65, preset=preset)
    assert (settings.row_averaging, settings.reset_every) == (0.95, 100)


def test_several_dropout_masks_where_the_output_layer_is_small() -> None:
    def masks(vocab_size: int, **model: int) -> int:
        return default_settings(10**6, vocab_size, model=model)[1].dropout_masks

    assert masks(65) == masks(256) == 4
    assert masks(292) == 4
    assert masks(293) == masks(4_000) == 1
    assert masks(65, layers=1, hidden_size=512) == 4
    assert masks(65, layers=1, hidden_size=256) == 1
    assert default_settings(10**6, 4_000, train={"dropout_masks": 2})[1].dropout_masks == 2


def test_nothing_is_said_when_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory_present", lambda: 1 << 40)
    assert advice(MODEL, VOCAB, COUNTS, TRAIN) == []


def test_a_model_much_larger_than_its_text_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory_present", lambda: 1 << 40)
    large = replace(MODEL, hidden_size=512)
    limit = large.parameters // 30
    assert limit > LITTLE
    assert advice(large, VOCAB, [limit + 1], TRAIN) == []
    (note,) = advice(large, VOCAB, [limit - 1], TRAIN)
    assert f"{large.parameters:,} parameters for {limit - 1:,} characters" in note
    assert "`hidden_size`" in note


def test_a_text_too_small_to_learn_from_is_noted_with_a_way_out() -> None:
    (note,) = advice(replace(MODEL, hidden_size=256), VOCAB, [3000], TRAIN)
    assert note.startswith("3,000 characters may be too few")
    assert note.endswith("`val_fraction` 0 and `steps` 500")


def test_rare_characters_are_counted_but_not_absent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory_present", lambda: 1 << 40)
    counts = [4] * 20 + [0, 1] + [5] * 28
    (note,) = [one for one in advice(MODEL, VOCAB, counts, TRAIN) if "fewer" in one]
    assert note.startswith("21 of 50 characters occur fewer than 5 times")


def test_the_few_rare_characters_of_any_text_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory_present", lambda: 1 << 40)
    assert advice(MODEL, VOCAB, [*COUNTS[4:], 0, 1, 4, 5], TRAIN) == []


MANY = "".join(map(chr, range(0x21, 0x21 + 600)))
"""95 of them are one byte long, the others two."""


def advises_bytes(symbols: str, counts: list[int], hidden_size: int) -> bool:
    model = ModelConfig("lstm", len(symbols), 8, hidden_size, 1)
    notes = advice(model, Vocabulary(symbols), counts, TRAIN)
    return any("`as_bytes`" in note for note in notes)


@pytest.mark.parametrize(
    ("symbols", "each_of_95", "each_other", "hidden_size", "advised"),
    [
        (MANY, 10_000, 100, 32, True),  # 1.05 bytes a character
        (MANY, 10_000, 300, 32, False),  # 1.14
        (MANY, 10_000, 100, 1000, False),  # a model of which they are an eighth
        (MANY[:400], 10_000, 100, 8, False),  # hardly more than the bytes are
    ],
)
def test_bytes_are_advised_where_many_characters_cost_much_and_are_rare(
    symbols: str, each_of_95: int, each_other: int, hidden_size: int, advised: bool
) -> None:
    counts = [each_of_95] * 95 + [each_other] * (len(symbols) - 95)
    assert advises_bytes(symbols, counts, hidden_size) is advised


def test_half_a_surrogate_pair_among_many_characters_is_no_trouble() -> None:
    assert advises_bytes(MANY + "\udc80", [10_000] * 95 + [1] * 506, 32)


def test_memory_that_is_not_there_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory_needed(MODEL, TRAIN)
    monkeypatch.setattr(files, "memory_present", lambda: needed)
    (note,) = advice(MODEL, VOCAB, COUNTS, TRAIN)
    assert "`batch`" in note
    for enough in (2 * needed, None):
        monkeypatch.setattr(files, "memory_present", lambda enough=enough: enough)
        assert advice(MODEL, VOCAB, COUNTS, TRAIN) == []


def test_a_model_far_too_large_for_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory_needed(MODEL, TRAIN)
    for present in (None, needed, needed // 2 + 1):
        monkeypatch.setattr(files, "memory_present", lambda present=present: present)
        require_memory(MODEL, TRAIN)
    monkeypatch.setattr(files, "memory_present", lambda: needed // 2 - 1)
    with pytest.raises(UsageError, match="GiB of memory") as refused:
        require_memory(MODEL, TRAIN)
    assert "`hidden_size`" in refused.value.hint


def test_memory_grows_with_the_model_and_the_batch() -> None:
    base = memory_needed(MODEL, TRAIN)
    wider = ModelConfig("lstm", 50, 8, 64, 1)
    assert memory_needed(wider, TRAIN) > base
    assert memory_needed(MODEL, replace(TRAIN, batch=8)) > base
    assert memory_needed(MODEL, replace(TRAIN, bptt=32)) > base
    assert memory_needed(MODEL, replace(TRAIN, dropout_masks=2)) > base


@pytest.mark.parametrize(
    ("characters", "minutes", "presets"),
    [
        (1_115_394, None, ("large",)),
        (1_115_394, 2.0, ("medium",)),
        (1_115_394, 10.0, ("large",)),
        (1_115_394, 15.0, ("large",)),  # fewer than eight epochs each
        (1_115_394, 20.0, ("large", "large")),
        (2_000_000, 20.0, ("large",)),
        (1_115_394, 60.0, ("large", "large", "huge")),
        (192_156, 5.0, ("small",)),
        (192_156, 10.0, ("small", "small")),
        (10_000_000, 60.0, ("large",)),  # too few epochs to memorise it
        (10_000_000, 240.0, ("large", "large", "huge")),
        (10_000, 60.0, ("tiny",)),
    ],
)
def test_generations_are_those_that_text_and_time_suffice_for(
    characters: int, minutes: float | None, presets: tuple[str, ...]
) -> None:
    assert generation_presets(characters, minutes) == presets


@pytest.mark.parametrize(
    ("characters", "minutes", "presets"),
    [
        (228_000, None, ("small", "small")),
        (228_000, 2.0, ("small", "small")),
        (228_000, 0.5, ("quick",)),
        (1_115_394, None, ("large",)),  # too few epochs for two
        (1_115_394, 60.0, ("large", "large", "huge")),
        (10_000, None, ("tiny",)),
    ],
)
def test_a_list_that_is_read_often_has_two_generations(
    characters: int, minutes: float | None, presets: tuple[str, ...]
) -> None:
    assert generation_presets(characters, minutes, is_list=True) == presets
    assert generation_presets(characters, minutes, 1, is_list=True) == presets[:1]


def test_a_number_of_generations_or_a_preset_is_kept() -> None:
    assert generation_presets(10**6, None, 3) == ("large", "large", "huge")
    assert generation_presets(10**6, 60.0, 1) == ("large",)
    assert generation_presets(10**6, None, 3, "medium") == ("medium",) * 3
    assert generation_presets(10**5, 1.0, 2) == ("quick", "quick")


def test_what_generations_are_made_of_is_checked_before_it_is_divided() -> None:
    with pytest.raises(UsageError, match="`minutes` is -5, but must be above 0"):
        generation_presets(10**6, -5, 2)
    for count in (None, 2):
        with pytest.raises(UsageError, match="'giant'; choose one of tiny"):
            generation_presets(10**6, 1.0, count, "giant")


def test_each_generation_of_twenty_minutes_or_an_hour_has_the_time_it_takes_by_hand() -> None:
    for minutes, presets, by_hand in (
        (20.0, ("large", "large"), (7.6, 9.4)),
        (60.0, ("large", "large", "huge"), (7.6, 9.4, 29.2)),
    ):
        left = minutes
        for number, needed in enumerate(by_hand, 1):
            part = generation_minutes(presets, number, left, minutes)
            assert part >= needed
            left -= part
        assert left == pytest.approx(0)


def test_generations_of_a_preset_take_as_many_steps_though_a_teacher_takes_time() -> None:
    first = generation_minutes(("large", "large"), 1, 20.0, 20.0)
    assert (20.0 - first) / first == pytest.approx(9.4 / 7.6, rel=0.02)


def test_a_generation_has_some_time_even_if_the_budget_is_spent() -> None:
    assert generation_minutes(("large", "large", "huge"), 2, -1.0, 50.0) == 0.5


def test_a_preset_of_a_later_generation_is_checked() -> None:
    with pytest.raises(UsageError, match="`preset` is 'giant'"):
        generation_minutes(("large", "giant"), 1, 5.0, 5.0)
