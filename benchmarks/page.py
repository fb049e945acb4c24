"""Characters per second that an exported page writes in headless Chromium.

    python benchmarks/page.py --rounds 3

``chars_per_second`` is the model alone, through ``window.charlstm.write``. ``played_per_second`` is
the page after Play at its highest speed, with everything it draws. It needs the package selenium,
chromium and chromedriver. The weights are random: the time of a character does not depend on them.
The page's script runs on one thread.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import record, spread_of
from selenium import webdriver

from charlstm import __version__
from charlstm.export.page import to_page
from charlstm.model import Model
from charlstm.net.model_config import ModelConfig
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import Vocabulary

SYMBOLS = "\n" + "".join(map(chr, range(0x20, 0x60)))
CHARACTERS = 1000
WRITE = f"""
const begun = performance.now();
charlstm.write({{length: {CHARACTERS}, temperature: 0.8}});
return {CHARACTERS} / (performance.now() - begun) * 1000;
"""
PLAY_SECONDS = 5
PLAY = f"""
const done = arguments[0];
const written = () => document.querySelectorAll("#text [data-at]").length;
document.getElementById("speed").value = 2000;
if (document.getElementById("play").textContent === "Play") document.getElementById("play").click();
setTimeout(() => {{
  const begun = performance.now(), before = written();
  setTimeout(() => done((written() - before) / (performance.now() - begun) * 1000),
    {PLAY_SECONDS * 1000});
}}, 1000);
"""


def random_model(layers: int, hidden: int) -> Model:
    """A model of the presets' embedding size, without a run."""
    config = ModelConfig("lstm", len(SYMBOLS), 64, hidden, layers)
    generator = np.random.default_rng(1)
    weights = {
        name: generator.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return Model(ModelFile(config, Vocabulary(SYMBOLS), weights, "", {}), Path("random"))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="*", default=["3x192", "3x320", "3x512"])
    arguments = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in arguments.shapes:
            layers, hidden = map(int, shape.split("x"))
            html = to_page(random_model(layers, hidden), __version__).html
            path = Path(folder) / f"{shape}.html"
            path.write_bytes(html)
            browser.get(path.as_uri())
            browser.execute_script(WRITE)  # compiles the script
            rounds = range(arguments.rounds)
            results[shape] = {
                "chars_per_second": spread_of([browser.execute_script(WRITE) for _ in rounds]),
                "played_per_second": spread_of(
                    [browser.execute_async_script(PLAY) for _ in rounds]
                ),
                "file_mb": len(html) / 1e6,
            }
    browser.quit()
    record("page", results)


if __name__ == "__main__":
    main()
