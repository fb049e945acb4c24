"""A folder is a dependency: who may import what, as docs and review cannot promise it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "charlstm"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
HOMES = {"torch": "train", "rich": "show", "plotext": "show", "typer": "cli"}
# __main__ is nothing but the call of the command line.
CORE = [m for m in MODULES if m.parts[0] not in {*HOMES.values(), "__main__.py"}]


def syntax(module: Path) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def names(node: ast.AST) -> list[str]:
    """The dotted names that an import statement binds or searches."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports(module: Path) -> set[str]:
    """All that a module imports, at its top or inside its functions."""
    return {name for node in ast.walk(syntax(module)) for name in names(node)}


def imports_when_loaded(module: Path) -> set[str]:
    """What importing the module imports: not what its functions import when called."""

    def statements(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        for child in ast.iter_child_nodes(node):
            yield from statements(child)

    return {name for node in statements(syntax(module)) for name in names(node)}


def below(imported: set[str], *packages: str) -> set[str]:
    return {n for n in imported if any(f"{n}.".startswith(f"{p}.") for p in packages)}


def test_there_is_something_to_check() -> None:
    assert {m.parts[0] for m in MODULES if len(m.parts) > 1} == {"cli", "show", "train", "views"}
    assert len(CORE) > 10
    for library, home in HOMES.items():
        assert any(below(imports(m), library) for m in MODULES if m.parts[0] == home), library


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_heavy_library_has_one_home(module: Path) -> None:
    foreign = [library for library, home in HOMES.items() if module.parts[0] != home]
    assert below(imports(module), *foreign) == set()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_train_and_show_never_import_each_other_or_the_command_line(module: Path) -> None:
    others = {
        "train": ("charlstm.show", "charlstm.cli"),
        "show": ("charlstm.train", "charlstm.cli"),
    }
    assert below(imports(module), *others.get(module.parts[0], ())) == set()


@pytest.mark.parametrize("module", CORE, ids=str)
def test_the_core_loads_neither_train_nor_show_nor_cli(module: Path) -> None:
    upper = ("charlstm.train", "charlstm.show", "charlstm.cli")
    assert below(imports_when_loaded(module), *upper) == set()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_begins_with_one_sentence_of_purpose(module: Path) -> None:
    docstring = ast.get_docstring(syntax(module))
    assert docstring
    sentence = " ".join(docstring.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert ". " not in sentence
