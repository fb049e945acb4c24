"""How charlstm's commands differ from typer's: groups of options, and errors with a remedy."""

import difflib
import functools
import inspect
import os
import shlex
import shutil
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from charlstm.cli.option_names import option_of, use_parameters
from charlstm.errors import ExitCode, UsageError

NARROW = 80
"""Columns below which typer's tables cut the names of options; the help is plain text there."""
NARROWEST = 30
"""Columns that plain help has at least."""

MAY_BE_EMPTY = ("prime", "warmup")
"""Parameters whose values are words for the model. Elsewhere "" is a shell's unset variable."""

_SYNONYMS = {
    "delete": "prune",
    "remove": "prune",
    "rm": "prune",
    "list": "runs",
    "ls": "runs",
    "generate": "sample",
    "eval": "score",
}


def flat_options(command: Callable[..., int]) -> Callable[..., int]:
    """``command`` as typer wants it: with one parameter for each option.

    Some parameters of ``command`` may be groups of options, classes such as an ``OptionGroup``,
    whose annotated attributes are the options. The signature of the function returned, from which
    typer makes the options, has them in their place.
    """
    kinds = inspect.get_annotations(command)
    groups = {
        name: (kind, options)
        for name, kind in kinds.items()
        if isinstance(kind, type) and (options := inspect.get_annotations(kind))
    }
    if not groups:
        return command
    flat: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            group, options = groups[parameter.name]
            flat += [(name, kind, getattr(group, name)) for name, kind in options.items()]
        else:
            flat.append((parameter.name, parameter.annotation, parameter.default))

    @functools.wraps(command)
    def run(**values: Any) -> int:
        for name, (group, options) in groups.items():
            values[name] = group(**{option: values.pop(option) for option in options})
        return command(**values)

    run.__annotations__ = {name: kind for name, kind, _ in flat}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for name, kind, default in flat
        ]
    )
    return run


class _HelpForAnyWidth:
    """Help that cuts nothing on a narrow terminal."""

    rich_markup_mode: Any

    def format_help(self, ctx: Any, formatter: Any) -> None:
        columns = shutil.get_terminal_size().columns
        if columns < NARROW:
            self.rich_markup_mode = None
            # click takes no terminal for narrower than 50 columns, and gives 30 to the names.
            formatter.width = max(columns - 2, NARROWEST)
            formatter.write_dl = functools.partial(
                formatter.write_dl, col_max=min(30, formatter.width // 2)
            )
        super().format_help(ctx, formatter)  # type: ignore[misc]
        # typer escapes "[required]" for rich, in plain text too.
        formatter.buffer = [part.replace("\\[", "[") for part in formatter.buffer]


class Command(_HelpForAnyWidth, TyperCommand):
    """A command; while it runs, messages name its options."""

    allow_extra_args = True  # refused below

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty values and a word too many; if it is a run, say how a run is named."""
        use_parameters(self.params)
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        for name, value in ctx.params.items():
            if name not in MAY_BE_EMPTY and "" in (
                value if isinstance(value, list | tuple) else [value]
            ):
                raise UsageError(f"`{name}` is empty", "give a value, or leave it out")
        if rest:
            from charlstm.runs.catalogue import is_run

            named = option_of("checkpoint") is not None and is_run(rest[0])
            raise UsageError(
                f"unexpected argument {shlex.quote(rest[0])}",
                f"the run of that name: -c {shlex.quote(rest[0])}" if named else "",
            )
        return rest


class Group(_HelpForAnyWidth, TyperGroup):
    """A group of commands, which names the one that was meant by a word that is none of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without a word show the help; older versions of click take that for success."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise typer.Exit(ExitCode.USAGE)
        return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word; raises ``UsageError`` if there is none."""
        name = args[0]
        if self.get_command(ctx, name) or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise UsageError(f"there is no command {shlex.quote(name)}", self._meant(name))

    def _meant(self, name: str) -> str:
        if "train" in self.commands and os.path.isfile(name):
            return f"to train on {name}: charlstm train {shlex.quote(name)}"
        if name == "resume" and "train" in self.commands:
            return "to go on with a run: charlstm train --resume"
        from charlstm.runs.catalogue import is_run

        if is_run(name):
            for command, words in (("show", "runs show"), ("sample", "sample -c")):
                if command in self.commands:
                    return f"for the run of that name: charlstm {words} {shlex.quote(name)}"
        meant = _SYNONYMS.get(name, name)
        if meant == self.name:
            return f"did you mean charlstm {meant}?"
        if meant not in self.commands:
            meant = next(iter(difflib.get_close_matches(name, self.commands, 1)), "")
        return f"did you mean {meant}?" if meant else f"there are {', '.join(self.commands)}"


class Commands(typer.Typer):
    """A ``typer.Typer`` of the classes above."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, rich_markup_mode="rich", **settings)

    def command(  # type: ignore[override]
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """As in typer, for a function some of whose parameters may be groups of options."""
        register = super().command(name, cls=Command, **settings)
        return lambda function: register(flat_options(function))
