"""Lists: how a text is cut into items, how they are split, and how they are batched."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import CharlstmError, UsageError
from charlstm.text.corpus import Corpus, open_corpus
from charlstm.text.items import ItemBatches, split_items, with_ends
from charlstm.text.streams import IGNORED, Batch
from charlstm.text.vocabulary import Vocabulary, code_points

END = 0
LISTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=30), min_size=1, max_size=40)


def ids_of(items: list[list[int]]) -> np.ndarray:
    return np.array([id for item in items for id in (*item, END)], dtype=np.uint8)


def items_in(ids: np.ndarray) -> list[tuple[int, ...]]:
    text = bytes(ids.tolist())
    return [tuple(item) for item in text.split(bytes([END]))[:-1]]


def epoch_of(batches: ItemBatches, bptt: int, epoch: int = 0) -> Iterator[Batch]:
    for step in range(batches.steps_per_epoch):
        yield batches.batch_at((epoch * batches.steps_per_epoch + step) * bptt)


def read_items(batches: ItemBatches, bptt: int, epoch: int = 0) -> list[tuple[int, ...]]:
    """The items of an epoch, put together from what each row is to predict."""
    found: list[tuple[int, ...]] = []
    rows: list[list[int]] = []
    for batch in epoch_of(batches, bptt, epoch):
        if not batch.is_carried:
            found += map(tuple, rows)
            rows = [[] for _ in range(batch.targets.shape[1])]
        for row, column in zip(rows, batch.targets.T.tolist(), strict=True):
            row += [id for id in column if id != IGNORED]
    found += map(tuple, rows)
    assert all(item[-1] == END for item in found)
    return [item[:-1] for item in found]


# -- from a file to items ---------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["a", "b", "%", "\n", "\n%", "\n%\n", "aa"]), max_size=12),
    st.sampled_from(["\n", "%", "\n%\n", "aa"]),
    st.integers(1, 4),
)
def test_separators_are_found_across_chunks(parts: list[str], separator: str, size: int) -> None:
    text = "".join(parts)
    pieces = [code_points(text[start : start + size]) for start in range(0, len(text), size)]
    found = np.concatenate([code_points(""), *with_ends(pieces, separator)])
    vocab = Vocabulary("ab%\n\x1e", separator=separator)
    items = text.split(separator)
    items = items if items[-1] else items[:-1]
    assert "".join(map(chr, found)) == "".join(item + vocab.end_symbol for item in items)
    assert vocab.decode(vocab.encode(text)) == text


def test_the_last_item_of_each_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("emma\nolivia\nsophia", encoding="utf-8")
    (tmp_path / "b.txt").write_text("isabella\n", encoding="utf-8")
    corpus = open_corpus([tmp_path], separator="\n")
    assert corpus.vocab.decode(corpus.ids.tolist()) == "emma\nolivia\nsophia\nisabella\n"
    assert open_corpus([tmp_path]).digest != corpus.digest


@pytest.mark.parametrize("separator", ["", "-" * 1001, "\udcff", "a\udcff"])
def test_a_separator_is_text_and_not_long(
    make_corpus: Callable[..., Corpus], separator: str
) -> None:
    with pytest.raises(UsageError, match=r"`separator` is .* but must be text of 1 to 1000"):
        make_corpus("abc" * 20, separator=separator)
    with pytest.raises(CharlstmError, match="separator of its items is"):
        Vocabulary("ab\x1e\udcff", separator=separator)


@pytest.mark.parametrize("separator", ["", "é", "ab"])
def test_a_separator_of_bytes_is_one_ascii_character(
    make_corpus: Callable[..., Corpus], separator: str
) -> None:
    with pytest.raises(UsageError, match="`separator` is"):
        make_corpus("abcé" * 20, as_bytes=True, separator=separator)
    assert make_corpus("abcé\n" * 20, as_bytes=True, separator="\n").vocab.end == ord("\n")


# -- the split ---------------------------------------------------------------------------------


@given(LISTS, st.floats(0, 0.5))
def test_the_split_keeps_items_whole_and_equal_items_together(
    items: list[list[int]], fraction: float
) -> None:
    train, held_out = map(items_in, split_items(ids_of(items), END, fraction))
    assert Counter(train) + Counter(held_out) == Counter(map(tuple, items))
    assert not set(train) & set(held_out)
    assert len(held_out) <= fraction * len(items)


def test_the_split_holds_out_the_fraction_of_the_items_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(2500)
    items = [[1 + number // 50, 1 + number % 50] for number in order.tolist()]
    train, held_out = map(items_in, split_items(ids_of(items), END, 0.1))
    assert len(held_out) == 250
    again = items_in(split_items(ids_of(items[::-1]), END, 0.1)[1])
    assert set(again) == set(held_out)
    kept = set(train)
    assert train == [item for item in map(tuple, items) if item in kept]


@pytest.mark.parametrize("frequent", range(20, 30))
def test_an_item_that_fills_the_list_is_for_training(frequent: int) -> None:
    items = [[frequent]] * 90 + [[number] for number in range(1, 11)]
    train, held_out = map(items_in, split_items(ids_of(items), END, 0.1))
    assert set(train) == {(frequent,)}
    assert set(held_out) == {(number,) for number in range(1, 11)}


def test_blank_lines_are_no_items() -> None:
    train, _ = split_items(np.array([END, 1, 2, END, END, END, 3, END], dtype=np.uint8), END, 0)
    assert items_in(train) == [(1, 2), (3,)]


# -- batches ------------------------------------------------------------------------------------


@given(LISTS, st.integers(1, 8), st.integers(1, 12))
def test_an_epoch_reads_every_item_once_from_its_start_to_its_end(
    items: list[list[int]], batch: int, bptt: int
) -> None:
    batches = ItemBatches(ids_of(items), END, batch, bptt)
    for epoch in (0, 1):
        found = read_items(batches, bptt, epoch)
        assert Counter(found) == Counter(map(tuple, items))
    assert batches.epoch(batches.steps_per_epoch * bptt) == 1
    assert batches.steps(2.0) == 2 * batches.steps_per_epoch


@given(LISTS, st.integers(1, 8), st.integers(1, 12))
def test_inputs_are_the_characters_before_and_an_item_begins_after_an_end(
    items: list[list[int]], batch: int, bptt: int
) -> None:
    before: np.ndarray | None = None
    for found in epoch_of(ItemBatches(ids_of(items), END, batch, bptt), bptt):
        assert found.inputs.shape[0] <= bptt
        assert found.inputs.size <= max(batch * bptt, found.inputs.shape[0])
        first = before if found.is_carried else np.full(found.inputs.shape[1], END)
        counted = found.targets != IGNORED
        assert (found.inputs[0] == first)[counted[0]].all()
        assert (found.inputs[1:] == found.targets[:-1])[counted[1:]].all()
        before = found.targets[-1]


def test_epochs_are_shuffled_and_follow_from_the_seed() -> None:
    items = [[a, b] for a in range(1, 15) for b in range(1, 15)]
    first, again, other = (ItemBatches(ids_of(items), END, 4, 6, seed) for seed in (1, 1, 2))
    orders = [read_items(first, 6, epoch) for epoch in (0, 1)]
    assert orders == [read_items(again, 6, epoch) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0] != read_items(other, 6, 0)


def test_little_of_a_batch_is_padding() -> None:
    """Lengths as those of names, and a few that are far longer than T."""
    lengths = [*np.random.default_rng(1).poisson(6, 4000), *range(100, 400, 5)]
    ids = ids_of([[1] * max(1, length) for length in lengths])
    batches = ItemBatches(ids, END, 16, 64)
    size = sum(batch.targets.size for batch in epoch_of(batches, 64))
    assert len(ids) / size > 0.9
    assert batches.characters_per_step / (16 * 64) > 0.8
