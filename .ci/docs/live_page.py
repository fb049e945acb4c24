"""The page that ``charlstm export`` makes of a run, for the docs, and what a browser shows of it.

    python .ci/docs/live_page.py RUN

It writes docs/live/nettle-quay.html, docs/pictures/page-desktop.png and, in dark colours,
docs/pictures/page-phone.png. Chromium and chromedriver take the screenshots.
"""

import shutil
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from charlstm import __version__
from charlstm.export.page import to_page
from charlstm.model import load

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "live" / "nettle-quay.html"
SCREENS = {"page-desktop": (1200, 1240, 1.0, "light"), "page-phone": (390, 1420, 1.5, "dark")}
"""Width, height, pixels per point, colours."""
COLOURS = 96
WRITE = """
const done = arguments[0], $ = (id) => document.getElementById(id);
$("tint").value = "unit";
$("length").value = 430;
$("speed").value = 2000;
$("play").click();
const ready = () => { $("speed").value = 30; setTimeout(done, 50); };
const wait = () => $("play").textContent === "Play" ? ready() : setTimeout(wait, 50);
wait();
"""


def write_page(run: Path) -> None:
    """Write the page and its pictures."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_bytes(to_page(load(run), __version__, title="Nettle Quay").html)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    for name, screen in SCREENS.items():
        path = DOCS / "pictures" / f"{name}.png"
        _screenshot(browser, *screen).save(path, optimize=True)
        print(path)
    browser.quit()


def _screenshot(browser: Any, width: int, height: int, pixels: float, colors: str) -> Image.Image:
    """The page after it has written a few lines."""
    size = {"width": width, "height": height, "deviceScaleFactor": pixels, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": colors}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(PAGE.as_uri())
    browser.execute_async_script(WRITE)
    png = b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])
    return Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
