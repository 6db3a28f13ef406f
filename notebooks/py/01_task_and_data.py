# %% [markdown]
# **Question of this lesson.** What exactly is asked for, and in which forms do data sets write it down?
#
# Given a video and a sentence, spatio-temporal video grounding asks for a tube. A tube says when the
# described thing happens, and holds a box around its subject on every frame of that time.
#
# **You will learn**
# - what a tube is, and what its gaps mean;
# - how two large benchmarks, HC-STVG and VidSTG, write it down, and where their frame counts differ by one;
# - which frames a model gets to see, and what is lost between them;
# - why the task is hard: a model must get both *when* and *where* right.
#
# **You need to know** lesson [00](00_start_here.ipynb). The benchmarks' videos are not needed: the
# records below are made up, in the real form.

# %% [markdown]
# Three older tasks each ask for a part of this one:
#
# | task | what is given | what is asked for |
# | --- | --- | --- |
# | referring expression comprehension | a picture and a sentence | one box |
# | temporal grounding | a video and a sentence | a span |
# | tracking | a video and a box on its first frame | a box on every frame |
# | spatio-temporal video grounding | a video and a sentence | a span, and a box on each of its frames |

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
CLIPS = 6 if SMOKE else 24

# %%
import json
from pathlib import Path

import numpy as np

from stvgkit import Span, Tube
from stvgkit.datasets import SkipReport, data_samples, hcstvg, read_prepared, vidstg
from stvgkit.datasets.shapes import write_shapes
from stvgkit.viewing.pictures import draw_tube
from stvgkit.viewing.players import show_player
from stvgkit.video import VideoInfo, sample_indices

work = Path("work")

# %% [markdown]
# ## A real clip
#
# Somebody holds up a bottle and tilts it. The clip is real, with a trembling hand and blur. Press
# play, or step with the arrow keys. The gold box sits on the bottle on *every* frame of the event,
# frames 30 to 75. Before and after there is no gold box, although the bottle is still there.

# %%
folder = data_samples() / "opencv"
*_, real = hcstvg.read(folder / "annotations.json", folder)
print(f"{real.query!r}: frames {real.span.start} to {real.span.end} at {real.fps:.2f} per second")
assert real.span == Span(30, 75) and len(real.tube) == len(real.span)
show_player(real)

# %% [markdown]
# Where exactly does the tilting begin? Step around the left end of the gold bar and decide for
# yourself. A few frames more or less would be just as right. So people too would disagree with each
# other about the span, and nobody should expect a perfect score on it.

# %% [markdown]
# ## The tube as data
#
# A tube is two arrays. One holds frame numbers, strictly increasing. The other holds a box
# `(x1, y1, x2, y2)` for each of them, relative to the frame's width and height. A span is the first
# and the last frame, *both included*: the span 10 to 14 has five frames.

# %%
tube = Tube([10, 11, 14], [[0.1, 0.2, 0.3, 0.6], [0.1, 0.2, 0.3, 0.6], [0.4, 0.2, 0.6, 0.6]])
print("span", tube.span, "of", len(tube.span), "frames, with", len(tube), "boxes")
assert len(Span(10, 14)) == 5 and len(tube) == 3

# %% [markdown]
# Frames 12 and 13 have no box. This is a gap. Perhaps the subject is hidden there. Perhaps somebody
# wrote down only every third frame. The numbers cannot tell, so the library never fills a gap by
# itself. You have to ask for interpolation, which draws a straight line between the boxes on both
# sides:

# %%
full = tube.interpolate()
for frame, box in zip(full.frames, full.boxes, strict=True):
    print(frame, box.round(2), "" if frame in tube.frames else "  <- interpolated")
assert np.allclose(full.at([12]).boxes, [0.2, 0.2, 0.4, 0.6])

# %% [markdown]
# ## HC-STVG: one person, twenty seconds of film
#
# HC-STVG holds film scenes, each 20 seconds long, with one person to find. Version 1 has 4,500 videos for
# training and 1,160 for the test. Version 2 has 10,131 for training, 2,000 for validation and 4,413 for the
# test. The test labels of version 2 are not public, so papers report the validation split.
#
# Below is one record in the form of version 1. (Version 2 calls the caption `English`, and its size is
# `img_size`, the height first.) It follows four conventions that you cannot see from the numbers:
#
# - boxes are `[x, y, width, height]`;
# - boxes are in **pixels**;
# - `st_frame` counts frames **from 1**;
# - the times in seconds are rounded.

# %%
record = {
    "bbox": [[64 + 4 * k, 36, 128, 216] for k in range(90)],
    "st_frame": 61,
    "img_num": 600,
    "st_time": 2.0,
    "ed_time": 5.0,
    "caption": "The man in the grey coat stands up and walks to the door.",
    "width": 640,
    "height": 360,
}
path = work / "hcstvg.json"
path.parent.mkdir(exist_ok=True)
_ = path.write_text(json.dumps({"12_made_up.mp4": record}))

