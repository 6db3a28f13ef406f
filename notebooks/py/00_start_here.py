# %% [markdown]
# **Question of this lesson.** Can a small language model find a thing in a video, and what does it still lack?
#
# A video and a sentence are given: *"the blue triangle that moves right"*. **When** does that happen,
# and **where** is the triangle on each frame? This task is called spatio-temporal video grounding
# (STVG). In this course a multimodal language model learns it: a language model whose input may
# hold pictures. It learns first by imitation and then from rewards. The rewards are those of the paper
# [STVG-o1](../docs/paper.md).
#
# **In this notebook you**
# - check that your machine has what it needs;
# - ask a model of two million parameters to point at a shape in a video;
# - watch its boxes move over the video, beside the true ones;
# - see what the model cannot do yet.
#
# **You need to know** a little Python. Nothing about video or language models is assumed.
#
# Run the cells from top to bottom (Shift + Enter). On Colab the first cell installs everything.

# %% tags=["parameters"]
import os

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct" or "Qwen/Qwen2.5-VL-3B-Instruct"
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))

# %% [markdown]
# ## Is everything here?
#
# Look at the last line of the output. You need no GPU for this course. Where a GPU would help, a
# tiny model stands in for the large one and runs through the same code.

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
# The course has a small world of its own, called **shapes**. It consists of generated clips of 29
# frames, at 8 frames a second, written as ordinary H.264 files. Coloured shapes appear, move,
# grow and shrink. Nothing has to be downloaded, and the true boxes are known exactly.
#
# A sentence that says what to find is a *query*. A query together with its video and its true answer
# is a *sample*.

# %%
from pathlib import Path

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes

samples = list(read_prepared(write_shapes(Path("work/shapes"), "test", 2)))
sample = samples[1]
print(f"{sample.query!r} happens on the frames {sample.span.start} to {sample.span.end}")
assert (sample.span.start, sample.span.end) == (8, 24) and len(sample.tube) == 17

# %% [markdown]
# The true answer is called *gold*. Here the gold span is frames 8 to 24. A *span* is the first and
# the last frame of the event, both included. A *box* is a rectangle around the subject. A box for
# each frame of the span makes a *tube*, which is the answer to a query.
#
# Press play. The yellow box is there only *while the triangle moves*, although the triangle is in the
# picture before and after.

# %%
from stvgkit.viewing.players import show_player

show_player(sample)

# %% [markdown]
# Under the video you see a time line with the gold span. The space bar plays and pauses. The arrow
# keys step from frame to frame.
#
# ## One prediction
#
# Now the model. `"tiny"` has the architecture of Qwen3-VL, with two million parameters instead of two
# billion. It is our base model: it was trained to point at one thing in one frame, and on nothing
# else. The next cell asks it for the triangle in every frame that it is shown, two frames a second.

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
# There is one line for each shown frame: its number, then the corners `[x1, y1, x2, y2]`. The first
# two numbers are the upper left corner, the last two the lower right one. They count hundredths of
# the frame, from 0 to 100. The model does not draw. It writes four numbers, and the next cell reads
# them with a regular expression.

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
# **The picture of this lesson** shows the model's boxes over the gold ones. Look for two things. The
# model's box follows the triangle, a little shakily. And it is there from the first frame to the
# last, because we asked only *where* and not *when*.

# %%
show_player(sample, pred=pointed)

# %%
from stvgkit.boxes import iou

common = sample.tube.at(pointed.frames)
overlaps = iou(pointed.at(common.frames).boxes, common.boxes)
print("overlap with the true box (IoU), frame by frame:", overlaps.round(2))
assert MODEL != "tiny" or overlaps.mean() > 0.8

# %% [markdown]
# IoU, intersection over union, is the area that two boxes share divided by the area that either
# covers. It is 1 for equal boxes and 0 for boxes that do not meet. Here the mean over the common
# frames is about 0.9, from a model that runs on a CPU in seconds.
#
# **Change and watch.** Set `sample = samples[0]` in the cell below *A video and a sentence*, and run
# the cells below it again. Does the box still follow the right thing?

# %% [markdown]
# ## And the whole question?
#
# Now the same model gets the whole question: when the event happens, a first guess of the boxes, and
# the final boxes. The raw text that a model writes is its *completion*. `explain_answer` says in one
# sentence what is wrong with a completion.

# %%
from stvgkit import explain_answer

answer = complete(grounder, [row], max_new_tokens=40 if MODEL == "tiny" else 1024)[0]
print(answer)
print("->", explain_answer(answer))

# %% [markdown]
# The base model has never seen such a question. It falls back on what it knows and names the frames
# in which it sees the thing. It can point, but it knows nothing of events, and it cannot write the
# answer in the form that is asked.
#
# The rest of the course mends this in two steps. Supervised fine-tuning
# ([04](04_sft.ipynb)) shows the model examples, so that it learns the form. GRPO
# ([05](05_grpo_by_hand.ipynb), [06](06_grpo_with_trl.ipynb)) scores the model's own answers, so that
# better ones become more likely.
#
# ## Exercises
#
# Each notebook ends with exercises. Write your code in place of the three dots and run the cell. Then
# run the check below it, which answers with a sentence. The exercises do not depend on each other.
# The solution is folded away under each check.
#
# ### Exercise 1 · How long?
#
# The clip runs at 8 frames a second. For how many seconds does the event of `sample` last? Its first
# and its last frame both count.

# %%
# solution
seconds = (sample.span.end - sample.span.start + 1) / sample.fps

# %%
from stvgkit.exercises import check_calls, check_value

check_value(seconds, len(sample.span) / sample.fps, hint="Frames 8 to 24 are 17 frames, not 16.")

# %% [markdown]
# ### Exercise 2 · Misconception: "the model draws on the video"
#
# It does not: it writes numbers, and somebody has to place them. The tiny model counts from 0 to 100,
# whatever the size of the video. Turn a box in these hundredths into pixels of a video that is `width`
# wide and `height` high.

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
# ## In three sentences
#
# Spatio-temporal video grounding asks for a tube: a span of frames and a box on each of them. A
# language model answers in text, so its boxes are numbers that code has to read. The base model can
# point, and has to learn about events and about the form of an answer.
#
# **What comes next.** [Lesson 01](01_task_and_data.ipynb) looks closely at the task and at how the
# benchmarks write it down. If something did not work here, see
# [TROUBLESHOOTING](../TROUBLESHOOTING.md).
