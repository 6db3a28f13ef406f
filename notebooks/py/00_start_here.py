# %% [markdown]
# Somebody says *"the blue triangle that moves right"*. **When** in the video does that happen, and
# **where** is the triangle, frame by frame? That is spatio-temporal video grounding. In this course
# a language model that can look at pictures learns to answer it, by imitation and then by trial
# and reward (the method of [STVG-o1](https://arxiv.org/abs/2511.21375)).
#
# **In this notebook you**
# - check that your machine has what it needs;
# - ask a model of two million parameters, on a CPU, to follow a shape;
# - watch its boxes move over the video, next to the true ones;
# - see what it can *not* do yet: that is what the other eight notebooks are about.
#
# Run the cells from top to bottom (Shift + Enter). On Colab the first cell installs everything.

# %% tags=["parameters"]
import os

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct" or "Qwen/Qwen2.5-VL-3B-Instruct"
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))

# %% [markdown]
# ## Is everything here?
#
# Look at the last line. Without a GPU you lose nothing in this course: wherever a GPU would be of
# use, a tiny model stands in for the large one, and runs through the same code.

# %%
import platform
from importlib.metadata import version

import torch

print("python", platform.python_version())
for package in ("torch", "transformers", "trl", "av", "ipywidgets", "plotly"):
    print(package, version(package))
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(f"GPU: {gpu}" if gpu else f"no GPU, {os.cpu_count()} CPU cores: fine for every notebook")

# %% [markdown]
# ## A video and a sentence
#
# The course has a small world of its own, **shapes**: generated clips of 3.5 seconds, written as
# ordinary H.264 files, in which coloured shapes appear, move, grow and shrink. Nothing has to be
# downloaded, and the true boxes are known exactly.

# %%
from pathlib import Path

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes

samples = list(read_prepared(write_shapes(Path("work/shapes"), "test", 2)))
sample = samples[1]
print(f"{sample.query!r} happens on the frames {sample.span.start} to {sample.span.end}")
assert len(sample.tube) == len(sample.span)

# %% [markdown]
# The answer to a query is a **tube**: first and last frame of the event, and a box on each frame
# between them. Press play. The yellow box is there only *while the triangle moves*, although the
# triangle is in the picture before and after.

# %%
from stvgkit.viewing.players import show_player

show_player(sample)

# %% [markdown]
# Under the video: the time line with the gold span. Space plays and pauses, the arrow keys step
# from frame to frame.
#
# ## One prediction
#
# Now the model. `"tiny"` is a complete Qwen3-VL, only a thousand times smaller. It was pre-trained
# to *see and point*: asked for a thing in one frame, it answers with a box. Let us ask it for the
# triangle in every frame that it is shown (two a second).

# %%
from stvgkit.training.evaluation import complete
from stvgkit.training.models import load
from stvgkit.rows import plan_row

grounder = load(MODEL)
row = plan_row(sample, grounder.clip_format)  # which frames are shown, and when they are
thing = sample.query.split(" that ")[0]
shown = range(len(row["frames"]))
asked = [row | {"template": "point", "query": f"{thing} in frame {k}"} for k in shown]
said = complete(grounder, asked, max_new_tokens=40)
print("\n".join(said))

# %% [markdown]
# One line for each frame: its number, then the corners `[x1, y1, x2, y2]` on a grid from 0 to 100.
# Four numbers in a text are all that a language model needs in order to point. Read them with a
# regular expression, and they are boxes.

# %%
import re

from stvgkit import CoordinateSpace, Tube

space = CoordinateSpace.parse(row["space"])
found = {k: re.search(r"\[(\d+), (\d+), (\d+), (\d+)\]", text) for k, text in enumerate(said)}
boxes = {row["frames"][k]: list(map(int, m.groups())) for k, m in found.items() if m}
pointed = Tube(list(boxes), space.decode(list(boxes.values())))
print(len(pointed), "boxes on the video frames", pointed.frames.tolist())

# %% [markdown]
# ## See it move
#
# The model's boxes over the true ones. Two things to look for: the box follows the triangle, a
# little shakily; and it is there from beginning to end, because *where* was all we asked.

# %%
show_player(sample, pred=pointed)

# %%
from stvgkit.boxes import iou

common = sample.tube.at(pointed.frames)
overlaps = iou(pointed.at(common.frames).boxes, common.boxes)
print("overlap with the true box (IoU), frame by frame:", overlaps.round(2))
assert MODEL != "tiny" or overlaps.mean() > 0.3

# %% [markdown]
# ## And the real question?
#
# Ask the same model for the whole answer: when, a first guess of the boxes, the final boxes.
# `explain_answer` says in one sentence what is wrong with a text as an answer.

# %%
from stvgkit import explain_answer

answer = complete(grounder, [row], max_new_tokens=40 if MODEL == "tiny" else 1024)[0]
print(answer)
print("->", explain_answer(answer))

# %% [markdown]
# The tiny model has never seen such a question; it falls back on what it knows, the frames in which
# it sees the thing. It can see and it can point, but it knows no events, and cannot write the answer
# down. It will learn the form from examples and to be good at it from rewards. Before that: what
# exactly is asked ([01](01_task_and_data.ipynb)), in which words
# ([02](02_prompts_and_answers.ipynb)), and what a good answer is worth
# ([03](03_rewards_by_hand.ipynb)).
#
# ## Exercises
#
# Every notebook ends with some. Write your code in place of the three dots, run the cell, then the
# check below it: it answers with a sentence. Each exercise stands on its own, and its solution is
# folded away under the check.
#
# ### Exercise 1 · How long?
#
# The clip runs at 8 frames a second. For how many seconds does the event of `sample` last? Count
# its first and its last frame in.

# %%
# solution
seconds = (sample.span.end - sample.span.start + 1) / sample.fps

# %%
from stvgkit.exercises import check_calls, check_value

check_value(seconds, len(sample.span) / sample.fps, hint="Frames 8 to 24 are 17 frames, not 16.")

# %% [markdown]
# ### Exercise 2 · From the grid to pixels
#
# The tiny model counts from 0 to 100, whatever the size of the video. Turn a box on that grid into
# pixels of a video that is `width` wide and `height` high.

# %%
def to_pixels(box: list, width: int, height: int) -> list:
    # solution
    x1, y1, x2, y2 = box
    return [x1 * width / 100, y1 * height / 100, x2 * width / 100, y2 * height / 100]


# %%
check_calls(
    to_pixels,
    [
        (([0, 0, 100, 100], 640, 360), [0, 0, 640, 360]),
        (([25, 50, 75, 100], 64, 64), [16, 32, 48, 64]),
        (([10, 10, 20, 20], 1920, 1080), [192, 108, 384, 216]),
    ],
    hint="x goes with the width, y with the height.",
)

# %% [markdown]
# You now know how the notebooks work. If something did not:
# [TROUBLESHOOTING](../TROUBLESHOOTING.md) lists what people run into, and what helps.
