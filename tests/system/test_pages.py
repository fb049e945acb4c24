"""What readers of the pages rely on: links, commands, examples, terms, the order of the site."""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click import Group
from typer.main import get_command

from charlstm.cli import run
from charlstm.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *ROOT.glob("data/*.md"), *SITE])
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
GLOSSARY = DOCS / "reference" / "glossary.md"
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def prose(page: Path) -> str:
    """A page without what stands in code blocks and comments."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


@cache
def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    shown = (re.sub(r"\]\([^)]*\)|[`*\[]", "", heading) for heading in headings)
    return [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in shown]


@cache
def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each link that leads to the repository."""
    found = []
    for target in LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = [
        f"{path.name}#{anchor}"
        for path, anchor in links(page)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert broken == []


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_pages_of_the_site_link_to_each_other_alone(page: Path) -> None:
    assert [path for path, _ in links(page) if not path.is_relative_to(DOCS)] == []


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_anchors_are_the_same_on_the_site_and_on_code_hosts(page: Path) -> None:
    """The site drops what is not ASCII from an anchor, and joins hyphens."""
    linked = {anchor for other in PAGES for path, anchor in links(other) if path == page and anchor}
    assert [one for one in linked if not one.isascii() or "--" in one] == []


def test_the_site_has_every_page_once() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(
        r"^ +- (?:.+: )?([\w/-]+\.md)$", config[config.index("nav:") :], re.MULTILINE
    )
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in SITE]


