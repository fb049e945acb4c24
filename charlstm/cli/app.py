"""The Typer application: the commands, in the order in which a newcomer needs them."""

import os
import shlex
from typing import Annotated

import typer

from charlstm import __version__
from charlstm.cli import export, inspect, runs, sample, score, study, tracebacks, train
from charlstm.cli.commands import Commands, Group
from charlstm.cli.options import default, example
from charlstm.errors import CharlstmError, UsageError, reason_of

app = Commands(
    name="charlstm",
    help="A character-level LSTM language model for the terminal. Train it on a text, generate "
    "text with it, and look inside.",
    epilog=example(
        "charlstm train book.txt     train a model",
        "charlstm sample             generate text",
        "charlstm inspect            look inside",
    )
    + "\n\nTo report a bug, run the command again as: charlstm --traceback COMMAND …",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"charlstm {__version__}")
        raise typer.Exit


def _show_traceback(wanted: bool) -> bool:
    tracebacks.show(wanted)  # before the rest is parsed, which may fail
    return wanted


@app.callback()
def _any_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            callback=_show_traceback,
            is_eager=True,
            envvar="CHARLSTM_TRACEBACK",
            help="Print the full traceback after an error, for bug reports.",
        ),
    ] = False,
) -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise CharlstmError(
            "the working directory was deleted", "change to another one with cd"
        ) from None
    except OSError as error:
        raise CharlstmError(
            f"the working directory cannot be used: {reason_of(error)}",
            "change to another one with cd",
        ) from None


for _command, _epilog in (
    (train.train, train.EXAMPLES),
    (sample.sample, sample.EXAMPLES),
    (inspect.inspect, inspect.EXAMPLES),
    (score.score, score.EXAMPLES),
    (export.export, export.EXAMPLES),
):
    app.command(epilog=_epilog)(_command)
app.add_typer(study.group, name="study", epilog=study.EXAMPLES)
app.add_typer(runs.group, name="runs", epilog=runs.EXAMPLES)


@app.command("help", epilog=example("charlstm help train", "charlstm help runs prune"))
def show_help(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            help="Command to describe." + default("charlstm itself"), show_default=False
        ),
    ] = None,
) -> int:
    """Show the help of a command."""
    named = context.find_root().command
    for word in command or ():
        if not isinstance(named, Group):
            raise UsageError(f"unexpected argument {shlex.quote(word)}", "name one command")
        named = named.commands.get(word, named)  # below, the unknown one is refused
    return int(app([*(command or ()), "--help"], standalone_mode=False, prog_name="charlstm") or 0)
