"""Recipes: a run in one YAML file, read by TRL's own parser: `stvgkit sft|grpo|predict RECIPE`.

A recipe holds fields of TRL's `ModelConfig`, of its `SFTConfig` or `GRPOConfig`, and of `Task`
below; every field is also an option of the command line, which comes last and wins. Recipes that
ship with the package go by their name (`t4-grpo`), any other by its path.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from peft import PeftConfig
from trl import GRPOConfig, ModelConfig, SFTConfig, TrlParser, get_quantization_config

from stvgkit.credit import CREDITS
from stvgkit.datasets import BENCHMARKS, Sample, SkipReport, read_benchmark
from stvgkit.datasets.records import read_text
from stvgkit.errors import InputError
from stvgkit.files import check_target, is_stdout, write_json
from stvgkit.metrics import PROTOCOLS
from stvgkit.readers import READERS
from stvgkit.rewards import SPATIAL_TERMS
from stvgkit.rows import FRAMES_AS, ClipFormat, plan_rows
from stvgkit.training import trainers
from stvgkit.training.models import Grounder, load, weights_digest
from stvgkit.training.refusals import is_ours, one_line
from stvgkit.training.runs import is_trained
from stvgkit.training.trainers import GRPO_DEFAULTS, SFT_DEFAULTS, freeze_vision, lora

FOLDER = Path(__file__).parent / "recipes"


@dataclass
class Task:
    """What to learn from or to ask about, and how clips are shown."""

    method: str | None = field(
        default=None,
        metadata={"help": "sft or grpo: the recipe's command", "choices": ["sft", "grpo"]},
    )
    benchmark: str = field(
        default="prepared", metadata={"help": "whose annotations", "choices": list(BENCHMARKS)}
    )
    annotations: str | None = field(
        default=None, metadata={"help": "annotation file; for vue-stg and prepared, a folder"}
    )
    videos: str | None = field(default=None, metadata={"help": "folder of the videos"})
    boxes: str | None = field(default=None, metadata={"help": "vidstg: folder of VidOR's JSONs"})
    space: str | None = field(
        default=None, metadata={"help": "numbers of the answer: 0-1000 or pixels; the model's own"}
    )
    fps: float | None = field(default=None, metadata={"help": "frames shown per second; 2"})
    max_frames: int | None = field(default=None, metadata={"help": "most frames shown of a clip"})
    max_side: int | None = field(default=None, metadata={"help": "longer side in pixels; 336"})
    frames_as: str | None = field(
        default=None,
        metadata={"help": "frames as images, or as the model's own video", "choices": FRAMES_AS},
    )
    template: str | None = field(default=None, metadata={"help": "prompt: full, short or qwen"})
    think_noise: float = field(
        default=0.1, metadata={"help": "sft: how far off the first guesses are, in box sides"}
    )
    credit: str = field(
        default="whole",
        metadata={"help": "grpo: what tokens are paid for, see stvgkit.credit", "choices": CREDITS},
    )
    spatial: str = field(
        default="both", metadata={"help": "grpo: R_spa's terms", "choices": list(SPATIAL_TERMS)}
    )
    share_prompt: bool = field(
        default=True, metadata={"help": "grpo: do the work of a prompt once for its answers"}
    )
    stop_broken: bool = field(
        default=True, metadata={"help": "grpo: end an answer that cannot become valid any more"}
    )
    check_diversity: int = field(
        default=0,
        metadata={"help": "grpo: before training, tell how answers to so many prompts differ"},
    )
    stop_when_flat: bool = field(
        default=False,
        metadata={"help": "grpo: end the run where reward and spread have flattened"},
    )
    think: bool | None = field(
        default=None, metadata={"help": "answers hold think boxes; as the model learned"}
    )
    launch: str | None = field(
        default=None, metadata={"help": "plan: the accelerate configuration it is launched with"}
    )
    train_vision: bool = field(
        default=True, metadata={"help": "train the vision part too (with LoRA: adapters on it)"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.think_noise < math.inf:
            raise InputError(f"think_noise is {self.think_noise}: give 0 or more, in box sides")
        ClipFormat(**self.clip_changes())
        if self.launch is not None:
            find_launch(self.launch)

    def samples(self, report: SkipReport) -> list[Sample]:
        """Read the benchmark; what is left out is in `report`."""
        if not self.annotations:
            raise InputError("no data: give --annotations (and --benchmark, --videos)")
        return list(
            read_benchmark(self.benchmark, self.annotations, self.videos, report, boxes=self.boxes)
        )

    def clip_changes(self) -> dict:
        """The fields of `ClipFormat` that are not the model's own."""
        names = ("space", "fps", "max_frames", "max_side", "template", "think", "frames_as")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class Asking:
    """How predictions are made and scored."""

    out: str = field(default="predictions.jsonl", metadata={"help": "file to write or go on with"})
    batch_size: int = field(default=8, metadata={"help": "clips asked about at once"})
    max_new_tokens: int = field(default=2048, metadata={"help": "most tokens of an answer"})
    backend: str = field(
        default="transformers",
        metadata={"help": "who answers", "choices": ["transformers", "vllm", "openai"]},
    )
    url: str = field(
        default="http://localhost:8000/v1", metadata={"help": "openai: where the server listens"}
    )
    api_key: str | None = field(
        default=None, metadata={"help": "openai: the server's key; else OPENAI_API_KEY"}
    )
    protocol: str = field(
        default="default",
        metadata={"help": "how to count, see stvgkit score", "choices": list(PROTOCOLS)},
    )
    reader: str = field(
        default="strict", metadata={"help": "who reads the answers", "choices": list(READERS)}
    )
    json: str | None = field(default=None, metadata={"help": "write the scores here as well"})

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give 1 or more")


