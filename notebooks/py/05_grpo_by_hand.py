# %% [markdown]
# **Question of this lesson.** How does a model learn from rewards alone, when nobody shows it a right answer?
#
# GRPO (group relative policy optimisation) lets a model try several answers to one question. It scores
# them, and makes the better ones more likely. Here you write all of it by hand, for a model so small
# that you can look at every number.
#
# **You will**
# - turn the rewards of a group into *advantages*, and see what that throws away;
# - write the clipped objective and the KL term, each beside its equation;
# - put them into one loss and train with it, on five seeds;
# - find out what groups of two answers cannot teach;
# - measure exactly when it helps to pay a token only for what follows it.
#
# **You need to know** the five rewards from [03](03_rewards_by_hand.ipynb), and what a loss and a
# gradient are (see [04](04_sft.ipynb)). No GPU is used.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
SEEDS = range(3 if SMOKE else 5)
STEPS = 150

# %%
import json
from functools import cache

import numpy as np
import plotly.graph_objects as go
import torch

from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer, score_answer
from stvgkit.datasets import data_samples
from stvgkit.exercises import check_calls, check_claims, check_value

torch.set_num_threads(1)  # the tensors are tiny: threads would only wait for each other

# %% [markdown]
# ## 1 · A policy of 36 numbers
#
# In reinforcement learning the model that is trained is called the *policy*. Ours answers one question
# about one clip of nine frames. It writes four tokens, each with one of nine values. They are the
# first frame, the last frame, and the left and the upper edge of a box (in tenths of the frame).
#
# The policy sees no picture. It is a table of 4 × 9 numbers, from which the probability of each value
# follows. The answers are real texts, though, and the rewards are those of the library.

# %%
SPACE = CoordinateSpace.relative(100)
GOLD = Tube([2, 3, 4, 5], [[0.5, 0.3, 0.7, 0.5]] * 4)


def write(start, end, x, y):
    """The text that four tokens stand for; think and final boxes are the same here."""
    span = Span(start, end)
    box = [x / 10, y / 10, x / 10 + 0.2, y / 10 + 0.2]
    tube = Tube(span.frames(), [box] * len(span))
    return format_answer(Answer(span, tube, tube, consistent=True), SPACE)


@cache
def reward(tokens):
    return score_answer(write(*tokens), GOLD, SPACE).total


# %%
print(write(2, 5, 4, 3), "\n")
for tokens in [(2, 5, 5, 3), (2, 5, 4, 3), (2, 8, 5, 3), (2, 5, 0, 8), (6, 8, 5, 3), (5, 2, 5, 3)]:
    print(tokens, score_answer(write(*tokens), GOLD, SPACE))
assert reward((2, 5, 5, 3)) == 5.0

# %% [markdown]
# The first answer is perfect and earns the most, 5. The others earn less:
#
# | answer | what is wrong | sum $R$ | $5 - R$ |
# | --- | --- | --- | --- |
# | (2, 8, 5, 3) | three frames too many | 4.57 | 0.43 |
# | (2, 5, 4, 3) | boxes a tenth of the frame too far left | 3.27 | 1.73 |
# | (6, 8, 5, 3) | the wrong time altogether | 2.00 | 3.00 |
# | (5, 2, 5, 3) | it ends before it starts, only the form is right | 1.00 | 4.00 |
# | (2, 5, 0, 8) | the right time, boxes in the wrong corner | -2.67 | 7.67 |
#
# ## 2 · From rewards to advantages
#
# The answers to one question are a *group*. An *advantage* says how much better an answer is than its
# group (Eq. 11 of STVG-o1):
#
# $$A_i = \frac{R_i - \mu}{\sigma + \delta}, \qquad \delta = 10^{-6}$$
#
# $\mu$ is the mean of the group's rewards and $\sigma$ their standard deviation. The small $\delta$
# prevents a division by zero. Older methods train a second network to guess the mean. GRPO does not
# need it, because the group itself gives the mean.

# %%
def advantages(rewards, delta=1e-6):
    """Eq. 11 for groups of G completions, (..., G) -> (..., G)."""
    rewards = torch.as_tensor(rewards)
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True) + delta)


# %%
group = torch.tensor([5.0, 4.1, 2.0, 2.0, 1.0, 0.0, 0.0, -4.0])
for r, a in zip(group.tolist(), advantages(group).tolist(), strict=True):
    print(f"reward {r:5.1f}   advantage {a:+.2f}")

