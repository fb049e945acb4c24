import pytest
from helpers import train_config

from charlstm.runs.run import Budget, Revision
from charlstm.training.schedule import EVALUATION_FRACTION, FORWARD_FRACTION, Pace, Plan


def planned(*revisions: tuple[int, int]) -> Budget:
    return Budget(tuple(Revision(*revision) for revision in revisions))


def due(total: int, val_characters: int) -> list[int]:
    """The steps, of 64 characters each, at which a run of ``total`` steps is validated."""
    plan = Plan(train_config(steps=total), planned((0, total)), val_characters, val_characters)
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


@pytest.mark.parametrize(("first", "measured"), [(0.0, 5), (6.0, 5), (6.1, 6), (9.5, 9)])
def test_speed_is_measured_in_the_later_half_of_a_span(first: float, measured: int) -> None:
    pace = Pace(0.0, first, span=100.0)
    marks = [1.5, 3.0, *range(4, 30)]  # the first two steps are slow
    assert [step for step, now in enumerate(marks, 1) if pace.step_done(now)] == [measured]
    assert pace.step_seconds == 1.0


def test_speed_is_measured_again_in_each_span_and_without_validations() -> None:
    pace, now, measured = Pace(0.0, 5.0, span=10.0), 0.0, []
    for step in range(1, 31):
        now += 1.0 if step <= 10 else 2.0
        if pace.step_done(now):
            measured.append((step, pace.step_seconds))
        if step % 4 == 0:
            now += 7.0
            pace.evaluation_done(now)
            assert pace.evaluation_seconds == 7.0
    assert measured[0] == (5, 1.0)
    assert measured[-1] == (28, 2.0)


# -- revisions -----------------------------------------------------------------------------------

MINUTES = train_config(steps=None, minutes=1.0, hold=0.5, warmup_steps=5)


def rates(plan: Plan) -> list[float]:
    total = plan.budget.total_steps
    assert total is not None
    return [plan.rate_multiplier(step) for step in range(total)]


@pytest.mark.parametrize("revision", [(30, 60), (60, 200), (70, 75), (90, 91)])
def test_a_revision_does_not_let_the_learning_rate_jump(revision: tuple[int, int]) -> None:
    before, after = (
        rates(Plan(MINUTES, planned(*plans), 10, 10))
        for plans in [[(8, 100)], [(8, 100), revision]]
    )
    at, total = revision
    assert after[:at] == before[:at]
    assert after[at] == pytest.approx(before[at])
    assert after[at:] == sorted(after[at:], reverse=True)  # it decays to the same end
    assert after[-1] == pytest.approx(MINUTES.final_rate, abs=2 / (total - at))


def test_validations_keep_their_number_when_a_plan_is_revised() -> None:
    for plans in [(0, 300)], [(0, 300), (100, 200)], [(0, 300), (150, 600)]:
        plan = Plan(MINUTES, planned(*plans), 1, 1)
        total = plan.budget.total_steps
        assert total is not None
        assert sum(map(plan.evaluation_due, range(1, total + 1))) == 30
        assert plan.evaluation_due(total)


def paced(step_seconds: float, evaluation_seconds: float = 0.0) -> Pace:
    pace = Pace(0.0, 0.0, 0.0, step_seconds)
    pace.evaluation_done(evaluation_seconds)
    return pace


def test_a_plan_leaves_time_for_validations_and_the_final_one() -> None:
    plan = Plan(MINUTES, planned(), 100, 300).revised(100, 10.0, paced(0.1, 0.5))
    total = plan.budget.total_steps
    assert total is not None
    validations = sum(map(plan.evaluation_due, range(101, total + 1)))
    assert 10 + 0.1 * (total - 100) + 0.5 * validations + 0.5 * 3 == pytest.approx(60, abs=1)
    assert plan.seconds(100, 10.0, paced(0.1, 0.5)) == pytest.approx(60, abs=1)


def test_a_plan_is_revised_only_where_it_misses_the_budget_and_never_before_a_revision() -> None:
    plan = Plan(MINUTES, planned((8, 600)), 1, 1)
    assert plan.revised(300, 30.0, paced(0.1)) is plan
    assert plan.revised(300, 30.5, paced(0.1)) is plan
    assert plan.revised(300, 31.0, paced(0.1)).budget == planned((8, 600), (300, 590))
    assert plan.revised(8, 31.0, paced(0.1)) is plan
    late = plan.revised(300, 70.0, paced(0.1))
    assert late.budget.total_steps == 301
    assert Plan(train_config(steps=600), planned((0, 600)), 1, 1).revised(
        300, 900.0, paced(0.1)
    ).budget == planned((0, 600))