CONFIGS = {"sft": (SFTConfig, SFT_DEFAULTS), "grpo": (GRPOConfig, GRPO_DEFAULTS)}
ALIASES = {"model": "model_name_or_path", "out": "output_dir", "data": "annotations"}


def names() -> list[str]:
    """The recipes that ship with the package.

    >>> "t4-grpo" in names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a recipe, given its name or its path.

    >>> find("paper")
    Traceback (most recent call last):
    stvgkit.errors.InputError: no recipe 'paper': give a YAML file, or one of 80gb-grpo, ...
    """
    path = Path(recipe) if Path(recipe).is_file() else FOLDER / f"{recipe}.yaml"
    if not path.is_file():
        raise InputError(f"no recipe {recipe!r}: give a YAML file, or one of {', '.join(names())}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a recipe or of an accelerate configuration; `InputError` if it is neither."""
    try:
        fields = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise InputError(f"{path} is no recipe: give a file with lines such as 'method: sft'")
    return fields


def find_launch(name: str) -> Path:
    """The accelerate configuration of this path, or of this name among those that ship here."""
    path = Path(name) if Path(name).is_file() else FOLDER / "accelerate" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in path.parent.glob("*.yaml")))
        raise InputError(f"no accelerate file {name!r}: give a path, or one of {known}")
    return path


def method_of(recipe: str) -> str:
    """Which command a recipe is for, `sft` or `grpo`, as its field `method` says."""
    path = find(recipe)
    method = read_yaml(path).get("method")
    if method not in CONFIGS:
        raise InputError(f"{path}: 'method' is {method!r}, must be sft or grpo")
    return method


