"""A trained model in Python: load, generate, score, inspect."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TEXT, model_config, random_weights

import charlstm
from charlstm import CharlstmError, Model
from charlstm.analysis.saturation import Thresholds
from charlstm.analysis.views import VIEWS
from charlstm.cli import run
from charlstm.errors import UsageError
from charlstm.generate.sampling import surprise_bits
from charlstm.generate.text_state import TextState
from charlstm.runs import checkpoint, pointers
from charlstm.runs.checkpoint import ModelFile
from charlstm.runs.pointers import read_pointers
from charlstm.scoring import Score
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary


@pytest.fixture(scope="module")
def model(trained_run: Path) -> Model:
    return charlstm.load(trained_run)


def run_python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


# -- the package -------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in charlstm.__all__:
        assert getattr(charlstm, name) is not None
    assert charlstm.Score is Score


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'charlstm' has no attribute 'nonsense'"):
        charlstm.nonsense  # noqa: B018


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, charlstm; charlstm.__version__; print(*sys.modules)"
    imported = {name.split(".")[0] for name in run_python(code).split()}
    assert "charlstm" in imported
    assert not imported & {"torch", "numpy", "safetensors", "rich", "typer"}


def test_a_model_generates_without_torch(trained_run: Path) -> None:
    code = (
        "import sys, charlstm; model = charlstm.load(sys.argv[1])\n"
        "''.join(model.generate(length=5)); model.score('Row, said'); model.inspect('Row')\n"
        "print('torch' in sys.modules)"
    )
    assert run_python(code, str(trained_run)) == "False\n"


# -- loading -----------------------------------------------------------------------------------


def test_a_model_is_loaded_by_any_name(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pointers = read_pointers(trained_run)
    assert pointers.best is not None
    best = trained_run / pointers.best
    assert charlstm.load(trained_run).path == best
    assert charlstm.load(str(best)).path == best
    monkeypatch.chdir(trained_run.parents[1])
    for name in ("small", f"small/{pointers.best}", None):
        assert charlstm.load(name).path.resolve() == best.resolve()


def test_a_model_that_is_not_there_is_named(trained_run: Path) -> None:
    with pytest.raises(CharlstmError, match="there is no run"):
        charlstm.load(trained_run.parent / "none")


def test_a_model_knows_its_size(model: Model) -> None:
    assert model.parameters == sum(array.size for array in model.file.weights.values())


# -- generate ----------------------------------------------------------------------------------


def test_text_comes_character_by_character(model: Model) -> None:
    pieces = list(model.generate("NED:", length=50, seed=1))
    assert len(pieces) == 50
    assert all(len(piece) == 1 for piece in pieces)
    assert set(pieces) <= set(model.file.vocab.symbols)


def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    def text(seed: int | None, prime: str = "NED:") -> str:
        return "".join(model.generate(prime, length=80, seed=seed, temperature=2.0))

    assert text(1) == text(1)
    assert len({text(1), text(2), text(1, "TAM:"), text(None), text(None)}) == 5


def test_at_temperature_zero_each_character_is_the_most_likely_after_those_before(
    model: Model,
) -> None:
    prime = 'NED: "Row," said'
    text = prime + "".join(model.generate(prime, length=40, temperature=0))
    logits, _ = model.engine.forward(model.file.vocab.encode(text), model.engine.initial_state())
    expected = model.file.vocab.decode(logits.argmax(axis=1)[len(prime) - 1 : -1].tolist())
    assert text == prime + expected


def test_every_option_reaches_the_draw(model: Model) -> None:
    def text(**options: float) -> str:
        return "".join(model.generate("NED", length=60, seed=1, temperature=3.0, **options))  # type: ignore[arg-type]

    most_likely = "".join(model.generate("NED", length=60, temperature=0))
    assert text() != most_likely
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert text(**options) == most_likely
    assert text(repeat_penalty=5.0) != text()
    assert text(repeat_penalty=5.0, repeat_window=2) != text(repeat_penalty=5.0)


def test_a_text_ends_before_a_stop_string(model: Model) -> None:
    text = "".join(model.generate("NED:", length=300, seed=3))
    stop = text[150:156]
    stopped = "".join(model.generate("NED:", length=300, seed=3, stop=["\0never", stop]))
    assert stopped == text.partition(stop)[0]


def test_a_text_may_have_no_end_or_no_length(model: Model) -> None:
    assert len(list(islice(model.generate(length=None), 1500))) == 1500
    assert list(model.generate(length=0)) == []
    assert len("".join(model.generate(seed=1))) == 1000


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-1.0, math.nan, "1", None, True]),
        ("top_k", [-1, 2.0]),
        ("top_p", [0.0]),
        ("min_p", [2.0]),
        ("repeat_penalty", [0.0]),
        ("repeat_window", [0, 10**20]),
        ("length", [-1, 2.0, "9", True, 10**20]),
        ("seed", [-1, 2.0, "9", True]),
        ("stop", ["", [""], ["a", None]]),
        ("unknown", ["bogus", None]),
        ("state", ["NED", np.zeros((2, 2, 1, 24), np.float32)]),
    ],
)
def test_an_argument_out_of_range_is_refused_before_the_first_character(
    model: Model, name: str, values: list[object]
) -> None:
    for value in values:
        for write in (model.generate, partial(model.generate_batch, count=2)):
            with pytest.raises(UsageError, match=rf"^`{name}` is"):
                write(**{name: value})  # type: ignore[operator]


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "2", 10**9, 10**20])
def test_a_count_out_of_range_is_refused(model: Model, count: object) -> None:
    with pytest.raises(UsageError, match=r"^`count` is") as caught:
        model.generate_batch(count=count, length=3)  # type: ignore[arg-type]
    assert "hidden" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(model: Model) -> None:
    plain = "".join(model.generate(length=9, seed=3, top_k=4, temperature=0.5))
    numpy = {"length": np.int64(9), "seed": np.int64(3), "top_k": np.int32(4)}
    found = model.generate(**numpy, temperature=np.float64(0.5))  # type: ignore[arg-type]
    assert "".join(found) == plain
    assert model.generate_batch(count=np.int64(1), **numpy, temperature=0.5) == [plain]  # type: ignore[arg-type]


def test_no_stop_string_is_none_or_an_empty_list(model: Model) -> None:
    assert len({"".join(model.generate(length=40, seed=1, stop=s)) for s in (None, (), [])}) == 1


def test_a_sampling_config_can_be_given_and_fields_of_it_replaced(model: Model) -> None:
    config = charlstm.SamplingConfig(temperature=2.0, top_k=5)
    whole = "".join(model.generate(length=60, seed=1, sampling=config))
    assert whole == "".join(model.generate(length=60, seed=1, temperature=2.0, top_k=5))
    assert model.generate_batch(count=1, length=60, seed=1, sampling=config) == [whole]
    replaced = "".join(model.generate(length=60, seed=1, sampling=config, top_k=2))
    assert replaced == "".join(model.generate(length=60, seed=1, temperature=2.0, top_k=2))
    assert replaced != whole


def test_a_field_that_is_not_there_is_a_type_error(model: Model) -> None:
    with pytest.raises(TypeError, match="temp"):
        model.generate(temp=0.5)  # type: ignore[call-arg]


def test_a_state_of_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    state = model.prefill("NED")
    config = model_config(len(model.file.vocab), hidden=12, layers=2)
    vocab = Vocabulary(model.file.vocab.symbols)
    other = Model(ModelFile(config, vocab, random_weights(config), "", {}), model.path)
    few = Vocabulary("Ned ")
    config = model_config(len(few), hidden=24, layers=2)
    fewer = Model(ModelFile(config, few, random_weights(config), "", {}), model.path)
    broken = replace(state, state=np.full_like(state.state, np.nan))
    for stranger, wrong in ((other, state), (fewer, state), (model, broken)):
        for use in (
            partial(stranger.generate, state=wrong),
            partial(stranger.prefill, "d", wrong),
            partial(stranger.save_state, tmp_path / "a.state", wrong),
        ):
            with pytest.raises(UsageError, match="`state` is not a state of this model"):
                use()
    assert not list(tmp_path.iterdir())


def test_text_is_a_string(model: Model) -> None:
    for read in (model.generate, model.prefill, model.score, model.inspect):
        with pytest.raises(UsageError, match="must be a string"):
            read(b"NED")  # type: ignore[operator]


def test_ids_are_read_as_their_text_is(model: Model) -> None:
    ids = model.encode("NED: ")
    assert model.file.vocab.decode(ids) == "NED: "
    assert np.array_equal(model.prefill(ids).state, model.prefill("NED: ").state)
    assert model.prefill(ids, model.prefill("")).recent[1:] == tuple(ids)


@pytest.mark.parametrize("ids", [[-1], [1 << 20], [[1, 2]], [0.5]], ids=str)
def test_an_array_that_holds_no_ids_of_the_model_is_refused(model: Model, ids: object) -> None:
    with pytest.raises(UsageError, match="this model's ids"):
        model.prefill(np.array(ids))


@pytest.mark.parametrize("unit", [-1, 24, 2.0, True, "3"])
def test_a_unit_that_is_none_is_refused(model: Model, unit: object) -> None:
    with pytest.raises(UsageError, match=r"^`unit` is"):
        model.inspect("NED", unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(("known", "typed"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
def test_accents_are_read_in_the_form_that_the_model_knows(known: str, typed: str) -> None:
    vocab = Vocabulary("".join(sorted({*"\nabcde", *known})))
    config = model_config(len(vocab))
    model = Model(ModelFile(config, vocab, random_weights(config), "abc", {}), Path("none"))
    assert np.array_equal(model.prefill("a" + typed).state, model.prefill("a" + known).state)
    assert model.score("a" + typed).nats == model.score("a" + known).nats
    assert "".join(model.inspect("a" + typed).symbols) == "a" + known
    text = "".join(model.generate(length=600, seed=1))
    assert known in text
    stopped = "".join(model.generate(length=600, seed=1, stop=typed))
    assert stopped == text.partition(known)[0]


def test_unknown_characters_are_named_before_the_first_character(model: Model) -> None:
    with pytest.raises(CharlstmError, match=r"'é' \(U\+00E9\) '✓' \(U\+2713\)"):
        model.generate("é✓ NED:")
    for read in (model.score, model.inspect):
        with pytest.raises(CharlstmError, match=r"'é' \(U\+00E9\)"):
            read("NEDé")


def test_unknown_characters_can_be_skipped_or_replaced(model: Model) -> None:
    def text(prime: str, unknown: str = "error") -> str:
        return "".join(model.generate(prime, length=30, seed=1, unknown=unknown))  # type: ignore[arg-type]

    assert text("é✓NEéD:", "skip") == text("NED:")
    assert text("NED:✓", "replace") == text("NED: ")
    assert text("é", "skip") == text("")


def test_a_byte_model_writes_text(model: Model) -> None:
    config = replace(model.file.config, vocab_size=256)
    weights = dict(model.file.weights)
    generator = np.random.default_rng(1)
    for name in ("embedding", "output_weight", "output_bias"):
        weights[name] = generator.normal(size=config.shapes()[name]).astype(np.float32)
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    byte_model = Model(replace(model.file, config=config, vocab=vocab, weights=weights), model.path)
    text = "".join(byte_model.generate("é✓", length=200, seed=1))
    assert len(text.encode("utf-8", "surrogateescape")) == 200


# -- score and inspect -------------------------------------------------------------------------


def test_a_score_is_the_mean_surprise(model: Model) -> None:
    text = "NED: said the heron"
    ids = model.file.vocab.encode(text)
    logits, _ = model.engine.forward(ids[:-1], model.engine.initial_state())
    bits = surprise_bits(logits, ids[1:])
    found = model.score(text)
    assert found.characters == len(text) - 1
    assert found.bits_per_char == pytest.approx(bits.mean())
    assert found.nats == pytest.approx(bits.mean() * math.log(2))
    assert (found.protocol, found.window) == ("stateful", None)
    assert np.allclose(found.surprise_bits[1:], bits)


def test_a_windowed_score_forgets_between_windows(model: Model) -> None:
    text = "NED: said the heron, " * 5
    windowed = model.score(text, window=7)
    assert (windowed.protocol, windowed.window) == ("windowed", 7)
    same = np.isclose(windowed.surprise_bits, model.score(text).surprise_bits)
    assert same[1:8].all()
    assert not same[8:].all()


def test_a_trained_model_is_more_surprised_by_a_text_read_backwards(model: Model) -> None:
    excerpt = model.file.excerpt
    assert model.score(excerpt).nats + 1 < model.score(excerpt[::-1]).nats


def test_unknown_characters_may_be_skipped_in_a_score(model: Model) -> None:
    assert model.score("é" + "NED: Row", unknown="skip").nats == model.score("NED: Row").nats


def test_inspecting_reports_on_every_character(model: Model) -> None:
    report = model.inspect("said the heron")
    assert report.symbols == tuple("said the heron")
    assert report.mean.shape == report.left.shape == report.right.shape == (14, 2, 3)
    assert report.warmup == len(model.file.excerpt)
    assert np.isfinite(report.surprise_bits).all()


def test_left_alone_the_held_out_excerpt_is_inspected_after_its_first_fifth(model: Model) -> None:
    excerpt = model.file.excerpt
    lead = len(excerpt) // 5
    report = model.inspect()
    assert "".join(report.symbols) == excerpt[lead:]
    assert report.warmup == lead
    assert "".join(model.inspect(warmup="NED").symbols) == excerpt


def test_the_warm_up_can_be_chosen_or_left_out(model: Model) -> None:
    cold = model.inspect("said", warmup="")
    warm = model.inspect("said", warmup="NED: ")
    assert (cold.warmup, warm.warmup) == (0, 5)
    assert np.isnan(cold.surprise_bits[0])
    assert np.isfinite(warm.surprise_bits).all()
    assert not np.allclose(cold.mean, warm.mean)


def test_a_model_that_was_edited_is_not_reported_as_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CharlstmError, match="is damaged"):
        charlstm.load(tmp_path)


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_looked_for_again(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    shutil.copytree(trained_run, path)
    name = pointers.read_pointers(path).best
    assert name is not None

    def read(found: Path) -> checkpoint.ModelFile:
        if found.name == name:  # as the training that goes on does
            (path / name).rename(path / "step-00000999")
            pointers.add_checkpoint(path, path / "step-00000999", best=True, keep=1)
        return checkpoint.read_model(found)

    monkeypatch.setattr("charlstm.model.read_model", read)
    assert charlstm.load(path).path.name == "step-00000999"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda model, _: model.generate(stop=5), "stop"),
        (lambda model, _: model.generate(sampling="cold"), "sampling"),
        (lambda model, _: model.generate(temperature=10**5000), "temperature"),
        (lambda model, _: model.generate(top_p=Fraction(3, 2)), "top_p"),
        (lambda model, _: model.generate(state=TextState([[1], [2, 3]])), "state"),
        (lambda model, state: model.generate(state=TextState(state.state, None)), "state"),
        (lambda model, state: model.generate(state=TextState(state.state, (1.5,))), "state"),
        (lambda model, state: model.save_state("state", TextState(state.state, "ab")), "state"),
        (lambda model, state: model.save_state(b"state", state), "path"),
        (lambda model, _: model.load_state(None), "path"),
        (lambda model, _: model.inspect("a", thresholds=(0.1, 0.9)), "thresholds"),
    ],
)
def test_values_of_wrong_types_are_usage_errors_that_name_the_field(model, call, field):
    with pytest.raises(UsageError) as caught:
        call(model, model.prefill("a"))
    assert f"`{field}`" in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("half", [Fraction(1, 2), np.float16(0.5)])
def test_numbers_of_other_types_choose_as_floats_do(model, half):
    def text(value):
        return "".join(
            model.generate("a", length=20, seed=1, temperature=value, repeat_penalty=value)
        )

    assert text(half) == text(0.5)
    assert Thresholds(half, 1) == Thresholds(0.5, 1.0)


def test_reports_can_be_compared_and_hashed(model):
    for make in (model.prefill, model.score, model.inspect):
        assert make("aa") != make("aa")
        assert isinstance(hash(make("aa")), int)


def test_a_change_to_the_state_of_a_text_does_not_change_the_text(model):
    text = model.generate("a", length=20, seed=1)
    begun = next(text)
    text.state.state[:] = 5
    assert begun + "".join(text) == "".join(model.generate("a", length=20, seed=1))


def test_objects_say_what_they_are(model: Model) -> None:
    config = model.file.config
    shown = repr(model)
    assert config.cell in shown
    assert f"{model.parameters:,} parameters" in shown
    assert repr(str(model.path)) in shown
    text = model.generate(length=3, seed=1)
    assert "iterated over" in repr(text)
    assert len(repr(text.state)) < 10_000


def test_a_number_of_texts_is_refused_with_advice_that_fits(model: Model) -> None:
    with pytest.raises(UsageError) as none:
        model.generate_batch(count=0)
    assert str(none.value) == "`count` is 0, but must be at least 1"
    with pytest.raises(UsageError, match="several batches"):
        model.generate_batch(count=10**6)


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError("no repr")


ODD = [
    *(True, 7, 10**400, 10**5000, Fraction(1, 10**400), math.nan, b"a" * 10**5, object()),
    *(np.array(1), np.array([1, 2]), Unshowable(), Path("a")),
]


@pytest.mark.parametrize("field", ["unknown", "stop", "sampling", "state", "prime", "top_k"])
def test_an_odd_argument_is_one_short_line_that_names_it(field: str, model: Model) -> None:
    named = "the text" if field == "prime" else f"`{field}`"
    for value in ODD:
        if field == "top_k" and isinstance(value, int) and value is not True:
            continue
        if field == "prime" and np.array_equal(value, [1, 2]):
            continue  # these are ids
        with pytest.raises(UsageError, match=named) as refused:
            model.generate(length=1, **{field: value})
        assert len(str(refused.value)) < 250
        assert "\n" not in str(refused.value)


# -- texts that print, objects in notebooks ------------------------------------------------------


def test_a_text_prints_itself_as_often_as_it_is_asked(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = "".join(model.generate("a", length=30, seed=1))
    text = model.generate("a", length=30, seed=1)
    assert [next(text), next(text)] == list(whole[:2])
    print(text, end="")
    assert capsys.readouterr().out == whole
    assert str(text) == str(text) == f"{text}" == whole
    assert list(text) == []


def test_a_text_stays_lazy(model: Model) -> None:
    text = model.generate("a", length=10**15, seed=1)
    first = model.generate("a", length=5, seed=1)
    assert [next(text) for _ in range(5)] == list(str(first))


def test_a_text_without_end_has_no_string(model: Model) -> None:
    text = model.generate("a", length=None, seed=1)
    with pytest.raises(UsageError, match="`length`"):
        str(text)
    assert next(text)


MARKUP = '<b onclick="x">&amp;</b>\u202e\x1b[2J'


def test_objects_show_themselves_in_a_notebook_without_markup(model: Model, tmp_path: Path) -> None:
    path = tmp_path / MARKUP.replace("/", "")
    strange = Model(model.file, path)
    shown = strange._repr_html_()
    assert f"{model.parameters:,}" in shown
    assert "<b onclick" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    score = model.score("It was a wet day")
    assert f"{score.bits_per_char:.3f}" in score._repr_html_()
    assert f"{score.nats:.4f}" in repr(score)
    report = model.inspect("It was a wet day")
    assert report._repr_html_().count("<tr>") == len(report.summary())
    assert len(repr(report)) < 200


# -- views ---------------------------------------------------------------------------------------


def test_a_view_is_data_text_and_picture(model: Model, tmp_path: Path) -> None:
    figure = model.view("cell", "It was a wet day", units=(3,))
    data = figure.to_dict()
    assert (data["view"], data["characters"]) == ("cell", 16)
    assert "unit 3" in repr(figure)
    assert "unit 3" in str(figure)
    assert figure._repr_html_().startswith('<div class="charlstm">')
    for name in ("a.html", "a.svg", "a.png"):
        figure.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 500
    with pytest.raises(UsageError, match=r"end it in \.html, \.svg, \.png"):
        figure.save(tmp_path / "a.gif")


def test_nothing_of_a_text_becomes_markup_in_a_view(model: Model) -> None:
    signs = '<>&"/'
    kept = [c for c in model.file.vocab.symbols if c not in signs][len(signs) :]
    vocab = Vocabulary("".join(sorted([*kept, *signs])))
    strange = Model(replace(model.file, vocab=vocab, excerpt=""), model.path)
    shown = strange.view("cell", '<a>&"</a>', warmup="", units=(3,))._repr_html_()
    for escaped in ("&lt;", "&gt;", "&amp;", "&quot;"):
        assert f">{escaped}</span>" in shown
    for sign in '<&"':
        assert f">{sign}</span>" not in shown


@pytest.mark.parametrize("name", [name for name in VIEWS if "text" in VIEWS[name].takes])
def test_every_view_of_a_text_comes_by_its_name(name: str, model: Model) -> None:
    figure = model.view(name, TEXT * 5, **({"units": (3, 4)} if name == "match" else {}))
    assert figure._repr_html_().count("<h1>") == 1
    assert json.loads(json.dumps(figure.to_dict(), allow_nan=False))


def test_the_view_is_that_of_the_command(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(model.path.parents[2])
    words = ["inspect", "-c", model.path.parent.name, "It was", "--view", "gates", "--json"]
    assert run([*words, "--layer", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    mine = model.view("gates", "It was", layer=1).to_dict()
    assert mine["characters"] == found["characters"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nix"}, "`view` is 'nix'"),
        ({"name": "context", "layer": 0}, "`layer` does not go with the view context"),
        ({"layer": 2}, "`layer` is 2, but must be at least 0 and at most 1"),
        ({"gate": "reset"}, "`gate` is 'reset'"),
        ({"units": (24,)}, "a unit of `units` is 24"),
        ({"rows": -1}, "`rows` is -1"),
        ({"name": ["gates"]}, r"`view` is \['gates'\]"),
        ({"name": "match", "units": 3}, "`units` is 3, but must be a tuple"),
        ({"name": "find", "features": "x=a"}, "`features` is 'x=a', but must be a tuple"),
        ({"name": "find", "features": (1,)}, "`features` has 1, not text"),
        ({"name": "cell", "guesses": -1}, "`guesses` is -1"),
        ({"name": "walk", "at": 1.5}, "`at` is 1.5, but must be a whole number"),
    ],
)
def test_wrong_options_of_a_view_name_the_field(
    options: dict[str, Any], message: str, model: Model
) -> None:
    with pytest.raises(UsageError, match=message):
        model.view(**{"text": "It was", **options})


# -- processes and threads -----------------------------------------------------------------------


def test_a_model_pickles(model: Model) -> None:
    model.engine  # noqa: B018
    copied = pickle.loads(pickle.dumps(model))
    assert copied.path == model.path
    assert str(copied.generate(length=50, seed=1)) == str(model.generate(length=50, seed=1))


def test_eight_threads_write_the_texts_of_their_seeds(trained_run: Path) -> None:
    alone = [str(charlstm.load(trained_run).generate(length=300, seed=n)) for n in range(8)]
    shared = charlstm.load(trained_run)
    start = threading.Barrier(8)

    def write(seed: int) -> str:
        start.wait()
        return str(shared.generate(length=300, seed=seed))

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(write, range(8))) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_model_survives_fork(trained_run: Path) -> None:
    script = (
        "import os, sys, charlstm\n"
        "model = charlstm.load(sys.argv[1])\n"
        "before = str(model.generate(length=100, seed=1))\n"
        "text = model.generate(length=100, seed=1)\n"
        "begun = next(text)\n"
        "child = os.fork()\n"
        "good = begun + ''.join(text) == before\n"
        "good = good and str(model.generate(length=100, seed=1)) == before\n"
        "if child == 0:\n"
        "    os._exit(0 if good else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "print(good, status)\n"
    )
    root = str(Path(charlstm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(trained_run)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True 0\n", done.stderr
