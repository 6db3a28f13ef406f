# %% [markdown]
# **Question of this lesson.** How does a clip become text for a language model, and how does its text become boxes again?
#
# A language model reads and writes text. So a clip becomes a prompt, and a tube becomes a text. What
# the model writes has to be read back, even when it is nonsense. Mistakes at this place raise no
# error, and they are the commonest in this field.
#
# **You will learn**
# - how a clip is put into a prompt, and what its frames cost in tokens;
# - the form of an answer, and why it holds every box twice;
# - what a coordinate space is, and how to notice a wrong one;
# - how a strict reader treats a text that is nearly right.
#
# **You need to know** spans and tubes from [01](01_task_and_data.ipynb). No GPU is used, and of the tiny model only its tokenizer.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
BOXES = 200 if SMOKE else 2000  # random boxes for the rounding experiment

# %%
from itertools import groupby
from pathlib import Path

import numpy as np

from stvgkit import Answer, CoordinateSpace, Span, Tube, explain_answer, format_answer, parse_answer
from stvgkit.boxes import iou, to_px
from stvgkit.datasets import data_samples, hcstvg
from stvgkit.exercises import check_calls, check_claims
from stvgkit.rows import ClipFormat, plan_row, row_messages
from stvgkit.training.inputs import conversation, model_inputs
from stvgkit.training.models import load

# %% [markdown]
# ## From clip to prompt
#
# A *clip* is the frames that are shown to the model, with their times. A `ClipFormat` says how a clip
# is shown: how many frames a second, how large, and in which numbers the answer comes. `plan_row`
# applies it to a sample. Look at the frame numbers in the output: two of 30 frames a second are
# shown.

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
# The last line counts *shown* frames, from 0. The model has no other clock. Each frame comes after
# its time in seconds, written as text. Qwen3-VL writes videos in the same way, and any model that
# takes pictures can read it.

# %%
(turn,) = row_messages(row)
for part in turn["content"][:6]:
    print(part.get("text", "[picture]"))
print("...")
print(turn["content"][-1]["text"])

# %% [markdown]
# The instruction is ours: the paper prints an answer and not its prompt. The instruction names the
# query, the number of frames and the coordinate space, and it shows the form.
#
# The prompt must be *the same, token for token*, in training, in sampling and in evaluation. A token
# is the piece of text that a model reads or writes at once, such as a word or a digit. In one of our
# first runs a chat template lost a line break. The share of answers in the right form then fell from
# 96 % to 3 %, and no error was raised.
#
# ### What frames cost
#
# A picture costs tokens too. Qwen2.5-VL turns each square of 28 x 28 pixels into one visual token, and
# Qwen3-VL each square of 32 x 32. A *video* input joins two neighbouring frames into one step, so it costs
# half as much as the same frames as pictures.

# %%
frame = ClipFormat(space="pixels", max_side=336, factor=28).frame_size(640, 360)
per_frame = frame[0] // 28 * (frame[1] // 28)
print(f"{frame[0]} x {frame[1]} pixels: {per_frame} visual tokens a frame")
print(f"20 seconds, 40 frames: {40 * per_frame} as pictures, {40 // 2 * per_frame} as video")
assert (per_frame, 40 * per_frame, 20 * per_frame) == (84, 3360, 1680)

# %% [markdown]
# Twenty seconds cost 3,360 visual tokens as pictures, against 1,680 as video. Pictures are the default for
# three reasons. Each frame keeps its own time. Any model that sees pictures can read them. And TRL, the
# library that trains, takes pictures and no video (version 1.16). `frames_as="video"` in a `ClipFormat`
# chooses the cheaper form, for Qwen2.5-VL and Qwen3-VL.
#
# The next cell writes the same clip in both forms for the tiny model, token by token. Equal tokens in
# a row are counted. A step of two frames has the mean of their times. `<unk>` stands for words that the
# tiny tokenizer does not know.

# %%
for form in ("images", "video"):
    tiny = load("tiny", frames_as=form, fps=1.0)
    prompt = conversation(plan_row(sample, tiny.clip_format))
    ids = model_inputs(tiny.processor, [prompt])["input_ids"][0].tolist()
    tokens = groupby(tiny.processor.tokenizer.convert_ids_to_tokens(ids))
    counted = [(len(list(run)), token) for token, run in tokens]
    visual = sum(n for n, token in counted if token.endswith("_pad|>"))
    print(f"{form}: {len(ids)} tokens, {visual} of them visual")
    print(" ".join(token if n == 1 else f"{n}x{token}" for n, token in counted), end="\n\n")

# %% [markdown]
# An answer still counts frames, not steps, and the full instruction says so when a clip is shown as
# video. Two frames that share their tokens are harder to tell apart. That is the price of the form.
#
# ## The answer, and its chain of thought
#
# The answer names the time first, between `<time>` tags: the first and the last frame, both included. Then
# comes a first guess of every box, the *think boxes*, between `<think_bbox>` tags. Last come the *final
# boxes*, between `<pred_bbox>` tags. Both lists hold one box for each frame of the time, with the frame's
# number before it.
#
# A model writes from left to right. While it writes the final boxes, it can look back at its own guess and
# at the pictures. The paper calls this thinking with bounding boxes. Here it is called the box chain of
# thought. It holds boxes only: there is no reasoning in words.

