"""Extensions of typer's commands: groups of options, help for narrow terminals, better errors."""

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
from charlstm.cli.options import command
from charlstm.errors import ExitCode, UsageError

NARROW = 80
"""Below this many columns typer's tables truncate option names, so the help is plain text."""
NARROWEST = 30
"""Least width of plain help, in columns."""

MAY_BE_EMPTY = ("prime", "warmup")
"""Text parameters, which may be empty. Elsewhere "" usually comes from an unset variable."""

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
    """``command`` with one parameter per option, as typer expects.

    A parameter of ``command`` may be a group of options: a class such as an ``OptionGroup`` whose
    annotated attributes are the options. The function returned has these attributes as parameters.
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
    """Help that truncates nothing on a narrow terminal."""

    rich_markup_mode: Any

    def format_help(self, ctx: Any, formatter: Any) -> None:
        columns = shutil.get_terminal_size().columns
        if columns < NARROW:
            self.rich_markup_mode = None
            # click assumes at least 50 columns and gives 30 of them to the names.
            formatter.width = max(columns - 2, NARROWEST)
            formatter.write_dl = functools.partial(
                formatter.write_dl, col_max=min(30, formatter.width // 2)
            )
        super().format_help(ctx, formatter)  # type: ignore[misc]
        # typer escapes "[required]" for Rich, even in plain text.
        formatter.buffer = [part.replace("\\[", "[") for part in formatter.buffer]


class Command(_HelpForAnyWidth, TyperCommand):
    """A command whose options replace fields in messages while it runs."""

    allow_extra_args = True  # refused below

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reject empty values and unexpected arguments, with a hint at what was meant."""
        use_parameters(self.params)
        typed = list(args)  # click empties it
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        for name, value in ctx.params.items():
            if name not in MAY_BE_EMPTY and "" in (
                value if isinstance(value, list | tuple) else [value]
            ):
                raise UsageError(f"`{name}` is empty", "give a value, or omit the option")
        if rest:
            raise UsageError(
                f"unexpected argument {shlex.quote(rest[0])}", self._meant(rest[0], typed)
            )
        return rest

    def _meant(self, word: str, args: list[str]) -> str:
        """A hint at how to write what an unexpected argument was meant for."""
        from charlstm.runs.catalogue import is_run

        before = args[args.index(word) - 1] if word in args[1:] else ""
        if any(before in (*flag.opts, *flag.secondary_opts) for flag in self._flags()):
            return f"{before} takes no value"
        if option_of("checkpoint") is not None and is_run(word):
            return f"to use the run of that name: -c {shlex.quote(word)}"
        return ""

    def _flags(self) -> list[Any]:
        return [one for one in self.params if getattr(one, "is_flag", False)]


class Group(_HelpForAnyWidth, TyperGroup):
    """A group of commands that suggests a command for an unknown word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, show the help and exit with 2, as older versions of click do not."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise typer.Exit(ExitCode.USAGE)
        return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command named by the first word; raises ``UsageError`` if there is none."""
        name = args[0]
        if self.get_command(ctx, name) or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise UsageError(f"unknown command {shlex.quote(name)}", *self._meant(name))

    def _meant(self, name: str) -> tuple[str, str]:
        """A hint, and a command to copy if there is one."""
        if "train" in self.commands and os.path.isfile(name):
            return f"to train on {name}:", command("train", name)
        if name == "resume" and "train" in self.commands:
            return "to resume a run:", command("train", "--resume")
        from charlstm.runs.catalogue import is_run

        if is_run(name):
            for one, words in (("show", ("runs", "show")), ("sample", ("sample", "-c"))):
                if one in self.commands:
                    return "for the run of that name:", command(*words, name)
        meant = _SYNONYMS.get(name, name)
        if meant == self.name:
            return "did you mean this?", command(meant)
        if meant not in self.commands:
            meant = next(iter(difflib.get_close_matches(name, self.commands, 1)), "")
        if meant:
            return f"did you mean {meant}?", ""
        return f"choose one of {', '.join(self.commands)}", ""


class Commands(typer.Typer):
    """A ``typer.Typer`` that uses the classes above."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, rich_markup_mode="rich", **settings)

    def command(  # type: ignore[override]
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """As in typer, but parameters of the function may be groups of options."""
        register = super().command(name, cls=Command, **settings)
        return lambda function: register(flat_options(function))