def parse(command: str, argv: Sequence[str]) -> tuple:
    """Read `[RECIPE] [--field value ...]`: `(task, model, config)`, the last `Asking` for predict.

    The command line goes before the recipe, the recipe before `training.SFT_DEFAULTS` or
    `GRPO_DEFAULTS`. Raises `InputError` for fields that do not exist or cannot be.

    >>> task, model, config = parse("grpo", ["tiny-grpo", "--learning_rate", "5e-7"])
    >>> model.model_name_or_path, config.num_generations, config.learning_rate
    ('out/tiny-sft', 8, 5e-07)
    """
    config_type, defaults = CONFIGS.get(command, (Asking, {}))
    parser = TrlParser((Task, ModelConfig, config_type), prog=f"stvgkit {command} [RECIPE]")
    parser.set_defaults_with_config(model_name_or_path="tiny", dtype="auto", **defaults)
    _add_aliases(parser)
    argv, recipe = list(argv), None
    if argv and not argv[0].startswith("-"):
        recipe = argv.pop(0)
    elif "--config" in argv:  # TRL's way to name it
        place = argv.index("--config")
        recipe = argv[place + 1] if place + 1 < len(argv) else ""
        del argv[place : place + 2]
    if recipe is not None:
        _apply(parser, command, recipe)
    try:
        task, model, config = parser.parse_args_and_config(argv)
    except Exception as error:  # of every kind: each library has its own
        if is_ours(error) and not isinstance(error, InputError):
            raise
        raise InputError(f"{recipe or 'command line'}: {error}") from error
    for values in (task, model, config):
        _check_numbers(values)
    if command in CONFIGS and task.method not in (None, command):
        raise InputError(f"--method is {task.method}, the command is {command}: leave it out")
    if getattr(model, "trust_remote_code", False) or getattr(config, "trust_remote_code", False):
        raise InputError("trust_remote_code is never set: a model's own code is not run")
    return task, model, config


# The least that makes sense, where the libraries take less and fail later or do nothing.
LEAST = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 1,
    "max_length": 1,
    "learning_rate": 0.0,
    "temperature": 1e-6,
    "weight_decay": 0.0,
    "lora_r": 1,
    "save_steps": 0,
    "logging_steps": 0,
    "check_diversity": 0,
}


def _check_numbers(values) -> None:
    """Raise `InputError` for a number that cannot be meant."""
    for name, value in vars(values).items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if not math.isfinite(number):
                raise InputError(f"{name} is {value}: give a finite number")
            if number < LEAST.get(name, -math.inf):
                raise InputError(f"{name} is {value}: give {LEAST[name]:g} or more")
    if getattr(values, "max_steps", None) == 0:
        raise InputError("max_steps is 0: give 1 or more, or -1 for num_train_epochs to count")


def _add_aliases(parser: TrlParser) -> None:
    known = {action.dest for action in parser._actions}
    for short, name in ALIASES.items():
        if name in known and short not in known:
            default = parser.get_default(name)
            parser.add_argument(f"--{short}", dest=name, default=default, help=f"short for {name}")


def _apply(parser: TrlParser, command: str, recipe: str) -> None:
    """Make a recipe's fields the parser's defaults; one for another method is refused."""
    path, method = find(recipe), method_of(recipe)
    if command in CONFIGS and method != command:
        raise InputError(f"{path} is a recipe for {method}: run stvgkit {method} {recipe}")
    fields = read_yaml(path)
    for action in parser._actions:
        value = fields.get(action.dest)
        single = action.nargs is None and action.type is not str
        if single and isinstance(value, (list, dict)):
            raise InputError(f"{path}: {action.dest} is {value!r}, must be one value")
    unknown = parser.set_defaults_with_config(**fields)[::2]
    if unknown and command in CONFIGS:  # predict leaves out what only training reads
        raise InputError(f"{path}: there is no field {', '.join(name[2:] for name in unknown)}")


def grounder_of(task: Task, model: ModelConfig) -> Grounder:
    """Load the model that a recipe names, in 4 or 8 bits where it says so."""
    settings = {"attn_implementation": model.attn_implementation, "revision": model.model_revision}
    quantization = get_quantization_config(model)
    if quantization is not None:
        settings["quantization_config"] = quantization
    settings = {key: value for key, value in settings.items() if value not in (None, "main")}
    return load(
        model.model_name_or_path, dtype=model.dtype, model_settings=settings, **task.clip_changes()
    )


