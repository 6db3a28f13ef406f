# %% [markdown]
# A language model reads and writes text. So the clip becomes a prompt, the tube becomes a text, and
# whatever the model writes has to be read back, even when it is nonsense. Most of what goes wrong in
# this field goes wrong *here*, silently.
#
# **You will learn**
# - how a clip is put into a prompt: time stamps, frames, the instruction;
# - the answer's format, and why it holds every box twice (the *bounding-box chain of thought*);
# - coordinate spaces: why 0-1000, 0-100 and pixels are mixed up so often, and how to notice;
# - how a strict parser treats a text that is nearly right.
#
# Needed: [01](01_task_and_data.ipynb) for spans and tubes. No GPU, no model.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
BOXES = 200 if SMOKE else 2000  # random boxes for the rounding experiment

# %%
from pathlib import Path

import numpy as np

from stvgkit import Answer, CoordinateSpace, Span, Tube, explain_answer, format_answer, parse_answer
from stvgkit.boxes import iou, to_px
from stvgkit.datasets import data_samples, hcstvg
from stvgkit.exercises import check_calls, check_claims
from stvgkit.rows import ClipFormat, plan_row, row_messages

# %% [markdown]
# ## From clip to prompt
#
# A `ClipFormat` says how a clip is shown: how many frames a second, how large, in which numbers the
# answer comes. `plan_row` applies it to a sample. Look at the frame numbers: of 30 frames a second,
# two are shown.

# %%
folder = data_samples() / "opencv"
sample = next(hcstvg.read(folder / "annotations.json", folder))
qwen3 = ClipFormat(space="0-1000", fps=2.0, max_side=336, factor=32)
row = plan_row(sample, qwen3)
print(sample.query)
print("video frames shown:", row["frames"])
print("at the seconds    :", np.round(row["times"], 2).tolist())
print("shown frames inside the gold span:", row["target_frames"])
assert max(row["target_frames"]) < len(row["frames"])

# %% [markdown]
# The last line counts *shown* frames, from 0. That is the only clock the model has. Each frame comes
# after its time as text, which is how Qwen3-VL writes videos itself, and which any model that takes
# pictures can read.

# %%
(turn,) = row_messages(row)
for part in turn["content"][:6]:
    print(part.get("text", "[picture]"))
print("...")
print(turn["content"][-1]["text"])

# %% [markdown]
# The instruction is ours (the paper prints its answer, but not its prompt). It names the query, the
# number of frames, the coordinate space, and shows the form. It has to be *the same token for token*
# in training, in sampling and in evaluation: in one of our first runs a lost line break in a chat
# template took the format reward from 0.96 to 0.03.
#
# ## The answer, and its chain of thought
#
# Time first; then a first guess of every box (*think*), then the final ones (*pred*). A model writes
# from left to right: when it writes the final boxes it can look back at its own first guess, and at
# the pictures again. The guess is a scratch pad made of boxes.

# %%
space = CoordinateSpace.relative(1000)
think = Tube([5, 6, 7], [[0.27, 0.03, 0.40, 0.21], [0.27, 0.02, 0.39, 0.22], [0.27, 0.02, 0.40, 0.22]])
pred = Tube([5, 6, 7], [[0.28, 0.04, 0.40, 0.23], [0.29, 0.03, 0.40, 0.24], [0.30, 0.03, 0.41, 0.24]])
answer = Answer(Span(5, 7), think, pred, consistent=True)
text = format_answer(answer, space)
print(text)
assert parse_answer(text, space).span == Span(5, 7)

# %% [markdown]
# Three frames took this much text. At two frames a second, twenty seconds make 40 boxes in each
# list: about 1,800 tokens for Qwen, which spells numbers digit by digit. A `max_new_tokens` that is
# too small cuts the second list off, and an answer that is cut off is worth nothing.

# %%
cut = text[: int(len(text) * 0.8)]
print(explain_answer(cut))
assert parse_answer(cut, space) is None

