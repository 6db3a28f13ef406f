# %% [markdown]
# **Question of this lesson.** What does a model learn from right answers, and what can it not learn from them?
#
# The base model can point, but it has never answered *when and where*. Supervised fine-tuning (SFT)
# shows it right answers, called demonstrations, and trains it to imitate them. GRPO comes after it in this
# course: it can only choose among answers that the model already writes.
#
# **You will learn**
# - why rewards alone teach nothing to a model that never writes the form;
# - what one training example is, token by token, and which tokens count;
# - to compute the loss of SFT by hand;
# - what imitation cannot teach, and when it is the quicker teacher all the same.
#
# **You need to know** the form of an answer ([02](02_prompts_and_answers.ipynb)) and the rewards
# ([03](03_rewards_by_hand.ipynb)). No GPU is needed: the tiny model trains on a CPU in about ten
# minutes.

# %% tags=["parameters"]
import os
import tempfile
from pathlib import Path

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct" or "Qwen/Qwen2.5-VL-3B-Instruct"
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
TRAIN, TEST, STEPS, BATCH = (1024, 64, 120, 32) if MODEL == "tiny" else (256, 32, 100, 8)
LONGEST = 200 if MODEL == "tiny" else 400  # tokens of an answer
if SMOKE:
    TRAIN, TEST, STEPS, BATCH, LONGEST = 16, 8, 4, 4, 80
WORK = Path(tempfile.mkdtemp()) if SMOKE else Path("work")

# %%
import json
import warnings

import numpy as np
import plotly.graph_objects as go
import torch
from trl import SFTConfig, SFTTrainer

from stvgkit import CoordinateSpace, Tube, parse_answer, score_answer
from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.training.evaluation import complete, predict, score
from stvgkit.exercises import check_calls, check_claims, check_value
from stvgkit.training.models import load
from stvgkit.rows import gold_text, plan_row, row_images, row_messages
from stvgkit.training.trainers import SFT_DEFAULTS, lora, row_dataset, sft

warnings.filterwarnings("ignore", category=FutureWarning)  # settings about to be renamed in TRL

# %% [markdown]
# ## 1 · Without a first lesson
#
# The next cell makes the clips and loads the base model. (On a GPU a large model is loaded in 16 bits:
# in bf16 if the GPU has it, else in fp16. Both are number formats that halve the memory.) A *row* is a
# sample as the model will see it: which frames, at which times, with which gold boxes.

# %%
GPU = torch.cuda.is_available()
place = {"device": "cuda" if GPU else "cpu"}
if GPU and MODEL != "tiny":
    place["dtype"] = "bfloat16" if SFT_DEFAULTS["bf16"] else "float16"
base = load(MODEL, **place)
train, test = (
    list(read_prepared(write_shapes(WORK / "shapes", split, count)))
    for split, count in (("train", TRAIN), ("test", TEST))
)
train_rows, test_rows = ([plan_row(s, base.clip_format) for s in part] for part in (train, test))

# %% [markdown]
# Now the model gets one question eight times. It chooses its words freely: the temperature is 1, so each
# token is drawn from the model's own probabilities. A step of GRPO
# begins with such a rollout: eight completions of one prompt.

# %%
row = train_rows[0]
space = CoordinateSpace.parse(row["space"])
gold = Tube(row["target_frames"], row["target_boxes"])
texts = complete(base, [row] * 8, max_new_tokens=LONGEST, temperature=1.0)
totals = np.array([score_answer(text, gold, space).total for text in texts])
print(row["query"])
for total, text in zip(totals, texts, strict=True):
    print(f"  {total:.1f}  {' '.join(text.split())[:80]!r}")
if MODEL == "tiny":
    assert (totals == 0).all(), "the base model has never seen the format"

