import pytest

from charlstm.train.plan import SpeedTrial


@pytest.mark.parametrize(("seconds", "told_at"), [(0.0, 5), (6.0, 5), (6.1, 6), (9.5, 9)])
def test_speed_is_told_once_and_from_the_later_half(seconds: float, told_at: int) -> None:
    trial = SpeedTrial(0.0, seconds)
    marks = [1.5, 3.0, *range(4, 30)]  # the first two steps are slow
    told = {step: trial.step_done(now) for step, now in enumerate(marks, 1)}
    assert {step: found for step, found in told.items() if found is not None} == {told_at: 1.0}