def test_thirty_questions_each_have_a_heading_for_an_answer() -> None:
    lines = prose(DOCS / "project" / "questions.md").splitlines()
    questions = [line for line in lines if re.match(r"\d+\. ", line)]
    assert [int(line.split(".")[0]) for line in questions] == list(range(1, 31))
    assert all(re.search(r"\? \[[^\]]+\]\([^)]+\.md#[\w-]+\)$", line) for line in questions)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_glossary_term_is_explained_where_a_tutorial_first_uses_it() -> None:
    terms = re.findall(r"^## (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(terms) > 20
    unexplained = [
        f"{page.name}: {term}" for page in TUTORIALS for term in terms if bare(term, page)
    ]
    assert unexplained == []


def bare(term: str, page: Path) -> bool:
    """Whether a page uses a term first outside of a link and of bold type."""
    text = re.sub(r"^#.*$|`[^`]*`|!\[[^\]]*\]", "", prose(page), flags=re.MULTILINE)
    explained = re.sub(r"\[[^\]]*\]\([^)]*\)|\*\*[^*]+\*\*", lambda m: "\x00" * len(m[0]), text)
    words = re.compile(rf"(?<![\w-]){re.escape(term)}(?:e?s)?(?![\w-])", re.IGNORECASE)
    first, outside = words.search(text), words.search(explained)
    return first is not None and outside is not None and first.start() == outside.start()


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of charlstm in the code blocks of a page."""
    for language, block in FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines() if language != "python" else ():
            shown = re.match(r"(?:\S.*\| |\$ |!|%)?charlstm ((?:\S| {1,2}\S)*)", line)
            if shown and not line.startswith("charlstm: "):
                words = shlex.split(shown[1].replace("$'", "'"), comments=True)
                end = [words.index(sign) for sign in (">", ">>", "2>", "|") if sign in words]
                yield words[: min(end, default=len(words))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist_and_take_what_the_pages_give_them(page: Path) -> None:
    for words in commands(page):
        command: Any = get_command(app)
        while isinstance(command, Group) and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        if isinstance(command, Group):
            names = {name for one in command.params for name in one.opts} | {"--help", "-h"}
            assert set(words) <= names, words
        else:
            with command.make_context(command.name, list(words)):
                pass


def test_every_output_is_filled_in() -> None:
    outputs = script(".ci/docs/outputs.py")
    for page in [ROOT / "README.md", *SITE]:
        text = page.read_text(encoding="utf-8")
        blocks = list(outputs.BLOCK.finditer(text))
        assert len(blocks) == text.count("<!-- output: "), page
        assert all(block[0].count("\n") > 3 for block in blocks), page


def script(path: str) -> Any:
    """A script of the repository, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run ``demo`` of the bundled text."""
    folder = tmp_path_factory.mktemp("examples")
    settings = "--steps 4 --hidden 16 --layers 1 --name demo --quiet"
    with contextlib.chdir(folder):
        assert run(["train", *settings.split()]) == 0
        if importlib.util.find_spec("onnx"):
            assert run(["export", "novel.onnx", "-c", "demo"]) == 0
    text = (ROOT / "data" / "nettle-quay.txt").read_text(encoding="utf-8")
    (folder / "novel.txt").write_text(text[:5000], encoding="utf-8")
    (folder / "names.txt").write_text("emma\nolivia\n", encoding="utf-8")
    return folder


def checkpoint_of_demo(named: re.Match[str]) -> str:
    """The run ``demo``, or its last checkpoint, instead of the one that a page names."""
    (last,) = Path("checkpoints/demo").glob("step-*4")
    return last.as_posix() if named[1] else "checkpoints/demo"


CHECKPOINT = re.compile(r"checkpoints/\w+(/step-\d+)?")
EXAMPLES = [page for page in (ROOT / "README.md", *SITE) if "```python" in page.read_text("utf-8")]
EXAMPLES.remove(DOCS / "reference" / "python.md")  # signatures


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_python_examples_run(
    page: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "import onnxruntime" in page.read_text(encoding="utf-8"):
        pytest.importorskip("onnxruntime")
    shutil.copytree(demo, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    started = subprocess.run

    def start(command: list[str], **more: Any) -> Any:
        module = [sys.executable, "-m"] if command[0] == "charlstm" else []
        return started([*module, *command], **more)

    monkeypatch.setattr(subprocess, "run", start)
    names: dict[str, Any] = {}
    for language, block in FENCED.findall(page.read_text(encoding="utf-8")):
        if language == "python" and "IPython" not in block:
            source = textwrap.dedent(CHECKPOINT.sub(checkpoint_of_demo, block))
            source = source.replace("steps=3000", "steps=3")  # as long as minutes
            exec(compile(source, page.name, "exec"), names)


def test_the_javascript_example_uses_the_inputs_and_outputs_of_the_graph(demo: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(demo / "novel.onnx")
    page = (DOCS / "how-to" / "use-elsewhere.md").read_text(encoding="utf-8")
    (source,) = (block for _, block in FENCED.findall(page) if "onnxruntime-node" in block)
    found = re.search(r"const \{ (.+) \} = await session\.run\(\{ (.+) \}\)", source)
    assert found is not None
    outputs, inputs = ([name.split(":")[0] for name in one.split(", ")] for one in found.groups())
    assert outputs == [output.name for output in session.get_outputs()]
    assert inputs == [one.name for one in session.get_inputs()]
    assert [one.type for one in session.get_inputs()] == ["tensor(int64)", "tensor(float)"]
    layers, states, batch, units = session.get_inputs()[1].shape  # as inputMetadata[1].shape
    assert (layers, states, batch, units) == (1, 2, "B", 16)


def test_the_live_page_is_small() -> None:
    assert (DOCS / "live" / "nettle-quay.html").stat().st_size < 3_000_000


def test_the_moving_picture_is_short_and_small() -> None:
    gif = (DOCS / "pictures" / "train.gif").read_bytes()
    assert gif.startswith(b"GIF89a")
    assert len(gif) < 1_500_000
    delays = re.findall(rb"\x21\xf9\x04.(..).\x00\x2c", gif, re.DOTALL)
    assert 12 <= sum(int.from_bytes(delay, "little") for delay in delays) / 100 <= 18
    assert "(docs/pictures/train.gif)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_moving_picture_shows_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its font has no Braille, of which charts are made: the dots are drawn."""
    pytest.importorskip("PIL")
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "docs"))
    moving_picture = script(".ci/docs/moving_picture.py")
    images = []
    for chart in ("\u2800", "\u2847", "\u28b8", "\u28ff"):
        frame = moving_picture.console(20, 3)
        frame.print(f"[red]{chart}[/]")
        images.append(moving_picture.image(frame))
    sums = [sum(one.tobytes()) for one in images]
    assert sums[0] < sums[1] < sums[3]
    assert sums[1] == pytest.approx(sums[2], rel=1e-3)
    assert images[1] != images[2]