# %% [markdown]
# ## Coordinate spaces
#
# **The question users of this field ask most.** Qwen3-VL writes 0 to 1000 on both axes; Qwen2.5-VL
# writes pixels, *of the frame as it was resized for the model*; the tiny model writes 0 to 100. One
# and the same box:

# %%
box = [0.25, 0.30, 0.55, 0.90]
width, height = 640, 360
shown = ClipFormat(space="pixels", max_side=336, factor=28).frame_size(width, height)
spaces = {
    "Qwen3-VL": CoordinateSpace.relative(1000),
    "Qwen2.5-VL": CoordinateSpace.pixels(*shown),
    "tiny": CoordinateSpace.relative(100),
}
for model, its_space in spaces.items():
    print(f"{model:11s} {its_space.name:8s} {its_space.encode(box)[0].tolist()}")
print("pixels of the video:", to_px(box, width, height)[0].round().tolist())
assert shown == (336, 196)

# %% [markdown]
# All four lines are four plain integers. Nothing in the numbers says which space they are in, so
# code that guesses is wrong sooner or later, and no error is raised. What a wrong guess looks like:

# %%
from IPython.display import display

from stvgkit.viewing.pictures import draw_tube

gold = sample.tube
written = spaces["Qwen2.5-VL"].encode(gold.boxes)  # what Qwen2.5-VL would write
wrong = Tube(gold.frames, CoordinateSpace.relative(1000).decode(written))  # read as Qwen3-VL's
display(draw_tube(sample, pred={"pixels read as 0-1000": wrong}, count=5, width=900))
print("mean IoU with the true boxes:", iou(wrong.boxes, gold.boxes).mean().round(2))
assert iou(wrong.boxes, gold.boxes).mean() < 0.2

# %% [markdown]
# The box is there, it moves along, it is only too small and drawn towards the upper left corner.
# Remember this picture: *small boxes that huddle in the upper left* are a wrong space, not a bad
# model. (The other way round everything sticks to the right and lower edge.)
#
# In this package a space is a type, `CoordinateSpace`, and a text is never read without one. Encoding
# and decoding come back to the same box up to rounding, which is all that is lost:

# %%
rng = np.random.default_rng(0)
corner, side = rng.uniform(0, 0.8, (BOXES, 2)), rng.uniform(0.05, 0.2, (BOXES, 2))
random_boxes = np.hstack([corner, corner + side])
for model, its_space in spaces.items():
    back = its_space.decode(its_space.encode(random_boxes))
    kept = iou(back, random_boxes)
    print(f"{model:11s} IoU after writing and reading: {kept.mean():.3f} (worst {kept.min():.2f})")
    assert np.abs(back - random_boxes).max() <= 0.5 / min(its_space.width, its_space.height) + 1e-9

# %% [markdown]
# Rounding is harmless for boxes of ordinary size, even on a grid of 100. For an object that is 5 %
# of the frame wide the coarse grid costs something; no model that writes integers can do better.
#
# ## A strict reader
#
# The parser takes any text, never raises, and needs time in proportion to the text's length. What
# is not *exactly* the format is `None`: a sentence before it, a second answer, tags in upper case.
# Spaces and line breaks are free. For people there is `explain_answer`.

# %%
attempts = {
    "as it should be": text,
    "all on one line": text.replace("\n", ""),
    "a friendly sentence": "Sure! " + text,
    "JSON instead": '{"time": [5, 7], "bbox_2d": [[271, 30, 395, 212]]}',
    "upper case": text.replace("time", "TIME"),
    "three numbers in a box": text.replace("[280, 40, ", "[280, "),
    "a box of words": text.replace("280", "two hundred"),
}
for name, attempt in attempts.items():
    print(f"{name:23s} {'parses' if parse_answer(attempt, space) else 'None  '}  {explain_answer(attempt)}")

# %% [markdown]
# Why so strict? The format earns a reward of its own. If a text that is nearly right counted too,
# the model would learn to be nearly right, and the next reader (yours, or an evaluator's) would read
# it differently. What the *format* allows and is still wrong in content only makes the answer
# inconsistent, and that is another reward's business:

