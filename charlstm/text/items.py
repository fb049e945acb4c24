"""Lists: texts made of items that stand alone, such as names, titles or poems.

In the ids of a list, one symbol ends each item. It also stands before the first character of the
next item: a model sets h and c to zero, reads it, and predicts that character. So no item sees
another.
"""

import zlib
from collections.abc import Iterable, Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

from charlstm.text.streams import IGNORED, Batch, Streams
from charlstm.text.vocabulary import RECORD_SEPARATOR, code_points

Ids = NDArray[np.unsignedinteger]


def with_ends(chunks: Iterable[Ids], separator: str) -> Iterator[Ids]:
    """The code points of one file, with one symbol for each separator, and after the last item.

    ``chunks`` and the result are arrays (N,). The symbol is ``Vocabulary.end_symbol``.
    """
    end = separator if len(separator) == 1 else RECORD_SEPARATOR
    held = symbol = ""
    for chunk in chunks:
        parts = (held + chunk.astype("<u4").tobytes().decode("utf-32-le")).split(separator)
        cut = max(0, len(parts[-1]) - len(separator) + 1)  # from here a separator may begin
        held, parts[-1] = parts[-1][cut:], parts[-1][:cut]
        if text := end.join(parts):
            symbol = text[-1]
            yield code_points(text)
    if held or symbol not in ("", end):
        yield code_points(held + end)


def spans(ids: Ids, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and length of each item in ``ids`` (N,), with its end; empty items are left out."""
    ends = np.flatnonzero(np.asarray(ids) == end)
    starts = np.append(0, ends + 1)[:-1]
    lengths = ends + 1 - starts
    kept = lengths > 1
    return starts[kept], lengths[kept]


def split_items(ids: Ids, end: int, val_fraction: float) -> tuple[Ids, Ids]:
    """The training items and the held-out items, each in the order of the list.

    The checksum of an item decides, so equal items are on the same side, and the order of the list
    does not matter. An item that alone exceeds ``val_fraction`` of the list is for training.
    """
    starts, lengths = spans(ids, end)
    data, width = np.asarray(ids).tobytes(), np.asarray(ids).itemsize
    checksums = [
        zlib.crc32(data[start * width : (start + length) * width])
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    _, kinds, counts = np.unique(checksums, return_inverse=True, return_counts=True)
    most = val_fraction * len(starts)
    is_rare = counts <= most
    held_out = (is_rare & (np.cumsum(counts * is_rare) <= most))[kinds]
    return _joined(ids, starts, lengths, ~held_out), _joined(ids, starts, lengths, held_out)


def _joined(
    ids: Ids, starts: NDArray[np.int64], lengths: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> Ids:
    """The chosen items, one after the other."""
    inside = np.zeros(len(ids) + 1, dtype=np.int8)
    inside[starts[chosen]] += 1
    inside[starts[chosen] + lengths[chosen]] -= 1
    joined: Ids = np.asarray(ids)[np.cumsum(inside[:-1], dtype=np.int8).astype(bool)]
    return joined


class ItemBatches:
    """Batches of items of similar lengths, in a new random order in each epoch.

    A batch has about T x B characters: many short items, or T characters of B long ones, whose
    state is carried from batch to batch until they end. Items of one length are shuffled, and then
    the batches. All of it follows from seed and position, so a resumed run needs no more than that.
    docs/research/experiments/lists.md has the measurements.
    """

    def __init__(self, ids: Ids, end: int, batch: int, bptt: int, seed: int = 0) -> None:
        self._ids, self._bptt, self._seed = np.asarray(ids), bptt, seed
        self._starts, self._lengths = spans(ids, end)
        by_length = np.sort(self._lengths)
        self._groups = [
            (group, int(by_length[group.stop - 1])) for group in _groups(by_length, batch, bptt)
        ]
        """Slices of the items in the order of their lengths, and the length of the longest."""
        self._epoch, self._plan = -1, list[tuple[NDArray[np.int64], int]]()
        self.steps_per_epoch = sum(ceil(longest / bptt) for _, longest in self._groups)

    def batch_at(self, position: int) -> Batch:
        """The batch after ``position`` characters of T per step; shapes (T', B') vary."""
        positions, is_carried = self.positions_at(position)
        inputs = self._ids[np.maximum(positions, 0) - 1].astype(np.int64)
        targets = self._ids[positions].astype(np.int64)
        targets[positions < 0] = IGNORED
        return Batch(inputs, targets, is_carried)

    def positions_at(self, position: int) -> tuple[NDArray[np.int64], bool]:
        """Positions of the targets in the ids, (T', B'), -1 after the end of an item.

        Also whether the rows continue those of the batch before.
        """
        epoch, step = divmod(position // self._bptt, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._planned(epoch)
        items, first = self._plan[step]
        lengths = self._lengths[items]
        steps = np.arange(first, min(first + self._bptt, int(lengths.max())))[:, None]
        return np.where(steps < lengths, self._starts[items] + steps, -1), first > 0

    def epoch(self, position: int) -> float:
        """Passes over the list after ``position`` characters of T per step."""
        return position / self._bptt / self.steps_per_epoch

    def steps(self, epochs: float) -> int:
        """Batches in ``epochs`` passes, at least 1."""
        return max(1, ceil(epochs * self.steps_per_epoch))

    @property
    def characters_per_step(self) -> float:
        """Mean number of characters predicted in a batch, ends of items included."""
        return float(self._lengths.sum()) / self.steps_per_epoch

    def _planned(self, epoch: int) -> list[tuple[NDArray[np.int64], int]]:
        """The items of each step of an epoch, and the position in them at which it begins."""
        generator = np.random.default_rng([self._seed, epoch])
        ties = generator.permutation(len(self._lengths))
        order = ties[np.argsort(self._lengths[ties], kind="stable")]
        shuffled = [self._groups[group] for group in generator.permutation(len(self._groups))]
        return [
            (order[group], first)
            for group, longest in shuffled
            for first in range(0, longest, self._bptt)
        ]


def _groups(lengths: NDArray[np.int64], batch: int, bptt: int) -> Iterator[slice]:
    """Cut items, sorted by length, into batches of at most B x T characters per step."""
    start, area = 0, batch * bptt
    while start < len(lengths):
        steps = np.minimum(lengths[start : start + area // min(lengths[start], bptt)], bptt)
        rows = np.searchsorted(steps * np.arange(1, len(steps) + 1), area, side="right")
        stop = start + max(1, int(rows))
        yield slice(start, stop)
        start = stop


def open_batches(
    ids: Ids,
    batch: int,
    bptt: int,
    end: int | None,
    seed: int,
    block: slice = slice(None),
) -> Streams | ItemBatches:
    """The batches of a text, of which ``block`` is read here, or of a list with the id ``end``."""
    if end is None:
        return Streams(ids, batch, bptt, block)
    return ItemBatches(ids, end, batch, bptt, seed)
