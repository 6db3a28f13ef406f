"""shapes: generated clips of coloured shapes, with sentences that need both *what* and *when*.

A scene has one target and a few distractors on a dark background, seen for 3.5 seconds. Each
thing stands still, except during its one event: it appears and leaves, moves, grows or shrinks.
The sentence names the target and its event ("the red circle that moves left"); the gold tube is
the target's boxes while the event lasts.

Everything follows from a seed, and every path is linear between the frames that a model samples
at 2 fps, so a perfect answer scores exactly 1.

Only numpy is imported here; `write_shapes` needs `stvgkit.video` and loads it when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.boxes import iou
from stvgkit.datasets.prepared import write_prepared
from stvgkit.datasets.sample import Sample
from stvgkit.errors import need
from stvgkit.progress import Progress
from stvgkit.tubes import Span, Tube

SIZE = 64  # pixels, width and height
FPS = 8.0  # of the video file
STRIDE = 4  # video frames between two sampled frames (2 fps)
STEPS = 8  # sampled frames
NUM_FRAMES = (STEPS - 1) * STRIDE + 1

COLOURS = {
    "red": (225, 45, 40),
    "green": (50, 185, 60),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 50),
    "purple": (165, 60, 200),
    "white": (240, 240, 240),
    "cyan": (60, 220, 225),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOVES = {
    "moves left": (-1, 0),
    "moves right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}
RESIZES = {"grows": 1, "shrinks": -1}
EVENTS = ("appears", *MOVES, *RESIZES)

# Left out of the ordinary splits, and asked for only in the split "novel".
NOVEL = {"colour": "cyan", "shape": "cross", "event": "moves down"}


@dataclass(frozen=True)
class Thing:
    """One shape: its looks, its event, and its box (relative) on every sampled step it is seen."""

    colour: str
    shape: str
    event: str
    span: Span  # sampled steps on which the event happens
    boxes: np.ndarray  # (STEPS, 4)
    visible: np.ndarray  # (STEPS,) bool

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Things in drawing order; `target` is the place in `things` of the one that is asked for."""

    things: tuple[Thing, ...]
    target: int
    query: str
    background: tuple[int, int, int]

    @property
    def tube(self) -> Tube:
        """The gold tube on sampled steps, 0 to 7."""
        thing = self.things[self.target]
        steps = thing.span.frames()
        return Tube(steps, thing.boxes[steps])


def make_scene(rng: np.random.Generator, difficulty: int = 2, novel: bool = False) -> Scene:
    """Draw one scene.

    Difficulty 1: one distractor, which shares nothing with the target; the event is *appears*.
    2: one to three distractors that may share colour or shape; every event. 3: one distractor
    looks exactly like the target and only its event tells the two apart. With `novel`, the target
    has at least one of the colour, shape and event that no other split holds.
    """
    while True:
        things = _draw_things(rng, difficulty, novel)
        if things is not None:
            break
    order = rng.permutation(len(things))
    target = int(np.flatnonzero(order == 0)[0])
    query = f"the {things[0].name} that {things[0].event}"
    red, green, blue = (int(v) for v in rng.integers(0, 60, size=3))
    return Scene(tuple(things[i] for i in order), target, query, (red, green, blue))


def _draw_things(rng: np.random.Generator, difficulty: int, novel: bool) -> list[Thing] | None:
    colours = [c for c in COLOURS if c != NOVEL["colour"]]
    shapes = [s for s in SHAPES if s != NOVEL["shape"]]
    events = [e for e in EVENTS if e != NOVEL["event"]] if difficulty > 1 else ["appears"]
    look = [str(rng.choice(colours)), str(rng.choice(shapes)), _draw_event(rng, events)]
    if novel:
        new = rng.integers(3)
        look[new] = list(NOVEL.values())[new]
    things = [_draw_thing(rng, *look)]
    looks = {(look[0], look[1])}
    num_distractors = 1 if difficulty == 1 else int(rng.integers(1, 4))
    for i in range(num_distractors):
        if difficulty >= 3 and i == 0:
            event = _draw_event(rng, [e for e in events if e != look[2]])
            thing = _draw_thing(rng, look[0], look[1], event)
        else:
            colour, shape = _draw_distractor(rng, look, colours, shapes, looks, difficulty)
            looks.add((colour, shape))
            thing = _draw_thing(rng, colour, shape, _draw_event(rng, events))
        if any(_collide(thing, other) for other in things):
            return None
        things.append(thing)
    return things