# %% [markdown]
# The tiny model says in which frames it sees the thing, as it was taught before. No completion parses, so
# all five rewards are 0 for all eight. GRPO compares the eight sums with each other. All are equal, so
# there is nothing to prefer, and training would never begin. People whose first training data lacked the
# tags report the same silence (VLM-R1, issue 173).
#
# A large model can read the form in the prompt and write it now and then. So the paper starts GRPO from
# Qwen2.5-VL-7B without any SFT. It compares SFT and GRPO with each other, and never joins them (its Table
# 5). The two steps of this course, SFT and then GRPO, are needed for small models.
#
# ## 2 · What the model is shown
#
# The demonstration is made from the gold tube. The final boxes are the gold ones. The think boxes are the
# gold ones with noise. If the first guess were always perfect, the model would learn that there is
# nothing to improve.

# %%
NOISE = 0.05  # standard deviation of the shift, in sides of the box
answer = gold_text(row, think_noise=NOISE)
print(answer)
parsed = parse_answer(answer, space)
print(score_answer(answer, gold, space))
assert parsed.consistent and score_answer(answer, gold, space).total > 4
assert score_answer(answer, gold, space).think > 0

# %% [markdown]
# Look at the two lists. They hold the same frames and nearly the same numbers. The think boxes cost a
# little $R_s$ (1.75 instead of 2) and earn a little $R_k$ (0.17).
#
# ## 3 · One example, token by token
#
# A trainer knows neither questions nor answers. It gets one row of tokens, and a second row of *labels*.
# Where a label is -100, the token is read and not learned. The next cell takes the very batch that
# TRL's trainer would use.

# %%
def batch_of(grounder, row):
    """The batch of one example, as TRL's trainer makes it."""
    args = SFTConfig(
        output_dir=str(WORK / "look"), per_device_train_batch_size=1, seed=0,
        dataloader_pin_memory=GPU, gradient_checkpointing=False,
        **SFT_DEFAULTS | {"report_to": "none"},
    )
    trainer = SFTTrainer(
        model=grounder.model, args=args, processing_class=grounder.processor,
        train_dataset=row_dataset([row], lambda row: gold_text(row, think_noise=NOISE)),
    )
    return next(iter(trainer.get_train_dataloader()))


# %%
batch = batch_of(base, row)
ids, labels = batch["input_ids"][0].cpu(), batch["labels"][0].cpu()
learned = labels != -100
tokenizer = base.processor.tokenizer
print(f"{len(ids)} tokens, of which {int(learned.sum())} are learned:\n")
print(tokenizer.decode(ids[learned]))
assert gold_text(row, think_noise=NOISE) in tokenizer.decode(ids[learned])
assert row["query"] in tokenizer.decode(ids[~learned])

# %% [markdown]
# Of 226 tokens, 59 are learned: the answer and the mark of its end. The frames and the question are only
# read. The end mark matters too. A model that never learned to stop writes until it is cut off.
#
# ### The same question later
#
# After training the model must be asked in the same way, **token for token**. One space more can break
# the form of all answers, and no error is raised. So the prompt is built in one place (`row_messages`),
# and the next cell compares the two prompts.

# %%
messages, frames = row_messages(row), iter(row_images(row))
for part in messages[0]["content"]:
    if part["type"] == "image":
        part["image"] = next(frames)
asked = base.processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)["input_ids"][0]
print(f"training: {int((~learned).sum())} tokens before the answer; generation: {len(asked)}")
assert torch.equal(asked, ids[: len(asked)]) and learned[len(asked) :].all()

# %% [markdown]
# Both prompts have the same 167 tokens. What comes after them is learned.
#
# ## 4 · The loss, by hand
#
# The loss is the mean negative log-probability of the learned tokens $C$. The probability of each token is
# taken given the *true* tokens before it:
#
# $$L = -\frac{1}{|C|} \sum_{t \in C} \log p_\theta(y_t \mid y_{<t}, \text{frames, question})$$

