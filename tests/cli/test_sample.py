"""``charlstm sample``: stdout is the text and nothing else."""

import ast
import io
import json
import random
import re
import shutil
import sys
import unicodedata
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers import TEXT, untrained

import charlstm
import charlstm.runs.run
from charlstm.cli import run
from charlstm.generate.sampling import SamplingConfig
from charlstm.generate.text_state import TextState
from charlstm.generate.writing import Sampler
from charlstm.net.kernel import NO_COMPILER
from charlstm.runs import pointers
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary


def sample(*arguments: str, seed: int = 1) -> int:
    return run(["sample", "-c", "small", "--seed", str(seed), *arguments])


def expected(prime: str = "", length: int = 40, **how: object) -> str:
    how = {"seed": 1, **how}
    return "".join(charlstm.load("small").generate(prime, length=length, **how))  # type: ignore[arg-type]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("reason", "options", "noted"),
    [
        ("", ["--count", "2000"], ""),
        (NO_COMPILER, [], ""),
        (NO_COMPILER, ["--count", "2000"], f"without its kernel, and {NO_COMPILER}"),
        (NO_COMPILER, ["--count", "2000", "--precision", "float32"], ""),
        ("cc failed", [], "without its kernel: cc failed; CHARLSTM_KERNEL=off skips it"),
        ("cc failed", ["--precision", "float32"], ""),
    ],
)
def test_a_missing_kernel_is_noted_where_it_matters(
    reason: str,
    options: list[str],
    noted: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("charlstm.net.kernel.why_missing", lambda: reason)
    assert sample("--length", "10", *options) == 0
    shown = capsys.readouterr().err
    assert shown.endswith(f"{noted}\n") if noted else shown == ""


# -- the text ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_stdout_is_the_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--prime", "NED: ", "--length", "40") == 0
    shown = capsys.readouterr()
    assert shown.out == "NED: " + expected("NED: ")
    assert shown.err == ""


@pytest.mark.usefixtures("folder")
def test_same_seed_same_text_and_a_random_seed_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def text(seed: int) -> str:
        assert sample("--length", "60", seed=seed) == 0
        return capsys.readouterr().out

    assert text(1) == text(1) != text(2)
    assert run(["sample", "-c", "small", "--length", "60"]) == 0
    shown = capsys.readouterr()
    told = re.match(r"seed (\d+); no prime", shown.err)
    assert told
    assert text(int(told[1])) == shown.out


@pytest.mark.usefixtures("folder")
def test_temperature_0_takes_the_most_likely_whatever_the_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample("--temp", "0", "--length", "40", seed=1) == 0
    assert sample("--temp", "0", "--length", "40", seed=2) == 0
    written = capsys.readouterr().out
    assert written == 2 * expected(temperature=0)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "how"),
    [
        ("--temp 2", {"temperature": 2}),
        ("--top-k 2", {"top_k": 2}),
        ("--top-p 0.5", {"top_p": 0.5}),
        ("--min-p 0.5", {"min_p": 0.5}),
        ("--repeat-penalty 2", {"repeat_penalty": 2}),
        (
            "--repeat-penalty 2 --repeat-window 3",
            {"repeat_penalty": 2, "repeat_window": 3},
        ),
    ],
)
def test_filters_change_the_text_as_in_python(
    options: str, how: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample("--length", "300", *options.split()) == 0
    written = capsys.readouterr().out
    assert written == expected(length=300, **how)
    assert written != expected(length=300)
    if "repeat_window" in how:
        assert written != expected(length=300, repeat_penalty=2)


@pytest.mark.usefixtures("folder")
def test_text_ends_before_the_first_of_the_stops(capsys: pytest.CaptureFixture[str]) -> None:
    whole = expected("NED: ", length=300)
    stops = [whole[180:186], whole[100:106]]
    options = ["--stop", stops[0], "--stop", stops[1]]
    assert sample("--prime", "NED: ", "--length", "300", *options) == 0
    assert capsys.readouterr().out == "NED: " + whole[: min(map(whole.find, stops))]


# -- the prime ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_no_echo_leaves_the_prime_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--prime", "NED: ", "--length", "40", "--no-echo") == 0
    assert capsys.readouterr().out == expected("NED: ")


def test_prime_comes_from_a_file_or_stdin(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prime.txt").write_text("NED: ", encoding="utf-8-sig")  # with a byte-order mark
    assert sample("--length", "40", "--prime-file", str(tmp_path / "prime.txt")) == 0
    assert capsys.readouterr().out == "NED: " + expected("NED: ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"NED: ")))
    assert sample("--length", "40", "--prime-file", "-") == 0
    assert capsys.readouterr().out == "NED: " + expected("NED: ")


@pytest.mark.usefixtures("folder")
def test_long_prime_is_read_from_its_beginning_to_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prime = (TEXT * 100)[:10_000]
    assert sample("--prime", prime, "--length", "400") == 0
    model = charlstm.load("small")
    engine = model.engine_in("int8")
    state = engine.initial_state()
    for symbol in model.file.vocab.encode(prime):
        _, state = engine.step(np.array([symbol]), state)
    sampler = Sampler(engine, TextState(state), SamplingConfig(), 1)
    text = model.file.vocab.decode(int(ids[0]) for ids in islice(sampler, 400))
    assert capsys.readouterr().out == prime + text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prime", "a", "--prime-file", "b"], ["--prime", "--prime-file"]),
        (["--unknown", "guess"], ["'guess'", "error, skip, replace"]),
    ],
)
def test_contradictions_are_wrong_usage(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words)


@pytest.mark.usefixtures("folder")
def test_prime_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--prime-file", "nix.txt") == 1
    assert re.fullmatch(r"charlstm: nix\.txt [^\n]+\n", capsys.readouterr().err)


# -- states ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_a_text_goes_on_from_a_saved_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = str(tmp_path / "a.state")
    options = ["--temp", "0", "--repeat-penalty", "1.5"]
    assert sample("--prime", "NED: ", "--length", "50", "--save-state", state, *options) == 0
    assert sample("--length", "40", "--state", state, "--save-state", state, *options) == 0
    assert sample("--prime", "TAM", "--length", "30", "--state", state, *options) == 0
    how = {"temperature": 0, "repeat_penalty": 1.5}
    begun = expected("NED: ", 90, **how)
    rest = expected("NED: " + begun + "TAM", 30, **how)
    assert capsys.readouterr().out == "NED: " + begun + "TAM" + rest


@pytest.mark.usefixtures("folder")
def test_a_state_may_begin_several_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = str(tmp_path / "a.state")
    assert sample("--prime", "NED: ", "--length", "0", "--stop", ".", "--save-state", state) == 0
    capsys.readouterr()
    assert sample("--state", state, "--count", "2", "--length", "40") == 0
    texts = capsys.readouterr().out.split("\n%\n")
    model = charlstm.load("small")
    begun = model.load_state(state)
    assert texts == ["".join(model.generate(state=begun, length=40, seed=s)) for s in (1, 2)]


@pytest.mark.usefixtures("folder")
def test_a_state_that_is_saved_at_the_end_need_not_exist_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = str(tmp_path / "story.state")
    assert sample("--length", "5", "--state", state) == 1
    notes = []
    for _ in range(2):
        capsys.readouterr()
        assert sample("--length", "5", "--state", state, "--save-state", state) == 0
        notes.append("does not exist yet; starting a new text" in capsys.readouterr().err)
    assert notes == [True, False]


@pytest.mark.usefixtures("folder")
def test_a_checkpoint_without_its_run_has_no_text_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = str(shutil.copytree(charlstm.load("small").path, tmp_path / "alone"))
    for command in (["sample", "--novelty"], ["train", "--resume"], ["runs", "show"]):
        named = [alone] if command[0] == "runs" else ["-c", alone]
        assert run([*command, *named]) == 1
        shown = capsys.readouterr().err
        assert "alone is a checkpoint without its run" in shown
        assert f"--init-from {alone}" in shown


@pytest.mark.usefixtures("folder")
def test_a_state_of_another_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = str(tmp_path / "a.state")
    assert sample("--length", "5", "--save-state", state) == 0
    capsys.readouterr()
    other = untrained(tmp_path, charlstm.load("small").file.vocab)
    assert run(["sample", "-c", other, "--state", state, "--seed", "1"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(
        r"charlstm: [^\n]*a\.state is a resume state of another model[^\n]*\n", shown.err
    )


@pytest.mark.usefixtures("folder")
def test_a_state_that_could_not_be_saved_is_reported_before_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "nix" / "a.state", tmp_path):
        assert sample("--save-state", str(path)) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert re.fullmatch(r"charlstm: --save-state [^\n]+\n", shown.err)


# -- several texts, novelty, colour ------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_several_texts_have_the_seeds_that_follow(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--count", "3", "--prime", "NED: ", "--length", "200", seed=7) == 0
    texts = capsys.readouterr().out.split("\n%\n")
    assert texts == ["NED: " + expected("NED: ", 200, seed=seed) for seed in (7, 8, 9)]
    assert run(["sample", "-c", "small", "--count", "2", "--length", "20"]) == 0
    shown = capsys.readouterr()
    told = re.match(r"seeds (\d+) to (\d+); no prime", shown.err)
    assert told
    assert int(told[2]) == int(told[1]) + 1
    assert shown.out.split("\n%\n")[1] == expected(length=20, seed=int(told[2]))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        "--count 2 --length 0",
        "--count 2 --save-state x",
        "--count 2 --color",
        "--count 2 --interactive",
        "--interactive --novelty",
        "--interactive --prime-file -",
        "--novelty --length 0",
    ],
)
def test_what_cannot_be_done_together_is_wrong_usage(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(*arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+ cannot be used together; [^\n]+\n", shown.err)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "word"),
    [("--count 0", "--count"), ("--color surprise", "--color takes no value")],
)
def test_counts_and_colours_have_limits(
    arguments: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(*arguments.split()) == 2
    assert word in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_novelty_tells_what_was_copied(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--length", "300", "--novelty") == 0
    shown = capsys.readouterr()
    model = charlstm.load("small")
    training = (TEXT * 30)[: int(len(TEXT) * 30 * 0.9)]
    text = shown.out
    runs = [text[a:b] for a in range(300) for b in range(a + 1, 301)]
    longest = max(len(one) for one in runs if one in training)
    assert shown.err.startswith(f"longest copy from the training text: {longest} characters")
    assert re.search(r"; \d+ of \d+ words not in it \(\d+\.\d%\)\n$", shown.err)
    assert model.file.vocab


@pytest.mark.usefixtures("folder")
def test_novelty_of_several_texts_names_the_one_that_copied_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def copied(*arguments: str, seed: int) -> int:
        assert sample("--length", "60", "--temp", "1.5", "--novelty", *arguments, seed=seed) == 0
        found = re.search(r"text: (\d+) characters", note := capsys.readouterr().err)
        assert found
        notes.append(note)
        return int(found[1])

    notes: list[str] = []
    alone = {seed: copied(seed=seed) for seed in range(4, 9)}
    most = copied("--count", "5", seed=4)
    named = re.search(r" \(seed (\d)\), .*, in all 5 texts\n$", notes[-1])
    assert named
    assert alone[int(named[1])] == most == max(alone.values())


def test_a_copy_of_a_model_of_bytes_may_begin_within_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signs.txt").write_text(
        "".join(random.Random(1).choices("éĩèĨ", k=400)), encoding="utf-8"
    )
    settings = {"steps": 100, "hidden_size": 16, "layers": 1}
    charlstm.train("signs.txt", as_bytes=True, progress=False, **settings).run()  # type: ignore[arg-type]
    for seed in range(1, 40, 9):
        command = ["--length", "200", "--count", "9", "--novelty", "-c", "signs"]
        assert run(["sample", *command, "--seed", str(seed)]) == 0
        found = re.match(
            r"longest copy from the training text: (\d+) bytes? \(seed (\d+)\), ('.*?');",
            capsysbinary.readouterr().err.decode(),
        )
        assert found
        copied = ast.literal_eval(found[3]).encode("utf-8", "surrogateescape")
        text = str(charlstm.load("signs").generate(length=200, seed=int(found[2])))
        assert copied in text.encode("utf-8", "surrogateescape")
        assert len(copied) == int(found[1])


@pytest.mark.usefixtures("folder")
def test_a_random_seed_is_reported_with_what_the_text_begins_after(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def noted(*arguments: str) -> str:
        assert run(["sample", "-c", "small", "--length", "5", *arguments]) == 0
        return re.sub(r"\d+", "N", capsys.readouterr().err)

    assert noted() == "seed N; no prime, so the text begins after '\\n'\n"
    assert noted("--prime", "NED") == "seed N\n"
    assert noted("--save-state", "state") == noted()
    assert noted("--state", "state") == "seed N\n"


def test_novelty_without_the_training_text_is_refused_before_the_text(
    trained_run: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(trained_run, tmp_path / "copy")
    settings = (copy / "run.json").read_text(encoding="utf-8")
    gone = settings.replace("small.txt", "gone.txt")
    assert gone != settings
    (copy / "run.json").write_text(gone, encoding="utf-8")
    assert run(["sample", "-c", str(copy), "--seed", "1", "--novelty"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]*gone\.txt[^\n]*\ncharlstm train [^\n]+\n", shown.err)
    other = settings.replace(charlstm.runs.run.read_run_file(trained_run).digest, "0" * 64)
    (copy / "run.json").write_text(other, encoding="utf-8")
    assert run(["sample", "-c", str(copy), "--seed", "1", "--novelty"]) == 1
    assert "has changed since" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_colour_in_a_pipe_is_the_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--length", "40", "--color") == 0
    shown = capsys.readouterr()
    assert shown.out == expected()
    assert shown.err == "note: --color has no effect: standard output is not a colour terminal\n"


@pytest.mark.usefixtures("folder")
def test_colour_that_is_forced_comes_in_a_pipe_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert sample("--length", "40", "--color", "--temp", "3") == 0
    shown = capsys.readouterr()
    assert "\x1b[" in shown.out
    assert "surprise in bits" in shown.err
    assert re.sub(r"\x1b\[[\d;]*m", "", shown.out).replace("↵", "") == expected(temperature=3)


# -- characters the model never saw ------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_unknown_characters_are_named_with_what_can_be_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample("--prime", "NED€ \x1b§: €") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n", shown.err)
    for words in ("'€' (U+20AC)", "U+001B", "'§'", "--unknown skip", "--unknown replace"):
        assert words in shown.err
    assert shown.err.count("€") == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("policy", "read"), [("skip", "NED: "), ("replace", "NED :  ")])
def test_unknown_characters_are_left_out_or_replaced(
    policy: str, read: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample("--prime", "NED€: §", "--unknown", policy) == 0
    shown = capsys.readouterr()
    assert shown.out == read + expected(read, length=1000)
    assert "2 of 7 characters: not in the vocabulary" in shown.err


# -- bad numbers and bad checkpoints -----------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--temp", value) for value in ("-1", "nan", "inf", "warm")),
        *(("--length", value) for value in ("-1", "1.5", "long")),
        *(("--top-k", value) for value in ("-1", "1.5", "some")),
        *(("--top-p", value) for value in ("0", "-1", "1.1", "nan", "some")),
        *(("--min-p", value) for value in ("-1", "1.1", "nan", "some")),
        *(("--repeat-penalty", value) for value in ("0", "-1", "nan", "inf", "some")),
        *(("--repeat-window", value) for value in ("0", "-1", "some")),
        *(("--seed", value) for value in ("-1", "1.5", "lucky")),
        ("--stop", ""),
    ],
)
def test_number_out_of_range_is_refused_in_one_line(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(option, value) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"charlstm: [^\n]+\n", shown.err)
    assert option in shown.err
    assert value in shown.err


@pytest.mark.usefixtures("folder")
def test_a_mistake_is_reported_before_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "--temp", "-1"]) == 2
    assert re.fullmatch(r"charlstm: --temp is -1[^\n]+\n", capsys.readouterr().err)


def test_without_any_checkpoint_the_remedy_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["sample"]) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(r"charlstm: [^\n]*checkpoints/[^\n]*\ncharlstm train[^\n]*\n", told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("folder")
def test_unknown_run_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "-c", "nix"]) == 1
    assert re.fullmatch(r"charlstm: [^\n]*'nix'[^\n]*small[^\n]*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "name", ["manifest.json", "model.json", "model.safetensors"], ids=lambda n: n.split(".")[-1]
)
@pytest.mark.parametrize("how", ["cut", "altered", "missing"])
def test_damaged_checkpoint_is_refused(
    name: str, how: str, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained_run, copy)
    best = pointers.read_pointers(copy).best
    assert best is not None
    file = copy / best / name
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        middle = len(data) // 2
        other = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes(data[:middle] if how == "cut" else other)
    assert run(["sample", "-c", str(copy)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(rf"charlstm: [^\n]*{re.escape(str(copy / best))}[^\n]*\n", shown.err)


def test_newest_run_is_used_and_named(
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, written in (("older", 1000), ("newest", 3000), ("middle", 2000)):
        copy = shutil.copytree(trained_run, tmp_path / "checkpoints" / name)
        recorded = json.loads((copy / pointers.POINTER_FILE).read_text())
        (copy / pointers.POINTER_FILE).write_text(json.dumps({**recorded, "saved": written}))
    assert run(["sample", "--length", "5", "--seed", "1"]) == 0
    assert re.fullmatch(r"using checkpoints/newest/step-\d+\n", capsys.readouterr().err)


# -- where it goes -----------------------------------------------------------------------------


def test_control_characters_of_a_vocabulary_never_reach_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    symbols = "\t\n\x07\x08\x1b\x7f\x9b\u202e\u2028 [2Jm"
    checkpoint = untrained(tmp_path, Vocabulary("".join(sorted(symbols))))
    command = ["sample", "-c", checkpoint, "--seed", "1", "--length", "300", "--prime", symbols]
    assert run(command) == 0
    assert set(capsys.readouterr().out) == set(symbols)  # a pipe gets the text as it is
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert {"␛", "␇", "\ufffd", "\t", "\n"} <= set(shown)
    unsafe = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in unsafe]


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_list_ends_on_a_terminal_with_a_newline_and_in_a_pipe_with_its_separator(
    count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = untrained(tmp_path, Vocabulary(";ab", separator=";"))
    command = ["sample", "-c", checkpoint, "--seed", "1", "--length", "5", "--count", count]
    assert run(command) == 0
    items = capsys.readouterr().out
    assert re.fullmatch("([ab]*;)*", items)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(command) == 0
    assert capsys.readouterr().out == items + "\n"


def test_byte_model_writes_raw_bytes_to_a_pipe(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    checkpoint = untrained(tmp_path, Vocabulary(BYTE_SYMBOLS, "bytes"))
    prime = tmp_path / "prime.bin"
    prime.write_bytes(b"\xff\x00\r\n\xc3")
    command = ["sample", "-c", checkpoint, "--seed", "1", "--length", "2000"]
    assert run([*command, "--prime-file", str(prime)]) == 0
    written = capsysbinary.readouterr().out
    assert written[:5] == b"\xff\x00\r\n\xc3"
    assert len(written) == 2005
    assert len(np.unique(np.frombuffer(written, np.uint8))) > 200


# -- what cannot be as it was typed -------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_a_stop_string_that_can_never_occur_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--length", "9", "--stop", "heron", "--stop", "h\u00e9ron") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "--stop" in line]
    assert notes == ["note: --stop 'h\u00e9ron' cannot occur: '\u00e9' is not in the vocabulary"]


@pytest.mark.parametrize(
    "numbers",
    [
        ("--repeat-window", "99999999999999999999"),
        ("--count", "1000000000"),
        ("--count", "99999999999999999999"),
        ("--length", "99999999999999999999"),
        ("--repeat-penalty", "1e300", "--temp", "1e-310"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("folder")
def test_extreme_numbers_are_refused_in_one_line(
    numbers: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(*numbers) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"charlstm: [^\n]+ and at most [^\n]+\n", error)
    assert "--hidden" not in error


# -- precision ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_float32_writes_with_the_exact_weights_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample("--length", "400", "--precision", "float32") == 0
    text = capsys.readouterr().out
    model = charlstm.load("small")
    assert text == str(model.generate(length=400, seed=1, precision="float32"))
    assert run(["sample", "-c", "small", "--length", "1", "--precision", "float32"]) == 0
    assert re.match(r"seed \d+ in float32; no prime", capsys.readouterr().err)


def test_an_unknown_precision_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--precision", "int4") == 2
    message = "charlstm: --precision is 'int4'; choose one of float32, int8\n"
    assert capsys.readouterr().err == message


# -- constraints and several models ------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "how"),
    [
        ("--match [a-z]{3}.*", {"match": "[a-z]{3}.*"}),
        ("--ban eE", {"ban": "eE"}),
        ("--dry 5 --dry-length 2", {"dry": 5, "dry_length": 2}),
        ("--dry 5 --dry-length 2 --dry-base 1", {"dry": 5, "dry_length": 2, "dry_base": 1}),
    ],
)
def test_constraints_change_the_text_as_in_python(
    options: str, how: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample("--length", "200", *options.split()) == 0
    written = capsys.readouterr().out
    assert written == expected(length=200, **how)
    assert written != expected(length=200)


@pytest.mark.usefixtures("folder")
def test_each_text_of_a_batch_matches(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "20", "--match", "[a-z]{2,4} [a-z]{3}", "--stop", "\n"]
    assert sample(*options) == 0
    texts = capsys.readouterr().out.split("\n%\n")
    assert len(texts) == 20
    assert all(re.fullmatch("[a-z]{2,4} [a-z]{3}", text) for text in texts)
    assert len({len(text) for text in texts}) == 3


@pytest.mark.usefixtures("folder")
def test_a_text_that_is_complete_ends_before_its_length(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = str(tmp_path / "a.state")
    assert sample("--match", "[a-z]{5}", "--length", "0", "--save-state", state) == 0
    written = capsys.readouterr().out
    assert re.fullmatch("[a-z]{5}", written)
    model = charlstm.load("small")
    assert model.load_state(state).recent == tuple(model.encode("\n" + written))


@pytest.mark.usefixtures("folder")
def test_an_impossible_match_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--match", "a{9}", "--length", "5") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--match needs at least 9 characters, but --length is 5" in shown.err


@pytest.mark.usefixtures("folder")
def test_a_repeat_penalty_points_to_dry(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--repeat-penalty", "1.05", "--length", "5") == 0
    assert "use --dry 0.8" in capsys.readouterr().err
    assert sample("--dry", "0.8", "--length", "5") == 0
    assert capsys.readouterr().err == ""
    assert sample("--dry-length", "9", "--length", "5") == 0
    assert "no effect without --dry" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_several_models_write_as_their_mixture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = untrained(tmp_path, Vocabulary("\nNEDé: "))
    models = [charlstm.load("small"), charlstm.load(other)]
    for options, weights in (([], None), (["--mix", "0.2,0.8"], [0.2, 0.8])):
        assert sample("-c", other, "--prime", "NED: é", "--length", "99", *options) == 0
        text = charlstm.mix(models, weights).generate("NED: é", length=99, seed=1)
        assert capsys.readouterr().out == f"NED: é{text}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--mix 1", "--mix needs several models"),
        ("-c small --mix 1", "must be 2 numbers"),
        ("-c small --mix a,b", "the weights are 'a,b'"),
        ("-c small --novelty", "--novelty works with one model"),
        ("-c small --state x", "--state works with one model"),
        ("-c small --save-state x", "--save-state works with one model"),
    ],
)
def test_what_needs_one_model_or_several_is_said(
    options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample("--length", "5", *options.split()) == 2
    assert words in capsys.readouterr().err