def _draw_event(rng: np.random.Generator, events: list[str]) -> str:
    """Appearing as likely as all kinds of moving together, and as likely as both resizes."""
    kinds = [[e for e in events if e in group] for group in (("appears",), MOVES, RESIZES)]
    kinds = [kind for kind in kinds if kind]
    return str(rng.choice(kinds[rng.integers(len(kinds))]))


def _draw_distractor(
    rng: np.random.Generator,
    look: list[str],
    colours: list[str],
    shapes: list[str],
    taken: set[tuple[str, str]],
    difficulty: int,
) -> tuple[str, str]:
    while True:
        colour, shape = str(rng.choice(colours)), str(rng.choice(shapes))
        if difficulty > 1 and rng.random() < 0.5:  # share one of the two with the target
            colour, shape = (look[0], shape) if rng.random() < 0.5 else (colour, look[1])
        shares = colour == look[0] or shape == look[1]
        if (colour, shape) not in taken and (difficulty > 1 or not shares):
            return colour, shape


def _draw_thing(rng: np.random.Generator, colour: str, shape: str, event: str) -> Thing:
    shortest, longest = (2, 6) if event == "appears" else (3, 6)
    length = int(rng.integers(shortest, longest + 1))
    start = int(rng.integers(0, STEPS - length + 1))
    span = Span(start, start + length - 1)
    progress = np.clip((np.arange(STEPS) - span.start) / (length - 1), 0.0, 1.0)  # 0 to 1
    half = np.full(STEPS, rng.uniform(0.08, 0.17))
    travel = np.zeros((STEPS, 2))
    if event in MOVES:
        distance = rng.uniform(0.35, 0.6)
        travel = progress[:, None] * distance * np.array(MOVES[event])
    if event in RESIZES:
        small, large = rng.uniform(0.06, 0.08), rng.uniform(0.2, 0.25)
        half = small + (large - small) * (progress if event == "grows" else 1 - progress)
    low = half.max() - np.minimum(travel.min(axis=0), 0)
    high = 1 - half.max() - np.maximum(travel.max(axis=0), 0)
    centre = rng.uniform(low, high) + travel
    boxes = np.concatenate([centre - half[:, None], centre + half[:, None]], axis=1)
    visible = np.ones(STEPS, dtype=bool)
    if event == "appears":
        visible = np.isin(np.arange(STEPS), span.frames())
    return Thing(colour, shape, event, span, boxes, visible)


def _collide(a: Thing, b: Thing) -> bool:
    both = a.visible & b.visible
    return bool(both.any() and iou(a.boxes[both], b.boxes[both]).max() > 0.05)


def draw(
    boxes: np.ndarray,
    visible: np.ndarray,
    colours: np.ndarray,
    shapes: np.ndarray,
    background: np.ndarray,
    size: int = SIZE,
) -> np.ndarray:
    """Paint frames: `(t, n, 4)` relative boxes of n things, seen where `visible` `(t, n)`.

    `colours` is `(t, n, 3)` in 0..255, `shapes` `(t, n)` numbers into `SHAPES`, `background`
    `(t, 3)`; later things lie on top. Gives uint8 `(t, size, size, 3)`, anti-aliased.
    """
    t, n = visible.shape
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    canvas = np.empty((t, size, size, 3), dtype=np.float32)
    canvas[:] = np.asarray(background, dtype=np.float32)[:, None, None, :]
    boxes = np.asarray(boxes, dtype=np.float32)
    for i in range(n):
        x1, y1, x2, y2 = (boxes[:, i, k, None, None] for k in range(4))
        dx = axis[None, None, :] - (x1 + x2) / 2  # (t, 1, size)
        dy = axis[None, :, None] - (y1 + y2) / 2  # (t, size, 1)
        radius = (x2 - x1) / 2
        distance = np.empty((t, size, size), dtype=np.float32)
        for kind in np.unique(shapes[:, i]):
            rows = shapes[:, i] == kind
            distance[rows] = _DISTANCE[SHAPES[kind]](dx[rows], dy[rows], radius[rows])
        alpha = np.clip(0.5 - distance * size, 0.0, 1.0) * visible[:, i, None, None]
        canvas += alpha[..., None] * (colours[:, i, None, None, :] - canvas)
    return np.round(canvas).astype(np.uint8)


