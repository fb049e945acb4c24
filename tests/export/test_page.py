"""The exported page in a real browser, compared with the NumPy engine."""

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import model_config, random_weights

from charlstm.analysis.subject import Subject
from charlstm.analysis.views.walk import measure
from charlstm.errors import CharlstmError, UsageError
from charlstm.export import page as page_module
from charlstm.export.page import to_page
from charlstm.generate.sampling import surprise_bits
from charlstm.model import Model
from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS, RIGHT_SATURATED
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
    reason="chromium, chromedriver or the package selenium is not there",
)

SYMBOLS = "\n !abcdefghé😀"
HOSTILE = "\n\r\t\0\x1b<>&\"'/$`\\{}\u200d\u202e\u2028\u2066\ufeff é😀"
"""Everything that could leave a script, an attribute or a template, or turn a page around."""


def model(cell: str = "lstm", symbols: str = SYMBOLS, kind: Any = "characters") -> Model:
    config = model_config(len(symbols), hidden=11, layers=2, cell=cell)
    vocab = Vocabulary(symbols, kind)
    excerpt = "abba acab!\n" * 20 if kind == "characters" else ""
    file = ModelFile(config, vocab, random_weights(config), excerpt, {"run": "book", "step": 7})
    return Model(file, Path("checkpoints/book"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, which reports every request it makes."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a model's page from a file; nothing may be wrong in it, or leave it."""

    def opened(of: Model, **options: Any) -> Any:
        path = tmp_path / "page.html"
        path.write_bytes(to_page(of, "1.2.3", **options).html)
        browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    yield opened
    assert browser.get_log("browser") == []
    requests = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert all(url.startswith(("file:", "data:")) for url in requests), requests


def shown_text(browser: Any) -> str:
    return str(browser.execute_script("return document.getElementById('text').textContent"))


def press(browser: Any, identifier: str, *keys: str) -> None:
    browser.find_element("id", identifier).send_keys(*keys)
    wait_for_drawing(browser)


def wait_for_drawing(browser: Any) -> None:
    """The page draws in the browser's next frame."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => done())")


def set_value(browser: Any, identifier: str, value: object) -> None:
    browser.execute_script(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('change'))",
        *(identifier, str(value)),
    )
    wait_for_drawing(browser)


# -- the network ------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize("cell", CELLS)
def test_surprise_and_logits_are_the_engine_s(open_page: Callable[..., Any], cell: str) -> None:
    of = model(cell)
    ids = np.random.default_rng(5).integers(0, len(SYMBOLS), 200)
    text = of.file.vocab.decode(ids)
    logits, _ = of.engine.forward(ids, of.engine.initial_state())
    browser = open_page(of, precision="float32")
    first, *rest = browser.execute_script("return charlstm.surprise(arguments[0])", text)
    assert first is None
    np.testing.assert_allclose(rest, surprise_bits(logits[:-1], ids[1:]), rtol=0, atol=1e-4)
    last = browser.execute_script("return Array.from(charlstm.logits(arguments[0]))", text)
    np.testing.assert_allclose(last, logits[-1], rtol=0, atol=1e-4)


@in_browser
@pytest.mark.parametrize("prime", ["", "abba"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_page_of_a_list_reads_each_item_from_zero_state(
    open_page: Callable[..., Any], cell: str, prime: str
) -> None:
    vocab = Vocabulary(SYMBOLS, separator="b")
    config = replace(model(cell).file.config, end=vocab.end)
    file = replace(model(cell).file, config=config, vocab=vocab)
    of = Model(file, Path("checkpoints/book"))
    ids = vocab.encode(f"abba{prime}")
    logits, _ = of.engine.forward(np.append(vocab.end, ids), of.engine.initial_state())
    script = "return Array.from(charlstm.logits(arguments[0]))"
    browser = open_page(of, precision="float32")
    found = browser.execute_script(script, f"abba{prime}")
    np.testing.assert_allclose(found, logits[-1], rtol=0, atol=1e-4)
    assert browser.find_element("id", "prime").get_attribute("value") == ""


@in_browser
@pytest.mark.parametrize("prime", ["", "abba"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_most_likely_text_is_the_engine_s(
    open_page: Callable[..., Any], cell: str, prime: str
) -> None:
    of = model(cell)
    expected = "".join(of.generate(prime, length=100, temperature=0.0, precision="float32"))
    script = "return charlstm.write({prime: arguments[0], temperature: 0, length: 100})"
    assert open_page(of, precision="float32").execute_script(script, prime) == expected


@in_browser
def test_bytes_are_read_and_written_as_characters(open_page: Callable[..., Any]) -> None:
    of = model(symbols=BYTE_SYMBOLS, kind="bytes")
    browser = open_page(of, precision="float32")
    ids = of.file.vocab.encode("né😀")
    logits, _ = of.engine.forward(ids, of.engine.initial_state())
    found = browser.execute_script("return charlstm.surprise('né😀')")
    np.testing.assert_allclose(found[1:], surprise_bits(logits[:-1], ids[1:]), atol=1e-4)
    browser.execute_script("document.getElementById('prime').value = ''")
    press(browser, "again", "\n")
    press(browser, "typed", "é")
    assert shown_text(browser) == "é"
    press(browser, "back", "\n")
    press(browser, "back", "\n")
    assert shown_text(browser) == ""


@in_browser
def test_half_precision_rounds_the_weights(open_page: Callable[..., Any]) -> None:
    of = model()
    rounded = {n: a.astype(np.float16).astype(np.float32) for n, a in of.file.weights.items()}
    engine = Engine(of.file.config, rounded)
    ids = of.file.vocab.encode("abba acab")
    logits, _ = engine.forward(ids, engine.initial_state())
    found = open_page(of).execute_script("return Array.from(charlstm.logits('abba acab'))")
    np.testing.assert_allclose(found, logits[-1], rtol=0, atol=0.02)


# -- sampling ---------------------------------------------------------------------------------


@in_browser
def test_symbols_are_sampled_by_their_probabilities(open_page: Callable[..., Any]) -> None:
    of = model()
    browser = open_page(of, precision="float32")
    script = (
        "const counts = {}; for (let seed = 0; seed < 3000; seed++) { const sampled ="
        " charlstm.write({prime: 'ab', length: 1, seed, ...arguments[0]});"
        " counts[sampled] = (counts[sampled] ?? 0) + 1 } return counts"
    )
    for fields, filters in (
        ({}, {}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_k": 3}, {"topK": 3}),
        ({"top_p": 0.6}, {"topP": 0.6}),
        ({"min_p": 0.3}, {"minP": 0.3}),
    ):
        from charlstm.generate.sampling import SamplingConfig, distribution

        ids = of.file.vocab.encode("ab")
        logits, _ = of.engine.forward(ids, of.engine.initial_state())
        expected = distribution(logits[-1:], SamplingConfig(**fields))[0]
        counts = browser.execute_script(script, filters)
        found = np.array([counts.get(symbol, 0) for symbol in SYMBOLS]) / 3000
        assert not found[expected == 0].any(), fields
        assert np.abs(found - expected).max() < 0.04, fields  # four standard errors


@in_browser
def test_a_seed_gives_the_same_text_and_a_stop_ends_it(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())

    def write(**settings: Any) -> str:
        return str(browser.execute_script("return charlstm.write(arguments[0])", settings))

    text = write(seed=4, length=60)
    assert write(seed=4, length=60) == text != write(seed=5, length=60)
    stop = text[20:22]
    assert write(seed=4, length=60, stop=stop) == text[: text.index(stop)]


# -- the page ---------------------------------------------------------------------------------


@in_browser
def test_typing_reads_and_backspace_goes_back(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    set_value(browser, "prime", "")
    press(browser, "again", "\n")
    press(browser, "typed", "abZ")
    assert shown_text(browser) == "ab"
    assert "Z" in browser.find_element("id", "status").text
    guesses = browser.find_element("id", "guesses").text
    press(browser, "typed", "c")
    assert browser.find_element("id", "guesses").text != guesses
    press(browser, "typed", "\ue003")  # Backspace
    assert shown_text(browser) == "ab"
    assert browser.find_element("id", "guesses").text == guesses


@in_browser
def test_lines_can_be_removed_and_copied(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    set_value(browser, "prime", "")
    press(browser, "again", "\n")
    text = "ab\n\ncd\n"
    press(browser, "typed", "ab", "\n", "\n", "cd", "\n")
    assert shown_text(browser) == text
    copied = "getSelection().selectAllChildren(document.getElementById('text'));"
    assert browser.execute_script(copied + "return getSelection().toString()").rstrip("\n") == (
        text.rstrip("\n")
    )
    while text:
        press(browser, "back", "\n")
        text = text[:-1]
        assert shown_text(browser) == text
        lines = browser.find_elements("css selector", "#text div")
        assert len(lines) == text.count("\n") + 1
    press(browser, "typed", "!")
    assert shown_text(browser) == "!"


@in_browser
def test_a_fast_text_is_drawn_once_per_frame_of_the_screen(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    set_value(browser, "speed", 2000)
    written, drawn = browser.execute_async_script(
        "const done = arguments[0], strips = CanvasRenderingContext2D.prototype;"
        "const draw = strips.putImageData; let frames = 0, draws = 0;"
        "strips.putImageData = function (...image) { draws++; draw.apply(this, image) };"
        "const count = () => document.querySelectorAll('#text [data-at]').length, before = count();"
        "const next = () => { if (count() - before > 500 && frames > 3)"
        "  done([count() - before, draws / 2 / frames]);"
        "  else { frames++; requestAnimationFrame(next) } };"
        "document.getElementById('play').click(); requestAnimationFrame(next)"
    )
    press(browser, "play", "\n")
    assert written > 500
    assert drawn <= 1.5  # one drawing of two layers a frame, and what was drawn before the first


@in_browser
def test_a_guess_can_be_taken_and_the_text_played(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    set_value(browser, "prime", "ab")
    press(browser, "again", "\n")
    browser.find_element("css selector", "#guesses button").click()
    wait_for_drawing(browser)
    assert len(shown_text(browser)) == 3
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-label").startswith("Append")  # so Enter takes another
    press(browser, "next", "\n")
    assert len(shown_text(browser)) == 4
    set_value(browser, "length", 30)
    set_value(browser, "speed", 2000)
    press(browser, "again", "\n")
    press(browser, "play", "\n")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda b: b.find_element("id", "play").text == "Play")
    assert len(shown_text(browser)) == 32


@in_browser
@pytest.mark.parametrize("cell", CELLS)
def test_a_unit_colours_the_text_and_a_step_has_its_surprise(
    open_page: Callable[..., Any], cell: str
) -> None:
    of = model(cell)
    browser = open_page(of, precision="float32")
    set_value(browser, "prime", "")
    press(browser, "again", "\n")
    press(browser, "typed", "abba")
    set_value(browser, "layer", 2)
    set_value(browser, "unit", 3)
    set_value(browser, "part", "h")
    set_value(browser, "tint", "unit")
    ids = np.concatenate([of.file.vocab.opening(), of.file.vocab.encode("abba")])
    trace, logits, _ = of.engine.trace(ids, of.engine.initial_state())
    spans = browser.find_elements("css selector", "#text span[data-at]")
    alphas = [
        browser.execute_script("return arguments[0].style.background", span) for span in spans
    ]
    for alpha, value in zip(alphas, trace.states[1:, 1, 0, 3], strict=True):
        shown = float(alpha.rsplit(",", 1)[1].strip(" )"))
        assert shown == pytest.approx(0.75 * abs(value), abs=0.006)
        assert ("230, 97, 1" in alpha) == (value > 0)
    spans[1].click()
    wait_for_drawing(browser)
    bits = surprise_bits(logits[1:2], ids[2:3])[0]
    assert f"Read b: surprise {bits:.2f} bits" in browser.find_element("id", "read").text


@in_browser
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_explained_as_the_view_walk_does(
    open_page: Callable[..., Any], cell: str
) -> None:
    of = model(cell)
    browser = open_page(of, precision="float32")
    set_value(browser, "prime", "abba")
    press(browser, "again", "\n")
    set_value(browser, "unit", 3)
    ids = of.file.vocab.encode("abba")
    for layer in (0, 1):
        set_value(browser, "layer", layer + 1)
        browser.find_element("css selector", "#text span[data-at='3']").click()
        wait_for_drawing(browser)
        rows = browser.execute_script(
            "return Array.from(document.querySelectorAll('#equations tr'),"
            " (row) => Array.from(row.cells, (cell) => cell.textContent))"
        )
        walk = measure(Subject(of, ids, of.file.vocab.opening()), layer, 2)
        for (equation, terms, value), step in zip(rows, walk.steps, strict=True):
            assert equation == step.equation
            shown = dict(term.rsplit(" ", 1) for term in terms.split(", "))
            expected = {name: row[3] for name, row in step.terms.items()}
            expected["from x"] = expected.get("from x", 0) + expected.pop("bias", 0)
            for name, number in shown.items():
                assert as_number(number) == pytest.approx(expected[name], abs=0.006)
            assert as_number(value.split()[0]) == pytest.approx(step.value[3], abs=0.006)
            if step.is_gate:
                assert ("open" in value) == (step.value[3] > RIGHT_SATURATED)


def as_number(shown: str) -> float:
    return float(shown.replace("−", "-"))


@in_browser
def test_surprise_colours_the_text(open_page: Callable[..., Any]) -> None:
    of = model()
    browser = open_page(of, precision="float32")
    set_value(browser, "prime", "abba")
    press(browser, "again", "\n")
    set_value(browser, "tint", "surprise")
    ids = np.concatenate([of.file.vocab.opening(), of.file.vocab.encode("abba")])
    logits, _ = of.engine.forward(ids, of.engine.initial_state())
    for span, bits in zip(
        browser.find_elements("css selector", "#text span[data-at]"),
        surprise_bits(logits[:-1], ids[1:]),
        strict=True,
    ):
        shown = browser.execute_script("return arguments[0].style.background", span)
        alpha = float(shown.rsplit(",", 1)[1].strip(" )"))
        assert alpha == pytest.approx(0.75 * min(1, bits / 8), abs=0.006)
        assert (span.get_attribute("class") == "high") == (bits > 4)


@in_browser
def test_named_units_are_buttons(
    open_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"layer": 1, "unit": 7, "part": "h", "label": "inside <quotes>"}
    monkeypatch.setattr(page_module, "_named_units", lambda _: [named])
    browser = open_page(model())
    set_value(browser, "unit", 2)
    (button,) = browser.find_elements("css selector", "#named button")
    assert button.text == "inside <quotes> (layer 2, unit 7)"
    button.click()
    wait_for_drawing(browser)
    fields = {"layer": "2", "unit": "7", "part": "h", "tint": "unit"}
    for field, value in fields.items():
        assert browser.find_element("id", field).get_property("value") == value
    assert "Unit 7 of layer 2" in browser.find_element("id", "equations").text


@in_browser
def test_the_text_is_read_by_pointer_and_by_keyboard(open_page: Callable[..., Any]) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser = open_page(model())
    set_value(browser, "prime", "abc")
    press(browser, "again", "\n")

    def read() -> str:
        return str(browser.find_element("id", "read").text).split(":")[0]

    def marked() -> list[str]:
        return [e.text for e in browser.find_elements("css selector", "#text [aria-current]")]

    assert (read(), marked()) == ("Read c", [])
    press(browser, "text", Keys.ARROW_LEFT)
    assert (read(), marked()) == ("Read b", ["b"])
    press(browser, "text", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert (read(), marked()) == ("Read a", ["a"])
    press(browser, "text", Keys.ARROW_RIGHT)
    assert (read(), marked()) == ("Read b", ["b"])
    first = browser.find_element("css selector", "#text span[data-at='1']")
    ActionChains(browser).move_to_element(first).perform()
    wait_for_drawing(browser)
    assert (read(), marked()) == ("Read a", ["a"])
    ActionChains(browser).move_to_element(browser.find_element("id", "play")).perform()
    wait_for_drawing(browser)
    assert (read(), marked()) == ("Read c", [])


@in_browser
def test_the_page_follows_dark_and_light(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    papers = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        papers[scheme] = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert papers["light"] == ["rgb(28, 28, 28)", "rgb(255, 255, 255)"]
    assert papers["dark"] == ["rgb(232, 232, 232)", "rgb(22, 22, 22)"]


@in_browser
def test_long_texts_forget_old_values_and_read_them_again(open_page: Callable[..., Any]) -> None:
    browser = open_page(model())
    set_value(browser, "prime", "ab" * 2100)
    press(browser, "again", "\n")
    assert len(shown_text(browser)) == 4200
    browser.find_element("css selector", "#text span[data-at='1']").click()
    wait_for_drawing(browser)
    assert "last 4,000" in browser.find_element("id", "status").text
    browser.execute_script("for (let n = 0; n < 4100; n++) document.getElementById('back').click()")
    wait_for_drawing(browser)
    assert shown_text(browser) == "ab" * 50
    found = browser.find_element("id", "guesses").text
    set_value(browser, "prime", "ab" * 50)
    press(browser, "again", "\n")
    assert browser.find_element("id", "guesses").text == found


@in_browser
def test_nothing_in_a_model_becomes_markup(open_page: Callable[..., Any]) -> None:
    of = model(symbols=HOSTILE)
    title = "</title><script>document.title = 'bad'</script>"
    file = of.file
    hostile = ModelFile(file.config, file.vocab, file.weights, HOSTILE * 20, {"run": title})
    browser = open_page(Model(hostile, Path("checkpoints/x")), title=title)
    assert browser.title == title
    assert browser.execute_script("return charlstm.symbols.join('')") == HOSTILE
    set_value(browser, "length", 200)
    for _ in range(30):
        press(browser, "next", "\n")
    shown = shown_text(browser) + browser.find_element("id", "guesses").text
    assert not set(shown) & set("\0\x1b\u202e\u2028\u2066")
    assert browser.execute_script("return document.scripts.length") == 3


@in_browser
@pytest.mark.parametrize("cell", ["peephole", "gru"])
@pytest.mark.parametrize("width", [1280, 600, 500, 400, 360])
def test_nothing_sticks_out_of_a_narrow_page(
    open_page: Callable[..., Any], width: int, cell: str
) -> None:
    browser = open_page(model(cell))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    set_value(browser, "tint", "unit")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# -- without a browser ------------------------------------------------------------------------


def test_the_page_says_what_its_precision_costs() -> None:
    of = model()
    assert to_page(of, "1", precision="float32").cost_bits is None
    cost = to_page(of, "1").cost_bits
    assert cost is not None
    assert 0 < abs(cost) < 0.01


def test_the_speed_falls_with_the_size_and_has_the_page_s_maximum() -> None:
    page = to_page(model(), "1")
    assert page.characters_per_second == page_module.MAX_SPEED
    assert f'max="{page_module.MAX_SPEED}"'.encode() in page.html
    config = model_config(len(SYMBOLS), hidden=256, layers=2, cell="lstm")
    large = ModelFile(config, Vocabulary(SYMBOLS), random_weights(config), "", {})
    speed = to_page(Model(large, Path("checkpoints/book")), "1").characters_per_second
    assert 500 < speed < page_module.MAX_SPEED


def test_a_page_that_is_too_large_says_how_large_it_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_module, "LIMIT", 1_000)
    with pytest.raises(CharlstmError, match=r"would be \d+ MB.*float16"):
        to_page(model(), "1", precision="float32")


def test_weights_beyond_half_precision_are_refused() -> None:
    of = model()
    of.file.weights["output_bias"][0] = 1e5
    with pytest.raises(CharlstmError, match="float16 cannot hold"):
        to_page(of, "1")
    assert to_page(of, "1", precision="float32").html


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="float16"):
        to_page(model(), "1", precision="int8")


@pytest.mark.parametrize(
    ("excerpt", "prime"),
    [
        ("the end of it.\n\n \n\nBab fed a bee,\nand", "Bab fed a"),
        ("one line\nonly", "one line only"),
        ("a" * 60, "a" * 40),
        ("", ""),
    ],
)
def test_the_prime_is_the_beginning_of_a_paragraph(excerpt: str, prime: str) -> None:
    of = model()
    file = dataclasses.replace(of.file, excerpt=excerpt)
    assert f'id="prime" value="{prime}"' in to_page(Model(file, of.path), "1").html.decode()


def test_what_is_no_text_is_not_in_the_page() -> None:
    of = model(symbols=BYTE_SYMBOLS, kind="bytes")
    excerpt = b"\xff\xfe\n\nb\xffab f\xffed".decode(errors="surrogateescape")
    training = {"run": "b\udcffo\u202eok", "step": 7}
    file = dataclasses.replace(of.file, excerpt=excerpt, training=training)
    html = to_page(Model(file, of.path), "1").html.decode()
    assert 'id="prime" value="bab fed"' in html
    assert "<title>b\ufffdo\ufffdok</title>" in html
