import pytest
from helpers import train_config

from charlstm.runs.run import Budget
from charlstm.training.schedule import EVALUATION_FRACTION, FORWARD_FRACTION, Plan, SpeedTrial


def due(total: int, val_characters: int) -> list[int]:
    """The steps, of 64 characters each, at which a run of ``total`` steps is validated."""
    plan = Plan(train_config(steps=total), Budget(total, 0), 1000, val_characters, val_characters)
    return [step for step in range(1, total + 1) if plan.evaluation_due(step)]


def test_a_run_is_validated_thirty_times_if_that_is_cheap() -> None:
    assert due(300, 64) == list(range(10, 301, 10))


def test_validations_take_a_small_share_of_the_time() -> None:
    steps = due(10_000, 6_400)
    cost = len(steps) * 6_400 / 64 * FORWARD_FRACTION
    assert 5 < len(steps) < 30
    assert 0.8 * EVALUATION_FRACTION < cost / 10_000 <= EVALUATION_FRACTION


@pytest.mark.parametrize("total", [3, 10, 100])
def test_even_a_short_run_is_validated_on_the_way(total: int) -> None:
    assert len(due(total, 50_000)) >= 3
    assert due(total, 50_000)[-1] == total


@pytest.mark.parametrize(("seconds", "known_at"), [(0.0, 5), (6.0, 5), (6.1, 6), (9.5, 9)])
def test_speed_is_reported_once_and_from_the_later_half(seconds: float, known_at: int) -> None:
    trial = SpeedTrial(0.0, seconds)
    marks = [1.5, 3.0, *range(4, 30)]  # the first two steps are slow
    reported = {step: trial.step_done(now) for step, now in enumerate(marks, 1)}
    assert {step: found for step, found in reported.items() if found is not None} == {known_at: 1.0}
