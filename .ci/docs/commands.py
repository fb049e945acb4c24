"""Make docs/reference/commands.md from the commands' own help."""

from pathlib import Path
from typing import Any

from typer.main import get_command

from charlstm.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
HEAD = """# All commands and options

Made from the commands' own help by `python .ci/docs/commands.py`; a test compares them.

Results go to stdout, everything else to stderr. `-c` takes a run's folder, one of its checkpoints,
or a name under `checkpoints/`; left out, the newest run is used. Exit codes: 0 done, 1 it could not
be done, 2 wrong usage, 130 stopped by Ctrl-C after saving.
"""


def render() -> str:
    """The page."""
    parts = [HEAD]
    root: Any = get_command(app)
    for name, command in root.commands.items():
        parts += _section(f"charlstm {name}", command)
        for below, subcommand in getattr(command, "commands", {}).items():
            parts += _section(f"charlstm {name} {below}", subcommand)
    return "\n".join(parts)


def _section(name: str, command: Any) -> list[str]:
    lines = [f"## {name}\n", f"{command.help}\n"]
    if command.epilog:
        examples = [line.strip() for line in command.epilog.split("\n\n")[1:]]
        lines += ["```", *examples, "```\n"]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = parameter.make_metavar(None) if parameter.nargs else parameter.name
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
            shown = ", ".join(sorted(names, key=lambda n: (n.startswith("--"), n)))
        text = " ".join((parameter.help or "").split()).replace("|", "or")
        default = parameter.default
        if parameter.show_default and default not in (None, False, "", []):
            text += f" ({default})"
        rows.append(f"| `{shown}` | {text} |")
    return [*lines, "| option | |", "|---|---|", *rows, ""]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
