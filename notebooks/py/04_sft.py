# %% [markdown]
# The tiny model can see and point, but it has never answered *when and where*. Supervised
# fine-tuning (SFT) shows it answers. First you see why trial and reward alone cannot start.
#
# **You will**
# - see eight completions without a cold start, and what GRPO could learn from them;
# - decode one training batch by eye and compute its loss by hand;
# - train, and compare before with after.

# %% tags=["parameters"]
import os
import tempfile
from pathlib import Path

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct" or "Qwen/Qwen2.5-VL-3B-Instruct"
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
TRAIN, TEST = (16, 8) if SMOKE else (512, 64)
STEPS, BATCH = (4, 4) if SMOKE else (60, 16)
OUT = Path(tempfile.mkdtemp())

# %%
import json

import plotly.graph_objects as go
import torch
from trl import SFTConfig, SFTTrainer

from stvgkit import parse_answer, score_answer
from stvgkit.answers import CoordinateSpace
from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.evaluation import complete, predict, score
from stvgkit.exercises import check_calls, check_value
from stvgkit.models import load
from stvgkit.rows import gold_text, plan_row
from stvgkit.training import SFT_DEFAULTS, lora, row_dataset, sft
from stvgkit.tubes import Tube

# %%
train, test = (
    list(read_prepared(write_shapes(OUT / "data", split, count)))
    for split, count in (("train", TRAIN), ("test", TEST))
)
device = "cuda" if torch.cuda.is_available() else "cpu"
base = load(MODEL, device=device)
train_rows, test_rows = ([plan_row(s, base.clip_format) for s in part] for part in (train, test))

# %% [markdown]
# ## 1 · Without a cold start
#
# Eight samples at temperature 1 from the model as it comes:

# %%
row = train_rows[0]
texts = complete(base, [row] * 8, max_new_tokens=60, temperature=1.0)
target = Tube(row["target_frames"], row["target_boxes"])
space = CoordinateSpace.parse(row["space"])
totals = [score_answer(text, target, space).total for text in texts]
print(row["query"], "\n", *[f"{r:.1f}  {text[:60]!r}\n" for r, text in zip(totals, texts)])
if MODEL == "tiny":
    assert totals == [0.0] * 8

# %% [markdown]
# Not one parses, so all five rewards are 0 for each. A group of equal rewards has advantage 0: the
# format reward would stay at 0 for ever. (A large instructed model may hit the format by chance;
# users whose SFT data lacked the tags report the same silence, VLM-R1 issue 173.)
#
# ## 2 · One batch, by eye
#
# Training data are prompt and answer in one sequence. The label -100 means "not part of the loss".

# %%
args = SFTConfig(
    output_dir=str(OUT / "look"), **SFT_DEFAULTS | {"report_to": "none", "max_steps": 1},
    per_device_train_batch_size=1, gradient_checkpointing=False,
)
trainer = SFTTrainer(
    model=base.model, args=args, train_dataset=row_dataset(train_rows[:1], gold_text),
    processing_class=base.processor,
)
batch = next(iter(trainer.get_train_dataloader()))
ids, labels = batch["input_ids"][0], batch["labels"][0]
counted = labels != -100
tokenizer = base.processor.tokenizer
print(f"{len(ids)} tokens, {int(counted.sum())} of them count:\n")
print(tokenizer.decode(ids[counted]))
assert gold_text(train_rows[0]) in tokenizer.decode(ids[counted])
assert train_rows[0]["query"] not in tokenizer.decode(ids[counted])

# %% [markdown]
# Only the answer and its end mark are learned (*completion-only loss*); question and frames are
# read, never imitated. The loss is the mean negative log-probability of those tokens:
#
# $$L = -\frac{1}{|C|} \sum_{t \in C} \log p_\theta(y_t \mid y_{<t}, \text{frames, question})$$

# %%
base.model.eval()
with torch.no_grad():
    logits = base.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
logp = logits[:, :-1].float().log_softmax(-1)  # position t predicts token t + 1
keep = batch["labels"][:, 1:] != -100
wanted = batch["input_ids"][:, 1:][keep]
by_hand = -logp[keep].gather(1, wanted[:, None]).mean()
with torch.no_grad():
    library = base.model(**batch).loss
print(f"by hand {by_hand:.4f}, the library {library:.4f}")
assert abs(by_hand - library) < 0.02

# %% [markdown]
# ## 3 · Before, training, after

# %%
settings = {} if MODEL == "tiny" else {"peft_config": lora(base)}
quick = {"learning_rate": 1.5e-3 if MODEL == "tiny" else 1e-4, "gradient_checkpointing": False}
predict(base, test_rows, OUT / "before.jsonl", max_new_tokens=200, progress=False)
folder = sft(
    base, train_rows, OUT / "sft", max_steps=STEPS, per_device_train_batch_size=BATCH,
    save_strategy="no", disable_tqdm=SMOKE, report_to="none", **quick, **settings,
)
tuned = load(str(folder), device=device)
predict(tuned, test_rows, OUT / "after.jsonl", max_new_tokens=200, progress=False)

# %%
log = [entry for entry in json.loads((folder / "log.json").read_text()) if "loss" in entry]
figure = go.Figure(layout={"template": "plotly_white", "height": 300, "margin": {"t": 20}})
figure.add_scatter(x=[e["step"] for e in log], y=[e["loss"] for e in log])
figure.update_xaxes(title="step").update_yaxes(title="loss on the answer's tokens")
assert log[-1]["loss"] < log[0]["loss"]
figure

# %%
for name in ("before", "after"):
    report = score(OUT / f"{name}.jsonl", test)
    shown = {key: round(report.metrics[key], 3) for key in ("m_tIoU", "m_vIoU")}
    print(f"{name:7} {report.unparsed} of {report.samples} do not parse, {shown}")
print("\n", complete(tuned, test_rows[:1], max_new_tokens=200)[0])

# %% [markdown]
# In smoke mode four steps teach next to nothing; a full CPU run first learns the form. `stvgkit
# demo` trains for longer. What imitation never says is *which* of two imperfect answers is better:
# a box one number off costs as much as one far off. That is the next notebook's subject.
#
# ## Exercises
#
# **1.** Which labels does a sequence get, if its first `prompt` tokens are the question?


# %%
def mask(ids, prompt):
    """The labels: -100 where the loss must not look."""
    # solution
    return [-100] * prompt + list(ids[prompt:])


# %%
check_calls(mask, [(([5, 6, 7, 8], 2), [-100, -100, 7, 8]), (([1, 2], 0), [1, 2])])

# %% [markdown]
# **2.** How many boxes must an answer hold for the span 3 - 7 (both lists together)?

# %%
# solution
boxes = 2 * (7 - 3 + 1)

# %%
check_value(boxes, 10, hint="Both ends count, and there are two lists.")