# %%
def logps_of(grounder, batch):
    """Log-probabilities of every token at the learned places (n, vocabulary), and the true ones."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    grounder.model.eval()
    with torch.no_grad():
        logits = grounder.model(**inputs).logits[:, :-1].float()  # place t predicts token t + 1
    learned = batch["labels"][:, 1:] != -100
    return logits[learned].log_softmax(-1), batch["input_ids"][:, 1:][learned]


logps, true = logps_of(base, batch)
by_hand = -logps.gather(1, true[:, None]).mean().item()
with torch.no_grad():
    by_library = base.model(**batch).loss.item()
print(f"by hand {by_hand:.4f}, by the library {by_library:.4f}")
assert abs(by_hand - by_library) < 0.02 * by_library

# %% [markdown]
# ## 5 · Before, training, after
#
# First the base model answers the test clips. Then `sft` trains it with TRL's `SFTTrainer` on the rows
# above. The tiny model trains all of its weights. A large model trains a LoRA adapter: two thin matrices
# beside each large one, while the large ones stay as they are. If the session ends on the way, run the
# cell again. It goes on from its last checkpoint.

# %%
RUN = WORK / f"sft-{MODEL.split('/')[-1]}"
if MODEL == "tiny":
    how = {"learning_rate": 1e-3, "per_device_train_batch_size": BATCH}
else:
    how = {"learning_rate": 1e-4, "peft_config": lora(base, r=16, lora_alpha=32)}
    how |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": BATCH}

# %%
predict(base, test_rows, RUN / "before.jsonl", batch_size=32, max_new_tokens=LONGEST)
sft(
    base, train_rows, RUN, think_noise=NOISE, max_steps=STEPS, lr_scheduler_type="cosine",
    warmup_steps=STEPS // 20, gradient_checkpointing=MODEL != "tiny", save_steps=STEPS // 2,
    logging_steps=max(1, STEPS // 12), report_to="none", dataloader_pin_memory=GPU, **how,
)
tuned = load(str(RUN), **place)
predict(tuned, test_rows, RUN / "after.jsonl", batch_size=32, max_new_tokens=LONGEST)
print(f"{RUN} holds the checkpoint; delete that folder to train anew")

# %% [markdown]
# Expect a steep fall first and a slow one after it. The steep fall is the *form*: tags, dots and brackets
# are the same in every answer. The slow fall is the numbers.

# %%
log = [entry for entry in json.loads((RUN / "log.json").read_text()) if "loss" in entry]
figure = go.Figure(layout={"template": "plotly_white", "height": 320, "margin": {"t": 20}})
for name, key in (("loss", "loss"), ("share of tokens guessed right", "mean_token_accuracy")):
    figure.add_scatter(x=[e["step"] for e in log], y=[e[key] for e in log], name=name)
figure.update_xaxes(title="step").update_yaxes(rangemode="tozero")
assert log[-1]["loss"] < log[0]["loss"] or (SMOKE and MODEL != "tiny")
figure

# %%
from stvgkit.predictions import read_completions

for name in ("before", "after"):
    report = score(RUN / f"{name}.jsonl", test)
    shown = ", ".join(f"{key} {report.metrics[key]:.3f}" for key in ("m_tIoU", "m_vIoU", "vIoU@0.3"))
    print(f"{name:7s} {report.unparsed:3d} of {report.samples} do not parse   {shown}")
told = read_completions(RUN / "after.jsonl")
parsing = [sample for sample in test if told[sample.id].tube is not None]
print(f"the answers of {len(parsing)} clips can be drawn")
assert SMOKE or MODEL != "tiny" or (report.unparsed < 12 and report.metrics["m_vIoU"] > 0.55)

# %% [markdown]
# In our run on two CPU cores, none of the 64 base answers parsed. After 120 steps 61 parsed, with an
# m_tIoU of 0.77 and an m_vIoU of 0.70. Yours will differ a little. In smoke mode four steps teach next
# to nothing, and the table says so.
#
# **The picture of this lesson** is one clip with its answers before and after. Look for what is still
# wrong. Does the box start at the right moment? Does it sit on the right thing? Is it tight?

# %%
from stvgkit.viewing.players import show_player

lines = {}
for name in ("before", "after"):
    for text in (RUN / f"{name}.jsonl").read_text().splitlines():
        lines[name, json.loads(text)["id"]] = json.loads(text)
sample = (parsing or test)[0]
show_player(sample, answers={name: lines[name, sample.id] for name in ("before", "after")})

# %% [markdown]
# **Change and watch.** Replace 1024 by 64 in the parameters, delete the folder `work/sft-tiny`, and run all
# cells again. The model can learn 64 demonstrations by heart. Does the loss fall lower? And what happens
# to m_vIoU on the test clips?
#
# ## 6 · What imitation cannot say
#
# The loss looks at one probability: that of the *true* token. The next cell shows what the trained model
# believes about one number, the left edge of the first final box of a test clip. It is shown the true
# answer up to there. (In the tiny model each number from 0 to 100 is one token. Qwen writes digits.)

# %%
test_row = test_rows[test.index(sample)]
logps, true = logps_of(tuned, batch_of(tuned, test_row))
words = [tokenizer.decode([token]) for token in true.tolist()]
numbers = [k for k, word in enumerate(words) if word.strip().isdigit()]
if MODEL == "tiny":  # 2 numbers of the time, 5 for each think box, the index of the first final box
    k = numbers[2 + 5 * len(test_row["target_frames"]) + 1]
    odds = logps[k].exp()[tokenizer.convert_tokens_to_ids([str(n) for n in range(101)])].cpu()
    figure = go.Figure(layout={"template": "plotly_white", "height": 300, "margin": {"t": 20}})
    figure.add_bar(x=list(range(101)), y=odds)
    figure.add_vline(int(words[k]), line_dash="dash", annotation_text="gold")
    figure.update_xaxes(title="left edge of the box").update_yaxes(title="probability")
    figure.show()
    assert len(odds) == 101 and 0 < odds.sum() <= 1.001

# %% [markdown]
# The loss of this token is minus the logarithm of the bar at the dashed line. The other bars do not
# matter to the loss. Whether they stand next to the gold number or far away changes nothing.
#
# The rewards do see a difference. The next cell scores the gold answer, and two answers in which one edge
# of one box is moved. (The gold answer gets a little less than 5, because its numbers are rounded.)

# %%
gold = Tube(test_row["target_frames"], test_row["target_boxes"])
space = CoordinateSpace.parse(test_row["space"])
left = gold.boxes[0, 0] > 1 - gold.boxes[0, 2]  # move the edge that has more room
edge, outwards = (0, -1) if left else (2, 1)
sums = {}
for off in (0.0, 0.02, 0.25):
    boxes = gold.boxes.copy()
    boxes[0, edge] += off * outwards
    text = gold_text(test_row | {"target_boxes": boxes.tolist()})
    sums[off] = score_answer(text, gold, space).total
    print(f"off by {off:4.0%} of the frame: R = {sums[off]:.2f}")
assert sums[0.0] > sums[0.02] > sums[0.25]

# %% [markdown]
# A small error costs little and a large error costs more. Next: what counts how much? The loss is a mean
# over tokens. So a part of the answer counts by its length.

# %%
text, length = gold_text(test_row), {}
for tag in ("time", "think_bbox", "pred_bbox"):
    part = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    length[tag] = len(tokenizer(part).input_ids)
for tag, tokens in length.items():
    print(f"{tag:12s} {tokens:4d} tokens, {tokens / sum(length.values()):4.0%} of the loss")
assert MODEL != "tiny" or SMOKE or length["time"] / sum(length.values()) < 0.1
assert length["time"] < length["pred_bbox"]

# %% [markdown]
# The time has 5 % of the loss, and the two lists of boxes have 48 % each. Among the rewards, time is one
# of five.
#
# Four things imitation does not teach:
#
# - **What matters.** A wrong number of the time counts no more than a wrong comma.
# - **Which of two imperfect answers is better.** You have just seen it.
# - **To go on after a mistake of its own.** In training each token follows the *true* ones. Later it
#   follows the model's own, mistakes included.
# - **That several answers can be right.** The loss punishes every good answer but the one shown.
#
# Rewards for answers that the model writes itself can teach all four.

# %% [markdown]
# ## 7 · Which teacher is better?
#
# It depends on what you have.
#
# | | SFT | GRPO |
# | --- | --- | --- |
# | needs | right answers, written as text | a way to score answers |
# | makes likelier | the answer shown | the better ones of its own answers |
# | optimises | the probability of tokens | the score itself |
# | tells the model, for each answer | every right token | one number, as the paper does it |

# %% [markdown]
# In this course, rewards are computed from the same boxes and times that the answers of SFT are written from.
# So both teachers need the same annotation here, and only what the model is shown differs. Elsewhere a reward
# may need less: a program that checks an answer, or a person who says which of two is better.
#
# Which teacher gains more in the same time? Section 4 of [06](06_grpo_with_trl.ipynb) compares them, over the
# number of clips whose answers are shown.
#
# The paper's model is 4,000 times larger and its answers come from people. There RFT, training by rewards,
# beats SFT: 41.8 against 28.6 in m_vIoU on HC-STVG v1 (Table 5, without think boxes).

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 · Labels
#
# Which labels does a sequence get if its first `prompt` tokens are the question?

# %%
def labels_of(ids: list, prompt: int) -> list:
    # solution
    return [-100] * prompt + list(ids[prompt:])


# %%
check_calls(
    labels_of,
    [(([5, 6, 7, 8], 2), [-100, -100, 7, 8]), (([1, 2], 0), [1, 2]), (([3, 4], 1), [-100, 4])],
    hint="As many labels as tokens; -100 where the loss must not look.",
)

# %% [markdown]
# ### Exercise 2 · Token accuracy
#
# TRL logs `mean_token_accuracy`: the share of learned tokens that were the likeliest ones. Compute it from
# `logps` (n, vocabulary) and the true tokens (n,).

# %%
def token_accuracy(logps, true) -> float:
    # solution
    return (torch.as_tensor(logps).argmax(-1) == torch.as_tensor(true)).float().mean().item()


# %%
two_rows = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]))
check_calls(
    token_accuracy,
    [((two_rows, torch.tensor([0, 2])), 1.0), ((two_rows, torch.tensor([0, 1])), 0.5)],
    hint="argmax over the vocabulary, then compare.",
)

# %% [markdown]
# ### Exercise 3 · Will it fit?
#
# An answer longer than `max_new_tokens` is cut off and never parses. How many boxes are in the answer for
# frames 3 to 7, both lists together?

# %%
# solution
boxes_in_both = 2 * (7 - 3 + 1)

# %%
check_value(boxes_in_both, 10, hint="Both ends count, and there are two lists.")

# %% [markdown]
# ### Exercise 4 · Misconception: "SFT optimises the score"
#
# Write an answer to `test_row` that the rewards like (a sum above 4.5) and that SFT would still correct,
# because it is not the gold text.

# %%
# solution
shifted = np.clip(gold.boxes + [0.01, 0.0, 0.01, 0.0], 0, 1)
also_right = gold_text(test_row | {"target_boxes": shifted.tolist()})

# %%
check_claims(
    also_right,
    {
        "it parses": lambda text: parse_answer(text, space) is not None,
        "its sum is above 4.5": lambda text: score_answer(text, gold, space).total > 4.5,
        "it is not the gold text": lambda text: text != gold_text(test_row),
    },
    hint="Start from gold_text(test_row) and change a number or two by one.",
)

# %% [markdown]
# ## In three sentences
#
# SFT teaches the form of an answer, without which all rewards are 0. It learns the answer's tokens only,
# and its loss knows one right token and nothing of near and far. Imitation is the quicker teacher where
# exact answers are at hand, and rewards can teach where there is only a way to score.
#
# **What comes next.** [Lesson 05](05_grpo_by_hand.ipynb) builds that second teacher by hand.
