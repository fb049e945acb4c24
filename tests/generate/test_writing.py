"""Ids become text; a text knows where it stands; texts side by side are those written alone."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import model_config, random_weights
from hypothesis import example, given
from hypothesis import strategies as st

import charlstm
from charlstm import Model
from charlstm.errors import UsageError
from charlstm.generate import writing
from charlstm.generate.sampling import surprise_bits
from charlstm.generate.text_state import TextState
from charlstm.generate.writing import StopFilter, as_text
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

SYMBOLS = "\nabcdefg"


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return charlstm.load(trained_run)


def byte_model() -> Model:
    config = model_config(256)
    file = ModelFile(config, Vocabulary(BYTE_SYMBOLS, "bytes"), random_weights(config), "", {})
    return Model(file, Path("none"))


# -- where a text stands -----------------------------------------------------------------------


def test_a_text_goes_on_from_its_state_as_if_it_had_never_stopped(model: Model) -> None:
    how = {"repeat_penalty": 3.0, "repeat_window": 100, "temperature": 0}
    whole = "".join(model.generate("NED: Row", length=120, **how))  # type: ignore[arg-type]
    first = model.generate("NED: Row", length=50, **how)  # type: ignore[arg-type]
    begun = "".join(first)
    rest = "".join(model.generate(state=first.state, length=70, **how))  # type: ignore[arg-type]
    assert begun + rest == whole
    # So does what is read in two parts.
    state = model.prefill("w", model.prefill("NED: Ro"))
    assert "".join(model.generate(state=state, length=120, **how)) == whole  # type: ignore[arg-type]
    forgot = TextState(first.state.state)
    assert "".join(model.generate(state=forgot, length=70, **how)) != rest  # type: ignore[arg-type]


def test_the_state_is_that_of_what_was_sampled_so_far(model: Model) -> None:
    text = model.generate("NED:", length=30, seed=1)
    begin = text.state
    first = next(text)
    later = text.state
    assert np.array_equal(model.prefill(first, begin).state, later.state)
    assert later.recent == (*begin.recent, *model.file.vocab.encode(first).tolist())
    list(text)
    assert np.array_equal(begin.state, model.prefill("NED:").state)  # not written over


def test_a_state_remembers_a_limited_number_of_characters(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REMEMBERED", 10)
    state = model.prefill("said the heron, and sat")
    assert state.recent == tuple(model.file.vocab.encode("n, and sat").tolist())
    text = model.generate(state=state, length=30, seed=1)
    written = "".join(text)
    assert text.state.recent == tuple(model.file.vocab.encode(written[-10:]).tolist())


def test_nothing_read_without_a_state_is_a_lines_beginning(model: Model) -> None:
    assert np.array_equal(model.prefill("").state, model.prefill("\n").state)
    state = model.prefill("NED")
    assert np.array_equal(model.prefill("", state).state, state.state)
    assert model.prefill("", state).recent == state.recent


# -- surprise ----------------------------------------------------------------------------------


def test_surprise_of_each_character_is_that_before_temperature_and_filters(model: Model) -> None:
    text = model.generate("NED:", length=40, seed=2, temperature=1.7, top_k=9, surprise=True)
    pieces = [(piece, text.surprise(piece)) for piece in text]
    written = "".join(piece for piece, _ in pieces)
    ids = model.file.vocab.encode("NED:" + written)
    engine = model.engine_in("int8")
    logits, _ = engine.forward(ids, engine.initial_state())
    expected = surprise_bits(logits[3:-1], ids[4:])
    assert np.allclose(np.concatenate([bits for _, bits in pieces]), expected, atol=1e-4)


def test_surprise_of_a_character_is_the_sum_of_its_bytes() -> None:
    model = byte_model()
    text = model.generate("", length=300, seed=1, surprise=True, stop="zzzz")
    pieces = [(piece, text.surprise(piece)) for piece in text]
    written = "".join(piece for piece, _ in pieces)
    assert all(len(piece) == len(bits) for piece, bits in pieces)
    ids = model.file.vocab.encode("\n" + written)
    logits, _ = model.engine.forward(ids, model.engine.initial_state())
    total = surprise_bits(logits[:-1], ids[1:]).sum()
    assert sum(sum(bits) for _, bits in pieces) == pytest.approx(total, rel=1e-5)


def test_surprise_of_what_was_not_measured_is_refused(model: Model) -> None:
    text = model.generate("NED:", length=3, seed=2)
    with pytest.raises(UsageError, match="was not measured"):
        text.surprise(next(text))
    text = model.generate("NED:", length=3, seed=2, surprise=True)
    piece = next(text)
    assert len(text.surprise(piece)) == 1
    with pytest.raises(UsageError, match="is not the latest piece"):
        text.surprise(piece)


# -- texts side by side ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.5, "top_p": 0.9}, {"repeat_penalty": 1.5}], ids=str
)
def test_texts_of_a_batch_are_those_written_alone(model: Model, how: dict[str, float]) -> None:
    batch = model.generate_batch("NED:", count=5, length=200, seed=10, **how)  # type: ignore[arg-type]
    alone = ["".join(model.generate("NED:", length=200, seed=10 + b, **how)) for b in range(5)]  # type: ignore[arg-type]
    assert batch == alone
    assert len(set(batch)) == 5


def test_each_text_of_a_batch_ends_before_its_first_stop_string(model: Model) -> None:
    how = {"seed": 3, "length": 500, "stop": ["said", "\n\n"]}
    batch = model.generate_batch("NED:", count=4, **how)  # type: ignore[arg-type]
    alone = ["".join(model.generate("NED:", **{**how, "seed": 3 + b})) for b in range(4)]  # type: ignore[arg-type]
    assert batch == alone
    assert min(map(len, batch)) < 200


def test_a_batch_of_bytes_is_cut_at_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BLOCK", 3)
    model = byte_model()
    batch = model.generate_batch(count=2, length=200, seed=1)
    assert batch == ["".join(model.generate(length=200, seed=1 + b)) for b in range(2)]


def test_a_batch_stops_drawing_when_all_its_texts_have_ended(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = model.engine.step

    def counted(*arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal steps
        steps += 1
        return step(*arguments)

    monkeypatch.setattr(model.engine, "step", counted)
    model.generate_batch("NED:", count=2, length=100_000, seed=1, stop=list("aeiou"))
    assert steps <= 2 * writing.BLOCK


# -- stop strings ------------------------------------------------------------------------------

AB = st.text("ab", max_size=12)
STOPS = st.text("ab", min_size=1, max_size=4)


def test_a_batch_reports_its_progress(model: Model) -> None:
    done: list[int] = []
    model.generate_batch("NED:", count=3, length=150, seed=1, progress=done.append)
    assert done == [3 * 64, 3 * 128, 3 * 150]


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[a:b] for a, b in pairwise(places)]


def passed_on(stops: list[str], pieces: Iterable[str]) -> tuple[str, bool]:
    stop, passed = StopFilter(stops), ""
    for piece in pieces:
        passed += stop.feed(piece)
        if stop.stopped:
            return passed, True
    return passed + stop.finish(), False


@given(AB, STOPS, st.lists(st.integers(0, 12)))
def test_a_stop_string_is_found_however_the_text_is_cut(
    text: str, stop: str, cuts: list[int]
) -> None:
    before, found, _ = text.partition(stop)
    assert passed_on([stop], pieces_of(text, cuts)) == (before, bool(found))


@given(AB, STOPS, st.lists(st.integers(0, 12)))
def test_only_the_beginning_of_a_stop_string_is_held_back(
    text: str, stop: str, cuts: list[int]
) -> None:
    stops, read_so_far, passed = StopFilter([stop]), "", ""
    for piece in pieces_of(text.partition(stop)[0], cuts):
        read_so_far += piece
        passed += stops.feed(piece)
        held = read_so_far.removeprefix(passed)
        assert read_so_far == passed + held
        assert stop.startswith(held)
        assert held != stop


@given(AB, st.lists(STOPS, min_size=2, max_size=3), st.lists(st.integers(0, 12)))
@example("abba", ["abba", "bb"], [])
def test_of_several_stop_strings_the_first_complete_one_ends_the_text(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert passed_on(stops, pieces_of(text, cuts)) == passed_on(stops, text)


def test_several_stop_strings_are_looked_for() -> None:
    assert passed_on(["END", "\n\n"], "one\n\ntwo END") == ("one", True)
    assert passed_on(["END", "\n\n"], "one\ntwo END ") == ("one\ntwo ", True)
    assert passed_on(["END", "\n\n"], "one\ntwo EN\n") == ("one\ntwo EN\n", False)


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_a_stop_string_everything_passes_at_once(stops: list[str]) -> None:
    stop = StopFilter(stops)
    assert stop.feed("some text") == "some text"
    assert stop.finish() == ""
    assert not stop.stopped


def test_text_comes_symbol_by_symbol_and_ends_before_the_stop() -> None:
    vocab = Vocabulary(SYMBOLS)
    ids = vocab.encode("abcdefg").tolist()
    assert list(as_text(ids, vocab.decoder(), StopFilter([]))) == list("abcdefg")
    assert list(as_text(ids, vocab.decoder(), StopFilter(["de"]))) == ["a", "b", "c"]
    assert list(as_text(ids, vocab.decoder(), StopFilter(["gx"]))) == list("abcdefg")


def test_nothing_is_sampled_after_the_stop() -> None:
    vocab = Vocabulary(SYMBOLS)
    ids = iter(vocab.encode("abcdefg").tolist())
    assert list(as_text(ids, vocab.decoder(), StopFilter(["c"]))) == ["a", "b"]
    assert next(ids) == 4


def test_bytes_become_whole_characters_and_the_rest_comes_at_the_end() -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    ids = list("é€".encode())
    assert list(as_text(ids, vocab.decoder(), StopFilter([]))) == ["é", "€"]
    assert list(as_text(ids[:-1], vocab.decoder(), StopFilter([]))) == ["é", "\udce2\udc82"]
    assert list(as_text(ids, vocab.decoder(), StopFilter(["€"]))) == ["é"]
