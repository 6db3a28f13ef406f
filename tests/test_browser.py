"""The player in a real Chromium: what is on the screen is compared with what was in the clip.

Every frame of the test clip carries its own number in black and white blocks along its lower edge,
so a screenshot tells which frame is shown, whatever the player believes.
"""

from __future__ import annotations

import html
import io
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from browser import listen
from PIL import Image

from stvgkit.tubes import Tube
from stvgkit.video import write_video
from stvgkit.viewing.players import player_assets, players_page, show_player

pytestmark = pytest.mark.browser

WIDTH, HEIGHT, COUNT, FPS = 320, 180, 60, 24
SHAPE = (250, 120, 235)
BITS, BLOCK = 6, 20
ROOT = "document.querySelector('.stvg-player')"


def corners_px(i: int) -> tuple[int, int, int, int]:
    """The shape on frame i: it drifts right and swings up and down."""
    x, y = 20 + 4 * i, 50 + int(25 * np.sin(i / 6))
    return x, y, x + 48, y + 40


def numbered_frames() -> np.ndarray:
    frames = np.full((COUNT, HEIGHT, WIDTH, 3), (40, 44, 60), np.uint8)
    for i, frame in enumerate(frames):
        x1, y1, x2, y2 = corners_px(i)
        frame[y1:y2, x1:x2] = SHAPE
        for bit in range(BITS):
            frame[-BLOCK:, BLOCK * bit : BLOCK * (bit + 1)] = 255 * (i >> bit & 1)
    return frames


def shown_number(picture: np.ndarray) -> int:
    """The number in the blocks of a picture of the whole stage, at any size."""
    height, width = picture.shape[:2]
    y = round(height * (1 - BLOCK / 2 / HEIGHT))
    xs = [round(width * BLOCK * (bit + 0.5) / WIDTH) for bit in range(BITS)]
    return sum(int(picture[y, x].mean() > 127) << bit for bit, x in enumerate(xs))


GOLD = Tube(np.arange(COUNT), [np.divide(corners_px(i), [WIDTH, HEIGHT] * 2) for i in range(COUNT)])
KEYS = np.arange(6, 50, 4)
PRED = Tube(KEYS, GOLD.at(KEYS).boxes + 0.02)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "numbered.mp4"
    write_video(path, numbered_frames(), FPS, crf=12)
    return path


