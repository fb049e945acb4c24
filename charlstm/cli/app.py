"""The Typer application: the commands in the order in which a newcomer needs them."""

from typing import Annotated

import typer

from charlstm import __version__
from charlstm.cli import inspect, runs, sample, score, study, train

app = typer.Typer(
    name="charlstm",
    help="A character-level LSTM language model for the terminal: give it a text, watch it "
    "learn, let it write, look inside.",
    epilog="Start here: charlstm train book.txt, then charlstm sample, then charlstm inspect.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"charlstm {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


for _command, _epilog in (
    (train.train, train.EXAMPLES),
    (sample.sample, sample.EXAMPLES),
    (inspect.inspect, inspect.EXAMPLES),
    (score.score, score.EXAMPLES),
):
    app.command(epilog=_epilog)(_command)
app.add_typer(study.group, name="study", epilog=study.EXAMPLES)
app.add_typer(runs.group, name="runs", epilog=runs.EXAMPLES)
