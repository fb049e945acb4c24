"""A folder is a dependency: what each folder may import, as docs and review cannot promise it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "charlstm"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

# What each room may import of the others, from the ground up. A room is a folder, or a module of
# the package's root; a folder's modules may import each other.
GROUND = {"errors"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": GROUND,
    "events": set(),
    "cache": GROUND,
    "html_table": set(),
    "config": GROUND,
    "text": GROUND | {"files", "cache"},
    "net": GROUND | {"config", "cache"},
    "presets": GROUND | {"files", "config", "text", "net"},
    "runs": GROUND | {"files", "events", "config", "text", "net"},
    "generate": GROUND | {"files", "text", "net", "runs"},
    "scoring": GROUND | {"text", "generate", "html_table"},
    "analysis": GROUND | {"events", "text", "net", "runs", "generate", "html_table"},
    "export": GROUND | {"events", "net", "runs", "scoring", "analysis", "show"},
    "model": {
        *("errors", "text", "net", "runs", "generate", "scoring", "analysis", "show"),
        "html_table",
    },
    "mixture": {"errors", "text", "net", "generate", "model"},
    "training": {
        *("errors", "events", "config", "presets", "text", "net", "runs", "scoring", "analysis"),
    },
    "study": {"errors", "files", "events", "config", "presets", "text", "net", "runs", "training"},
    "show": {"errors", "files", "events", "net", "runs", "scoring", "analysis", "study"},
    "opening": {
        *("errors", "config", "presets", "text", "net", "runs", "training", "export"),
    },
    "generations": {"events", "presets", "runs", "training", "opening"},
    "run_display": {"events", "runs", "generate", "training", "show"},
    "training_run": {
        *("errors", "events", "text", "runs", "model", "training", "export", "show", "html_table"),
        *("opening", "run_display", "generations"),
    },
    "cli": {
        *("errors", "files", "events", "presets", "text", "net", "runs", "generate", "scoring"),
        *("analysis", "export", "model", "training", "study", "show", "__init__"),
        *("opening", "run_display", "training_run", "generations"),
        *("mixture", "config"),
    },
    "__main__": {"cli"},
    "__init__": {
        *("errors", "model", "mixture", "generate", "scoring", "analysis", "runs", "show"),
        "training_run",
    },
}
HOMES = {
    "torch": {"training", "study"},
    "rich": {"show"},
    "plotext": {"show"},
    "typer": {"cli"},
    "filelock": {"files"},
    "onnx": {"export"},
    "threadpoolctl": {"net"},
    "IPython": {"show"},
    "tensorboardX": {"export"},
}


def room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


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


def rooms_of(imported: set[str]) -> set[str]:
    """The rooms of the package among dotted names; a name of the package itself is __init__'s."""
    own = {name.split(".")[1] for name in imported if name.startswith("charlstm.")}
    return {name if name in ROOMS else "__init__" for name in own}


def below(imported: set[str], *packages: str) -> set[str]:
    return {n for n in imported if any(f"{n}.".startswith(f"{p}.") for p in packages)}


def test_every_room_is_listed_and_every_listed_room_is_there() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)
    for library, homes in HOMES.items():
        users = {room(m) for m in MODULES if below(imports(m), library)}
        assert users == homes, library


@pytest.mark.parametrize("name", ROOMS)
def test_each_room_imports_what_it_may_and_nothing_else(name: str) -> None:
    for module in MODULES:
        if room(module) == name:
            assert rooms_of(imports(module)) - {name} <= ROOMS[name], module


@pytest.mark.parametrize("name", ROOMS)
def test_what_a_room_may_import_it_imports_somewhere(name: str) -> None:
    used = set().union(*(rooms_of(imports(m)) for m in MODULES if room(m) == name))
    assert ROOMS[name] <= used


def test_the_rooms_form_no_circle() -> None:
    left = {name: set(allowed) for name, allowed in ROOMS.items()}
    left["cli"].discard("__init__")
    while free := {name for name, allowed in left.items() if not allowed}:
        left = {name: allowed - free for name, allowed in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_training_and_study_load_torch(module: Path) -> None:
    heavy = ("charlstm.training", "charlstm.study.lag", "charlstm.study.gradient")
    if room(module) not in ("training", "study"):
        assert below(imports_when_loaded(module), *heavy) == set()


def test_tests_mirror_the_package() -> None:
    tested = {module.with_suffix("") for module in MODULES} | {m.parent for m in MODULES}
    tests = [path.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")]
    assert [
        str(test)
        for test in tests
        if test.parts[0] not in ("system", "torture")
        and test.with_name(test.stem.removeprefix("test_")) not in tested
    ] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_begins_with_one_sentence_of_purpose(module: Path) -> None:
    docstring = ast.get_docstring(syntax(module))
    assert docstring
    sentence = " ".join(docstring.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert ". " not in sentence