def adapter_of(task: Task, model: ModelConfig, grounder: Grounder) -> PeftConfig | None:
    """The LoRA adapter that a recipe asks for; else freezes what it leaves out."""
    if not model.use_peft:
        if model.load_in_4bit or model.load_in_8bit:
            raise InputError("weights in 4 or 8 bits cannot be trained themselves: add --use_peft")
        if not task.train_vision:
            freeze_vision(grounder)
        return None
    if hasattr(grounder.model, "peft_config"):  # goes on with the adapter it was loaded with
        return None
    chosen = {"r": model.lora_r, "lora_alpha": model.lora_alpha, "use_dora": model.use_dora}
    chosen |= {"lora_dropout": model.lora_dropout, "use_rslora": model.use_rslora}
    if model.lora_target_modules:
        chosen["target_modules"] = model.lora_target_modules
    return lora(grounder, vision=task.train_vision, **chosen)


def train(command: str, argv: Sequence[str]) -> tuple[Path | None, SkipReport]:
    """Run `stvgkit sft` or `stvgkit grpo`; returns the checkpoint's folder and what was skipped.

    The folder is None where it held this run already, so that nothing was written.
    """
    task, model, config = parse(command, argv)
    out, report = Path(config.output_dir), SkipReport()
    finished = is_trained(out)
    samples = task.samples(report)
    grounder = grounder_of(task, model)
    rows = plan_rows(samples, grounder.clip_format, report, need_boxes=True)
    with one_line(out):
        extra = {"args": config, "peft_config": adapter_of(task, model, grounder)}
        if command == "sft":
            extra["think_noise"] = task.think_noise
        else:
            names = ["credit", "spatial", "share_prompt", "stop_broken"]
            names += ["check_diversity", "stop_when_flat"]
            extra |= {name: getattr(task, name) for name in names}
        getattr(trainers, command)(grounder, rows, out, **extra)
    return None if finished else out, report


def ask(argv: Sequence[str]):
    """Run `stvgkit predict`; returns the predictions' file, the `Report`, and what was skipped."""
    from stvgkit.training.evaluation import predict, processes, score
    from stvgkit.training.lines import asked_by
    from stvgkit.training.serving import backend

    task, model, asking = parse("predict", argv)
    if asking.protocol == "vue-stg" != task.benchmark:
        raise InputError(f"protocol vue-stg does not fit {task.benchmark}: it is for vue-stg")
    if is_stdout(asking.out) or (os.path.exists(asking.out) and not os.path.isfile(asking.out)):
        raise InputError(f"--out {asking.out} is no file: predict goes on in it, so give one")
    for path in filter(None, (asking.out, asking.json)):
        check_target(path)
    report, state = SkipReport(), processes()
    samples = task.samples(report)
    if asking.backend == "transformers":
        grounder = grounder_of(task, model)
        if not (model.load_in_4bit or model.load_in_8bit):  # those are placed on loading
            grounder.model.to(state.device)
        clip_format, answer, by = grounder.clip_format, None, None
    else:
        grounder, (clip_format, answer) = None, backend(task, model, asking)
        name = model.model_name_or_path
        by = asked_by(name, clip_format, asking.max_new_tokens, weights_digest(name))
    rows = plan_rows(samples, clip_format, report)
    with one_line(Path(asking.out).parent):
        out = predict(
            grounder,
            rows,
            Path(asking.out),
            batch_size=asking.batch_size,
            max_new_tokens=asking.max_new_tokens,
            ask=answer,
            by=by,
        )
    scores = score(out, samples, asking.protocol, asking.reader)
    if asking.json and state.is_main_process:
        write_json(asking.json, scores.as_dict())
    return out, scores, report