assert abs(advantages(group).sum()) < 1e-5
assert torch.allclose(advantages(group + 1), advantages(group), atol=1e-5)
assert torch.allclose(advantages(group * 10), advantages(group), atol=1e-5)
assert (advantages([3.0] * 8) == 0).all()

# %% [markdown]
# The four asserts state four facts:
#
# - The advantages of a group add up to 0. Somebody is always below average.
# - A reward that **all** answers earn changes nothing. If all formats are right, +1 is lost on all.
# - Rewards that are all ten times larger change nothing either.
# - Where all rewards are equal, every advantage is 0. This is a **silent group**: it was written and
#   scored, and it teaches nothing. TRL logs the share of such groups as `frac_reward_zero_std`.
#
# ### The paper's formula and TRL's
#
# TRL adds $10^{-4}$ to $\sigma$, and its $\sigma$ divides by $G - 1$, where $G$ is the size of the group.
# Our `std` does the same; the paper does not say what its own does. The next cell takes groups that TRL
# logged while it trained the tiny model. The log comes with the library. Do we get TRL's numbers?

# %%
log = data_samples() / "logs" / "groups.jsonl"
groups = [json.loads(line) for line in log.read_text().splitlines()]
rewards = torch.tensor([g["total"] for g in groups], dtype=torch.float64)  # (groups, G)
logged = torch.tensor([g["advantages"] for g in groups], dtype=torch.float64)
ours = {delta: advantages(rewards, delta) for delta in (1e-4, 1e-6)}
for delta, values in ours.items():
    print(f"delta {delta:g}: largest difference from TRL {(values - logged).abs().max():.4f}")
silent = (rewards.std(-1) < 1e-8).double().mean()
print(f"{len(groups)} groups of {rewards.shape[1]}, of which silent: {silent:.0%}")
assert torch.allclose(ours[1e-4], logged, atol=2e-3)

# %% [markdown]
# With TRL's $\delta$ the numbers agree to the digits of TRL's 32-bit sums. With the paper's they differ by
# at most 0.013, where a group's rewards are nearly equal. Of these 576 groups, 3 % are silent.
#
# ## 3 · What two answers cannot say
#
# Let a group be a pair. Whatever the gap between the two rewards, the advantages are the same:

# %%
gaps = np.geomspace(1e-3, 10, 60)
pair = advantages(np.stack([gaps, 0 * gaps], axis=1))[:, 0]
four = advantages(np.stack([gaps, 0 * gaps, 0 * gaps + 1, 0 * gaps + 2], axis=1))[:, 0]
figure = go.Figure(layout={"template": "plotly_white", "height": 330, "margin": {"t": 20}})
figure.add_scatter(x=gaps, y=pair, name="G = 2: the other got 0")
figure.add_scatter(x=gaps, y=four, name="G = 4: the others got 0, 1, 2", line_dash="dash")
figure.update_xaxes(type="log", title="reward of the first completion")
figure.update_yaxes(title="its advantage")
assert torch.allclose(pair, torch.full_like(pair, 2**-0.5), atol=1e-2)
figure

# %% [markdown]
# The flat line is at $1/\sqrt 2 = 0.707$. A pair says *which* answer is better, and never *by how much*.
# An answer that is a tiny bit better gets the same push as a perfect answer beside nonsense. With four
# answers, the other three give a scale. Section 7 shows what this costs.
#
# ## 4 · The clipped ratio
#
# Answers are expensive to write, so one batch of them may serve for several updates. After the first
# update the policy is no longer the one that wrote them. So each token is weighted by a ratio: its
# probability now, divided by its probability when it was written, $r = \pi_\theta / \pi_\text{old}$.
# Clipping stops a token that has moved far enough (Eq. 12, first half):
#
# $$\min\big(r A,\ \mathrm{clip}(r, 1-\varepsilon, 1+\varepsilon)\, A\big)$$
#
# `clip` keeps a number between two bounds. $\varepsilon$ is 0.2 here; the paper gives no value. It also
# writes one ratio for a whole answer. TRL takes one for each token, and so do we.

