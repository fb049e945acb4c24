"""The page docs/reference/python.md, from the docstrings of what ``charlstm`` exports."""

import ast
import inspect
import re
from textwrap import dedent
from typing import Any

import charlstm

HEAD = """# Python API

Everything that `import charlstm` offers, generated from the docstrings. Arrays are NumPy arrays.
Layers, units and positions count from 0 here; on the terminal layers count from 1.

The letters in shapes: B streams, T characters, V vocabulary, E embedding, H units, L layers,
G gates, S state vectors (2, h and c, or 1 for a cell without c).

```python
import charlstm

model = charlstm.load("checkpoints/book")
for piece in model.generate("NED: ", length=200, temperature=0.8, seed=1):
    print(piece, end="", flush=True)
```
"""
WIDTH = 96
Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The page: functions first, then classes, then exceptions."""
    names = [name for name in charlstm.__all__ if not name.startswith("__")]
    things = {name: getattr(charlstm, name) for name in names}

    def rank(name: str) -> tuple[int, str]:
        thing = things[name]
        if not inspect.isclass(thing):
            return 0, name
        return (2 if issubclass(thing, Exception) else 1), name

    sections = [_section(name, things[name]) for name in sorted(names, key=rank)]
    return "\n".join([HEAD, *sections])


def _section(name: str, thing: Any) -> str:
    node = ast.parse(dedent(inspect.getsource(thing))).body[0]
    assert isinstance(node, Definition)
    if isinstance(node, ast.FunctionDef):
        return f"## {name}\n\n{_function(node, f'charlstm.{name}')}"
    parts = [f"## {name}\n\n{_prose(ast.get_docstring(node) or '')}"]
    fields = _fields(node)
    if fields:
        rows = [
            f"| `{field}` | `{kind}` | {default} | {text} |"
            for field, kind, default, text in fields
        ]
        parts.append("\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) + "\n")
    parts += [
        f"### {name}.{member.name}\n\n{_function(member, member.name)}"
        for member in node.body
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
    ]
    return "\n".join(parts)


def annotation(node: ast.expr) -> str:
    """A type as it is written, without the quotes of one that is only imported for type checks."""
    quoted = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if quoted else ast.unparse(node)  # type: ignore[attr-defined]


def _function(node: ast.FunctionDef, shown: str) -> str:
    """Signature and docstring of a function, a method or a property."""
    decorators = {ast.unparse(one) for one in node.decorator_list}
    result = annotation(node.returns) if node.returns else "None"
    if decorators & {"property", "cached_property"}:
        signature = f"{shown}: {result}"
    else:
        signature = _signature(shown, _parameters(node.args), result)
    return f"```python\n{signature}\n```\n\n{_prose(ast.get_docstring(node) or '')}"


def _parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter as it is written, without ``self``."""
    places = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(places) - len(arguments.defaults)) + arguments.defaults
    shown = [
        _parameter(one, default)
        for one, default in zip(places, defaults, strict=True)
        if one.arg not in ("self", "cls")
    ]
    if arguments.vararg:
        shown.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    shown += [_parameter(one, default) for one, default in keywords]
    if arguments.kwarg:
        shown.append(f"**{_parameter(arguments.kwarg, None)}")
    return shown


def _parameter(node: ast.arg, default: ast.expr | None) -> str:
    kind = f": {annotation(node.annotation)}" if node.annotation else ""
    return f"{node.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def _signature(name: str, parameters: list[str], result: str) -> str:
    """The call on one line, or a parameter a line."""
    line = f"{name}({', '.join(parameters)}) -> {result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f") -> {result}"])


def _fields(node: ast.ClassDef) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of each field of a dataclass."""
    fields = []
    for member, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
            continue
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(_inline(str(following.value.value)).split())
        default = f"`{ast.unparse(member.value)}`" if member.value else ""
        kind = annotation(member.annotation)
        fields.append(
            (member.target.id, kind.replace("|", "\\|"), default, text.replace("|", "\\|"))
        )
    return fields


def _inline(text: str) -> str:
    """Backticks as Markdown has them."""
    return text.replace("``", "`")


def _prose(docstring: str) -> str:
    """A docstring as Markdown: its sections Args, Returns and Raises become lists."""
    lines: list[str] = []
    section = ""
    for line in docstring.splitlines():
        heading = re.fullmatch(r"(Args|Returns|Yields|Raises):", line)
        if heading:
            section = heading[1]
            lines += [{"Args": "Parameters"}.get(section, section) + ":", ""]
        elif section and line.startswith("    "):
            entry = re.fullmatch(r"    (\*{0,2}\w+): (.*)", line)
            if entry:
                lines.append(f"- `{entry[1]}`: {entry[2]}")
            elif section in ("Returns", "Yields") and lines[-1] == "":
                lines.append(f"- {line.strip()}")
            else:
                lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
            section = section if not line.strip() else ""
    return _inline("\n".join(lines)) + "\n"