# %% [markdown]
# A reader turns these conventions into those of this package, once. The record has 600 frames in 20
# seconds, which is 30 a second. Frame 61 counted from 1 is frame 60 counted from 0. There are 90
# boxes, so the event ends on frame 60 + 90 - 1 = 149.

# %%
sample = next(hcstvg.read(path))
print(sample.fps, "frames a second,", sample.span)
print("first box:", sample.tube.boxes[0])
assert sample.span == Span(60, 149)
assert np.allclose(sample.tube.boxes[0], [0.1, 0.1, 0.3, 0.7])

# %% [markdown]
# ## VidSTG: many sentences about one everyday video
#
# A VidSTG record holds statements (*declarative*: "a child holds the ball") and questions
# (*interrogative*: "who holds the ball?"). A question does not name its subject, so it is harder.
# Scores for the two kinds are therefore reported apart. The data set has 5,563 videos for training, 618 for
# validation and 743 for the test, with about 100,000 sentences (numbers as STVG-o1 gives them).

# %%
record = {
    "vid": "0000001",
    "fps": 29.97,
    "frame_count": 300,
    "width": 640,
    "height": 360,
    "used_segment": {"begin_fid": 30, "end_fid": 269},
    "temporal_gt": {"begin_fid": 90, "end_fid": 150},
    "captions": [{"description": "a child holds the ball.", "type": "person", "target_id": 2}],
    "questions": [{"description": "who holds the ball?", "type": "person", "target_id": 2}],
}
path = work / "vidstg.json"
_ = path.write_text(json.dumps([record]))

# %%
for sample in vidstg.read(path):
    print(f"{sample.id}\n  {sample.query!r}\n  shown {sample.window}, gold {sample.span}")
assert sample.window == Span(30, 269)  # the segment's end is included ...
assert sample.span == Span(90, 149)  # ... the event's is not
assert sample.tube is None  # the boxes are in another data set

# %% [markdown]
# The record has two ends, with two conventions. The end of `used_segment` is included. The end of
# `temporal_gt` is not. How do we know? In 768 of the 4,610 records of the real test file,
# `temporal_gt` ends at `frame_count`. Counted from 0, a frame of that number does not exist.
#
# The boxes come from another data set, VidOR, with one file for each video. The reader joins the two
# when it is given `boxes=`.

# %%
def vidor_box(frame: int) -> dict:
    x = 100 + frame
    return {"tid": 2, "bbox": {"xmin": x, "ymin": 90, "xmax": x + 64, "ymax": 270}}


trajectories = [[vidor_box(k)] if k % 10 else [] for k in range(300)]
(work / "vidor").mkdir(exist_ok=True)
vidor = {"width": 640, "height": 360, "trajectories": trajectories}
(work / "vidor" / "0000001.json").write_text(json.dumps(vidor))
report = SkipReport()
sample = next(vidstg.read(path, report=report, boxes=work / "vidor"))
print(len(sample.span), "frames in the span,", len(sample.tube), "with a box")
print(report)
assert len(sample.span) == 60 and len(sample.tube) == 54

# %% [markdown]
# Every tenth frame was left without a box here, as happens in real annotations. The tube keeps the
# gap, 54 boxes on 60 frames, and the report says so. The same report counts records that cannot be
# used, and why. Records that vanish without a word would change the average without a word.

# %%
broken = [record | {"temporal_gt": {"begin_fid": 290, "end_fid": 280}}, {"vid": "no more"}, record]
_ = path.write_text(json.dumps(broken))
report = SkipReport()
kept = list(vidstg.read(path, report=report))
print(f"{len(kept)} samples kept\n{report}")
assert len(kept) == 2

# %% [markdown]
# ## What a model gets to see
#
# A model does not see 30 frames a second. STVG-o1 shows it two a second. A frame *number* in an answer counts
# these shown frames, from 0. (The paper's text fits seconds as well, and it does not say whether the count
# begins at 0 or 1. This is our reading.)
#
# The times to show lie on a grid: 0 s, 0.5 s, 1.0 s and so on. For each time the frame is taken that
# a player would have on the screen then: the last one that begins at or before that time. The grid
# follows real time, so a frame rate of 29.97 does not drift.

# %%
film = VideoInfo(width=640, height=360, fps=29.97, num_frames=600, duration=600 / 29.97)
shown = sample_indices(film, fps=2.0)
print(len(shown), "of", film.num_frames, "frames are shown:", shown[:6], "...")
print("their times:", film.times[shown][:6].round(2), "...")
assert len(shown) == 40 and abs(film.times[shown[39]] - 19.5) < 0.05

# %% [markdown]
# The video has 600 frames, and 40 are shown. An event is seen through these frames only. The next
# cell moves an event of a given length over the video and counts how many shown frames it covers.

# %%
print("seconds   fewest   most shown frames")
missed = {}
for seconds in (0.25, 0.5, 1.0, 3.7, 9.3):
    length = round(seconds * film.fps)
    starts = np.arange(0, film.num_frames - length)
    covered = [np.sum((shown >= s) & (shown < s + length)) for s in starts]
    missed[seconds] = np.mean(np.array(covered) == 0)
    print(f"{seconds:7} {min(covered):8} {max(covered):6}")
