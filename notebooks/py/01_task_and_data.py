# %% [markdown]
# Given a video and a sentence, **spatio-temporal video grounding** (STVG) asks for a *tube*: when the
# described thing happens, and a box around its subject on every frame of that time.
#
# **You will learn**
# - what a tube is, and what its gaps mean;
# - how the two great benchmarks, HC-STVG and VidSTG, write it down, and where one is off by one;
# - which frames a model gets to see, and what that costs;
# - what makes the task hard: *what* alone does not answer it, nor does *when*.
#
# Needed: nothing but [00](00_start_here.ipynb). The benchmarks' videos are not needed; the records
# below are made up, in the real form.

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
# Somebody holds up a bottle. The clip is real, and so are the trembling hand and the blur. Press
# play, or step with the arrow keys: the gold box must sit on the bottle on *every* frame of the
# event, and be absent before and after, although the bottle is there all the time.

# %%
folder = data_samples() / "opencv"
*_, real = hcstvg.read(folder / "annotations.json", folder)
print(f"{real.query!r}: frames {real.span.start} to {real.span.end} at {real.fps:.2f} per second")
assert len(real.tube) == len(real.span)
show_player(real)

# %% [markdown]
# Where exactly does the tilting begin? Step around the left end of the gold bar and decide for
# yourself. A few frames more or less would be as right: gold spans have soft ends, and a score near
# 1 on them is not to be expected, of people either.

# %% [markdown]
# ## The tube as data
#
# Two arrays: frame numbers, strictly increasing, and a box `(x1, y1, x2, y2)` for each, relative to
# the frame's width and height. A **span** is first and last frame, *both included*.

# %%
tube = Tube([10, 11, 14], [[0.1, 0.2, 0.3, 0.6], [0.1, 0.2, 0.3, 0.6], [0.4, 0.2, 0.6, 0.6]])
print("span", tube.span, "of", len(tube.span), "frames, with", len(tube), "boxes")
assert len(Span(10, 14)) == 5 and len(tube) == 3

# %% [markdown]
# Frames 12 and 13 have no box: a gap. Perhaps the subject is hidden there, perhaps somebody wrote
# down only every third frame. The numbers cannot tell, so filling a gap is never silent, it is a
# call:

# %%
full = tube.interpolate()
for frame, box in zip(full.frames, full.boxes, strict=True):
    print(frame, box.round(2), "" if frame in tube.frames else "  <- interpolated")
assert np.allclose(full.at([12]).boxes, [0.2, 0.2, 0.4, 0.6])

# %% [markdown]
# ## HC-STVG: one person, twenty seconds of film
#
# One record of the annotation file, in the form of version 1. Four conventions hide in it: boxes are
# `[x, y, width, height]`, in **pixels**, `st_frame` counts **from 1**, and the seconds are rounded.

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
path.write_text(json.dumps({"12_made_up.mp4": record}))

# %% [markdown]
# A reader turns each convention into the one of this package, once, at the border. 600 frames in 20
# seconds are 30 a second, frame number 61 counted from 1 is frame 60 counted from 0, and 90 boxes
# later the event ends at frame 149, included.

# %%
sample = next(hcstvg.read(path))
print(sample.fps, "frames a second,", sample.span)
print("first box:", sample.tube.boxes[0])
assert sample.span == Span(60, 149)
assert np.allclose(sample.tube.boxes[0], [0.1, 0.1, 0.3, 0.7])

# %% [markdown]
# ## VidSTG: many sentences on one everyday video
#
# A record holds statements (*declarative*: "a child holds the ball") and questions
# (*interrogative*: "who holds the ball?"). The question does not even name the object that is looked
# for, which is why scores for the two are reported apart.

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
path.write_text(json.dumps([record]))

# %%
for sample in vidstg.read(path):
    print(f"{sample.id}\n  {sample.query!r}\n  shown {sample.window}, gold {sample.span}")
assert sample.window == Span(30, 269)  # the segment's end is included ...
assert sample.span == Span(90, 149)  # ... the event's is not
assert sample.tube is None  # the boxes are in another data set