# %%
for name, attempt in {
    "a box left out": text.replace(", 6. [290, 30, 400, 240]", ""),
    "the end before the start": text.replace("5 - 7", "7 - 5"),
    "an index twice": text.replace("7. [300", "6. [300"),
}.items():
    read = parse_answer(attempt, space)
    print(f"{name:25s} parses, consistent: {read.consistent}. {explain_answer(attempt)}")
    assert read is not None and not read.consistent

# %% [markdown]
# Coordinates outside the frame are clamped, so that no reward or picture ever sees a box beyond it.

# %%
outside = text.replace("[280, 40, 400, 230]", "[-20, 40, 400, 5000]")
print(parse_answer(outside, space).pred.boxes[0])
assert parse_answer(outside, space).pred.boxes[0].tolist() == [0, 0.04, 0.4, 1]

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 · Back to the video's pixels
#
# Qwen2.5-VL was shown frames of `shown` = (width, height) and wrote a box in pixels of *those*. The
# video is `video` = (width, height). Return the box in the video's pixels.

# %%
def to_video_pixels(box: list, shown: tuple, video: tuple) -> list:
    # solution
    scale_x, scale_y = video[0] / shown[0], video[1] / shown[1]
    return [box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y]


# %%
check_calls(
    to_video_pixels,
    [
        (([84, 49, 168, 98], (336, 196), (640, 360)), [160, 90, 320, 180]),
        (([0, 0, 336, 336], (336, 336), (1080, 1080)), [0, 0, 1080, 1080]),
    ],
    hint="Each axis has a scale of its own: the aspect ratio changes a little when sides are rounded.",
)

# %% [markdown]
# ### Exercise 2 · Impossible numbers
#
# One box cannot tell you its space, but many can rule one out. Return whether all `boxes` (rows of
# four numbers) *could* have been written in a space of this width and height.

# %%
def could_be(boxes: list, width: int, height: int) -> bool:
    # solution
    x1, y1, x2, y2 = np.array(boxes).T
    return bool((x2 <= width).all() and (y2 <= height).all() and (x1 >= 0).all() and (y1 >= 0).all())


# %%
check_calls(
    could_be,
    [
        (([[271, 30, 395, 212], [300, 28, 405, 237]], 1000, 1000), True),
        (([[271, 30, 395, 212], [300, 28, 405, 237]], 336, 196), False),
        (([[10, 10, 20, 20]], 100, 100), True),
    ],
    hint="Compare x with the width and y with the height.",
)

# %% [markdown]
# The first two rows are the paper's own example (its Fig. 2). With 405 it cannot be in pixels of a
# frame of at most 336, so the paper's space is something else; it does not say what.
#
# ### Exercise 3 · Repair it
#
# This completion is worth nothing as it stands. Change as little as you can so that it parses and is
# consistent. (`explain_answer` helps.)

# %%
broken = """Here is the answer: <time> 2 - 3 </time>
<think_bbox> 2. [10, 10, 300, 400], 3. [20, 10, 310, 400] </think_bbox>
<pred_bbox> 2. [12, 11, 301, 402] 4. [22, 11, 312, 402] </pred_bbox>"""
print(explain_answer(broken))

# %%
# solution
repaired = broken.replace("Here is the answer: ", "").replace("402] 4.", "402], 3.")

# %%
check_claims(
    repaired,
    {
        "the format is right": lambda t: parse_answer(t, space) is not None,
        "time and lists agree": lambda t: parse_answer(t, space).consistent,
        "the boxes are still those": lambda t: "[22, 11, 312, 402]" in t,
    },
    hint="Three things are wrong: words before the answer, a comma, an index.",
)

# %% [markdown]
# ## What you have seen
# - The model counts shown frames, from 0, and its space is not to be guessed from its numbers.
# - First guess, then final boxes: a chain of thought made of boxes.
# - A strict, total parser; `explain_answer` for people.
