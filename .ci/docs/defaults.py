"""The page docs/reference/defaults.md, from the presets and the settings' own defaults."""

import ast
import dataclasses
import inspect
from collections.abc import Sequence
from itertools import pairwise
from textwrap import dedent

from charlstm.config import TrainConfig
from charlstm.generate.sampling import SamplingConfig
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.presets import (
    DISTILLATION,
    DROPOUT_MASKS,
    FALL,
    FEW_EPOCHS,
    LEAST_DROPOUT,
    MAX_EPOCHS,
    MOST_CHARACTERS,
    PRESETS,
    Preset,
    default_preset,
    default_settings,
)

VOCABULARIES = (65, 128, 256)
SHORT, LONG = 20_000, 400_000
"""Characters from which on a text gets another preset."""
LENGTHS = (2_000, 15_000, 60_000, 192_156, 1_115_394, 5_000_000, 100_000_000)
BY_RULE = ("dropout", "dropout_masks", "hold", "distillation", "epochs")


def page() -> str:
    """The page."""
    return "\n".join([_head(), _presets(), _parameters(), _chosen(), _settings(), _sampling()])


def _head() -> str:
    shortest = [default_preset(size) for size in (SHORT, SHORT - 1)]
    longest = [default_preset(size) for size in (LONG, LONG - 1)]
    assert shortest[0] != shortest[1]
    assert longest[0] != longest[1]
    return f"""# Presets and defaults

Generated from the code. `charlstm train` states the settings it chose before it starts, and every
run keeps its settings in `run.json`. Why the defaults are what they are:
[how training works](../explanation/training.md) and
[the experiment log](../research/experiments/index.md).

## How a preset is chosen

Without `--preset`, the length of the text and a budget in minutes decide:

| characters | budget | preset |
|---|---|---|
| fewer than {SHORT:,} | any | `{default_preset(SHORT - 1)}` |
| {SHORT:,} or more | less than a minute | `{default_preset(SHORT, 0.9)}` |
| {SHORT:,} to {LONG - 1:,} | any other | `{default_preset(SHORT)}` |
| {LONG:,} or more | 1 to 5 minutes | `{default_preset(LONG, 4.9)}` |
| {LONG:,} or more | 5 minutes or more, or none given | `{default_preset(LONG)}` |

`huge` is chosen by name only.
"""


def _presets() -> str:
    rows = [
        (
            f"`{name}`",
            f"{one.layers} × {one.hidden_size}",
            one.embedding_size,
            one.batch,
            one.bptt,
            f"{one.dropout:g}",
            f"{one.characters:,}",
            _time(one.minutes),
        )
        for name, one in PRESETS.items()
    ]
    head = ("preset", "layers × units", "embedding", "B", "T", "dropout", "characters", "time")
    return f"""## Presets

B is the number of parallel streams and T the number of steps of truncated backpropagation. The
dropout probability is an upper limit. *Characters* is how many are read in all, repetitions
included. The time is approximate, for two CPU cores.

{_table(head, rows)}"""


def _time(minutes: float) -> str:
    return f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:g} min"


def _parameters() -> str:
    rows = [
        (f"`{name}`", *(f"{_count(preset, size):,}" for size in VOCABULARIES))
        for name, preset in PRESETS.items()
    ]
    large = [(f"`{cell}`", f"{_count(PRESETS['large'], 65, cell):,}") for cell in CELLS]
    return f"""## Parameters

Parameters of an `lstm`, by the size V of the vocabulary. Tiny Shakespeare has 65 characters. A
model of bytes (`--bytes`) has 256 symbols.

{_table(("preset", *(f"V = {size}" for size in VOCABULARIES)), rows)}
The `large` preset with each cell, V = 65:

{_table(("cell", "parameters"), large)}"""


def _count(preset: Preset, vocab_size: int, cell: str = "lstm") -> int:
    return ModelConfig(
        cell=cell,
        vocab_size=vocab_size,
        embedding_size=preset.embedding_size,
        hidden_size=preset.hidden_size,
        layers=preset.layers,
    ).parameters


def _chosen() -> str:
    rows = []
    for characters in LENGTHS:
        config, train = default_settings(characters, 65)
        rows.append(
            (
                f"{characters:,}",
                f"`{default_preset(characters)}`",
                f"{config.parameters:,}",
                *(f"{one:g}" for one in (train.epochs or 0, train.dropout, train.hold)),
                train.dropout_masks,
            )
        )
    head = ("characters", "preset", "parameters", "epochs", "dropout", "hold", "dropout masks")
    return f"""## What a text gets

With no option, for a vocabulary of 65 characters:

{_table(head, rows)}
- **Epochs**: as many as it takes to read the preset's number of characters, at most {MAX_EPOCHS:g}.
  A longer text is read once, up to {MOST_CHARACTERS:,} characters of it.
- **Dropout**: {LEAST_DROPOUT:g} for two epochs or fewer, 0.1 more for each further epoch, up to the
  preset's limit.
- **Hold**: the fraction of the budget spent at the peak learning rate. Over more than
  {FEW_EPOCHS:g} epochs the rate decays during the last {FALL:g}. Over fewer it decays from the
  start.
- **Dropout masks**: {DROPOUT_MASKS} where the output layer, computed once for each mask, has at
  most a sixth of the parameters. Otherwise 1.
- **With a teacher** (`--teacher`): distillation weight {DISTILLATION:g}, dropout {LEAST_DROPOUT:g},
  no hold.
- **A budget in minutes** counts as the epochs that two cores would read in that time.
"""


def _settings() -> str:
    small, large = (default_settings(size, 65)[1].to_dict() for size in (5_000, 5_000_000))
    texts = _field_texts(TrainConfig)
    rows = []
    for field in dataclasses.fields(TrainConfig):
        depends = field.name in BY_RULE or small[field.name] != large[field.name]
        default = "depends on the text" if depends else f"`{small[field.name]}`"
        rows.append((f"`{field.name}`", default, texts.get(field.name, "")))
    return f"""## All training settings

The names are those of `run.json` and of `charlstm.config.TrainConfig`.
[Commands](commands.md) has the options. Exactly one of `epochs`, `steps` and `minutes` is the
budget.

{_table(("field", "default", "meaning"), rows)}"""


def _sampling() -> str:
    texts = _field_texts(SamplingConfig)
    rows = [
        (f"`{field.name}`", f"`{field.default}`", texts.get(field.name, ""))
        for field in dataclasses.fields(SamplingConfig)
    ]
    return f"""## All sampling settings

{_table(("field", "default", "meaning"), rows)}"""


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _field_texts(kind: type) -> dict[str, str]:
    """The string after each field of a class."""
    node = ast.parse(dedent(inspect.getsource(kind))).body[0]
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for member, following in pairwise(node.body):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant):
                texts[member.target.id] = " ".join(str(value.value).replace("``", "`").split())
    return texts
