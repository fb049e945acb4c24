"""The core names fields; the command line names the running command's options for them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from charlstm.cli import run
from charlstm.cli.app import app
from charlstm.cli.option_names import option_of, use_parameters, with_options
from charlstm.config import TrainConfig
from charlstm.errors import UsageError
from charlstm.generate.sampling import SamplingConfig
from charlstm.net.model_config import ModelConfig

ROOT: Any = get_command(app)
INTERNAL = {"vocab_size", "end", "distillation"}
"""Fields that no option sets: they follow from the text and from --teacher."""
OTHERWISE = {
    "temperature": "--temp",
    "hidden_size": "--hidden",
    "embedding_size": "--embed",
    "learning_rate": "--lr",
    "adam_rate": "--adam-lr",
    "warmup_steps": "--warmup",
}


@pytest.mark.parametrize(
    ("command", "config"),
    [("sample", SamplingConfig), ("train", TrainConfig), ("train", ModelConfig)],
    ids=str,
)
def test_every_field_has_an_option(command: str, config: Any) -> None:
    use_parameters(ROOT.commands[command].params)
    for field in fields(config):
        if field.name in INTERNAL:
            assert option_of(field.name) is None
        else:
            option = OTHERWISE.get(field.name, f"--{field.name.replace('_', '-')}")
            assert with_options(f"`{field.name}` is -1") == f"{option} is -1"


def test_a_field_is_shown_as_the_option_of_the_running_command() -> None:
    use_parameters(ROOT.commands["inspect"].params)
    assert with_options("`units`, `features`, `text`") == "--unit, --feature, TEXT"
    use_parameters(ROOT.commands["score"].params)
    assert with_options("`checkpoint` and `as_json`") == "--checkpoint and --json"


def test_what_is_no_parameter_of_the_command_stays_as_it_is() -> None:
    use_parameters(ROOT.commands["sample"].params)
    for message in ("`hidden_size` is 3", "there is no file `a b`", "`` and `", "temperature"):
        assert with_options(message) == message


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("sample --temp -1", "--temp is -1, but must be at least 0"),
        ("sample --top-p 3", "--top-p is 3, but must be above 0 and at most 1"),
        ("sample --count 0", "--count is 0, but must be at least 1"),
        ("sample --unknown x", "--unknown is 'x'"),
        ("score - --segments 0", "--segments is 0, but must be at least 1"),
        ("train --hidden 0", "--hidden is 0, but must be at least 1 and at most 16384"),
        ("train --lr -3", "--lr is -3, but must be above 0 and at most 10"),
        ("train --resume --lr 3 --bytes", "--lr, --bytes: a resumed run keeps its settings"),
        ("train --init-from x --embed 3", "--embed: --init-from takes the model's shape"),
    ],
)
def test_errors_name_options(
    arguments: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"charlstm: {shown}")
    assert "`" not in error


def test_errors_in_python_name_fields() -> None:
    for create in (
        lambda: SamplingConfig(temperature=-1),
        lambda: SamplingConfig(min_p=-1),
        lambda: ModelConfig("lstm", 3, 4, 0, 1),
    ):
        with pytest.raises(UsageError) as error:
            create()
        assert "--" not in str(error.value)
        assert str(error.value).startswith("`")
