"""Generations: runs on one text of which each learns from the predictions of the one before."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from charlstm.config import MOST_GENERATIONS, TrainConfig, has_type
from charlstm.net.model_config import ModelConfig

Setting = bool | int | float | str
SETTINGS = {f.name for kind in (ModelConfig, TrainConfig) for f in fields(kind)}
SETTINGS -= {"vocab_size", "end", "minutes"}
"""What the user may have set for all generations."""


@dataclass(frozen=True)
class Generation:
    """Which generation a run is, and all that is needed to begin the next one.

    Each run records this, so a chain goes on after a crash, and after runs of it were renamed or
    deleted.
    """

    chain: str
    """Random name of the chain, common to its runs."""
    number: int
    """Of this generation, counted from 1."""
    presets: tuple[str, ...]
    """The preset of each generation."""
    minutes: float | None
    """Budget of all generations together; None if each has its own in steps or epochs."""
    spent: float
    """Seconds that the earlier generations took."""
    name: str | None
    """The name that the user gave the first run."""
    settings: Mapping[str, Setting]
    """The other settings that the user gave: fields of ``ModelConfig`` and ``TrainConfig``."""

    @classmethod
    def first(
        cls, presets: tuple[str, ...], name: str | None, settings: Mapping[str, Setting]
    ) -> Self:
        """The first generation of a new chain."""
        others = {f: v for f, v in settings.items() if f != "minutes" and v is not None}
        minutes = settings.get("minutes")
        budget = None if minutes is None else float(minutes)
        return cls(secrets.token_hex(8), 1, presets, budget, 0.0, name, others)

    def next(self, seconds: float) -> Self:
        """The generation after this one, which took ``seconds``."""
        return replace(self, number=self.number + 1, spent=self.spent + seconds)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """This generation after ``changes`` of its run: the later ones use its device, too.

        They could not begin on a device that this machine lacks, or in a precision that the new
        device lacks. A budget or ``patience`` is that of one run.
        """
        fields = {"device", "keep", *({"precision"} & self.settings.keys())}
        later = {field: changes[field] for field in fields & changes.keys()}
        return replace(self, settings={**self.settings, **later})

    @property
    def count(self) -> int:
        """Number of generations in the chain."""
        return len(self.presets)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The generation that ``to_dict`` described.

        Raises:
            KeyError, TypeError, ValueError: ``value`` is not such a description.
        """
        kinds = {
            "chain": str,
            "number": int,
            "minutes": float | None,
            "spent": float,
            "name": str | None,
        }
        plain = {field: value[field] for field in kinds}
        presets, settings = tuple(value["presets"]), dict(value["settings"])
        if not all(has_type(plain[field], kind) for field, kind in kinds.items()):
            raise TypeError
        if not all(has_type(setting, Setting) for setting in settings.values()):
            raise TypeError
        if not all(isinstance(preset, str) for preset in presets):
            raise TypeError
        if not 1 <= plain["number"] <= len(presets) <= MOST_GENERATIONS:
            raise ValueError
        if not settings.keys() <= SETTINGS:
            raise ValueError
        return cls(presets=presets, settings=settings, **plain)
