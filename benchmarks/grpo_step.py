"""A GRPO step of the demo: TRL's own way against prompts shared in their groups, part by part.

Both trainers take the same checkpoint and the same prompts. Sampled answers differ, so the loss is
timed on the answers that TRL sampled, and its gradients are compared. CPU seconds, so that other
work on the machine does not count; the ratio is that of the whole step.

Run: python benchmarks/grpo_step.py [--model out/seed0/sft] [--steps 3] [--threads 1] [--json FILE]
Without --model, the demo's first lesson is taught first, into --work.
"""

import argparse
import multiprocessing
import os
import resource
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import torch
from trl import GRPOConfig

from stvgkit import demo
from stvgkit.files import write_json
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS
from stvgkit.rows import plan_row
from stvgkit.training.models import load
from stvgkit.training.row_dataset import row_dataset
from stvgkit.training.shared_prompt import SharedPromptTrainer

PARTS = {
    "prompts": "tokens and frames",
    "rollout": "answers sampled",
    "loss": "loss, forward",
    "backward": "loss, backward",
    "step": "the whole step",
}
WATCHED = {"_tokenize_prompts": "prompts", "_generate_single_turn": "rollout"}


@contextmanager
def timed(seconds: dict, part: str):
    start = time.process_time()
    yield
    seconds[part] += time.process_time() - start


def make_trainer(model: str, work: Path, share: bool) -> tuple[SharedPromptTrainer, list[dict]]:
    """A trainer with the demo's settings, all weights, and the clips that the demo's GRPO uses."""
    grounder = load(model)
    clips = demo.read_split(work, "train", demo.FULL.clips["train"])[demo.FULL.shown :]
    rows = [plan_row(sample, grounder.clip_format) for sample in clips[:64]]
    dropped = ("adapter", "credit", "save_steps", "max_steps")
    settings = {k: v for k, v in demo.FULL.grpo.items() if k not in dropped}
    config = GRPOConfig(
        output_dir=str(work / "trainer"), num_generations=8, reward_weights=REWARD_WEIGHTS,
        report_to="none", use_cpu=True, bf16=False, remove_unused_columns=False, **settings,
    )  # fmt: skip
    trainer = SharedPromptTrainer(
        model=grounder.model,
        args=config,
        reward_funcs=REWARDS,
        train_dataset=row_dataset(rows),
        processing_class=grounder.processor,
        share_prompt=share,
        stop_broken=share,
    )
    return trainer, rows


def measure(model: str, work: Path, share: bool, steps: int, threads: int, answers) -> dict:
    """CPU seconds of each part of a step, tokens decoded, peak memory, gradients on `answers`."""
    torch.set_num_threads(threads)
    trainer, _ = make_trainer(model, work, share)
    batches = trainer.args.gradient_accumulation_steps
    prompts = trainer.args.per_device_train_batch_size * batches // trainer.num_generations
    seconds: dict[str, float] = defaultdict(float)
    sampled = []
    real = trainer._generate_single_turn
    if answers is not None:
        trainer._generate_single_turn = lambda *a, **k: (real(*a, **k), (answers[0], None))[1]
    for name, part in WATCHED.items():
        watch(trainer, name, part, seconds)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = batches
    for number in range(steps):
        chosen = range(number * prompts, (number + 1) * prompts)
        examples = [trainer.train_dataset[place] for place in chosen]
        batch = [dict(example) for example in examples for _ in range(trainer.num_generations)]
        with timed(seconds, "step"):
            for _ in range(batches):
                inputs = trainer._prepare_inputs(batch)
                with timed(seconds, "loss"):
                    loss = trainer.compute_loss(trainer.model, inputs)
                with timed(seconds, "backward"):
                    loss.backward()
                trainer._step += 1
        if number == 0:
            gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()
                         if p.grad is not None}  # fmt: skip
            sampled = inputs["completion_ids"].shape
        trainer.model.zero_grad()
    lengths = trainer._metrics["train"]["completions/mean_length"]
    return {
        "seconds": {part: seconds[part] / steps for part in PARTS},
        "answer_tokens": sum(lengths) / len(lengths),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gradients": gradients,
        "shape": tuple(sampled),
    }


def watch(trainer, name: str, part: str, seconds: dict) -> None:
    real = getattr(trainer, name)

    def wrapper(*args, **kwargs):
        with timed(seconds, part):
            return real(*args, **kwargs)

    setattr(trainer, name, wrapper)


def fixed_answers(model: str, work: Path) -> list[list[int]]:
    """Gold answers, whole and cut off, for the first step's prompts: the same for both trainers."""
    from stvgkit.rows import gold_text

    trainer, rows = make_trainer(model, work, share=False)
    tokenizer = trainer.processing_class.tokenizer
    count = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    answers = []
    for row in rows[: count // trainer.num_generations]:
        gold = tokenizer.encode(gold_text(row), add_special_tokens=False)
        whole = [*gold, tokenizer.eos_token_id]
        answers += [whole[: len(whole) - 3 * k] for k in range(trainer.num_generations)]
    return answers


def in_a_process(*args) -> dict:
    """Each measurement in a process of its own: peak memory is counted once per process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, args)


def gradient_difference(one: dict, other: dict) -> float:
    scale = max(gradient.abs().max().item() for gradient in one.values())
    return max((one[name] - other[name]).abs().max().item() for name in one) / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="an SFT checkpoint of the demo")
    parser.add_argument("--work", type=Path, default=Path("out/grpo_step"))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    model = args.model or first_lesson(args.work)
    answers = fixed_answers(model, args.work)
    found = {
        name: in_a_process(model, args.work, share, args.steps, args.threads, None)
        for name, share in (("stock", False), ("ours", True))
    }
    same = [
        in_a_process(model, args.work, share, 1, args.threads, [answers])["gradients"]
        for share in (False, True)
    ]
    result = {name: figures["seconds"] for name, figures in found.items()}
    result["ratio"] = result["stock"]["step"] / result["ours"]["step"]
    result["gradient_difference"] = gradient_difference(*same)
    result["answer_tokens"] = {name: figures["answer_tokens"] for name, figures in found.items()}
    result["peak_gb"] = {name: figures["peak_gb"] for name, figures in found.items()}
    print(f"{'CPU seconds a step':<22}{'stock TRL':>12}{'shared':>12}{'ratio':>8}")
    for part, title in PARTS.items():
        stock, ours = result["stock"][part], result["ours"][part]
        print(f"{title:<22}{stock:>12.2f}{ours:>12.2f}{stock / max(ours, 1e-9):>8.1f}")
    for key, title in (("answer_tokens", "tokens an answer"), ("peak_gb", "peak memory, GB")):
        print(f"{title:<22}{result[key]['stock']:>12.2f}{result[key]['ours']:>12.2f}")
    print(f"largest difference of a gradient, relative: {result['gradient_difference']:.1e}")
    if args.json:
        write_json(args.json, result)


def first_lesson(work: Path) -> str:
    """The demo's SFT checkpoint of seed 0."""
    from stvgkit.training.models import TINY
    from stvgkit.training.trainers import sft

    shown = demo.read_split(work, "train", demo.FULL.clips["train"])[: demo.FULL.shown]
    demo.tune(sft, TINY, shown, work / "sft", seed=0, **demo.FULL.sft)
    return str(work / "sft")


if __name__ == "__main__":
    main()
