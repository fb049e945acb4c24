"""The options of ``charlstm sample``, in groups."""

from typing import Annotated

import typer

from charlstm.cli.options import Color, OptionGroup, Precision, Unknown, default

FILTERS, PRIMING, STATES = "Sampling", "Prime", "Resume state"


class Sampling(OptionGroup):
    """The fields of ``SamplingConfig``."""

    temperature: Annotated[
        float,
        typer.Option(
            "--temp",
            help="Sampling temperature; 0 always takes the most likely character, 1 leaves the "
            "model's probabilities unchanged.",
            rich_help_panel=FILTERS,
        ),
    ] = 1.0
    top_k: Annotated[
        int,
        typer.Option(
            help="Sample from the k most likely characters; 0 for all.", rich_help_panel=FILTERS
        ),
    ] = 0
    top_p: Annotated[
        float,
        typer.Option(
            help="Sample from the fewest most likely characters with total probability p.",
            rich_help_panel=FILTERS,
        ),
    ] = 1.0
    min_p: Annotated[
        float,
        typer.Option(
            help="Drop characters less likely than p times the most likely one.",
            rich_help_panel=FILTERS,
        ),
    ] = 0.0
    repeat_penalty: Annotated[
        float,
        typer.Option(
            help="Penalty on recent characters, 1 for none; see --dry for repeated passages.",
            rich_help_panel=FILTERS,
        ),
    ] = 1.0
    repeat_window: Annotated[
        int,
        typer.Option(
            help="Number of recent characters the penalty applies to, including the prime.",
            rich_help_panel=FILTERS,
        ),
    ] = 64
    dry: Annotated[
        float,
        typer.Option(
            help="Penalty on characters that would repeat a passage (DRY); 0.8 is useful, 0 is "
            "none.",
            rich_help_panel=FILTERS,
        ),
    ] = 0.0
    dry_base: Annotated[
        float,
        typer.Option(
            help="Growth of the DRY penalty with each repeated character.",
            rich_help_panel=FILTERS,
        ),
    ] = 1.75
    dry_length: Annotated[
        int,
        typer.Option(
            help="Number of characters that may repeat without a DRY penalty.",
            rich_help_panel=FILTERS,
        ),
    ] = 12
    match: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Regular expression that all of the generated text matches.",
            rich_help_panel=FILTERS,
            show_default=False,
        ),
    ] = None
    ban: Annotated[
        str | None,
        typer.Option(
            metavar="CHARS",
            help="Characters never to generate.",
            rich_help_panel=FILTERS,
            show_default=False,
        ),
    ] = None


class Writing(OptionGroup):
    """How many texts to generate, with which seed, and how to print them."""

    seed: Annotated[
        int | None,
        typer.Option(
            help="Random seed; the same seed gives the same text."
            + default("random, printed to stderr"),
        ),
    ] = None
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop sequence, not printed (repeatable).")
    ] = None
    count: Annotated[
        int,
        typer.Option(help="Number of texts to generate in a batch, with consecutive seeds."),
    ] = 1
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", "-i", help="Take turns: you type a line, the model continues."
        ),
    ] = False
    color: Color = False
    precision: Precision = "int8"
    novelty: Annotated[
        bool,
        typer.Option(
            "--novelty",
            help="Report the longest copy from the training text, and new words; of a list, the "
            "items that are not in it.",
        ),
    ] = False
    new: Annotated[
        bool,
        typer.Option("--new", help="Only new items: not in the list of the model, each once."),
    ] = False


class Priming(OptionGroup):
    """The text that the model continues."""

    prime: Annotated[
        str | None,
        typer.Option(
            help="Text to continue." + default("a newline"),
            rich_help_panel=PRIMING,
        ),
    ] = None
    prime_file: Annotated[
        str | None,
        typer.Option(help="File with the text to continue; - for stdin.", rich_help_panel=PRIMING),
    ] = None
    echo: Annotated[
        bool,
        typer.Option(
            "--echo/--no-echo", help="Print the prime before the text.", rich_help_panel=PRIMING
        ),
    ] = True
    unknown: Unknown = "error"


class States(OptionGroup):
    """Files of resume states."""

    save_state: Annotated[
        str | None,
        typer.Option(
            help="File to save the resume state (h and c) to at the end.", rich_help_panel=STATES
        ),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(help="File with the resume state to continue from.", rich_help_panel=STATES),
    ] = None
