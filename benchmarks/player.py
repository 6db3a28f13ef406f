"""How fast the player and the reward lab are, and how far the boxes lag behind the picture.

    python benchmarks/player.py [--lab] [--video CLIP.mp4] [--halts 500] [--json out/player.json]

Without --video, a generated 20-second clip of 640x360 pixels stands in. Needs Chromium. On a busy
machine the times grow; `processor` figures count processor time and stay. `screen` halts a clip in
every way a person can, and reads two numbers off each screenshot: the one in the picture's pixels
and the one that the place of the drawn box means. `--load` keeps so many processes busy meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pages import chromium
from PIL import Image

from stvgkit.datasets import Sample
from stvgkit.files import write_json
from stvgkit.tubes import Span, Tube
from stvgkit.video import probe, write_video
from stvgkit.viewing.lab import reward_lab
from stvgkit.viewing.players import show_player

CLOCK = "document.querySelector('.stvg-player').player.clock"

# When the first boxes were drawn, in milliseconds since the page was asked for.
WATCH_FIRST = """new MutationObserver((_, observer) => {
  if (!document.querySelector('.stvg-player[data-frame]')) return;
  window.firstBoxes = performance.now();
  observer.disconnect();
}).observe(document, { subtree: true, attributes: true, childList: true });"""

# For some seconds of playing: when boxes were drawn, and how long each drawing took.
WATCH_DRAWS = """(milliseconds) => new Promise((done) => {
  const player = document.querySelector('.stvg-player').player, draw = player.draw, log = [];
  player.draw = function (picture) {
    const start = performance.now();
    draw.call(player, picture);
    log.push([start, performance.now() - start, player.clock.frame]);
  };
  setTimeout(() => { player.draw = draw; done(log); }, milliseconds);
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


def ruler(count: int) -> Tube:
    """A box whose left edge tells the frame: one pixel of 320 further on each."""
    x = (20 + np.arange(count)) / 320
    return Tube(np.arange(count), np.stack([x, x * 0 + 0.3, x + 0.2, x * 0 + 0.7], axis=1))


def read_screen(page) -> tuple[int, int]:
    """Off a screenshot: the number in the picture, and the one that the `ruler` box means."""
    png = page.locator(".stage").screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    height, scale = len(pixels), pixels.shape[1] / 320
    blocks = [pixels[round(170 * scale), round((10 + 20 * bit) * scale)].mean() for bit in range(8)]
    number = sum(int(value > 127) << bit for bit, value in enumerate(blocks))
    gold = (np.abs(pixels - (255, 198, 26)) < 60).all(axis=2)
    sides = np.where(gold[round(0.4 * height) : round(0.6 * height)].mean(axis=0) > 0.8)[0]
    left = sides[sides < sides[0] + 6]
    return number, round(float(left.mean() + 0.5) / scale - 20)


def drifting(count: int, shift: float) -> Tube:
    x = 0.3 + 0.25 * np.sin(np.arange(count) / 20 + shift)
    boxes = np.stack([x, np.full(count, 0.2), x + 0.2, np.full(count, 0.7)], axis=1)
    return Tube(np.arange(count), boxes)


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


def move(page, rng: np.random.Generator, count: int) -> None:
    """Something a person does: play a while and pause, jump, step, scrub, go to an end."""
    kind = rng.choice(["pause", "jump", "step", "scrub", "end"])
    page.locator("select").select_option(str(rng.choice(["0.25", "0.5", "1", "2"])))
    if kind in ("pause", "step"):
        page.evaluate(f"{CLOCK}.video.play()")
        page.wait_for_timeout(int(rng.integers(0, 250)))
    if kind == "pause":
        page.locator(".controls .play").click()
    elif kind == "jump":
        page.evaluate(f"{CLOCK}.seek({rng.integers(count)})")
    elif kind == "step":
        for key in rng.choice(["ArrowLeft", "ArrowRight", "Shift+ArrowRight"], rng.integers(1, 4)):
            page.keyboard.press(str(key))
    elif kind == "end":
        page.keyboard.press(str(rng.choice(["Home", "End"])))
    else:
        box = page.locator(".ruler").bounding_box()
        page.mouse.move(box["x"] + rng.random() * box["width"], box["y"] + 8)
        page.mouse.down()
        for share in rng.random(4):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + 8)
        page.mouse.up()


def measure_screen(browser, folder: Path, halts: int) -> dict:
    """Frames between picture and box on the screen, while playing and each time it halts."""
    count = 200
    clip = numbered(folder / "numbered.mp4", count, 30)
    path = folder / "screen.html"
    path.write_text(show_player(clip, gold=ruler(count)).html())
    page = visit(browser, path)
    page.keyboard.press("l")
    result = {}
    for speed in (0.25, 0.5, 1, 2):
        page.locator("select").select_option(str(speed))
        page.evaluate(f"{CLOCK}.video.play()")
        lags = [np.abs(np.subtract(*read_screen(page))) for _ in range(25)]
        result[f"playing_{speed}x_most"] = int(max(lags))
    rng = np.random.default_rng(0)
    apart, waits = [], []
    resting = f"{CLOCK}.video.paused && {CLOCK}.wanted === null && !{CLOCK}.video.seeking"
    for _ in range(halts):
        move(page, rng, count)
        while not page.evaluate(resting):
            page.wait_for_timeout(5)
        start = time.perf_counter()
        number, asked = -1, 0
        while number != asked and time.perf_counter() - start < 10:
            number, boxed = read_screen(page)
            apart.append(abs(number - boxed))
            # Asked again each time: a pause seeks once more, to the frame it was seen on.
            asked = page.evaluate(f"{CLOCK}.frameAt({CLOCK}.video.currentTime)")
        waits.append(time.perf_counter() - start if number == asked else np.inf)
    page.close()
    return result | {
        "halts": halts,
        "screenshots": len(apart),
        "picture_and_box_apart": int(np.count_nonzero(apart)),
        "halts_never_shown": int(np.isinf(waits).sum()),
        "seconds_to_the_screen_median": round(float(np.median(waits)), 3),
        "seconds_to_the_screen_most": round(float(np.max(waits)), 3),
    }


@contextlib.contextmanager
def busy(count: int):
    workers = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.kill()


def spin() -> None:
    while True:
        pass


DRAGS = 7

# A drag of 200 moves: the time in the page's script for each, and to the frame that shows it.
DRAG = """() => new Promise((done) => {
  const hand = document.querySelector('.hand.pred'), box = hand.getBoundingClientRect();
  const text = document.querySelector('textarea'), script = [], screen = [];
  const point = (type, k) => new PointerEvent(type, {
    pointerId: 1, pointerType: 'mouse', button: 0, buttons: 1, bubbles: true,
    clientX: box.x + box.width / 2 + 40 * Math.sin(k / 9),
    clientY: box.y + box.height / 2 + 30 * Math.sin(k / 7),
  });
  hand.setPointerCapture = () => {};  // which wants a pointer of flesh
  hand.dispatchEvent(point('pointerdown', 0));
  let k = 0;
  const move = () => {
    if (++k > 200) return done({ script, screen, chars: text.value.length });
    const start = performance.now(), before = text.value;
    hand.dispatchEvent(point('pointermove', k));
    document.body.getBoundingClientRect();  // the layout that follows is part of the answer
    script.push(performance.now() - start);
    if (text.value === before) throw new Error('a move changed nothing');
    requestAnimationFrame(() => { screen.push(performance.now() - start); setTimeout(move); });
  };
  move();
})"""


def measure_lab(browser, folder: Path) -> dict:
    """What the reward lab of a clip of 40 shown frames takes for each move of a drag."""
    video = generated(folder / "lab.mp4")
    tube = drifting(600, 0)
    sample = Sample("a", "q", video, 640, 360, 30.0, Span(0, 599), tube.span, tube)
    start = time.perf_counter()
    lab = reward_lab(sample)
    document = lab.html()
    made = time.perf_counter() - start
    path = folder / "lab.html"
    path.write_text(document, encoding="utf-8")
    drags = []
    for _ in range(DRAGS):
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto(path.as_uri())
        drags.append(page.evaluate(DRAG))
        page.close()
    figures = {
        "frames": len(lab.data["times"]),
        "made_seconds": round(made, 2),
        "html_megabytes": round(len(document.encode()) / 1e6, 3),
        "characters_of_the_answer": drags[0]["chars"],
    }
    for name, key in (("drag", "script"), ("drag_to_next_frame", "screen")):
        p95 = [float(np.quantile(drag[key], 0.95)) for drag in drags]
        figures[f"{name}_milliseconds_p95_best"] = round(min(p95), 2)
        figures[f"{name}_milliseconds_p95_median"] = round(float(np.median(p95)), 2)
    return figures | {"drags": DRAGS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="clip for the page's size and speed")
    parser.add_argument("--halts", type=int, default=100, help="how often to halt a clip")
    parser.add_argument("--load", type=int, default=0, help="processes that keep the machine busy")
    parser.add_argument("--lab", action="store_true", help="the reward lab alone")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {}
        with chromium() as browser:
            figures["lab"] = measure_lab(browser, folder)
            if not args.lab:
                video = args.video or generated(folder / "clip.mp4")
                figures["page"] = measure_page(browser, video, folder)
                figures["overlay"] = measure_overlay(browser, folder)
                with busy(args.load):
                    figures["screen"] = measure_screen(browser, folder, args.halts)
    for part, values in figures.items():
        print(part)
        for key, value in values.items():
            print(f"  {key:32} {value}")
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
