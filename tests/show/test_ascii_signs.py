"""Where an encoding lacks our signs ASCII stands in: nothing of ours becomes a question mark."""

import ast
from pathlib import Path

import pytest

import charlstm
from charlstm.show.ascii_signs import ERRORS

MODULES = sorted(Path(charlstm.__file__).parent.rglob("*.py"))


def written_signs(module: Path) -> set[str]:
    """The characters outside ASCII in a module's strings, without its docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = set(map(id, statements))
    strings = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docstrings)
    text = "".join(node.value for node in strings if isinstance(node.value, str))
    return {character for character in text if character > "~" and character.isprintable()}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp1252"])
def test_every_sign_in_the_code_has_a_stand_in(encoding: str) -> None:
    signs = set().union(*map(written_signs, MODULES)) - {"\ufffd"}
    assert {"█", "▒", "…", "−"} <= signs
    for sign in sorted(signs):
        assert "?" not in sign.encode(encoding, ERRORS).decode(encoding), sign


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("███·····▒▒", "ascii", "###.....=="),
        ("███·····▒▒", "latin-1", "###·····=="),
        ("███·····▒▒", "cp437", "███·····▒▒"),
        ("━━━───", "ascii", "===---"),
        ("▁▂▃▄▅▆▇█", "ascii", "_.-~=+*#"),
        ("\u2800⠁⠂⠈⠐⠄⡀⠠⢀⠃⣀⡇⣿", "ascii", " ''''....'.::"),
        ("2.00┤│└┬", "ascii", "2.00+|++"),
        ("lstm 2×512, a long na…", "ascii", "lstm 2x512, a long na."),
        ("c = f∗c₋ + i∗g", "ascii", "c = f*c- + i*g"),
        ("σ(−1) ±2 ∞", "ascii", "sigma(-1) +-2 inf"),
        ("a␣b↵", "ascii", "a_b$"),
        ("é漢🙂\udc80", "ascii", "????"),
        ("é漢", "latin-1", "é?"),
    ],
)
def test_stand_ins_look_like_this(text: str, encoding: str, written: str) -> None:
    assert text.encode(encoding, ERRORS).decode(encoding) == written


def test_levels_and_ends_of_bars_stay_different() -> None:
    for signs in ("▁▂▃▄▅▆▇█", "█·▒", "━─"):
        assert len(set(signs.encode("ascii", ERRORS))) == len(signs)


def test_the_handler_is_for_encoding_alone() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", ERRORS)
