"""What a benchmark found, as a page and as a picture."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stvgkit.files import replacing, replacing_file

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from playwright.sync_api import Browser


def publish(text: str, path: Path | None) -> None:
    """Print a page, and write it to `path` where one is given."""
    print(text)
    if path:
        with replacing(path) as file:
            file.write(text)


def picture(figure: go.Figure, path: Path) -> None:
    """Write a figure as a PNG, as Chromium draws it."""
    with chromium() as browser, replacing_file(path) as part:
        page = browser.new_page(viewport={"width": 900, "height": 420}, device_scale_factor=2)
        page.set_content(figure.to_html(include_plotlyjs=True))
        page.wait_for_selector(".main-svg")
        part.write_bytes(page.locator(".plotly-graph-div").screenshot())


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium that the tests use as well."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from browser import find_browser, headless

    path = find_browser()
    if path is None:
        raise SystemExit("no Chromium: install Debian's chromium, or run `playwright install`")
    with headless(path) as browser:
        yield browser
