"""How fast the player and the reward lab are, and how far the boxes lag behind the picture.

    python benchmarks/player.py [--video CLIP.mp4] [--json out/player.json]

Without --video, a generated 20-second clip of 640x360 pixels stands in. Needs Chromium. On a busy
machine the times grow; `processor` figures count processor time and stay.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import FLAGS, find_browser

from stvgkit.datasets import Sample
from stvgkit.files import write_json
from stvgkit.players import show_player
from stvgkit.tubes import Span, Tube
from stvgkit.video import probe, write_video

PLAYER = "document.querySelector('.stvg-player').player"

# When the first boxes were drawn, in milliseconds since the page was asked for.
WATCH_FIRST = """new MutationObserver((_, observer) => {
  if (!document.querySelector('.stvg-player[data-frame]')) return;
  window.firstBoxes = performance.now();
  observer.disconnect();
}).observe(document, { subtree: true, attributes: true, childList: true });"""

# For some seconds of playing: when boxes were drawn, and how long each drawing took.
WATCH_DRAWS = """(milliseconds) => new Promise((done) => {
  const player = document.querySelector('.stvg-player').player, draw = player.draw, log = [];
  player.draw = function (frame) {
    const start = performance.now();
    draw.call(player, frame);
    log.push([start, performance.now() - start, frame]);
  };
  setTimeout(() => { player.draw = draw; done(log); }, milliseconds);
})"""

# At each animation frame: number in the picture's own pixels less number of the drawn frame.
WATCH_LAG = """(count) => new Promise((done) => {
  const player = document.querySelector('.stvg-player').player, video = player.video, lags = [];
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const sample = () => {
    context.drawImage(video, 0, 170, 320, 1, 0, 0, 320, 1);
    const row = context.getImageData(0, 0, 320, 1).data;
    let number = 0;
    for (let bit = 0; bit < 8; bit++) if (row[4 * (10 + 20 * bit)] > 127) number += 1 << bit;
    lags.push(number - player.frame);
    if (lags.length < count && !video.paused) requestAnimationFrame(sample);
    else done(lags);
  };
  requestAnimationFrame(sample);
})"""


def generated(path: Path, seconds: float = 20, fps: float = 30) -> Path:
    """A pan over a soft texture with grain: about as hard to encode as filmed material."""
    rng = np.random.default_rng(0)
    soft = rng.integers(0, 255, (60, 200, 3)).astype(np.float32)
    wide = np.kron(soft, np.ones((6, 6, 1), np.float32))
    grain = rng.normal(0, 3, (4, 360, 640, 1))

    def frames() -> Iterator[np.ndarray]:
        for i in range(round(seconds * fps)):
            x = round(250 + 240 * np.sin(i / 90))
            yield np.clip(wide[:, x : x + 640] + grain[i % 4], 0, 255).astype(np.uint8)

    write_video(path, frames(), fps)
    return path


def numbered(path: Path, count: int, fps: float) -> Path:
    """Frames that carry their number in black and white blocks along the lower edge."""
    frames = np.full((count, 180, 320, 3), (40, 44, 60), np.uint8)
    for i, frame in enumerate(frames):
        for bit in range(8):
            frame[-20:, 20 * bit : 20 * bit + 20] = 255 * (i >> bit & 1)
    write_video(path, frames, fps, crf=14)
    return path


def drifting(count: int, shift: float) -> Tube:
    x = 0.3 + 0.25 * np.sin(np.arange(count) / 20 + shift)
    boxes = np.stack([x, np.full(count, 0.2), x + 0.2, np.full(count, 0.7)], axis=1)
    return Tube(np.arange(count), boxes)


@contextlib.contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise SystemExit("no Chromium: install Debian's chromium, or run `playwright install`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def visit(browser, page_path: Path):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.add_init_script(WATCH_FIRST)
    page.goto(page_path.as_uri())
    while page.evaluate("window.firstBoxes") is None:
        page.wait_for_timeout(10)
    return page


def measure_page(browser, video: Path, folder: Path) -> dict:
    """Making, size and opening of one page."""
    info = probe(video)
    tube = drifting(info.num_frames, 0)
    start, processor = time.perf_counter(), time.process_time()
    document = show_player(video, gold=tube, think=tube, pred=tube.shift(0)).html()
    made, processor = time.perf_counter() - start, time.process_time() - processor
    path = folder / "page.html"
    path.write_text(document, encoding="utf-8")
    opened = []
    for _ in range(5):
        page = visit(browser, path)
        opened.append(page.evaluate("window.firstBoxes") / 1000)
        page.close()
    return {
        "clip": f"{info.width}x{info.height}, {info.duration:.1f} s, {info.fps:.3g} fps",
        "made_seconds": round(made, 2),
        "made_seconds_processor": round(processor, 2),
        "html_megabytes": round(len(document.encode()) / 1e6, 3),
        "first_boxes_seconds_median_of_5": round(float(np.median(opened)), 3),
    }


def measure_overlay(browser, folder: Path) -> dict:
    """Ten tubes over a clip of 60 frames a second."""
    count = 240
    clip = numbered(folder / "sixty.mp4", count, 60)
    preds = {f"run {k}": drifting(count, k) for k in range(9)}
    path = folder / "ten.html"
    path.write_text(show_player(clip, gold=drifting(count, 0), pred=preds).html())
    page = visit(browser, path)
    page.keyboard.press("l")
    page.keyboard.press(" ")
    log = np.array(page.evaluate(WATCH_DRAWS, 4000))
    page.close()
    gaps = np.diff(log[:, 0])
    return {
        "tubes": 10,
        "updates_per_second": round(1000 / float(gaps.mean()), 1),
        "draw_milliseconds_median": round(float(np.median(log[:, 1])), 2),
        "draw_milliseconds_p99": round(float(np.quantile(log[:, 1], 0.99)), 2),
        "draw_milliseconds_most": round(float(log[:, 1].max()), 2),
    }


def measure_lag(browser, folder: Path) -> dict:
    """Frames between picture and boxes: halted at random places, and while playing."""
    count = 200
    clip = numbered(folder / "numbered.mp4", count, 30)
    path = folder / "lag.html"
    path.write_text(show_player(clip, gold=drifting(count, 0)).html())
    page = visit(browser, path)
    halted = []
    for frame in np.random.default_rng(0).integers(0, count, 40).tolist():
        page.evaluate(f"{PLAYER}.seek({frame})")
        while page.evaluate(f"{PLAYER}.frame") != frame or page.evaluate(f"{PLAYER}.video.seeking"):
            page.wait_for_timeout(5)
        halted.append(page.evaluate(WATCH_LAG, 1)[0])
    result = {"halted_most": int(np.abs(halted).max())}
    for speed in (0.25, 0.5, 1, 2):
        page.keyboard.press("Home")
        page.locator("select").select_option(str(speed))
        page.evaluate(f"{PLAYER}.video.play()")
        page.wait_for_timeout(300)
        lags = np.abs(page.evaluate(WATCH_LAG, 90))
        page.evaluate(f"{PLAYER}.video.pause()")
        page.wait_for_timeout(200)
        result[f"playing_{speed}x"] = {
            "mean": round(float(lags.mean()), 3),
            "share_0": round(float((lags == 0).mean()), 3),
            "most": int(lags.max()),
        }
    page.close()
    return result


def measure_lab(folder: Path) -> dict:
    """Processor time of the kernel for one move of a slider."""
    from stvgkit.widgets import RewardLab

    video = generated(folder / "lab.mp4", seconds=10)
    tube = drifting(300, 0).slice(Span(60, 240))
    lab = RewardLab(Sample("a", "q", video, 640, 360, 30.0, Span(0, 299), tube.span, tube))
    times = []
    for i in range(40):
        slider = lab.boxes["pred", "x"] if i % 2 else lab.boxes["think", "y"]
        low, high = slider.value
        start = time.process_time()
        slider.value = (low + 3, high + 3) if i % 4 < 2 else (low - 3, high - 3)
        times.append(time.process_time() - start)
    return {"slider_milliseconds_p95": round(1000 * float(np.quantile(times, 0.95)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="clip for the page's size and speed")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = args.video or generated(folder / "clip.mp4")
        figures = {"lab": measure_lab(folder)}
        with chromium() as browser:
            figures["page"] = measure_page(browser, video, folder)
            figures["overlay"] = measure_overlay(browser, folder)
            figures["lag_frames"] = measure_lag(browser, folder)
    for part, values in figures.items():
        print(part)
        for key, value in values.items():
            print(f"  {key:32} {value}")
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
