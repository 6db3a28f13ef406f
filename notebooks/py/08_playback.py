# %% [markdown]
# A score says *that* an answer is wrong; a person who watches it sees *how*. This notebook is about
# looking: the player, the sample browser, the reward lab and the group inspector.
#
# **You will learn**
# - to put gold, think and predicted boxes over a video, also of several models at once;
# - to find the answers worth looking at, by score, group or kind of error;
# - to read one GRPO group: eight answers to one question, their rewards and advantages.
#
# Needed: [03](03_rewards_by_hand.ipynb) for the rewards. No GPU, no model. The players work without
# a kernel too, in an exported page; the sliders need one.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
CLIPS = 6 if SMOKE else 24

# %%
import json
from pathlib import Path

import numpy as np

from stvgkit import Answer, CoordinateSpace, Tube, format_answer, score_answer
from stvgkit.datasets import data_samples, hcstvg, read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.exercises import check_claims, check_value
from stvgkit.viewing.players import show_player
from stvgkit.rows import ClipFormat, plan_row
from stvgkit.viewing.widgets import GroupInspector, RewardLab, SampleBrowser

work = Path("work")

# %% [markdown]
# ## Several answers over one video
#
# The gold boxes of a real clip, and two made-up predictions: one a third of a second late, one with
# boxes that are too large. Play it, then switch layers on and off in the legend. The strip above the
# bars shows the IoU frame by frame: *late* loses both ends, *loose* loses a little everywhere.

# %%
folder = data_samples() / "opencv"
real = next(hcstvg.read(folder / "annotations.json", folder))
late = real.tube.shift(10)
loose = Tube(real.tube.frames, np.clip(real.tube.boxes + [-0.08, -0.08, 0.08, 0.08], 0, 1))
player = show_player(real, pred={"late": late, "loose": loose})
player

# %% [markdown]
# Keys: space plays and pauses, the arrows step, home and end jump. The player is one HTML document
# with the video inside. Save it, mail it, open it from disk: it asks nothing of any server.

# %%
player.save(work / "player.html")
size = (work / "player.html").stat().st_size
print(f"{size / 1e6:.2f} MB")
assert size < 2e6

# %% [markdown]
# ## Raw completions
#
# What a model *wrote* can be shown as it is, with the frames it was shown and the space of its
# numbers. Think boxes are dotted. One of the two answers below does not parse; the player says why.

# %%
samples = list(read_prepared(write_shapes(work / "shapes", "test", CLIPS)))
tiny_format = ClipFormat(space="0-100", template="short", max_side=64, factor=16)
rows = {sample.id: plan_row(sample, tiny_format) for sample in samples}
space = CoordinateSpace.relative(100)


def line(row: dict, shift: float = 0.0) -> dict:
    """A line of a predictions file: the gold answer, its boxes shifted, its first guess more so."""
    gold = Tube(row["target_frames"], row["target_boxes"])
    think, pred = (Tube(gold.frames, np.clip(gold.boxes + s, 0, 1)) for s in (2 * shift, shift))
    text = format_answer(Answer(gold.span, think, pred, consistent=True), space)
    return {"id": row["id"], "completion": text, "frames": row["frames"], "space": row["space"]}

# %%
sample = samples[1]
good = line(rows[sample.id], shift=0.03)
broken = good | {"completion": good["completion"][:-20]}
show_player(sample, answers={"SFT": good, "base": broken})

# %% [markdown]
# ## Which ones to look at?
#
# Nobody watches a thousand clips. The browser lists the samples of a prediction file; filter by vIoU,
# by group or by kind of error, choose one, and it opens below. `selected` gives the choice back to
# Python. Here the predictions get worse from clip to clip.

# %%
predictions = work / "worse_and_worse.jsonl"
with predictions.open("w") as file:
    for k, s in enumerate(samples):
        file.write(json.dumps(line(rows[s.id], shift=0.25 * k / CLIPS)) + "\n")
browser = SampleBrowser(samples, predictions)
browser

# %% [markdown]
# Everything a mouse does, a cell can do. Only the poor ones:

# %%
browser.score.value = (0.0, 0.5)
for record in browser.selected:
    print(f"{record['vIoU']:.2f}  {record['kind']:12s} {record['query']}")
assert all(record["vIoU"] <= 0.5 for record in browser.selected)
assert len(browser.selected) < len(samples)

# %% [markdown]
# ## The reward lab
#
# One clip and one answer to bend. Drag a box or move a slider: picture, text and the five rewards follow.

# %%
lab = RewardLab(sample, tiny_format)
lab

# %%
lab.time.value = (0, len(rows[sample.id]["frames"]) - 1)  # claim the whole clip
print(lab.breakdown)
gold = Tube(rows[sample.id]["target_frames"], rows[sample.id]["target_boxes"])
assert lab.breakdown.total == score_answer(lab.text.value, gold, space).total
assert lab.breakdown.temporal < 1

# %% [markdown]
# Claiming the whole clip costs time reward and nothing else: the boxes on the true frames are still
# right.
#
# ## One group of GRPO
#
# GRPO compares answers to the *same* question. The inspector shows a group: each completion as a
# film strip, its rewards, and its advantage (how much better than its group it is). Four answers,
# from exact to far off:

# %%
completions = [line(rows[sample.id], shift)["completion"] for shift in (0, 0.03, 0.08, 0.2)]
scores = [score_answer(text, gold, space) for text in completions]
total = np.array([s.total for s in scores])
names = ("format", "consistency", "temporal", "spatial", "think")
group = {
    "step": 1,
    "id": sample.id,
    "completions": completions,
    "rewards": {name: [getattr(s, name) for s in scores] for name in names},
    "total": total.tolist(),
    "advantages": ((total - total.mean()) / (total.std(ddof=1) + 1e-6)).tolist(),
}
GroupInspector([group], [sample], tiny_format)

# %% [markdown]
# Advantages add up to zero: a group has no good answers, only better and worse ones. Give it the
# `groups.jsonl` of a run and a slider steps through training.

# %%
print(np.round(group["advantages"], 2))
assert abs(sum(group["advantages"])) < 1e-6 and group["advantages"][0] > 0

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 · Too early
#
# Make a tube `early` that has the gold boxes of `real`, five frames too early.

# %%
# solution
early = real.tube.shift(-5)

# %%
check_claims(
    early,
    {
        "it starts five frames before": lambda t: t.span.start == real.span.start - 5,
        "the boxes are the gold ones": lambda t: np.array_equal(t.boxes, real.tube.boxes),
    },
    hint="A tube can be shifted.",
)

# %% [markdown]
# ### Exercise 2 · Count with the browser
#
# How many of the predictions in the file have a vIoU of 0.5 or more? Set `browser.score.value` and
# count `browser.selected`.

# %%
# solution
browser.score.value = (0.5, 1.0)
count = len(browser.selected)

# %%
browser.score.value = (0.5, 1.0)
check_value(count, len(browser.selected), hint="The range goes from 0.5 to 1.0.")

# %% [markdown]
# ## What you have seen
# - One call puts any number of answers over a video; the page needs no server.
# - Browse, filter, watch: error kinds first, averages later.
# - A group shows what GRPO learns from: differences.