# %%
def clipped_gain(ratio, advantage, epsilon=0.2):
    """What the objective gains from a token; all of one shape."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


# %%
ratio = torch.linspace(0, 2, 201)
figure = go.Figure(layout={"template": "plotly_white", "height": 330, "margin": {"t": 20}})
for sign, dash in ((1.0, "solid"), (-1.0, "dash")):
    gain = clipped_gain(ratio, torch.tensor(sign))
    figure.add_scatter(x=ratio, y=gain, name=f"A = {sign:+.0f}", line_dash=dash)
figure.add_vrect(x0=0.8, x1=1.2, fillcolor="#888", opacity=0.12, line_width=0)
figure.update_xaxes(title="ratio r").update_yaxes(title="gain")

# %% [markdown]
# A flat piece of a curve has no slope, so it gives no gradient. Two pieces are flat:
#
# - a good token ($A>0$) that is already 20 % more likely than before, at the right;
# - a bad token ($A<0$) that is already 20 % less likely, at the left.
#
# In the two other cases the policy has moved the *wrong* way. There the slope stays, and brings it back.

# %%
def slope(r, a):
    r = torch.tensor(r, requires_grad=True)
    clipped_gain(r, torch.tensor(a)).backward()
    return r.grad.item()


assert slope(1.5, 1.0) == 0 and slope(0.5, -1.0) == 0  # far enough: let go
assert slope(0.5, 1.0) == 1 and slope(1.5, -1.0) == -1  # the wrong way: pull back

# %% [markdown]
# ## 5 · Staying near the start: the KL term
#
# The KL divergence says how far one probability distribution is from another. The second half of Eq. 12,
# $-\beta\, D_{KL}(\pi_\theta \,\|\, \pi_\text{ref})$, takes it from the objective. It keeps the policy near
# the reference model $\pi_\text{ref}$, a frozen copy of the model at the start. From tokens that the
# policy wrote it is estimated by a formula called k3:
#
# $$k_3 = e^{d} - d - 1, \qquad d = \log \pi_\text{ref} - \log \pi_\theta$$
#
# The number $-d$ alone has the same mean. Why is the longer formula used?

# %%
def k3(logp, ref_logp):
    d = ref_logp - logp
    return torch.exp(d) - d - 1


# %%
torch.manual_seed(0)
policy, reference = torch.randn(2, 9).log_softmax(-1)
true = (policy.exp() * (policy - reference)).sum()
tokens = torch.multinomial(policy.exp(), 20_000, replacement=True)
estimates = {"-d": (policy - reference)[tokens], "k3": k3(policy, reference)[tokens]}
print(f"true KL {true:.3f}")
for name, values in estimates.items():
    print(f"{name}: mean {values.mean():.3f}, std {values.std():.2f}, least {values.min():+.2f}")
assert abs(estimates["k3"].mean() - true) < 0.05
assert estimates["k3"].min() >= 0 > estimates["-d"].min()
assert estimates["k3"].std() < estimates["-d"].std()

# %% [markdown]
# Both estimates have the right mean, 0.40. But $k_3$ is never negative, and it scatters less: 0.65 against
# 0.86.
#
# How strong should the term be? The paper gives no $\beta$. TRL's default is 0: no term, and no reference
# model in memory. The loss below takes 0.01.
#
# ## 6 · The whole loss
#
# The next cell puts everything into one function, for `G` answers of `T` tokens each. Real answers have
# unequal lengths, which raises the question by what to divide. The paper takes the mean over each answer
# first. TRL's default, `loss_type="dapo"`, counts every token of the batch the same, as the paper DAPO
# (2025) proposes. Here all answers have four tokens, so both rules agree.

# %%
def grpo_loss(logp, old_logp, ref_logp, advantage, epsilon=0.2, beta=0.01):
    """Eq. 12, to be made small. Log-probabilities (G, T), advantages (G,)."""
    ratio = torch.exp(logp - old_logp)  # (G, T)
    gain = clipped_gain(ratio, advantage[:, None], epsilon)  # (G, T)
    return -(gain - beta * k3(logp, ref_logp)).mean()


# %% [markdown]
# Before training, look at the value of this loss. The policy itself has just written the answers, so
# $r = 1$. The advantages add up to 0. And the policy still equals the reference model.

# %%
theta = torch.zeros(4, 9, requires_grad=True)  # the policy: all answers equally likely
place = torch.arange(4)
tokens = torch.multinomial(torch.ones(4, 9), 8, True, generator=torch.manual_seed(1)).T  # (8, 4)
scores = torch.tensor([reward(tuple(t)) for t in tokens.tolist()])
logp = theta.log_softmax(-1)[place, tokens]  # (8, 4)
loss = grpo_loss(logp, logp.detach(), logp.detach(), advantages(scores))
loss.backward()
print("rewards", scores.numpy().round(2))
print(f"loss {loss.item():.7f}, length of its gradient {theta.grad.norm():.3f}")
assert abs(loss.item()) < 1e-6 and theta.grad.norm() > 0.05

# %% [markdown]
# **The loss is 0 and the gradient is not.** Users report this as a fault (TRL issue 3452, open-r1 issue
# 239). It is none. With fresh answers the value of a GRPO loss says nothing about progress. Watch the
# reward.
#
# ### Training

# %%
def sample(theta, count, generator):
    """Completions (count, 4) of the policy, and their log-probabilities then."""
    table = theta.detach().log_softmax(-1)
    tokens = torch.multinomial(table.exp(), count, True, generator=generator).T
    return tokens, table[place, tokens]


def start(seed):
    """The seed of sampling, an untrained policy, its copy to stay near, and the optimizer."""
    theta = torch.zeros(4, 9, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=0.1)
    return torch.Generator().manual_seed(seed), theta, theta.detach().log_softmax(-1), adam


# %%
def train(seed, size=8, groups=1, advantage=advantages, updates=1):
    """Mean reward of each step's `groups` x `size` completions."""
    generator, theta, reference, adam = start(seed)
    history = []
    for _ in range(STEPS):
        tokens, old = sample(theta, groups * size, generator)
        scores = torch.tensor([reward(tuple(t)) for t in tokens.tolist()])
        a = advantage(scores.view(groups, size)).flatten()
        for _ in range(updates):
            logp = theta.log_softmax(-1)[place, tokens]
            adam.zero_grad()
            grpo_loss(logp, old, reference[place, tokens], a).backward()
            adam.step()
        history.append(scores.mean().item())
    return history