# Signed distance to each outline (negative inside), for a shape that fills its box.
_DISTANCE = {
    "circle": lambda dx, dy, r: np.hypot(dx, dy) - r,
    "square": lambda dx, dy, r: np.maximum(np.abs(dx), np.abs(dy)) - r,
    "triangle": lambda dx, dy, r: np.maximum(dy - r, (2 * np.abs(dx) - (dy + r)) / 5**0.5),
    "cross": lambda dx, dy, r: np.minimum(
        np.maximum(np.abs(dx) - 0.35 * r, np.abs(dy) - r),
        np.maximum(np.abs(dx) - r, np.abs(dy) - 0.35 * r),
    ),
}


def render(scene: Scene, frames: ArrayLike | None = None) -> np.ndarray:
    """The scene's video frames (all 29, or the given ones), uint8 `(t, 64, 64, 3)`."""
    frames = np.arange(NUM_FRAMES) if frames is None else np.asarray(frames)
    steps = np.arange(STEPS) * STRIDE
    boxes = np.empty((len(frames), len(scene.things), 4))
    visible = np.empty((len(frames), len(scene.things)), dtype=bool)
    for i, thing in enumerate(scene.things):
        for k in range(4):
            boxes[:, i, k] = np.interp(frames, steps, thing.boxes[:, k])
        seen = np.flatnonzero(thing.visible) * STRIDE
        visible[:, i] = (frames >= seen[0]) & (frames <= seen[-1])
    looks = np.array([COLOURS[t.colour] for t in scene.things], dtype=np.float32)
    kinds = np.array([SHAPES.index(t.shape) for t in scene.things])
    rows = len(frames)
    return draw(
        boxes,
        visible,
        np.broadcast_to(looks, (rows, *looks.shape)),
        np.broadcast_to(kinds, (rows, len(kinds))),
        np.broadcast_to(np.array(scene.background), (rows, 3)),
    )


SPLITS = ("train", "validation", "test", "novel")


def scene_of(split: str, number: int, seed: int = 0, difficulty: int = 2) -> Scene:
    """Scene `number` of a split; no two splits share one, whatever their seeds.

    >>> scene_of("test", 0).query == scene_of("test", 0).query
    True
    """
    rng = np.random.default_rng([SPLITS.index(split), number, seed, difficulty])
    return make_scene(rng, difficulty, novel=split == "novel")


def write_shapes(
    folder: Path | str,
    split: str,
    count: int,
    *,
    seed: int = 0,
    difficulty: int = 2,
    progress: bool = False,
) -> Path:
    """Write a split as H.264 files with a prepared annotation file; returns the latter's path.

    Videos that are there already are kept, so an interrupted run goes on where it was. `split` is
    one of `SPLITS`; *novel* asks only for a colour, a shape or an event that the others never hold,
    and its scores come apart by which of them is new (group `new`).

    >>> from stvgkit.datasets import read_prepared
    >>> path = write_shapes(getfixture("tmp_path"), "test", 2)
    >>> [sample.id for sample in read_prepared(path)]
    ['shapes-test-00000', 'shapes-test-00001']
    """
    need("stvgkit.datasets.shapes", "video", "av", "PIL", "tqdm")
    from stvgkit.video import write_video

    home = Path(folder) / split
    samples = []
    with Progress(f"clips ({split})", count, shown=progress) as line:
        for number in range(count):
            scene = scene_of(split, number, seed, difficulty)
            name = f"shapes-{split}-{number:05d}"
            video = home / "videos" / f"{name}.mp4"
            if not video.exists():
                video.parent.mkdir(parents=True, exist_ok=True)
                write_video(video, render(scene), FPS, crf=12)
            samples.append(_sample(name, video, scene))
            line.step()
    path = home / "samples.jsonl"
    write_prepared(path, samples, source=f"shapes, seed {seed}, difficulty {difficulty}")
    return path


def _sample(name: str, video: Path, scene: Scene) -> Sample:
    steps = scene.tube
    tube = Tube(steps.frames * STRIDE, steps.boxes).interpolate()
    target = scene.things[scene.target]
    looks = {"colour": target.colour, "shape": target.shape, "event": target.event}
    new = [kind for kind, look in looks.items() if look == NOVEL[kind]]
    groups = {"new": new[0]} if new else {}
    kinds = {"appears": "appears"} | dict.fromkeys(MOVES, "moves") | dict.fromkeys(RESIZES, "sizes")
    return Sample(
        id=name,
        query=scene.query,
        video=video,
        width=SIZE,
        height=SIZE,
        fps=FPS,
        window=Span(0, NUM_FRAMES - 1),
        span=tube.span,
        tube=tube,
        groups={"event": kinds[target.event], "things": str(len(scene.things))} | groups,
    )
