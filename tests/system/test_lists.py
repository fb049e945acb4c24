"""Lists in all of charlstm: no item sees another in training, sampling, scoring or views."""

import json
import math
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import model_config, random_weights, train_config

import charlstm
from charlstm.cli import run
from charlstm.errors import UsageError
from charlstm.model import Model
from charlstm.net.engine import Engine, log_softmax
from charlstm.net.spec import CELLS
from charlstm.opening import open_text
from charlstm.runs.checkpoint import (
    ModelFile,
    ResumeState,
    read_model,
    read_resume_state,
    write_checkpoint,
)
from charlstm.runs.run import read_run_file
from charlstm.scoring import score
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import validation
from charlstm.training.device import Precision
from charlstm.training.learner import Learner
from charlstm.training.network import stored_model
from charlstm.training.validation import item_loss

FLOAT32 = Precision(torch.device("cpu"), "float32")
GENERATOR = np.random.default_rng(4)
NAMES = sorted(
    {"".join(GENERATOR.choice(list("abcdef"), size)) for size in GENERATOR.integers(1, 9, 300)}
)
LONG = ["abcdef" * 12, "fedcba" * 9 + "a"]
"""Items longer than T, whose state is carried from batch to batch."""
TEXT = "".join(f"{name}\n" for name in [*NAMES, *LONG])
VOCAB = Vocabulary("\nabcdef", separator="\n")


def list_model(cell: str = "lstm", vocab: Vocabulary = VOCAB) -> Model:
    config = replace(model_config(len(vocab), layers=2, cell=cell), end=vocab.end)
    return Model(ModelFile(config, vocab, random_weights(config), "a\nb\n", {"step": 0}), Path())


def nats_alone(engine: Engine, item: str) -> float:
    """-ln p of an item and its end, read by itself from zero state."""
    ids = VOCAB.encode(f"\n{item}\n")
    logits, _ = engine.forward(ids[:-1], engine.initial_state())
    return -float(log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]].sum())