# %% tags=["hide-input"]
def curves(runs):
    """Mean over seeds with a band from the worst to the best, smoothed over 9 steps."""
    figure = go.Figure(layout={"template": "plotly_white", "height": 380, "margin": {"t": 20}})
    for (name, seeds), color in zip(runs.items(), ("#0072B2", "#D55E00", "#009E73"), strict=False):
        y = np.array([np.convolve(run, np.ones(9) / 9, "valid") for run in seeds])
        x = np.arange(y.shape[1]) + 4
        band = {"x": [*x, *x[::-1]], "y": [*y.max(0), *y.min(0)[::-1]]}
        figure.add_scatter(
            **band, fill="toself", line_width=0, fillcolor=color, opacity=0.15, showlegend=False
        )
        figure.add_scatter(x=x, y=y.mean(0), name=name, line_color=color)
    figure.update_xaxes(title="step").update_yaxes(title="mean reward (at most 5)")
    return figure


# %%
def final(runs):
    """Mean reward of the last 20 steps, one number for each seed."""
    return np.array([np.mean(run[-20:]) for run in runs])


runs = {"8 completions": [train(seed) for seed in SEEDS]}
print("first step:", np.mean([run[0] for run in runs["8 completions"]]).round(2))
print("last 20 steps, each seed:", final(runs["8 completions"]).round(2))
assert final(runs["8 completions"]).min() > 3.5 and np.mean(runs["8 completions"][0][:5]) < 2
curves(runs)

# %% [markdown]
# **The picture of this lesson.** The mean reward rises from about 0.5 to about 4.6 of 5, by rewards alone.
# The band runs from the worst seed to the best one. A single run is therefore no result.
#
# The start is slow. Of the 81 pairs of a first and a last frame, 36 end before they start. Most of the
# others come with boxes in the wrong place. So the policy first learns what to avoid.
#
# **Change and watch.** Write `train(seed, advantage=lambda r: r)` in the last cell, so that plain rewards
# take the place of advantages. How high does the curve get now?
#
# ## 7 · The same number of answers in smaller groups
#
# Each run below spends eight answers a step. Only the comparison differs: one group of eight, two groups
# of four, or four pairs.

# %%
runs["2 groups of 4"] = [train(seed, size=4, groups=2) for seed in SEEDS]
runs["4 pairs"] = [train(seed, size=2, groups=4) for seed in SEEDS]
for name, run in runs.items():
    print(f"{name:14} {final(run).mean():.2f} ± {final(run).std(ddof=1):.2f}  {final(run).round(2)}")