print(f"a quarter of a second is missed in {missed[0.25]:.0%} of the places")
assert round(missed[0.25], 2) == 0.54 and missed[0.5] == 0

# %% [markdown]
# An event of a quarter of a second can fall between two shown frames, and then no answer can name it.
# It does so in 54 % of the places where it can lie. Such events exist: 8.5 % of the events in VidSTG's test
# annotations last less than a second, and half last less than 3.7 s (counted in the annotation file). More
# shown frames would help. They cost memory and time.
#
# **Change and watch.** Set `fps=4.0` in the cell above that calls `sample_indices`, and run the two
# cells again. Leave out their two asserts, which hold for 2 frames a second. How often is the shortest
# event missed now, and how many frames have to be read?
#
# ## What makes it hard
#
# The shapes world has a difficulty. At difficulty 1 the *colour* answers the query. At 2 there may be
# a distractor of the same colour or shape. At 3 there is a look-alike: it looks exactly like the
# subject, and only *what it does* tells the two apart. **The picture of this lesson** shows one clip
# of each.

# %%
from IPython.display import display

for difficulty in (1, 2, 3):
    folder = work / f"shapes{difficulty}"
    easy_to_hard = list(read_prepared(write_shapes(folder, "test", CLIPS, difficulty=difficulty)))
    print(f"difficulty {difficulty}: {easy_to_hard[0].query!r}")
    display(draw_tube(easy_to_hard[0], width=760))

# %% [markdown]
# Events are short against the clip, and they start anywhere. So *the whole clip* is a poor answer to
# "when". Its overlap in time is only as large as the share of the clip that the event fills.

# %%
shares = np.array([len(s.span) / len(s.window) for s in easy_to_hard])
print(f"events fill {shares.min():.0%} to {shares.max():.0%} of their clip, {shares.mean():.0%} on average")
assert SMOKE or round(shares.mean(), 2) == 0.48

# %% [markdown]
# In these 24 clips an event fills 48 % of its clip on average. So the answer "the whole clip" would
# earn a time overlap of 48 %.
#
# Which half of the task is harder on real video? One published experiment tells a model the true
# times, so that only the boxes are left to find. Such a model is called an oracle. On HC-STVG
# version 1 the share of good tubes (vIoU above 0.5, see [07](07_evaluation.ipynb)) then rises from
# 42.2 % to 86.9 %. (Source: ScanFocus, 2026, as quoted by others. We have not rerun it.) So for that model,
# *when* is the bottleneck.
#
# ## Exercises
#
# ### Exercise 1 · Misconception: "90 boxes from frame 60 end at frame 150"
#
# Both ends of a span count, so they end at frame 149. Return the last frame of an HC-STVG record's
# event, counted from 0.

# %%
def last_frame(record: dict) -> int:
    # solution
    return record["st_frame"] - 1 + len(record["bbox"]) - 1


# %%
from stvgkit.exercises import check_calls, check_value

box = [0, 0, 10, 10]
check_calls(
    last_frame,
    [
        (({"st_frame": 1, "bbox": [box]},), 0),
        (({"st_frame": 61, "bbox": [box] * 90},), 149),
        (({"st_frame": 268, "bbox": [box] * 93},), 359),
    ],
    hint="One box at st_frame 1: the event is frame 0, and ends there.",
)

# %% [markdown]
# ### Exercise 2 · Corners
#
# Turn a box `[x, y, width, height]` in pixels into relative corners `(x1, y1, x2, y2)`.

# %%
def to_corners(xywh: list, frame_width: int, frame_height: int) -> list:
    # solution
    x, y, w, h = xywh
    corners = (x, y, x + w, y + h)
    sides = (frame_width, frame_height, frame_width, frame_height)
    return [corner / side for corner, side in zip(corners, sides, strict=True)]


# %%
check_calls(
    to_corners,
    [
        (([64, 36, 128, 216], 640, 360), [0.1, 0.1, 0.3, 0.7]),
        (([0, 0, 640, 360], 640, 360), [0, 0, 1, 1]),
    ],
    hint="First x + width, then divide; x by the width, y by the height.",
)

# %% [markdown]
# ### Exercise 3 · Which shown frame is that?
#
# A model was shown the frames `shown` and says that the event begins at its frame number 7. At which
# second of the video (`film`) does the event begin?

# %%
# solution
second = film.times[shown[7]]

# %%
check_value(
    float(second) if second is not ... else second,
    float(film.times[shown[7]]),
    hint="`shown` maps its numbers to the video's, `film.times` those to seconds.",
)

# %% [markdown]
# ## In three sentences
#
# A tube is a span, both ends included, with a relative box on each frame, and a gap in it means *no
# box*. Every benchmark counts frames in its own way, so a reader converts once and reports what it
# leaves out. The model sees two frames a second, and its answers count those.
#
# **What comes next.** [Lesson 02](02_prompts_and_answers.ipynb) turns the clip into a prompt and the
# tube into a text.