@pytest.fixture(scope="module")
def shots(root) -> Path:
    """Where screenshots are kept for people to look at."""
    folder = root / "out" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(chromium, tmp_path):
    """Open a document from disk; returns the page once the first frame is drawn."""
    contexts = []

    def opened(document: str, width=900, height=760, scale=1, script="", **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(script)
        listen(page)
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(document, encoding="utf-8")
        page.goto(path.as_uri())
        until(page, f"{ROOT}?.dataset.frame !== undefined")
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            assert page.problems == []
        context.close()


def until(page, condition: str, seconds: float = 10) -> None:
    """Wait for a condition; Playwright's own way needs `eval`, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        page.wait_for_timeout(20)


def settle(page) -> None:
    """Wait until the last seek has arrived and has been painted."""
    clock = f"{ROOT}.player.clock"
    until(page, f"{clock}.wanted === null && !{clock}.video.seeking")
    until(page, f"{clock}.frame === {clock}.frameAt({clock}.video.currentTime)")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_timeout(60)  # a frame that is reported may reach the screen a moment later


def stage_picture(page, number: int = 0) -> np.ndarray:
    png = page.locator(".stage").nth(number).screenshot()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def drawn(page) -> int:
    return page.evaluate(f"{ROOT}.player.clock.frame")


def extent(mask: np.ndarray) -> np.ndarray:
    """Edges `(x1, y1, x2, y2)` of the true pixels."""
    ys, xs = np.where(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def near(picture: np.ndarray, color, slack: int) -> np.ndarray:
    return (np.abs(picture - np.array(color)) <= slack).all(axis=2)


def gold_rectangle(picture: np.ndarray) -> np.ndarray:
    """Centre lines of the drawn gold rectangle; its label has the colour too, but no long lines."""
    gold = near(picture, (0xFF, 0xC6, 0x1A), 45)
    xs = np.where(gold.sum(axis=0) > 0.15 * len(gold))[0]
    ys = np.where(gold.sum(axis=1) > 0.10 * gold.shape[1])[0]
    middle_x, middle_y = xs.mean(), ys.mean()
    left, right = xs[xs < middle_x], xs[xs > middle_x]
    top, bottom = ys[ys < middle_y], ys[ys > middle_y]
    return np.array([side.mean() + 0.5 for side in (left, top, right, bottom)])


@pytest.mark.parametrize("scale", [1, 2])
def test_the_drawn_box_sits_on_the_shape(clip, visit, shots, scale):
    page = visit(show_player(clip, gold=GOLD).html(), scale=scale)
    for frame in (0, 17, 59):
        page.evaluate(f"{ROOT}.player.clock.seek({frame})")
        settle(page)
        boxed = stage_picture(page)
        page.keyboard.press("g")
        plain = stage_picture(page)
        page.keyboard.press("g")
        assert shown_number(boxed) == frame
        # Half way in brightness, which is stored finer than colour; not the stage's round corners.
        bright = plain.mean(axis=2) > 125
        bright[:14] = bright[:, :14] = bright[:, -14:] = False
        bright[-round(len(bright) * BLOCK / HEIGHT) - 4 :] = False
        shape = extent(bright)
        assert np.abs(gold_rectangle(boxed) - shape).max() <= 2
    page.screenshot(path=shots / f"player-{scale}x.png")


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (1920, 1080)])
def test_the_drawn_box_sits_on_the_shape_of_any_source(tmp_path, visit, shots, size, scale):
    """The smallest and the largest source, 400 pixels wide, on a dark page."""
    (width, height), path = size, tmp_path / "clip.mp4"
    frames = np.full((8, height, width, 3), 30, np.uint8)
    corners = []
    for i, frame in enumerate(frames):
        x, y = width * (10 + 4 * i) // 64, height * (20 + i) // 64
        corners.append((x, y, x + width * 20 // 64, y + height * 24 // 64))
        frame[y : corners[-1][3], x : corners[-1][2]] = 230
    write_video(path, frames, 8, crf=8)
    gold = Tube(np.arange(8), np.array(corners) / ([width, height] * 2))
    page = visit(show_player(path, gold=gold).html(), width=400, scale=scale, color_scheme="dark")
    for frame in (0, 3, 7):
        page.evaluate(f"{ROOT}.player.clock.seek({frame})")
        settle(page)
        boxed = stage_picture(page)
        page.keyboard.press("g")
        bright = stage_picture(page).mean(axis=2) > 125
        page.keyboard.press("g")
        rim = 8 * scale  # the page shows through at the stage's round corners
        bright[:rim] = bright[-rim:] = bright[:, :rim] = bright[:, -rim:] = False
        assert np.abs(gold_rectangle(boxed) - extent(bright)).max() <= 2
    page.screenshot(path=shots / f"player-{width}-at-400-{scale}x.png")


def test_shown_frame_is_drawn_frame_when_stepped_and_scrubbed(clip, visit):
    page = visit(show_player(clip, gold=GOLD, pred=PRED).html())

    def check(frame: int | None = None) -> None:
        settle(page)
        number = shown_number(stage_picture(page))
        assert drawn(page) == number
        if frame is not None:
            assert number == frame

    check(0)
    for keys, frame in [
        (["End"], 59),
        (["ArrowLeft"], 58),
        (["ArrowLeft"] * 3, 55),
        (["Shift+ArrowLeft"], 45),
        (["Home"], 0),
        (["ArrowLeft"], 0),
        (["ArrowRight"] * 7, 7),
    ]:
        for key in keys:
            page.keyboard.press(key)
        check(frame)
    ruler = page.locator(".ruler").bounding_box()
    for frame in (18, 54, 3, 31):
        share = (frame + 0.5) / COUNT
        page.mouse.click(ruler["x"] + share * ruler["width"], ruler["y"] + 8)
        check(frame)
    y = ruler["y"] + 40
    page.mouse.move(ruler["x"] + 0.2 * ruler["width"], y)
    page.mouse.down()
    for share in np.linspace(0.2, 42.5 / COUNT, 12):
        page.mouse.move(ruler["x"] + share * ruler["width"], y)
    page.mouse.up()
    check(42)


def test_play_pause_and_loop(clip, visit):
    page = visit(show_player(clip, gold=GOLD).html())
    page.keyboard.press(" ")
    until(page, f"{ROOT}.player.clock.frame > 8")
    page.keyboard.press(" ")
    settle(page)
    assert page.evaluate(f"{ROOT}.player.clock.video.paused")
    assert drawn(page) == shown_number(stage_picture(page)) > 8
    page.keyboard.press("End")
    page.keyboard.press("l")
    page.locator(".controls .play").click()
    until(page, f"{ROOT}.player.clock.frame < 30 && {ROOT}.player.clock.frame > 3")
    page.locator(".stage").click()
    settle(page)
    assert drawn(page) == shown_number(stage_picture(page))


@pytest.mark.parametrize("speed", [0.25, 1, 2])
def test_picture_and_box_on_the_screen_are_of_one_frame_while_playing(clip, visit, speed):
    page = visit(show_player(clip, gold=GOLD).html())
    page.keyboard.press("l")
    page.locator("select").select_option(str(speed))
    assert page.evaluate(f"{ROOT}.player.clock.video.playbackRate") == speed
    page.keyboard.press(" ")
    until(page, f"{ROOT}.player.clock.frame > 0")
    seen = set()
    for _ in range(12):
        picture = stage_picture(page)
        scale = picture.shape[1] / WIDTH
        number = shown_number(picture)
        assert np.abs(gold_rectangle(picture) / scale - corners_px(number)).max() < 2  # of 4
        seen.add(number)
    assert len(seen) > 3


@pytest.mark.parametrize("report", ["VideoFrame", "mediaTime", "timeupdate"])
def test_halts_of_every_kind_end_in_step(clip, visit, report):
    """Also in browsers that lack one or both of the means to know the frame shown."""
    lacking = {
        "VideoFrame": "",
        "mediaTime": "delete window.VideoFrame;",
        "timeupdate": "delete window.VideoFrame;"
        "delete HTMLVideoElement.prototype.requestVideoFrameCallback;",
    }[report]
    page = visit(show_player(clip, gold=GOLD).html(), script=lacking)
    rng = np.random.default_rng(0)
    for key in [" ", "End", "Shift+ArrowLeft", " ", "ArrowRight", "Home", " ", "ArrowLeft"]:
        page.keyboard.press(key)
        if key == " ":
            page.wait_for_timeout(int(rng.integers(50, 250)))
            page.keyboard.press(" ")
        until(page, f"{ROOT}.player.clock.video.paused")
        settle(page)
        picture = stage_picture(page)
        number = shown_number(picture)
        assert number == drawn(page)
        corners = gold_rectangle(picture) / (picture.shape[1] / WIDTH)
        assert np.abs(corners - corners_px(number)).max() < 2


def encoded_elsewhere(path: Path, kind: str) -> np.ndarray:
    """H.264 as others write it, which the page takes unchanged; returns the frames' times."""
    import av

    tick = Fraction(1, 1000)
    steps = np.where(np.arange(COUNT) % 3, 30, 60) if kind == "variable" else np.full(COUNT, 40)
    times = np.concatenate([[0], np.cumsum(steps)[:-1]]) + (500 if kind == "late" else 0)
    options = {"bf": "3" if kind == "b-frames" else "0", "crf": "22", "g": "250"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = tick
        for time, pixels in zip(times.tolist(), numbered_frames(), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return (times - times[0]) / 1000


@pytest.mark.parametrize("kind", ["b-frames", "variable", "late"])
def test_files_of_others_stay_in_step(tmp_path, visit, kind):
    path = tmp_path / "other.mp4"
    times = encoded_elsewhere(path, kind)
    player = show_player(path, gold=GOLD)
    np.testing.assert_allclose(player.data["times"], times, atol=1e-3)
    page = visit(player.html())
    for frame in (31, 30, 2, 58, 0):
        page.evaluate(f"{ROOT}.player.clock.seek({frame})")
        settle(page)
        assert shown_number(stage_picture(page)) == drawn(page) == frame


def test_layers_toggle_by_key_and_by_click(clip, visit):
    page = visit(show_player(clip, gold=GOLD, think=PRED, pred=PRED).html())
    page.evaluate(f"{ROOT}.player.clock.seek(20)")
    settle(page)

    def visible() -> list[bool]:
        boxes = page.locator(".overlay .box")
        return [boxes.nth(i).is_visible() for i in range(3)]

    assert visible() == [True, True, True]
    for key, left in [("g", [False, True, True]), ("t", [False, False, True]), ("p", [False] * 3)]:
        page.keyboard.press(key)
        assert visible() == left
    page.keyboard.press("2")
    assert visible() == [False, True, False]
    page.locator("button.name").first.click()
    assert visible() == [True, True, False]
    assert page.locator("button.name").nth(2).get_attribute("aria-pressed") == "false"


def test_table_gives_original_pixels_and_iou(clip, visit):
    page = visit(show_player(clip, gold=GOLD, pred=PRED).html())
    page.evaluate(f"{ROOT}.player.clock.seek(22)")
    settle(page)
    x1, y1, x2, y2 = corners_px(22)
    facts = page.locator(".facts .now").all_inner_texts()
    assert facts[0] == f"{x1}, {y1}, {x2}, {y2} px"
    stage = page.locator(".stage").bounding_box()
    scale = stage["width"] / WIDTH
    page.mouse.move(stage["x"] + (x1 + x2) / 2 * scale, stage["y"] + (y1 + y2) / 2 * scale)
    tip = page.locator(".tip").inner_text()
    assert "frame 22 · 0.92 s" in tip and f"gold: {x1}, {y1}, {x2}, {y2} px" in tip
    both = np.clip(1 - 0.02 * np.array([WIDTH / 48, HEIGHT / 40]), 0, 1).prod()
    assert f"IoU {both / (2 - both):.2f}" in facts[1]


def test_side_by_side_shows_the_same_frame_everywhere(clip, visit, shots):
    preds = {"base": PRED.shift(2), "SFT": PRED.shift(1), "GRPO": PRED}
    page = visit(show_player(clip, gold=GOLD, pred=preds).html(), width=1000)
    page.keyboard.press("s")
    for frame in (33, 12):
        page.evaluate(f"{ROOT}.player.clock.seek({frame})")
        settle(page)
        numbers = [shown_number(stage_picture(page, k)) for k in range(3)]
        assert numbers == [frame] * 3
    boxes = page.evaluate(
        f"{ROOT}.player.overlay.panels"
        ".map(p => p.nodes.filter(n => n.group.style.display === '').length)"
    )
    assert boxes == [2, 2, 2]
    page.screenshot(path=shots / "player-side-by-side.png")


@pytest.mark.parametrize(
    ("size", "width"), [((64, 64), 400), ((64, 64), 900), ((1920, 1080), 900), ((1080, 1920), 400)]
)
def test_labels_stay_readable_at_any_size(tmp_path, visit, shots, size, width):
    path = tmp_path / "clip.mp4"
    write_video(path, np.full((6, size[1], size[0], 3), 90, np.uint8), fps=6)
    edge = Tube(np.arange(6), [[0.7, 0.0, 1.0, 0.3]] * 6)
    preds = {"base": edge, "a rather long name for a run": Tube(np.arange(6), [[0, 0, 1, 1]] * 6)}
    page = visit(show_player(path, gold=edge, pred=preds).html(), width=width, color_scheme="dark")
    stage = page.locator(".stage").bounding_box()
    assert stage["width"] >= 190
    for text in page.locator(".overlay text").all():
        box = text.bounding_box()
        assert box["height"] >= 12
        assert stage["x"] <= box["x"] and box["x"] + box["width"] <= stage["x"] + stage["width"]
        assert stage["y"] <= box["y"] and box["y"] + box["height"] <= stage["y"] + stage["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=shots / f"player-{size[0]}x{size[1]}-at-{width}.png", full_page=True)


def test_keyboard_focus_is_visible_and_stays_with_its_player(clip, visit):
    players = [show_player(clip, gold=GOLD) for _ in range(2)]
    page = visit(players_page(players, title="Two"))
    page.keyboard.press("ArrowRight")  # nobody has the focus
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowRight")
    until(page, f"{ROOT}.player.clock.frame === 1")
    frames = page.evaluate(
        "[...document.querySelectorAll('.stvg-player')].map(p => p.player.clock.frame)"
    )
    assert frames == [1, 0]


NASTY = [
    "</script><script>window.canary = 1</script>",
    "<img src=x onerror='window.canary = 2'>",
    "\"'><svg onload=window.canary=3>&lt;b&gt; <!-- ]]>",
    "‮right to left‬ and 🐕‍🦺 שלום \ud83d",
    "$script ${title} {{ jinja }}",
    "javascript:window.canary=4 http://example.com/beacon.png",
    "long " * 2000,
]


@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
def test_hostile_text_is_shown_and_never_runs(clip, visit, tmp_path, nasty):
    path = tmp_path / (nasty[:60].replace("/", "∕").replace("\ud83d", "") + ".mp4")
    path.write_bytes(clip.read_bytes())
    answer = {"completion": nasty, "frames": [0, 12, 24], "space": "0-1000"}
    player = show_player(
        path,
        gold=GOLD,
        pred={nasty: PRED},
        answers={"a" + nasty: answer},
        query=nasty,
        notes=[nasty],
    )
    page = visit(players_page([player, player], title=nasty))
    page.wait_for_timeout(50)
    assert page.evaluate("window.canary") is None
    seen = nasty.replace("\ud83d", "\ufffd")
    assert page.locator("h2").first.evaluate("n => n.textContent.toWellFormed()") == seen
    assert page.locator("pre").first.evaluate("n => n.textContent.toWellFormed()") == seen
    asked = [url for url in page.requests if not url.startswith("data:video/mp4;base64,")]
    assert asked == [page.url]
    assert page.evaluate("document.querySelectorAll('img, iframe, svg[onload]').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 900


def test_policy_stops_what_would_run_or_call_home(clip, visit):
    page = visit(show_player(clip, gold=GOLD).html())
    page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'window.canary = 1';
      document.body.append(script);
      document.body.insertAdjacentHTML('beforeend',
        '<img src="http://127.0.0.1:9/x.png" onerror="window.canary=2">');
    }""")
    page.wait_for_timeout(100)
    assert page.evaluate("window.canary") is None
    assert len(page.problems) == 3  # the browser names each refusal
    page.problems.clear()


def test_notebook_form_lives_in_a_frame_of_its_own(clip, visit, chromium, tmp_path):
    player = show_player(clip, gold=GOLD)
    page = chromium.new_page()
    path = tmp_path / "notebook.html"
    path.write_text(f"<body style='background: #111'>{player._repr_html_()}</body>")
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".stvg-player[data-frame]").wait_for()
    frame.locator(".controls .play").click()
    frame.locator(".stvg-player:not([data-frame='0'])").wait_for()
    height = frame.locator(".stvg-player").bounding_box()["height"]
    assert height <= page.locator("iframe").bounding_box()["height"]
    page.close()


FRAMES = {
    "nothing but scripts": ("allow-scripts", ""),
    "VS Code": ("allow-same-origin allow-pointer-lock allow-scripts allow-downloads", ""),
    # Its policy for notebooks, off unless `notebook.experimental.enableCsp` is set: no media.
    "VS Code, strict": (
        "allow-same-origin allow-pointer-lock allow-scripts allow-downloads",
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src https: http: data:; font-src https:; connect-src https:; child-src https: data:",
    ),
}


@pytest.mark.parametrize("front_end", FRAMES)
def test_notebook_form_inside_the_sandboxes_of_front_ends(clip, chromium, tmp_path, front_end):
    sandbox, policy = FRAMES[front_end]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    inside = f"<!doctype html>{meta}<body>{show_player(clip, gold=GOLD)._repr_html_()}</body>"
    path = tmp_path / "front-end.html"
    path.write_text(
        f'<iframe id="output" sandbox="{sandbox}" srcdoc="{html.escape(inside)}" '
        'style="width: 850px; height: 700px"></iframe>'
    )
    page = chromium.new_page(viewport={"width": 900, "height": 760})
    page.goto(path.as_uri())
    frame = page.frame_locator("#output").frame_locator("iframe")
    if policy:
        frame.get_by_text("The video cannot be shown").wait_for()
    else:
        frame.locator(".stvg-player[data-frame]").wait_for()
        frame.locator("button[aria-label^='One frame on']").click(click_count=3)
        frame.locator(".stvg-player[data-frame='3']").wait_for()
        png = frame.locator(".stage").screenshot()
        assert shown_number(np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))) == 3
    page.close()


def test_fragments_work_inside_a_page_of_someone_else(clip, visit, shots):
    players = [show_player(clip, gold=GOLD, pred=PRED).fragment() for _ in range(2)]
    style = "<style>body { background: #123; color: #fff } svg { width: 9px }</style>"
    page = visit(f"<!doctype html>{style}<h1>Report</h1>{''.join(players)}{player_assets()}")
    page.evaluate(f"{ROOT}.player.clock.seek(11)")
    settle(page)
    assert shown_number(stage_picture(page)) == drawn(page) == 11
    page.screenshot(path=shots / "fragments.png")