# %%
space = CoordinateSpace.relative(1000)
think = Tube([5, 6, 7], [[0.27, 0.03, 0.40, 0.21], [0.27, 0.02, 0.39, 0.22], [0.27, 0.02, 0.40, 0.22]])
pred = Tube([5, 6, 7], [[0.28, 0.04, 0.40, 0.23], [0.29, 0.03, 0.40, 0.24], [0.30, 0.03, 0.41, 0.24]])
answer = Answer(Span(5, 7), think, pred, consistent=True)
text = format_answer(answer, space)
print(text)
assert parse_answer(text, space).span == Span(5, 7)

# %% [markdown]
# Three frames took this much text. Twenty seconds have 40 shown frames, so 40 boxes in each of the two
# lists. Qwen writes numbers digit by digit, about 22 tokens for one box. That makes about 1,800 tokens
# for both lists together. If the limit `max_new_tokens` is too small, the second list is cut off. An
# answer that is cut off earns nothing.

# %%
cut = text[: int(len(text) * 0.8)]
print(explain_answer(cut))
assert parse_answer(cut, space) is None

# %% [markdown]
# ## Coordinate spaces
#
# Users of this field ask about this most. Qwen3-VL writes 0 to 1000 on both axes. Qwen2.5-VL writes
# pixels, *of the frame as it was resized for the model*. The tiny model writes 0 to 100. The next cell
# prints one and the same box in each space.

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
# All four lines are plain integers. Nothing in the numbers says which space they are in. Code that
# guesses the space is wrong sooner or later, and no error is raised. **The picture of this lesson**
# shows a wrong guess:

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
# The box is there and it moves along. But it is too small, and drawn towards the upper left corner.
# Remember this picture: *small boxes in the upper left* mean a wrong space, not a bad model. The other
# mistake, 0-1000 read as pixels, pushes every box to the right and lower edge.
#
# **Change and watch.** Exchange the two spaces in the cell above: write with `spaces["Qwen3-VL"]` and
# read with `spaces["Qwen2.5-VL"]`. Where do the boxes go?
#
# In this package a space is a type, `CoordinateSpace`, and no text is read without one. Writing a box
# and reading it again gives the same box up to rounding:

# %%
rng = np.random.default_rng(0)
corner, side = rng.uniform(0, 0.8, (BOXES, 2)), rng.uniform(0.05, 0.2, (BOXES, 2))
random_boxes = np.hstack([corner, corner + side])
for model, its_space in spaces.items():
    back = its_space.decode(its_space.encode(random_boxes))
    kept = iou(back, random_boxes)
    print(f"{model:11s} IoU after writing and reading: {kept.mean():.3f} (worst {kept.min():.2f})")
    step = 1 / min(its_space.width, its_space.height)
    assert kept.min() > 0.7 and np.abs(back - random_boxes).max() <= step / 2 + 1e-9

# %% [markdown]
# Rounding does no harm to boxes of ordinary size, even in hundredths. A box that is 5 % of the frame
# wide can lose a fifth of its overlap there. No model that writes integers can do better.
#
# ## A strict reader
#
# `parse_answer` takes any text and never raises an error. It takes time in proportion to the length of
# the text. A text that is not *exactly* in the form gives `None`. A sentence before the answer, a
# second answer, or tags in upper case are enough for that. Spaces and line breaks are free.
# `explain_answer` says in a sentence what is wrong.

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
# Why so strict? The form earns a reward of its own. If a text that is nearly right earned it too, the
# model would learn texts that are nearly right. The next program that reads them might read them
# differently.
#
# Some texts are in the right form and contradict themselves. They parse, and they are marked as not
# consistent. Consistency is another reward, in [lesson 03](03_rewards_by_hand.ipynb):

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
# Where an index comes twice, the first of its boxes counts. Coordinates outside the frame are moved to its
# edge. So no reward and no picture ever sees a box beyond the frame.

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
# ### Exercise 2 · Misconception: "the numbers say which space they are in"
#
# One box cannot tell you its space. Many boxes can rule one out. Return whether all `boxes` (rows of
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
# The first two rows are the paper's own example (its Fig. 2). The paper says that it resizes frames to
# at most 336 pixels on the longer side. A coordinate of 405 does not fit into such a frame. So the
# paper's numbers are in some other space, and the paper does not say which.
#
# ### Exercise 3 · Repair it
#
# This completion earns nothing as it stands. Change as little as you can so that it parses and is
# consistent. `explain_answer` helps.

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
# ## In three sentences
#
# A clip becomes frames with their times as text, and the model's answer counts these frames from 0. An
# answer holds the time, a first guess of the boxes and the final boxes, in a coordinate space that its
# numbers do not show. A strict reader accepts the exact form only, and `explain_answer` says what is
# wrong with the rest.
#
# **What comes next.** [Lesson 03](03_rewards_by_hand.ipynb) asks what such an answer is worth.
