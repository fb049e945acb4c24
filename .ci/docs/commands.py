"""The page docs/reference/commands.md, from the commands' own help."""

from typing import Any

from typer.main import get_command

from charlstm.cli.app import app

HEAD = """# Commands

Every command and option, generated from `charlstm COMMAND --help`.

Results go to stdout and everything else to stderr. `-c` takes a run's folder, one of its
checkpoints, or a name under `checkpoints/`. Without it, the newest run is used.

`charlstm --traceback COMMAND …`, or `CHARLSTM_TRACEBACK=1` in the environment, prints the full
traceback after an error. Include it in a bug report.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the command failed, for example on a damaged file or a full disk |
| 2 | wrong usage |
| 130 | stopped by Ctrl-C; a training run saves first |
"""


def page() -> str:
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
        examples = [line.strip().replace("\\[", "[") for line in command.epilog.split("\n\n")[1:]]
        lines += ["```", *examples, "```\n"]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = parameter.make_metavar(None) if parameter.nargs else parameter.name
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
            shown = ", ".join(sorted(names, key=lambda n: (n.startswith("--"), n)))
        text = " ".join((parameter.help or "").split()).replace("|", "or").replace("\\[", "[")
        choices = (getattr(parameter, "metavar", None) or "").split("|")
        if len(choices) > 1 and not all(choice in text for choice in choices):
            text += f" One of {', '.join(choices)}."
        default = parameter.default
        if parameter.show_default and default not in (None, False, "", []):
            text += f" [default: {default}]"
        rows.append(f"| `{shown}` | {text} |")
    return [*lines, "| option | |", "|---|---|", *rows, ""]
