"""Widgets and player in a real JupyterLab and a real Voila, both on this machine only."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

from stvgkit.answers import CoordinateSpace, parse_answer
from stvgkit.rewards import score_answer
from stvgkit.tubes import Tube
from stvgkit.video import write_video
from stvgkit.viewing.players import show_player
from stvgkit.viewing.plots import viou_histogram

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TARGET = Tube([2, 3, 4, 5], [[x, 0.3, x + 0.3, 0.7] for x in (0.1, 0.2, 0.3, 0.4)])
SPACE = CoordinateSpace.relative(1000)

NOTEBOOK = """\
import numpy as np
from pathlib import Path
from stvgkit.datasets import Sample
from stvgkit.viewing.players import show_player
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video
from stvgkit.viewing.lab import reward_lab

frames = np.full((32, 90, 160, 3), 60, np.uint8)
for i in range(32):
    frames[i, 27:63, 4 * i : 4 * i + 48] = (220, 120, 60)
write_video("clip.mp4", frames, fps=8)
shown = Tube([8, 12, 16, 20], [[x, 0.3, x + 0.3, 0.7] for x in (0.1, 0.2, 0.3, 0.4)])
sample = Sample("a", "the box <b>that</b> drifts", Path("clip.mp4"), 160, 90, 8.0,
                Span(0, 31), Span(8, 20), shown)
%%
reward_lab(sample)
%%
show_player(sample, pred=shown)
"""


def environment(folder: Path) -> dict[str, str]:
    """Jupyter with no settings of the person who runs the tests, and none left behind."""
    names = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    places = {name: str(folder / name.lower()) for name in names}
    return {**os.environ, **places, "JUPYTER_PLATFORM_DIRS": "1"}


@contextlib.contextmanager
def serving(module: str, folder: Path, *options: str):
    """Start a server on a free port of this machine; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", module, "--no-browser", f"--port={port}", *options]
    with (folder / f"{module}.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + 60
        while not answers(address):
            assert server.poll() is None, (folder / f"{module}.log").read_text()[-3000:]
            assert time.monotonic() < end, f"{module} does not answer"
            time.sleep(0.2)
        yield address
    finally:
        # Asked to stop while a page is opening, JupyterLab waits for ever. Its kernels end by
        # themselves where their server is gone.
        server.kill()
        server.wait()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def folder(tmp_path) -> Path:
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in NOTEBOOK.split("%%\n")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "lab.ipynb")
    settings = tmp_path / "jupyter_config_dir/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    return tmp_path


@pytest.fixture
def page(chromium):
    page = chromium.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(120_000)  # for machines that do other work as well
    yield page
    page.context.close()


def check_lab(page) -> None:
    """Bend the answer by keys and by the mouse; the numbers must be those of the text shown."""
    lab = page.frame_locator("iframe[title='Reward lab']")
    textarea, pred = lab.locator("textarea"), lab.locator(".hand.pred")
    pred.scroll_into_view_if_needed()
    totals = []

    def check() -> None:
        truth = score_answer(textarea.input_value(), TARGET, SPACE)
        parts = [getattr(truth, field.name) for field in dataclasses.fields(truth)]
        shown = [float(cell) for cell in lab.locator(".value").all_inner_texts()]
        assert shown == pytest.approx(parts, abs=6e-4)
        totals.append(truth.total)

    check()
    pred.focus()
    page.keyboard.press("ArrowDown")
    check()
    before = parse_answer(textarea.input_value(), SPACE)
    stage, box = lab.locator(".stage").bounding_box(), pred.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 0.1 * stage["height"], steps=4)
    page.mouse.up()
    page.mouse.move(x, y)  # the button is up: this must not count
    after = parse_answer(textarea.input_value(), SPACE)
    np.testing.assert_allclose(after.pred.boxes, before.pred.boxes + [0, 0.1] * 2, atol=0.006)
    np.testing.assert_array_equal(after.think.boxes, before.think.boxes)
    check()
    assert len(set(totals)) == 3


def check_player(page) -> None:
    player = page.frame_locator("iframe[title='Video with boxes']")
    player.locator(".stvg-player[data-frame]").wait_for()
    player.locator("button[aria-label^='One frame on']").click()
    player.locator(".stvg-player[data-frame='1']").wait_for()
    assert "160×90" in player.locator(".meta").inner_text()


def test_jupyterlab(page, folder, root):
    options = ("--allow-root", "--IdentityProvider.token=", "--ServerApp.password=")
    with serving("jupyterlab", folder, "--ip=127.0.0.1", *options) as address:
        page.goto(f"{address}/lab/tree/lab.ipynb?reset")
        page.locator(".jp-Notebook").wait_for()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        check_lab(page)
        page.locator("iframe[title='Video with boxes']").scroll_into_view_if_needed()
        check_player(page)
        shots = root / "out" / "screenshots"
        shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=shots / "jupyterlab-player.png")
        page.locator("iframe[title='Reward lab']").scroll_into_view_if_needed()
        page.screenshot(path=shots / "jupyterlab-reward-lab.png")


def test_untrusted_notebook_says_how_to_see_the_player(page, folder):
    """Stored outputs that JupyterLab does not trust lose their frame, and scripts with it."""
    video = folder / "stored.mp4"
    write_video(video, np.full((10, 90, 160, 3), 60, np.uint8), fps=5)
    player = show_player(video, gold=TARGET)
    output = nbformat.v4.new_output(
        "display_data", {"text/html": player._repr_html_(), "text/plain": repr(player)}
    )
    cell = nbformat.v4.new_code_cell("show_player(...)", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "stored.ipynb")
    options = ("--allow-root", "--IdentityProvider.token=", "--ServerApp.password=")
    with serving("jupyterlab", folder, "--ip=127.0.0.1", *options) as address:
        page.goto(f"{address}/lab/tree/stored.ipynb?reset")
        page.get_by_text("Trust this notebook, or run this cell, to see this page.").wait_for()
        assert page.locator(".jp-OutputArea iframe").count() == 0


def test_voila(page, folder):
    with serving("voila", folder, "--Voila.ip=127.0.0.1", "lab.ipynb") as address:
        page.goto(address)
        check_lab(page)
        check_player(page)


def test_exported_page(page, tmp_path):
    """A notebook with its outputs, turned into a page by nbconvert and opened from disk."""
    from nbconvert import HTMLExporter

    video = tmp_path / "clip.mp4"
    write_video(video, np.full((10, 90, 160, 3), 60, np.uint8), fps=5)
    player = show_player(video, gold=Tube([2, 7], [[0.1, 0.1, 0.5, 0.5]] * 2))
    figure = viou_histogram({"SFT": [0.1, 0.4], "GRPO": [0.5, 0.6]})
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": text})
        for text in (player._repr_html_(), figure.to_html(include_plotlyjs=True))
    ]
    cell = nbformat.v4.new_code_cell("show_player(...)", outputs=outputs)
    document, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    path = tmp_path / "export.html"
    path.write_text(document, encoding="utf-8")
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    check_player(page)
    page.locator(".js-plotly-plot .bars").first.wait_for(state="attached")