@pytest.fixture(scope="module")
def names_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds names.txt and the run ``names``."""
    folder = tmp_path_factory.mktemp("lists")
    (folder / "names.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = {"steps": 40, "hidden_size": 16, "layers": 1, "bptt": 32, "threads": 1}
        charlstm.train("names.txt", lines=True, progress=False, **settings).run()  # type: ignore[arg-type]
    return folder


@pytest.fixture
def folder(names_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(names_run)
    return names_run


# -- no item sees another ----------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_the_score_is_that_of_each_item_alone(cell: str) -> None:
    model = list_model(cell)
    alone = [nats_alone(model.engine, name) for name in [*NAMES, *LONG]]
    result = model.score(TEXT)
    assert (result.protocol, result.items) == ("items", len(alone))
    assert result.characters == len(TEXT)
    assert result.nats * result.characters == pytest.approx(sum(alone), rel=1e-5)
    assert result.nats_per_item == pytest.approx(np.mean(alone), rel=1e-5)
    assert result.surprise_bits.shape == (len(TEXT),)
    assert model.score(TEXT.removesuffix("\n")).nats == result.nats


@pytest.mark.parametrize("cell", CELLS)
def test_validation_is_the_score(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "CHUNK", 16)  # the long items are read in several pieces
    model = list_model(cell)
    ids = VOCAB.encode(TEXT)
    loss = item_loss(stored_model(model.file), ids.astype(np.uint8), 0, FLOAT32)
    assert loss == pytest.approx(score(model.engine, ids).nats, abs=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_an_epoch_of_training_reads_each_item_from_zero_state(cell: str) -> None:
    """With learning rates of zero, the losses of an epoch add up to those of the items alone."""
    model = list_model(cell)
    config = train_config(batch=2, bptt=16, dropout=0.0)
    ids = VOCAB.encode(TEXT).astype(np.uint8)
    learner = Learner(config, ids, stored_model(model.file), FLOAT32)
    total = 0.0
    for step in range(learner.streams.steps(1)):
        counted = (learner.streams.batch_at(step * config.bptt).targets >= 0).sum()
        loss, _ = learner.step(step, 0.0)
        total += float(loss) * int(counted)
    alone = sum(nats_alone(model.engine, name) for name in [*NAMES, *LONG])
    assert total == pytest.approx(alone, rel=1e-5)


def test_a_teacher_reads_each_item_from_zero_state() -> None:
    """A model that is its own teacher already predicts as it does: the gradient is zero."""
    model = list_model()
    ids = VOCAB.encode(TEXT).astype(np.uint8)
    config = train_config(batch=2, bptt=16, dropout=0.0, distillation=1.0)
    teacher = stored_model(model.file).eval().requires_grad_(False)
    learner = Learner(config, ids, stored_model(model.file), FLOAT32, teacher)
    norms = [float(learner.step(step, 0.0)[1]) for step in range(learner.streams.steps(1))]
    assert max(norms) < 1e-4


# -- training ----------------------------------------------------------------------------------


def test_a_resumed_list_goes_on_to_the_same_bits(folder: Path) -> None:
    settings = {
        "hidden_size": 8,
        "layers": 1,
        "batch": 2,
        "bptt": 16,
        "threads": 1,
        "progress": False,
    }
    whole = charlstm.train("names.txt", lines=True, steps=120, name="whole", **settings).run()  # type: ignore[arg-type]
    part = charlstm.train("names.txt", lines=True, steps=120, name="part", **settings)  # type: ignore[arg-type]
    for event in part:
        if getattr(event, "step", 0) >= 7:
            part.stop()
    assert 7 <= part.step < 120
    resumed = charlstm.resume(part.path, text="names.txt", progress=False).run()
    assert resumed.step == whole.step == 120
    found, expected = (
        read_resume_state(max(run.path.glob("step-*"))).tensors for run in (resumed, whole)
    )
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_held_out_items_are_whole_and_never_trained_on(
    make_corpus: Callable[..., Corpus],
) -> None:
    corpus = make_corpus(TEXT * 3, separator="\n")
    train, held_out = (
        corpus.vocab.decode(part.tolist()).splitlines() for part in corpus.split(0.1)
    )
    assert sorted(train + held_out) == sorted(TEXT.splitlines() * 3)
    assert not set(train) & set(held_out)
    assert len(held_out) == pytest.approx(0.1 * len(TEXT.splitlines() * 3), abs=3)


def test_a_list_starts_from_the_weights_of_a_text_and_the_other_way_round(folder: Path) -> None:
    settings = {"steps": 2, "progress": False}
    text = charlstm.train("names.txt", hidden_size=8, layers=1, name="text", **settings).run()  # type: ignore[arg-type]
    names = charlstm.train("names.txt", lines=True, init_from=text.path, **settings).run()  # type: ignore[arg-type]
    assert names.model.file.config.end == 0
    again = charlstm.train("names.txt", init_from=names.path, **settings).run()  # type: ignore[arg-type]
    assert again.model.file.config == text.model.file.config


def test_a_list_has_no_teacher_of_a_text(folder: Path) -> None:
    text = charlstm.train("names.txt", steps=2, hidden_size=8, layers=1, progress=False).run()
    with pytest.raises(UsageError, match="trained on a text, but this is a list sep"):
        charlstm.train("names.txt", lines=True, teacher=text.path, steps=2, progress=False)


@pytest.mark.parametrize("separator", ["---", "\\n"])
def test_a_separator_that_does_not_occur_is_refused(folder: Path, separator: str) -> None:
    with pytest.raises(UsageError, match="does not occur in the text"):
        charlstm.train("names.txt", separator=separator, progress=False)
    Path("one.txt").write_text("Only one line, but it ends.\n")
    with pytest.raises(UsageError, match="the text has only one line; separate its items by"):
        charlstm.train("one.txt", lines=True, progress=False)
    with pytest.raises(UsageError, match="`lines` excludes `separator`"):
        charlstm.train("names.txt", lines=True, separator=separator, progress=False)


# -- on disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [None, "\n", "\n%\n"])
def test_a_checkpoint_has_the_separator_and_that_of_a_text_is_as_before(
    tmp_path: Path, separator: str | None
) -> None:
    vocab = Vocabulary("\n%ab\x1e", separator=separator)
    file = list_model(vocab=vocab).file
    path = write_checkpoint(tmp_path, file, ResumeState({}, {}))
    found = read_model(path)
    assert (found.vocab, found.config) == (file.vocab, file.config)
    content = json.loads((path / "model.json").read_text(encoding="utf-8"))
    assert ("separator" in content["vocabulary"]) == (separator is not None)
    assert ("end" in content["model"]) == (separator is not None)


# -- sampling ----------------------------------------------------------------------------------


def test_a_generated_text_is_one_item(names_run: Path) -> None:
    model = charlstm.load(names_run / "checkpoints" / "names")
    items = [str(model.generate(seed=seed)) for seed in range(5)]
    assert items == model.generate_batch(count=5, seed=0)
    assert not any("\n" in item for item in items)
    text = model.generate("ab", seed=3)
    assert f"ab{text}".isalpha()
    logits = model.engine.logits(model.prefill("ab", precision="float32").state)
    expected, _ = model.engine.forward(VOCAB.encode("\nab"), model.engine.initial_state())
    np.testing.assert_allclose(logits, expected[-1:], atol=1e-5)
    np.testing.assert_array_equal(
        model.engine.advance(VOCAB.opening(), text.state.state),
        model.prefill("", precision="float32").state,
    )


def test_only_accepted_texts_are_returned_each_once(names_run: Path) -> None:
    model = charlstm.load(names_run / "checkpoints" / "names")
    found = model.generate_batch(count=30, seed=1, accept=lambda item: len(item) == 2)
    assert len(set(found)) == len(found) > 5
    assert {len(item) for item in found} == {2}
    assert model.generate_batch(count=2, seed=1, accept=lambda item: False) == []


def test_the_command_writes_items_one_per_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", "-c", "names", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    assert first.count("\n") == 1
    assert run(["sample", "-c", "names", "--seed", "1", "--count", "20"]) == 0
    many = capsys.readouterr().out
    assert many.count("\n") == 20
    assert many.startswith(first)
    assert run(["sample", "-c", "names", "--seed", "1", "--count", "20", "--prime", "ab"]) == 0
    assert all(line.startswith("ab") for line in capsys.readouterr().out.splitlines())


def test_new_items_are_not_in_the_list_and_novelty_counts_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "-c", "names", "--seed", "1", "--count", "50", "--novelty"]
    assert run(arguments) == 0
    plain = capsys.readouterr()
    items = plain.out.splitlines()
    known = {*TEXT.splitlines(), ""}
    new = [item for item in items if item not in known]
    assert 0 < len(new) < 50
    assert f"{len(new)} of 50 items not in the list" in plain.err
    assert run([*arguments, "--new"]) == 0
    only_new = capsys.readouterr()
    items = only_new.out.splitlines()
    assert len(set(items)) == 50
    assert not set(items) & known
    assert "50 of 50 items not in the list (100.0%); 50 different" in only_new.err


def test_whether_an_item_is_new_is_decided_without_skipped_characters(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = ["sample", "-c", "names", "--seed", "1", "--prime", "Äa", "--unknown", "skip"]
    assert run([*sample, "--novelty", "--match", "ace"]) == 0
    assert "aace" in NAMES
    assert "0 of 1 item not in the list" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("start", [["--prime", "ab\n"], ["--prime-file", "two.txt"], ["--state"]])
def test_what_a_prime_or_state_has_of_an_item_belongs_to_it(
    start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    item = next(name for name in NAMES if len(name) > 3)
    Path("two.txt").write_text(f"abc\n{item[:1]}", encoding="utf-8")
    rest = item if start[-1] == "ab\n" else item[1:]
    if start == ["--state"]:
        model = charlstm.load("names")
        model.save_state("s", model.prefill(f"abc\n{item[:1]}"))
        start = ["--state", "s"]
    sample = ["sample", "-c", "names", "--seed", "1", *start, "--match", rest]
    assert run([*sample, "--novelty"]) == 0
    assert "0 of 1 item not in the list" in capsys.readouterr().err
    assert run([*sample, "--new"]) == 0
    shown = capsys.readouterr()
    assert "found 0 of 1 new items; loosen --match" in shown.err
    assert shown.out == ""


@pytest.mark.usefixtures("folder")
def test_items_that_are_cut_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    sample = ["sample", "-c", "names", "--seed", "1"]
    for count in ([], ["--count", "3"]):
        assert run([*sample, *count, "--length", "1"]) == 0
        assert "cut at --length 1\n" in capsys.readouterr().err
        for whole in (["--length", "500"], ["--length", "1", "--match", "a"]):
            assert run([*sample, *count, *whole]) == 0
            assert "cut" not in capsys.readouterr().err


def test_new_items_are_new_in_whatever_form_the_prime_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    items = [f"Re\u0301{a}{b}" for a in "abc" for b in "abc"]
    (tmp_path / "apart.txt").write_text("\n".join(items * 9), encoding="utf-8")
    settings = {"steps": 60, "hidden_size": 16, "layers": 1, "val_fraction": 0.0}
    charlstm.train("apart.txt", lines=True, progress=False, **settings).run()  # type: ignore[arg-type]
    command = ["sample", "--prime", "R\u00e9", "--seed", "1", "--count", "20", "--novelty"]
    assert run(command) == 0
    shown = capsys.readouterr()
    new = sum(line not in items for line in shown.out.splitlines())
    assert new < 20
    assert f"{new} of 20 items not in the list" in shown.err
    assert run([*command, "--new"]) == 0
    assert not set(capsys.readouterr().out.splitlines()) & set(items)


@pytest.mark.usefixtures("folder")
def test_new_needs_a_list_and_says_when_it_found_too_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = ["sample", "-c", "names", "--seed", "1", "--temp", "0", "--new", "--count", "2"]
    assert run(sample) == 0
    shown = capsys.readouterr()
    found = shown.out.count("\n")
    assert found < 2  # all samples are the same
    assert f"found {found} of 2 new items; try a higher --temp" in shown.err
    charlstm.train(
        "names.txt", steps=2, hidden_size=8, layers=1, progress=False, name="prose"
    ).run()
    assert run(["sample", "-c", "prose", "--new"]) == 2
    assert "--new needs a model of a list" in capsys.readouterr().err


# -- the other commands -----------------------------------------------------------------------


def test_score_counts_ends_and_items(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "few.txt").write_text("abc\nfed", encoding="utf-8")
    assert run(["score", "few.txt", "-c", "names", "--json", "--top", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["protocol"], found["characters"], found["items"]) == ("items", 8, 2)
    assert found["nats_per_item"] == pytest.approx(4 * found["nats"])
    assert sorted(one["position"] for one in found["top"]) == list(range(8))
    assert run(["score", "few.txt", "-c", "names"]) == 0
    assert "nats per item" in capsys.readouterr().out
    for options in (["--window", "3"], ["--segments", "2"], ["--adapt"]):
        assert run(["score", "few.txt", "-c", "names", *options]) == 2
        assert f"{options[0]}: a list is scored item by item" in capsys.readouterr().err
    assert run(["score", "few.txt", "-c", "names", "-c", "names", "--mix", "0,1"]) == 2
    assert "a model has weight 0 in --mix" in capsys.readouterr().err
    Path("none.txt").write_text("")
    assert run(["score", "none.txt", "-c", "names"]) == 1
    assert "the text has 0 characters" in capsys.readouterr().err


def test_a_score_on_training_items_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for items, is_noted in (NAMES[:100], True), (["fefefe", "bababa", *NAMES[:1]], False):
        (folder / "some.txt").write_text("\n".join(items), encoding="utf-8")
        assert run(["score", "some.txt", "-c", "names"]) == 0
        assert ("in the training part" in capsys.readouterr().err) == is_noted


@pytest.mark.parametrize("separator", ["\n", "\n%\n"])
@pytest.mark.parametrize("end", ["", "separator"])
def test_the_most_surprising_characters_of_a_list_are_where_the_file_has_them(
    separator: str,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    vocab = Vocabulary("\n\x1e%abcdef", separator=separator)
    checkpoint = write_checkpoint(tmp_path, list_model(vocab=vocab).file, ResumeState({}, {}))
    text = separator.join(["€abc", "fed€", "ab"]) + (separator if end else "")
    (tmp_path / "few.txt").write_text(text, encoding="utf-8", newline="")
    command = ["score", "few.txt", "-c", str(checkpoint), "--unknown", "skip", "--top", "99"]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["top"]
    whole = text if end else text + separator
    assert len(found) == 8 + 3
    for one in found:
        assert whole.startswith(one["character"], one["position"])
    assert {one["position"] for one in found} == {
        n for n, c in enumerate(whole) if c.isalpha() or whole.startswith(separator, n)
    }
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    before = whole[: found[0]["position"]]
    assert [int(word) for word in lines[0].split()[1:3]] == [
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
    ]


def test_lists_of_which_one_has_weight_0_are_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, symbols in (("one", "\nabc"), ("other", "\nabx")):
        model = list_model(vocab=Vocabulary(symbols, separator="\n"))
        write_checkpoint(tmp_path, model.file, ResumeState({}, {})).rename(name)
    Path("few.txt").write_text("ax\n", encoding="utf-8")
    command = ["score", "few.txt", "-c", "./one", "-c", "./other", "--json"]
    assert run([*command, "--mix", "1,0"]) == 2
    assert "a model has weight 0" in capsys.readouterr().err
    assert run(command) == 0
    assert math.isfinite(json.loads(capsys.readouterr().out)["nats"])


def test_inspect_reads_each_item_from_zero_state(names_run: Path) -> None:
    model = charlstm.load(names_run / "checkpoints" / "names")
    assert model.file.excerpt.endswith("\n")
    assert set(model.file.excerpt.splitlines()) <= set(TEXT.splitlines())
    together = model.inspect("abc\nfed\n", warmup="cab\n")
    alone = model.inspect("\nfed\n", warmup="")
    ours, theirs = (report.to_dict("")["characters"] for report in (together, alone))
    assert [c["layers"] for c in ours[3:]] == [c["layers"] for c in theirs]


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [
        (TEXT, True),
        (TEXT.replace("\n", "\n\n", 1), False),
        ("".join(f"{line}\n" for line in textwrap.wrap(TEXT, 60)), False),
    ],
    ids=["names", "a blank line", "prose"],
)
def test_a_text_that_looks_like_a_list_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, is_noted: bool
) -> None:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    arguments = ["train", "text.txt", "--steps", "1", "--hidden", "4", "--layers", "1"]
    assert run(arguments) == 0
    assert ("use --lines" in capsys.readouterr().err) == is_noted
    assert run([*arguments, "--lines"]) == 0
    shown = capsys.readouterr().err
    assert "use --lines" not in shown
    assert shown.rstrip().endswith("--temp 0.8 --count 20")


def test_a_list_is_trained_in_two_generations_that_divide_the_default_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("".join(f"{n:b}\n" for n in range(3_000)), encoding="utf-8")
    runs = []
    for given in ({}, {"generations": 1}, {"epochs": 7.0}):
        training = charlstm.train("names.txt", lines=True, progress=False, **given)  # type: ignore[arg-type]
        runs.append(read_run_file(training.path))
    default, one, seven = runs
    assert default.generation is not None
    assert default.generation.presets == ("small", "small")
    assert one.generation is seven.generation is None
    assert default.generation.settings["epochs"] == default.train.epochs == one.train.epochs / 2
    assert seven.train.epochs == 7


PARAGRAPHS = "a bed\nfaced\n\n" * 30


@pytest.mark.parametrize(
    ("text", "reading", "note"),
    [
        (TEXT, {"lines": True}, ""),
        (TEXT.replace("\n", "\n\n", 5), {"lines": True}, ""),  # sections
        (PARAGRAPHS, {"lines": True}, "33% of the lines are blank"),
        (PARAGRAPHS, {"lines": True, "as_bytes": True}, "33% of the lines are blank"),
        (PARAGRAPHS, {"separator": "\n\n"}, ""),
        (PARAGRAPHS, {}, ""),
        (f"{PARAGRAPHS}%{PARAGRAPHS}", {"separator": "%"}, "the list has only 2 items; check"),
    ],
)
def test_a_list_that_is_hardly_one_is_noted(
    text: str, reading: dict[str, str], note: str, tmp_path: Path
) -> None:
    noted = list[str]()
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    open_text([tmp_path / "text.txt"], note=noted.append, advise=noted.append, **reading)
    assert len(noted) == bool(note)
    assert all(note in one for one in noted)


def test_a_separator_that_occurs_in_no_file_of_several_is_noted(tmp_path: Path) -> None:
    noted = list[str]()
    for name in "abc":
        (tmp_path / name).write_text(PARAGRAPHS, encoding="utf-8")
    open_text([tmp_path], note=noted.append, advise=noted.append, separator="%%")
    assert noted == ["note: the list has only 3 items; check that they are separated by '%%'"]


def test_the_command_that_removes_carriage_returns_keeps_the_list(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="\r\n")
    for lines, ending in (True, "charlstm train - --lines"), (False, "charlstm train -"):
        noted = list[str]()
        open_text([tmp_path / "text.txt"], note=noted.append, advise=noted.append, lines=lines)
        assert noted[-1].endswith(ending)


def test_held_out_items_are_not_called_the_end_of_a_text(
    make_corpus: Callable[..., Corpus],
) -> None:
    for length in range(90, 250):  # until chance holds the last item out
        corpus = make_corpus(f"{TEXT}{'z' * length}\n", separator="\n")
        _, held_out = corpus.split(0.1)
        if corpus.vocab.encode("z")[0] in held_out:
            break
    (note,) = validation.held_out_notes(corpus, 0.1)
    assert "never occur in the training part" in note
    assert note.endswith("('z'): the list has too few items with them")
