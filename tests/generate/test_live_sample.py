"""The sample of the live panel grows at a reader's pace and leaves the training alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import model_config, random_weights, train_config

from charlstm.generate.live_sample import (
    CHARACTERS,
    CHARACTERS_PER_SECOND,
    LEAST_CHARACTERS,
    MOST_AT_ONCE,
    LiveSample,
)
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

VOCAB = Vocabulary("\nabc")


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Source:
    """Gives other weights each time, and counts."""

    def __init__(self, vocab: Vocabulary = VOCAB) -> None:
        self.taken = 0
        self._vocab = vocab

    def __call__(self) -> ModelFile:
        self.taken += 1
        config = model_config(len(self._vocab))
        weights = random_weights(config, seed=self.taken)
        return ModelFile(config, self._vocab, weights, "", {})


@pytest.fixture
def clock() -> Clock:
    return Clock()


def grow(sample: LiveSample, clock: Clock, characters: int, step: int = 1) -> None:
    while characters:
        now = min(characters, MOST_AT_ONCE)
        clock.seconds += (now + 0.01) / CHARACTERS_PER_SECOND
        sample.grow(step)
        characters -= now


def test_the_text_grows_with_the_clock(clock: Clock) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    sample.grow(1)
    assert sample.text == ""
    clock.seconds += 0.501
    sample.grow(1)
    assert len(sample.text) == int(0.5 * CHARACTERS_PER_SECOND)
    sample.grow(1)
    assert len(sample.text) == int(0.5 * CHARACTERS_PER_SECOND)


def test_a_long_pause_is_not_caught_up_with(clock: Clock) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    clock.seconds += 3600
    sample.grow(1)
    assert len(sample.text) == MOST_AT_ONCE
    sample.grow(1)
    assert len(sample.text) == MOST_AT_ONCE


@pytest.mark.parametrize("interval", [0.01, 0.04, 0.21])
def test_the_pace_does_not_depend_on_how_often_it_is_asked(clock: Clock, interval: float) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    while clock.seconds < 110:
        clock.seconds += interval
        sample.grow(1)
    assert abs(len(sample.text) - 10 * CHARACTERS_PER_SECOND) <= 0.21 * CHARACTERS_PER_SECOND + 1


def test_what_is_there_stays_as_it_grows(clock: Clock) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    before = ""
    for _ in range(5):
        grow(sample, clock, 7)
        assert sample.text.startswith(before)
        assert len(sample.text) == len(before) + 7
        before = sample.text
    assert set(before) <= set(VOCAB.symbols)


def test_after_the_limit_a_new_text_begins_with_the_weights_of_that_moment(clock: Clock) -> None:
    source = Source()
    sample = LiveSample(source, seed=1, clock=clock)
    grow(sample, clock, CHARACTERS, step=5)
    first = sample.text
    assert (len(first), sample.step, source.taken) == (CHARACTERS, 5, 1)
    grow(sample, clock, 30, step=9)
    assert (len(sample.text), sample.step, source.taken) == (30, 9, 2)
    assert not first.startswith(sample.text)


@pytest.mark.parametrize(("step", "begins_anew"), [(10, False), (11, True)])
def test_a_text_is_left_when_the_model_has_trained_twice_as_long(
    clock: Clock, step: int, begins_anew: bool
) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    grow(sample, clock, LEAST_CHARACTERS - 1, step=5)
    grow(sample, clock, 1, step=1000)  # too short yet to be left
    assert sample.step == 5
    grow(sample, clock, 10, step=step)
    assert (sample.step, len(sample.text)) == (
        (step, 10) if begins_anew else (5, LEAST_CHARACTERS + 10)
    )


def test_at_the_end_a_whole_text_is_there_at_once(clock: Clock) -> None:
    source = Source()
    sample = LiveSample(source, seed=1, clock=clock)
    grow(sample, clock, 10, step=5)
    before = sample.text
    sample.finish(6)
    assert (len(sample.text), sample.step, source.taken) == (CHARACTERS, 6, 2)
    assert not sample.text.startswith(before)


def test_the_step_is_that_of_the_weights_that_write(clock: Clock) -> None:
    sample = LiveSample(Source(), seed=1, clock=clock)
    grow(sample, clock, 10, step=5)
    grow(sample, clock, 10, step=6)
    assert (len(sample.text), sample.step) == (20, 5)


def test_the_same_seed_and_step_write_the_same_text(clock: Clock) -> None:
    def text(seed: int, step: int) -> str:
        sample = LiveSample(Source(), seed, clock)
        grow(sample, clock, 100, step)
        return sample.text

    assert text(1, 10) == text(1, 10)
    assert len({text(1, 10), text(2, 10), text(1, 12)}) == 3


def test_a_byte_model_shows_whole_characters_only(clock: Clock) -> None:
    sample = LiveSample(Source(Vocabulary(BYTE_SYMBOLS, "bytes")), seed=1, clock=clock)
    grow(sample, clock, 200)
    drawn = sample.text.encode("utf-8", "surrogateescape")
    assert 200 - 3 <= len(drawn) <= 200  # up to three may wait for the rest of their character


def test_training_is_not_influenced(
    make_corpus: Callable[..., Corpus], tmp_path: Path, clock: Clock
) -> None:
    from charlstm.training.new_run import begin

    corpus = make_corpus()

    def final_weights(name: str, watched: bool) -> dict[str, np.ndarray]:
        config, settings = model_config(len(corpus.vocab)), train_config(steps=12)
        with begin(corpus, config, settings, root=tmp_path, name=name) as trainer:
            sample = LiveSample(trainer.model_file, seed=3, clock=clock)
            for _ in trainer.run():
                if watched:
                    grow(sample, clock, CHARACTERS // 2, trainer.progress.step)
        assert bool(sample.text) == watched
        return trainer.model_file().weights

    alone, watched = final_weights("alone", False), final_weights("watched", True)
    for name, array in alone.items():
        assert array.tobytes() == watched[name].tobytes(), name