# %% [markdown]
# Two ends in one record, two conventions: in the real file `temporal_gt` ends at `frame_count` in
# hundreds of records, a frame that does not exist if the end were included. The boxes come from
# another data set, VidOR, one file for each video. With `boxes=`, the reader joins the two.

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
# Every tenth frame was left without a box, as happens in real annotations. The tube keeps the gap
# and the report says so. The same report counts records that cannot be used, and why; nothing
# disappears silently, for what disappears changes the average.

# %%
broken = [record | {"temporal_gt": {"begin_fid": 290, "end_fid": 280}}, {"vid": "no more"}, record]
path.write_text(json.dumps(broken))
report = SkipReport()
kept = list(vidstg.read(path, report=report))
print(len(kept), "samples kept\n", report, sep="")
assert len(kept) == 2

# %% [markdown]
# ## What a model gets to see
#
# Not 30 frames a second: STVG-o1 samples two. Frame *numbers* in an answer count these shown frames,
# from 0. The grid follows real time, so a rate of 29.97 does not drift.

# %%
film = VideoInfo(width=640, height=360, fps=29.97, num_frames=600, duration=600 / 29.97)
shown = sample_indices(film, fps=2.0)
print(len(shown), "of", film.num_frames, "frames are shown:", shown[:6], "...")
print("their times:", film.times[shown][:6].round(2), "...")
assert len(shown) == 40 and abs(film.times[shown[39]] - 19.5) < 0.05

# %% [markdown]
# The price: an event is seen through these frames only. Move an event of a given length over the
# video and count how many shown frames it covers.

# %%
print("seconds   fewest   most shown frames")
fewest = {}
for seconds in (0.25, 0.5, 1.0, 3.7, 9.3):
    length = round(seconds * film.fps)
    starts = np.arange(0, film.num_frames - length)
    covered = [np.sum((shown >= s) & (shown < s + length)) for s in starts]
    fewest[seconds] = min(covered)
    print(f"{seconds:7} {min(covered):8} {max(covered):6}")
assert fewest[0.25] == 0

# %% [markdown]
# A quarter of a second can fall between two shown frames and be invisible. That is not exotic: of
# the events in VidSTG's test set 8.5 % last less than a second (half of them less than 3.7 s, the
# mean is 9.3 s). More frames would help, at a price in memory and time that grows with each.
#
# ## What makes it hard
#
# The shapes world can be made harder by a number. Look at the film strips: at difficulty 1 the
# *colour* answers the query; at 2 there may be a second thing of the same colour or shape; at 3 a
# twin looks exactly like the target, and only *what it does* tells the two apart.

# %%
from IPython.display import display

for difficulty in (1, 2, 3):
    folder = work / f"shapes{difficulty}"
    easy_to_hard = list(read_prepared(write_shapes(folder, "test", CLIPS, difficulty=difficulty)))
    print(f"difficulty {difficulty}: {easy_to_hard[0].query!r}")
    display(draw_tube(easy_to_hard[0], width=760))

# %% [markdown]
# Events are short against the clip, and they start anywhere. So *the whole clip* is a poor answer to
# "when": its overlap in time is only as large as the event is long.

# %%
shares = np.array([len(s.span) / len(s.window) for s in easy_to_hard])
print(f"events fill {shares.min():.0%} to {shares.max():.0%} of their clip, {shares.mean():.0%} on average")
assert shares.mean() < 0.8

# %% [markdown]
# Work on real benchmarks finds the same: given the true times, boxes are mostly good; *when* is the
# bottleneck. Keep that in mind when you read scores.
#
# ## Exercises
#
# ### Exercise 1 · Where does it end?
#
# Return the last frame of an HC-STVG record's event, counted from 0.

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
# Turn a pixel box `[x, y, width, height]` into relative corners `(x1, y1, x2, y2)`.

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
# A model was shown the frames `shown` and says the event begins at its frame number 7. At which
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
# ## What you have seen
# - Span: both ends included. Tube: frames and relative boxes; a gap means *no box*.
# - Every benchmark counts differently; readers convert once, and report what they leave out.
# - The model sees two frames a second and counts *those*.
