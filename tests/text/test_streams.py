import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from charlstm.text.streams import Streams, fit_streams

LENGTHS_AND_STREAMS = [(24, 1), (24, 4), (27, 4), (101, 6), (7, 7)]


def text_of(length: int) -> np.ndarray:
    """A text in which every character is its own place."""
    return np.arange(length, dtype=np.uint8)


def read_on(streams: Streams, steps: int, bptt: int) -> np.ndarray:
    """What each stream reads in the first ``steps`` steps: (steps * T, B)."""
    return np.concatenate([streams.batch_at(step * bptt).inputs for step in range(steps)])


@pytest.mark.parametrize(("length", "batch"), LENGTHS_AND_STREAMS)
def test_streams_together_read_every_character_exactly_once_per_epoch(
    length: int, batch: int
) -> None:
    streams = Streams(text_of(length), batch, bptt=1)
    read = read_on(streams, length, bptt=1)
    starts = [*read[0], length]
    parts = [read[: starts[b + 1] - starts[b], b] for b in range(batch)]
    assert_array_equal(np.concatenate(parts), text_of(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("bptt", [1, 3, 6, 12])
def test_an_epoch_of_batches_reads_every_character_exactly_once(bptt: int) -> None:
    streams = Streams(text_of(48), 4, bptt)
    steps = 48 // (4 * bptt)
    assert_array_equal(np.sort(read_on(streams, steps, bptt), axis=None), text_of(48))
    assert streams.epoch(steps * bptt) == 1


@pytest.mark.parametrize(("length", "batch"), LENGTHS_AND_STREAMS)
def test_targets_are_the_characters_one_place_on(length: int, batch: int) -> None:
    batches = [
        Streams(text_of(length), batch, bptt=5).batch_at(position) for position in (0, 5, 93)
    ]
    for found in batches:
        assert found.inputs.shape == found.targets.shape == (5, batch)
        assert_array_equal(found.targets, (found.inputs + 1) % length)


def test_a_stream_goes_on_into_the_part_of_the_next_one_and_the_last_into_the_first() -> None:
    streams = Streams(text_of(24), 4, bptt=6)
    first, second = streams.batch_at(0).inputs, streams.batch_at(6).inputs
    assert_array_equal(second, np.roll(first, -1, axis=1))


def test_a_stream_never_jumps_between_batches() -> None:
    streams = Streams(text_of(25), 4, bptt=4)
    read = read_on(streams, 20, bptt=4)
    assert_array_equal(read[1:], (read[:-1] + 1) % 25)


def test_position_is_all_that_reading_on_needs() -> None:
    streams, others = (Streams(text_of(97), 6, bptt=8) for _ in range(2))
    for position in range(0, 400, 8):
        streams.batch_at(position)
    assert_array_equal(streams.batch_at(400).inputs, others.batch_at(400).inputs)


def test_a_text_shorter_than_a_batch_is_read_round_and_round() -> None:
    found = Streams(text_of(3), 1, bptt=7).batch_at(0)
    assert_array_equal(found.inputs[:, 0], [0, 1, 2, 0, 1, 2, 0])


@pytest.mark.parametrize(
    ("length", "fitted"),
    [
        (1_000_000, (32, 64)),
        (32 * 128, (32, 64)),
        (32 * 128 - 1, (31, 64)),
        (300, (2, 64)),
        (128, (1, 64)),
        (65, (1, 64)),
        (64, (1, 63)),
        (30, (1, 29)),
        (2, (1, 1)),
        (1, (1, 1)),
    ],
)
def test_small_texts_get_fewer_streams_and_then_shorter_steps(
    length: int, fitted: tuple[int, int]
) -> None:
    assert fit_streams(length, 32, 64) == fitted


def test_fitted_streams_are_two_batches_long_or_there_is_one() -> None:
    for length in range(1, 700):
        batch, bptt = fit_streams(length, 8, 16)
        assert 1 <= batch <= 8
        assert 1 <= bptt <= min(16, max(1, length - 1))
        assert batch == 1 or length // batch >= 2 * bptt


@pytest.mark.skipif(os.name == "nt", reason="sparse files")
@pytest.mark.parametrize("length", [2**31 + 11, 2**32 + 11, 10**10])
def test_positions_beyond_32_bits_are_exact(tmp_path: Path, length: int) -> None:
    """On a sparse file: its few bytes that are not 0 are where the streams have to find them."""
    batch, bptt = 64, 5
    starts = [b * length // batch for b in range(batch)]
    with (tmp_path / "ids").open("wb") as file:
        file.truncate(length)
        for b, start in enumerate(starts):
            file.seek(start + 2)
            file.write(bytes([b + 1]))
        file.seek(length - 1)
        file.write(b"\xff")
    ids = np.memmap(tmp_path / "ids", np.uint8, "r")
    streams = Streams(ids, batch, bptt)
    inputs = streams.batch_at(0).inputs
    assert inputs[2].tolist() == [b + 1 for b in range(batch)]
    assert inputs.sum() == sum(range(1, batch + 1))
    around = Streams(ids, 1, bptt).batch_at(length - 1).inputs[:, 0]
    assert around.tolist() == [255, 0, 0, 1, 0]
    assert streams.epoch(length // batch) == pytest.approx(1)
