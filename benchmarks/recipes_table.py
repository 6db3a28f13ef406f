"""What each recipe needs, as a page: both forms of a clip, prompts shared and as in stock TRL.

    python benchmarks/recipes_table.py [--out out/plans] [--write docs/recipes.md]

Plans every shipped recipe by `stvgkit plan`, with its model's configuration rebuilt from the
published sizes (`tests/families.py`), so neither weights nor a hub are needed. GRPO on video input
samples by itself, so those plans are without vLLM. A plan that is there is not made again; delete
the folder after a change of the trainer.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import yaml
from pages import publish

from stvgkit.files import write_json
from stvgkit.rows import FRAMES_AS
from stvgkit.training import recipes
from stvgkit.training.plan import GPUS, RESERVE, TERA, plan

NAMED = {"t4": "T4", "l4": "L4", "80gb": "H100", "8x80gb": "H100", "paper": "H100", "tiny": "T4"}
SAME = {"paper-hcstvg-v2": "paper-hcstvg-v1"}  # they differ in their data alone
HEAD = ["recipe", "frames as", "frames", "tokens: visual + text, answer", "GB needed", "GB, stock"]
HEAD += ["TFLOP a step", "TFLOP, stock", "of it vision"]


def gpu_of(recipe: str) -> str:
    """The GPU that a recipe is named after."""
    return NAMED[recipe.partition("-")[0]]


def model_of(recipe: str, folder: Path) -> str:
    """The folder of a recipe's model: its published configuration and its processor."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from families import PUBLISHED, save_published

    name = yaml.safe_load(recipes.find(recipe).read_text())["model_name_or_path"]
    name = name.removeprefix("Qwen/").removesuffix("-Instruct")
    if name not in PUBLISHED:
        return "tiny"
    if not (folder / name / "config.json").exists():
        save_published(name, folder / name)
    return str(folder / name)


def planned(recipe: str, form: str, folder: Path) -> dict:
    """The plan of a recipe in one form as `stvgkit plan --json` has it."""
    path = folder / f"{recipe}-{form}.json"
    if not path.exists():
        argv = [recipe, "--model", model_of(recipe, folder), "--gpu", gpu_of(recipe)]
        argv += ["--frames_as", form]
        if form == "video" and recipes.method_of(recipe) == "grpo":
            argv += ["--use_vllm", "false"]
        found, gpus, _ = plan(argv)
        write_json(path, found.as_dict(gpus))
    return json.loads(path.read_text())


def line(recipe: str, found: dict) -> str:
    """A row of the table."""
    gpu, clip, stock = gpu_of(recipe), found["clip"], found["stock"]
    work = sum(found["flops"].values())
    cells = [
        f"`{recipe}`",
        clip["frames_as"],
        f"{clip['frames']} of {clip['size'][0]}x{clip['size'][1]}",
        f"{clip['visual_tokens']:,} + {clip['text_tokens']:,}, {clip['answer_tokens']:,}",
        f"{found['gpus'][gpu]['needs']:.1f} of {GPUS[gpu]}",
        f"{found['gpus'][gpu]['stock_needs']:.1f}" if stock else "",
        _tera(work),
        _tera(sum(stock["flops"].values())) if stock else "",
        f"{found['vision_flops'] / work:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def _tera(flops: float) -> str:
    return f"{flops / TERA:,.0f}" if flops >= 10 * TERA else f"{flops / TERA:.2g}"


def page(plans: dict[tuple[str, str], dict]) -> str:
    """The plans as Markdown."""
    lines = [
        "# What each recipe needs",
        "",
        "**Reckoned, not measured on any GPU.** `python benchmarks/recipes_table.py --write "
        "docs/recipes.md` writes this page with `stvgkit plan`. It takes the longest clip and "
        "answer of each recipe, from videos of 1280x720.",
        "",
        "- *GB needed* is for one process, and vLLM's share counts. "
        f"{RESERVE:g} GB have to stay free beside it.",
        "- *TFLOP a step* are the floating point operations of one optimizer step in one process, "
        "10^12 each: answers sampled, scored, and learned from.",
        "- *Stock* is the same step as stock TRL takes it: a prompt is read anew for each answer. "
        "SFT has nothing to share.",
        "- *Of it vision* is the vision part's share of the operations that stand to the left.",
        "- GRPO on video input samples its answers by itself. So these rows are with "
        "`--use_vllm false`. Stock TRL takes no video: *stock* is for comparison alone there.",
        "- An answer is taken to be as long as `max_completion_length` allows. Real ones are "
        "shorter, and so is the work.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|" + " --- |" * len(HEAD),
        *(line(recipe, found) for (recipe, _), found in plans.items()),
        "",
        *(f"`{one}` needs what `{other}` needs." for one, other in SAME.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/plans"), help="folder for the plans")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", message=".*clip_format.json")
    plans = {}
    for recipe in recipes.names():
        for form in FRAMES_AS if recipe not in SAME else ():
            plans[recipe, form] = planned(recipe, form, options.out)
            print(line(recipe, plans[recipe, form]), flush=True)
    publish(page(plans), options.write)


if __name__ == "__main__":
    main()
