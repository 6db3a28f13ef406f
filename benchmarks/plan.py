"""What `stvgkit plan` reckons against what the same run takes on this CPU.

    python benchmarks/plan.py [--json FILE] [--small]

Each run is one of TRL's trainers on real frames for two optimizer steps; measured are the bytes
that PyTorch's allocator holds at most, as its profiler reports them, weights included. The process
itself (Python, libraries) is left out on both sides. `--small` runs the tiny model alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from stvgkit.datasets import Sample
from stvgkit.rows import plan_row
from stvgkit.training import recipes, trainers
from stvgkit.training.longest import QUERY
from stvgkit.training.plan import make_plan
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video

SECONDS, FPS, SIDE = 4, 8, 64
QUIET = dict(report_to="none", disable_tqdm="true", save_strategy="no", seed=0, max_steps=2)
SFT = QUIET | dict(per_device_train_batch_size=4, gradient_checkpointing="false")
GRPO = QUIET | dict(per_device_train_batch_size=8, num_generations=8, beta=0)
GRPO |= dict(max_completion_length=128, generation_kwargs='{"min_new_tokens": 128}')
RUNS = {
    "SFT, all weights": ("sft", SFT | dict(gradient_accumulation_steps=2)),
    "SFT, checkpointing": ("sft", SFT | dict(gradient_checkpointing="true")),
    "SFT, LoRA": ("sft", SFT | dict(use_peft="true", train_vision="false")),
    "GRPO": ("grpo", GRPO | dict(gradient_checkpointing="false")),
}


def clip(folder: Path) -> Sample:
    """A video whose event fills it, such as the plan assumes."""
    frames = np.random.default_rng(0).integers(0, 255, (SECONDS * FPS, SIDE, SIDE, 3), np.uint8)
    write_video(folder / "clip.mp4", frames, FPS)
    span = Span(0, len(frames) - 1)
    tube = Tube(span.frames(), [[0.25, 0.25, 0.75, 0.999]] * len(frames))
    video = folder / "clip.mp4"
    return Sample("longest", QUERY, video, SIDE, SIDE, float(FPS), span, span, tube)


def peak_bytes(run) -> int:
    """The most that PyTorch's CPU allocator holds during `run`, above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    memory = [event for event in events if event.name() == "[memory]"]
    memory.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in memory]).max())


def compare(model: str, method: str, options: dict, folder: Path) -> tuple[int, int]:
    """Planned and measured peak in bytes."""
    options = options | {"model": model, "dtype": "float32", "out": str(folder / "out")}
    argv = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    task, model_config, args = recipes.parse(method, argv)
    clips = dict(video=(SIDE, SIDE), seconds=SECONDS)
    plan = make_plan("run", method, task, model_config, args, **clips, on_cpu=True)
    grounder = recipes.grounder_of(task, model_config)
    rows = [plan_row(clip(folder), grounder.clip_format)] * 64
    weights = sum(w.numel() * w.element_size() for w in grounder.model.parameters())
    adapter = recipes.adapter_of(task, model_config, grounder)
    peak = peak_bytes(
        lambda: getattr(trainers, method)(
            grounder, rows, folder / "out", args=args, peft_config=adapter
        )
    )
    return max(plan.phases.values()), weights + peak


def middle_sized(folder: Path) -> Path:
    """A random Qwen3-VL of 60 to 100 million parameters with Qwen's own vocabulary."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from families import save_family

    text = dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, head_dim=48)
    text |= dict(num_attention_heads=8, num_key_value_heads=4)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6}
    text["rope_parameters"] |= {"mrope_section": [12, 6, 6], "mrope_interleaved": True}
    vision = dict(hidden_size=256, intermediate_size=512, depth=4, out_hidden_size=384)
    return save_family("qwen3_vl", folder, text=text, vision=vision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="the tiny model alone")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        models = {"tiny": "tiny"}
        if not options.small:
            models["middle-sized"] = str(middle_sized(Path(name) / "model"))
        for label, model in models.items():
            for run, (method, settings) in RUNS.items():
                folder = Path(name) / f"{label}-{run}"
                folder.mkdir()
                planned, measured = compare(model, method, settings, folder)
                results.append({"model": label, "run": run, "planned": planned})
                results[-1] |= {"measured": measured, "ratio": planned / measured}
                print(
                    f"{label:<13}{run:<20} planned {planned / 1e9:7.3f} GB  measured "
                    f"{measured / 1e9:7.3f} GB  ratio {planned / measured:.3f}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "runs": results}, indent=2))


if __name__ == "__main__":
    main()