assert final(runs["8 completions"]).mean() > final(runs["4 pairs"]).mean() + 0.5
assert final(runs["2 groups of 4"]).mean() > final(runs["4 pairs"]).mean() + 0.5
assert SMOKE or [round(final(run).mean(), 1) for run in runs.values()] == [4.6, 4.6, 2.8]
curves(runs)

# %% [markdown]
# Groups of eight and of four end near 4.6. Pairs end at 2.8, and their seeds scatter from 1.9 to 4.5. A
# pair of two bad answers pushes as hard as a pair with one good answer, so most of the push is noise.
# Notebooks for a small GPU often set `num_generations=2` to save memory. This is what it costs.
# Exercise 3 shows a cure.
#
# ## 8 · Paying a token for what it can still change
#
# So far each token of an answer gets the same advantage, the one of the whole sum $R$. The paper does
# this too. But the two box tokens are written after the two time tokens. $R_t$ is settled by then,
# whatever box follows. Should the box tokens be paid for it?
#
# There are two ways to pay, called *credit* in this library:
#
# - **whole**: every token is paid for $R$;
# - **to-go**: the time tokens are paid for $R$, and the box tokens for $R - R_t$.

# %%
every = torch.cartesian_prod(*[torch.arange(9)] * 4)  # (6561, 4)
told = [score_answer(write(*tokens), GOLD, SPACE) for tokens in every.tolist()]
total = torch.tensor([score.total for score in told], dtype=torch.float64)
time = torch.tensor([score.temporal for score in told], dtype=torch.float64)
is_box = torch.tensor([0, 0, 1, 1])
whole = total[:, None] - 0 * is_box  # (6561, 4): what each token of each answer is paid for
to_go = total[:, None] - time[:, None] * is_box
chosen = torch.nn.functional.one_hot(every, 9)  # (6561, 4, 9)

# %% [markdown]
# The policy is so small that nothing has to be sampled. The cell lists all 6,561 answers. With the
# probability of each, the mean of the gradient and its variance are exact. The variance is the noise of
# training. In place of a group's mean we take the mean over all answers, and leave out $\sigma$.

# %%
def moments(theta, paid):
    """Mean (4, 9) of one answer's gradient, and its total variance, over all answers."""
    table = theta.softmax(-1)
    chance = table[place, every].prod(-1)  # (6561,), adds up to 1
    advantage = paid - chance @ paid  # (6561, 4)
    gradient = advantage[..., None] * (chosen - table)  # (6561, 4, 9)
    mean = torch.einsum("n,nij->ij", chance, gradient)
    return mean, (chance @ (gradient - mean).square().sum((1, 2))).item()


# %% [markdown]
# `chosen - table` is the gradient of a token's log-probability in a softmax table. Now let the policy know
# the right answer more or less well. The probability of a value falls with its distance $d$ from the right
# one, as $e^{-k d}$. At $k = 0$ the policy knows nothing, as at the start of section 6.

# %%
distance = (torch.arange(9) - torch.tensor([2, 5, 5, 3])[:, None]).abs().double()  # (4, 9)
knowledge = np.linspace(0, 2, 9)
change = []
for k in knowledge:
    (mean_whole, var_whole), (mean_to_go, var_to_go) = (
        moments(-k * distance, paid) for paid in (whole, to_go)
    )
    apart = (mean_whole - mean_to_go).abs().max().item()
    change.append(var_to_go / var_whole - 1)
    print(
        f"k = {k:.2f}   means differ by {apart:.0e}   "
        f"variance {var_whole:.2f} whole, {var_to_go:.2f} to-go ({change[-1]:+.1%})"
    )
    assert apart < 1e-12

# %%
assert change[0] > 0.1 and max(change[3:]) < 0
figure = go.Figure(layout={"template": "plotly_white", "height": 330, "margin": {"t": 20}})
figure.add_scatter(x=knowledge, y=change, mode="lines+markers")
figure.add_hline(0, line_color="#888")
figure.update_xaxes(title="k: how well the policy knows the answer")
figure.update_yaxes(title="variance, to-go against whole", tickformat="+.0%")

