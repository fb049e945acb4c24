import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charlstm import files
from charlstm.errors import CharlstmError, UsageError
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.study.results import CellRun, LagTrial, matched_model, open_results, summarise_lags

TRIAL = LagTrial("lstm", 8, 1, True, 1000, 1.0, 20, 3.0, 0.5)
OTHER = replace(TRIAL, trial=2)
SETTINGS = {"study": "lag", "task": "reber", "hidden": 32}


def open_lag(root: Path, **changes: Any) -> Any:
    return open_results(root, "my study", LagTrial, {**SETTINGS, **changes})


def test_results_outlive_the_process_that_found_them(tmp_path: Path) -> None:
    with open_lag(tmp_path) as results:
        assert results.all == []
        results.add(TRIAL)
        results.add(OTHER)
    assert results.path == tmp_path / "my-study" / "results.json"
    assert json.loads(results.path.read_bytes()) == results.to_dict()
    with open_lag(tmp_path) as again:
        assert again.all == [TRIAL, OTHER]
        keys = [("lstm", 8, 1), ("rnn", 8, 1), ("lstm", 16, 1)]
        assert again.missing(keys) == keys[1:]
        assert again.among(keys) == [TRIAL]


def test_a_failure_to_write_leaves_the_results_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with open_lag(tmp_path) as results:
        results.add(TRIAL)
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", fail)
            with pytest.raises(OSError, match="disk full"):
                results.add(OTHER)
    with open_lag(tmp_path) as again:
        assert again.all == [TRIAL]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with open_lag(tmp_path) as results:
        results.add(TRIAL)
    with (
        pytest.raises(UsageError, match="my-study holds a study with hidden 32, not 64") as refused,
        open_lag(tmp_path, hidden=64),
    ):
        pass
    assert "`name`" in refused.value.hint


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"format": 1}',
        '{"format": 2, "settings": {}, "results": []}',
        '{"format": 1, "settings": {}, "results": [{"cell": "lstm"}]}',
        '{"format": 1, "settings": [], "results": []}',
        '{"format": 1, "settings": {}, "results": 5}',
    ],
)
def test_a_damaged_file_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "my-study").mkdir()
    (tmp_path / "my-study" / "results.json").write_text(content)
    with pytest.raises(CharlstmError, match=r"results\.json"), open_lag(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, [1]) for name in ("cell", "lag", "trial", "cell_state")),
        ("lag", 10**400),
        ("right", "x"),
        ("right", 1e308),
        ("reach", 1.5),
        ("solved", 3),
    ],
)
def test_a_result_that_was_never_measured_is_damage(
    name: str, value: object, tmp_path: Path
) -> None:
    with open_lag(tmp_path) as results:
        results.add(TRIAL)
        content = results.to_dict()
    content["results"][0][name] = value
    results.path.write_text(json.dumps(content))
    with (
        pytest.raises(CharlstmError, match=r"results\.json is damaged.*choose another `name`"),
        open_lag(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "field",
    ['"cell": 1', '"lag": "8"', '"solved": null', '"right": NaN', '"right": 1e999',
     '"reach": 1e999', '"right": null', '"cell_state": "a"',
     '"seconds": NaN', '"trial": 1.0', '"characters": true'],
)  # fmt: skip
def test_a_result_with_a_value_of_another_kind_is_damage(field: str, tmp_path: Path) -> None:
    with open_lag(tmp_path) as results:
        results.add(TRIAL)
    name = field.partition(":")[0]
    lines = results.path.read_text().splitlines()
    changed = [f"{field}," if line.strip().startswith(name) else line for line in lines]
    text = "\n".join(changed).replace(f"{field},\n  }}", f"{field}\n  }}")
    json.loads(text)
    results.path.write_text(text)
    with pytest.raises(CharlstmError, match=r"results\.json is damaged"), open_lag(tmp_path):
        pass


def test_another_text_is_refused_in_words(tmp_path: Path) -> None:
    with open_lag(tmp_path, corpus="ab" * 32) as results:
        results.add(TRIAL)
    with (
        pytest.raises(UsageError, match="my-study holds a study of another text;"),
        open_lag(tmp_path, corpus="cd" * 32),
    ):
        pass


def test_two_processes_do_not_write_into_one_study(tmp_path: Path) -> None:
    with (
        open_lag(tmp_path),
        pytest.raises(UsageError, match="already training"),
        open_lag(tmp_path),
    ):
        pass


def test_trials_are_summarised_by_cell_and_lag() -> None:
    trials = [
        TRIAL,
        replace(OTHER, characters=3000, reach=40),
        replace(TRIAL, trial=3, solved=False, characters=9000, right=0.5, reach=None),
        replace(TRIAL, cell="rnn", cell_state=None, reach=None, solved=False, right=0.25),
    ]
    found = summarise_lags(trials)
    assert list(found) == [("lstm", 8), ("rnn", 8)]
    lstm, rnn = found.values()
    assert (lstm.trials, lstm.solved, lstm.characters) == (3, 2, 2000)
    assert (lstm.right, lstm.reach, lstm.cell_state) == (1.0, 30, 3.0)
    assert (rnn.solved, rnn.characters, rnn.right, rnn.reach) == (0, None, 0.25, None)
    assert rnn.cell_state is None


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("parameters", [1_000, 100_000, 3_000_000])
def test_matched_model_has_the_width_that_comes_closest(cell: str, parameters: int) -> None:
    found = matched_model(cell, parameters, 60, 32)
    assert (found.cell, found.vocab_size, found.embedding_size, found.layers) == (cell, 60, 32, 1)

    def distance(hidden: int) -> int:
        return abs(ModelConfig(cell, 60, 32, hidden, 1).parameters - parameters)

    width = found.hidden_size
    assert distance(width) == min(map(distance, range(max(1, width - 50), width + 50)))


def test_keys_tell_results_apart() -> None:
    run = CellRun("gru", 3, 100, 1000, 1.5, 9000.0, 4.0, "studies/x/gru-3")
    assert (run.key, TRIAL.key) == (("gru", 3), ("lstm", 8, 1))
