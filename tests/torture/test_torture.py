"""The short forms of ``.ci/make.py torture``: the promises of docs/project/reliability.md.

A failure's notes name the seed and the trial; the long form of the same code makes it again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.name == "nt" or not Path("/proc/self/fd").is_dir():
    pytest.skip("signals, limits and /proc as Linux has them", allow_module_level=True)

import damage
import elastic
import hosts
import power
import ranks
import stops
import terminal
from forks import Bench

SEED = 1
against_the_clock = pytest.mark.skipif(
    "TORTURE" not in os.environ,
    reason="its moments are the clock's, so it is no test that always tells the same: "
    "TORTURE=1, or .ci/make.py torture",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> damage.Victim:
    return damage.Victim(tmp_path_factory.mktemp("victim"))


def test_killed_runs_end_with_the_bits_of_the_undisturbed_run(bench: Bench) -> None:
    assert stops.kill(bench, 8, SEED)["kills"] >= 8


def test_every_prefix_of_the_changes_on_disk_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    assert power.power_cut(tmp_path, 1, SEED)["goes on from a checkpoint"] > 100


def test_damaged_checkpoints_are_named_and_passed_over(victim: damage.Victim) -> None:
    assert damage.damage(victim, 40, SEED)["checkpoints passed over"] >= 40


def test_damage_outside_the_checkpoints_costs_no_weights(victim: damage.Victim) -> None:
    assert damage.damage_beside(victim, 10, SEED)["ids.bin: exit 0"]


def test_hostile_checkpoints_with_right_checksums_do_nothing(victim: damage.Victim) -> None:
    figures = damage.hostile(victim, 12, SEED)
    assert figures["sample: exit 0"] + figures["sample: exit 1"] == figures["runs"] == 12


def test_full_disk_costs_a_save_and_not_the_run(bench: Bench) -> None:
    assert stops.full_disk(bench, 3, SEED)["saves that failed"]


def test_small_file_system_that_fills_costs_a_save_and_not_the_run(bench: Bench) -> None:
    if not stops.small_disk(bench, 1, SEED)["runs"]:
        pytest.skip("mounting is not permitted")


def test_two_at_once_lose_nothing(bench: Bench) -> None:
    assert stops.doubled(bench, 1, SEED)["texts sampled while saving"]


def test_numbers_that_go_wrong_are_rolled_back(bench: Bench) -> None:
    assert stops.poison(bench, 6, SEED)["weights, 3 times back"]


@pytest.fixture(scope="module")
def group_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ranks.GroupBench]:
    bench = ranks.GroupBench(tmp_path_factory.mktemp("group"))
    yield bench
    bench.close()


def test_processes_end_with_the_same_bits_after_one_is_killed(
    group_bench: ranks.GroupBench,
) -> None:
    assert ranks.kill_rank(group_bench, 2, SEED)["runs"] == 2


def test_process_that_dies_before_it_meets_the_others_is_noticed(
    group_bench: ranks.GroupBench,
) -> None:
    assert ranks.lost_at_start(group_bench, 3, SEED)["runs"] == 3


def test_process_that_hangs_is_noticed_and_named(group_bench: ranks.GroupBench) -> None:
    assert ranks.hang(group_bench, 1, SEED)["runs"] == 1


def test_numbers_that_go_wrong_in_one_process_are_rolled_back_in_all(
    group_bench: ranks.GroupBench,
) -> None:
    assert ranks.poison_rank(group_bench, 2, SEED)["runs"] == 2


def test_processes_stop_and_save_once(group_bench: ranks.GroupBench) -> None:
    assert ranks.stop_rank(group_bench, 2, SEED)["saved"]


def test_full_disk_of_process_0_costs_a_save_and_not_the_run(
    group_bench: ranks.GroupBench,
) -> None:
    assert ranks.full_disk_rank(group_bench, 1, SEED)["saves that failed"]


@pytest.mark.slow
def test_torchrun_continues_a_run_after_a_death_and_saves_it_when_stopped(tmp_path: Path) -> None:
    assert elastic.restart(tmp_path, 1, SEED)["restarts"] == 1


@against_the_clock
def test_two_machines_go_on_after_a_death_a_loss_and_a_cut(tmp_path: Path) -> None:
    if not hosts.hosts(tmp_path, 1, SEED)["machines"]:
        pytest.skip("network namespaces are not permitted")


@against_the_clock
def test_interrupted_runs_save_and_end_with_the_same_bits(bench: Bench) -> None:
    stops.interrupt(bench, 6, SEED)


@against_the_clock
def test_ctrl_c_at_any_time_of_a_real_process_ends_quietly(bench: Bench) -> None:
    stops.interrupt_anywhere(bench, 3, SEED)


def test_panel_survives_small_terminals_resizing_and_suspension(bench: Bench) -> None:
    assert terminal.panel(bench, 4, SEED)["suspended, then drawn again"]


def test_closed_and_full_streams_cost_no_run(bench: Bench) -> None:
    assert terminal.closed(bench, 12, SEED)["stdout /dev/full, exit 1"]