# %% [markdown]
# The two mean gradients are equal, except for rounding. What was settled before a token does not depend
# on that token, so it cannot move the mean. On average, both credits push the policy the same way.
#
# The variance differs, and its sign changes. From about $k = 0.6$ on, to-go is quieter: by 1.9 % at $k = 1$.
# An untrained policy is 12 % *noisier* with it. Why? Its boxes are poor, so meeting the time costs more in
# $R_s$ than it earns in $R_t$. The two rewards pull against each other, and in the whole sum a part of
# their noise cancels. Taking $R_t$ away leaves the larger part alone.
#
# So to-go can help after a start by imitation. Do not expect it to help a model that cannot find the boxes.
#
# ## Exercises
#
# ### Exercise 1 · Silent groups
#
# Which share of groups is silent? Compute the number that TRL logs as `frac_reward_zero_std`.

# %%
def silent_share(rewards):
    """Share of rows of an (n, G) array whose rewards are all equal."""
    # solution
    rewards = np.asarray(rewards)
    return float((rewards.max(axis=1) == rewards.min(axis=1)).mean())


# %%
check_calls(
    silent_share,
    [(([[1, 1], [1, 2]],), 0.5), (([[0, 0, 0]],), 1.0), (([[5, 4], [0, 1], [2, 2], [1, 3]],), 0.25)],
    hint="Compare the largest with the smallest reward of each row.",
)

# %% [markdown]
# ### Exercise 2 · Misconception: "being right about the time always helps"
#
# Take a pair of answers early in training. One is at the wrong time, with whatever boxes: its sum is 2.0.
# The other meets the time by 0.3, with $R_{spa} = -1$ in both lists. Format and consistency are right in
# both. What is the *second* one's advantage?

# %%
# solution
overlapping = 1 + 1 + 0.3 - 1 - 1
second_advantage = advantages([2.0, overlapping])[1].item()

# %%
check_value(
    second_advantage,
    -(2**-0.5),
    tolerance=0.01,
    hint="Add up its five rewards; then remember section 3.",
)

# %% [markdown]
# The second answer is *punished for meeting the event*. Boxes are charged only where the spans meet. So an
# answer that cannot find the boxes yet earns more elsewhere. This is trap 2 of
# [lesson 03](03_rewards_by_hand.ipynb).
#
# ### Exercise 3 · Leave out σ
#
# Without $\sigma$ a pair's advantage shows the gap again. A variant called Dr. GRPO (2025) proposes this;
# in TRL it is `scale_rewards="none"`. Write it. The check trains four pairs with it on every seed.

# %%
def centred(rewards):
    """Rewards (..., G) minus their group's mean."""
    # solution
    rewards = torch.as_tensor(rewards)
    return rewards - rewards.mean(-1, keepdim=True)


# %%
check_claims(
    centred,
    {
        "groups have mean 0": lambda f: abs(f(torch.tensor([[1.0, 4.0]])).mean()) < 1e-6,
        "a gap ten times larger counts ten times": lambda f: torch.allclose(
            10 * f(torch.tensor([0.1, 0.0])), f(torch.tensor([1.0, 0.0]))
        ),
        "pairs learn better with it than with σ": lambda f: (
            final([train(seed, size=2, groups=4, advantage=f) for seed in SEEDS]).mean()
            > final(runs["4 pairs"]).mean()
        ),
    },
)

# %% [markdown]
# ### Exercise 4 · Clipped tokens
#
# A batch is used for several updates. Which share of its tokens no longer has a gradient, because the
# ratio has gone too far in the direction of its advantage? TRL logs it as `clip_ratio/region_mean`.

# %%
def clipped_share(ratio, advantage, epsilon=0.2):
    """Share of clipped tokens; `ratio` (G, T), `advantage` (G,), both arrays."""
    # solution
    ratio, advantage = np.asarray(ratio), np.asarray(advantage)[:, None]
    high = (ratio > 1 + epsilon) & (advantage > 0)
    low = (ratio < 1 - epsilon) & (advantage < 0)
    return float((high | low).mean())


# %%
check_calls(
    clipped_share,
    [
        (([[1.0, 1.5], [1.5, 1.0]], [1.0, -1.0]), 0.25),
        (([[0.5, 0.7]], [-1.0]), 1.0),
        (([[0.5, 0.7]], [1.0]), 0.0),
    ],
    hint="In two of the four cases of section 4 the curve is flat.",
)

# %% [markdown]
# ## In three sentences
#
# An advantage compares the answers of one group, and what all of them have in common teaches nothing.
# Clipping stops a token that has moved far enough, and the KL term keeps the policy near its start. The
# value of the loss is no measure of progress: look at the reward, over several seeds.
#
# **What comes next.** [Lesson 06](06_grpo_with_trl.ipynb) does the same with a real model, TRL and video.
