"""The documentation is held to what the code says."""

import ast
import importlib.util
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from charlstm import __version__

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.rglob("docs/**/*.md")])


def script(path: str) -> Any:
    """A script of the repository, as a module."""
    # Not by the name of its file: as __main__ it would run.
    spec = importlib.util.spec_from_file_location("script", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    pages = script(".ci/docs/__main__.py").pages()
    assert len(pages) > 4
    old = [str(path) for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert old == [], "run python3 .ci/make.py docs"


def test_pages_that_the_code_names_exist() -> None:
    named = {
        page
        for folder in ("charlstm", "tests", "benchmarks", ".ci")
        for path in (ROOT / folder).rglob("*.py")
        for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert [page for page in named if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    folders = r"charlstm|tests|docs|benchmarks|data|\.ci|\.github"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_journeys_name_what_the_code_has() -> None:
    page = (ROOT / "docs" / "project" / "architecture.md").read_text(encoding="utf-8")
    journeys = page[page.index("## A character's journey") : page.index("## Where would you")]
    # After the name of a file come names that it defines, until the next file.
    path, checked = "", 0
    for name in re.findall(r"`([^`]+)`", journeys):
        if name.endswith(".py"):
            path = name
        elif name.isidentifier() and name not in ("state", "sample"):
            tree = ast.parse((ROOT / "charlstm" / path).read_text(encoding="utf-8"))
            kinds = (ast.FunctionDef, ast.ClassDef)
            assert name in {n.name for n in ast.walk(tree) if isinstance(n, kinds)}, (path, name)
            checked += 1
    assert checked > 30


def test_architecture_page_has_every_folder() -> None:
    page = (ROOT / "docs" / "project" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "charlstm").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE))


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/check.yml"])
def test_ci_runs_the_second_command_of_the_readme(path: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, second = re.findall(r"^python3 .*", readme, re.MULTILINE)
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert second in [line.removeprefix("      - run: ") for line in lines]


def test_every_word_of_a_picture_stands_in_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = script(".ci/docs/pictures.py")
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    recorded = pictures.console(40, 5)
    recorded.print("[red]   one[/]  <two>\n[blue]  日本  [/]three")
    pictures.save(recorded, "x.svg", "title")
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    placed = {
        text.text: (float(text.get("x", "")), float(text.get("textLength", "")))
        for text in root.iter("{http://www.w3.org/2000/svg}text")
        if text.get("textLength")
    }
    letter = placed["one"][1] / 3
    told = {word: (x / letter, length / letter) for word, (x, length) in placed.items()}
    columns = {"one": (3, 3), "<two>": (8, 5), "日本": (2, 4), "three": (8, 5)}
    assert told == {word: pytest.approx(place) for word, place in columns.items()}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=lambda p: p.name
)
def test_pictures_need_no_spaces_to_be_kept(path: Path) -> None:
    svg = path.read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*textLength[^>]*>(.*?)</text>", svg, re.DOTALL)
    assert all(text == text.strip() and "&#160;" not in text for text in texts)


def test_prose_is_checked_without_code_at_its_lines() -> None:
    prose = script(".ci/prose.py")
    page = (
        "Tell `beside`.\n\n```\nanew\n```\n[by](https://example.org/told) a heart\nAs told anew.\n"
    )
    found = prose.banned(Path("a.md"), prose.without_code(page))
    assert [line.split(": write")[0] for line in found] == ["a.md:7: 'anew'", "a.md:7: 'told'"]
    module = '''"""Purpose."""\n\ntold = f"heed {1}"  # anew\n'''
    found = prose.banned(Path("a.py"), prose.strings_of(module))
    assert [line.split(": write")[0] for line in found] == ["a.py:3: 'heed'"]
    module = '"""Tests."""\n\ndef test_a_seed_is_told():\n    """As told."""\n    told = "anew"\n'
    found = prose.banned(Path("a.py"), prose.names_of(module))
    assert [line.split(": write")[0] for line in found] == ["a.py:3: 'told'", "a.py:4: 'told'"]


@pytest.mark.skipif(find_spec("proselint") is None, reason="proselint")
def test_misspelt_and_worn_out_words_are_found(tmp_path: Path) -> None:
    prose = script(".ci/prose.py")
    (tmp_path / "a.md.txt").write_text("It is a very unique mispelling.\n")
    found = [line for tool in prose.TOOLS for line in prose.run(tool, tmp_path)]
    assert [line.split(":")[0] for line in found] == ["a.md", "a.md"]


def test_citation_has_the_version() -> None:
    page = (ROOT / "docs" / "project" / "cite.md").read_text(encoding="utf-8")
    assert f"version = {{{__version__}}}" in page


def test_bundled_text_is_long_and_described() -> None:
    text = (ROOT / "data" / "nettle-quay.txt").read_text(encoding="utf-8")
    described = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert len(text) >= 150_000
    assert f"{len(text):,} characters" in described
    assert f"{len(set(text))} of them distinct" in described
