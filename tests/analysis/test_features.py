"""Features against strings that were marked by hand."""

import numpy as np
import pytest

from charlstm.analysis import features
from charlstm.analysis.features import features_of
from charlstm.errors import UsageError

BY_HAND = [
    ("inside quotes", 'a "b c" d', "001111000"),
    ("inside quotes", "“b” «c»", "1100110"),
    ("inside quotes", '"a\n\nb', "11100"),
    ("bracket depth", "(a[b]c)d)(", "1122110001"),
    ("bracket depth", "((a\n\nb", "122200"[:4] + "00"),
    ("position in line", "ab\ncd\n\ne", "12012001"),
    ("indentation", "a\n  b\n c", "00122211"),
    ("position in word", "ab, c9d", "1200123"),
    ("capital", "aBC d", "01100"),
    ("newline soon", "abcdefg\nh", "001111100"),
    ("after punctuation", "a, b. c", "0110110"),
    ("digit", "a12b", "0110"),
]


@pytest.mark.parametrize(("name", "text", "expected"), BY_HAND)
def test_feature_of_a_string_marked_by_hand(name: str, text: str, expected: str) -> None:
    feature = next(f for f in features_of(text) if f.name == name)
    assert "".join(str(int(v)) for v in feature.values) == expected


def test_own_feature_is_where_its_expression_matches() -> None:
    feature = features_of("NED: no\nTAM: yes", ["speaker=^[A-Z]+:"])[-1]
    assert feature.name == "speaker"
    assert not feature.is_count
    np.testing.assert_array_equal(feature.values, [1] * 4 + [0] * 4 + [1] * 4 + [0] * 4)


@pytest.mark.parametrize("definition", ["vowel", "=a", "vowel=", "vowel=[a"])
def test_own_feature_without_a_name_or_an_expression_is_refused(definition: str) -> None:
    with pytest.raises(UsageError, match="`features`"):
        features_of("abc", [definition])


@pytest.mark.parametrize("text", ["", "a", "\n", '"'])
def test_every_feature_has_a_value_for_each_character(text: str) -> None:
    for feature in features_of(text, ["own=a"]):
        assert feature.values.shape == (len(text),), feature.name


@pytest.mark.parametrize("expression", ["a{99999999999}", "(" * 5000 + ")" * 5000, "(?a)(?u)b"])
def test_an_expression_too_large_to_compile_is_a_usage_error(expression):
    with pytest.raises(UsageError, match="not a valid regular expression"):
        features_of("a", [f"x={expression}"])


def test_what_python_warns_of_in_an_expression_is_no_warning():
    assert features_of("a[", ["x=[[a]"])[-1].values.tolist() == [1, 1]


def test_an_expression_that_tries_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(features, "LONGEST_SEARCH", 0.2)
    with pytest.raises(UsageError, match="x, whose expression ran for more than"):
        features_of("a" * 60, ["x=(a+)+$b"])
    busy = sum(range(10**7))  # the limit is lifted afterwards
    assert busy
    assert features_of("ab", ["x=a"])[-1].values.tolist() == [1, 0]
