"""The command line: `stvgkit COMMAND`, also `python -m stvgkit COMMAND`.

Each command is a pair: `add_X` declares its options, `run_X` imports what it needs and does the
work. Wrong input raises `InputError`, which ends here as one line and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stvgkit import __version__
from stvgkit.errors import InputError, need
from stvgkit.streams import lasting_output


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="stvgkit",
        description="Spatio-temporal video grounding with multimodal language models.",
    )
    parser.add_argument("--version", action="version", version=f"stvgkit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_demo(commands)
    add_prepare(commands)
    add_sft(commands)
    add_grpo(commands)
    add_predict(commands)
    add_plan(commands)
    add_score(commands)
    add_info(commands)
    add_play(commands)
    add_lab(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with lasting_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    args.argv = rest
    if args.argv and not getattr(args, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(args.argv)}")
    try:
        args.run(args)
        print(end="", flush=True)  # a full disk is told here
    except InputError as error:
        print(f"stvgkit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # no such file, unwritable folder, full disk
        where = f": {error.filename}" if error.filename else ""
        print(f"stvgkit: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stvgkit: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def add_demo(commands) -> None:
    demo = commands.add_parser("demo", help="the whole method on generated clips, on a CPU")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder for all results")
    demo.add_argument("--seed", type=int, default=0, help="seeds data order, training, sampling")
    demo.add_argument("--smoke", action="store_true", help="a minute's run that checks the wiring")
    demo.set_defaults(run=run_demo)


def run_demo(args) -> None:
    from stvgkit.demo import run

    run(args.out, seed=args.seed, smoke=args.smoke)


def add_sft(commands) -> None:
    _add_recipe_command(commands, "sft", "fine-tune on gold answers, from a recipe", run_training)


def add_grpo(commands) -> None:
    _add_recipe_command(commands, "grpo", "fine-tune with the five rewards", run_training)


def add_predict(commands) -> None:
    _add_recipe_command(commands, "predict", "ask a model about every sample", run_predict)


def _add_recipe_command(commands, name: str, purpose: str, run) -> None:
    # TRL's parser reads the rest: every field of the recipe is an option, and --help lists them.
    command = commands.add_parser(name, help=purpose, add_help=False)
    command.set_defaults(run=run, command=name, passes_on=True)


def run_training(args) -> None:
    from stvgkit.training import recipes

    out, report = recipes.train(args.command, args.argv)
    _say(f"{report}\nwrote {out}" if out else str(report))


def run_predict(args) -> None:
    from stvgkit.training import recipes

    out, scores, report = recipes.ask(args.argv)
    _say(f"{scores.table()}\n\n{report}\nwrote {out}")


def _say(text: str) -> None:
    """Print once, however many processes `accelerate launch` started."""
    from stvgkit.training.evaluation import processes

    if processes().is_main_process:
        print(text)


def _add_benchmark(command, benchmarks: Sequence[str], *, required: bool) -> None:
    """The options that name annotations."""
    command.add_argument("--benchmark", required=required, choices=benchmarks, help="which one")
    command.add_argument(
        "--annotations", required=required, type=Path, help="its file; for vue-stg, its folder"
    )
    command.add_argument("--boxes", type=Path, help="vidstg: folder of VidOR's JSON files")


def _add_sample(command) -> None:
    """The options that name one sample; `_sample` reads them."""
    from stvgkit.datasets import BENCHMARKS

    _add_benchmark(command, BENCHMARKS, required=False)
    command.add_argument("--id", help="which sample; the first where none is named")
    command.add_argument("--video", type=Path, help="the video file")
    command.add_argument("--videos", type=Path, help="folder of the benchmark's videos")


def _sample(args):
    from stvgkit.viewing.play import find_sample

    if not (args.annotations and args.benchmark):
        raise InputError("--annotations and --benchmark go together: give both or neither")
    where = {"video": args.video, "videos": args.videos, "boxes": args.boxes}
    return find_sample(args.benchmark, args.annotations, args.id, **where)


def _refuse(args, names: Sequence[str], why: str) -> None:
    """Options that would be passed over in silence."""
    for name in names:
        if getattr(args, name):
            raise InputError(f"--{name} {why}")


def _beside(target):
    """Where to talk about a file: not on standard output where the file itself goes there."""
    from stvgkit.files import is_stdout

    return sys.stderr if is_stdout(target) else sys.stdout


def add_plan(commands) -> None:
    _add_recipe_command(commands, "plan", "what a recipe needs, before it is started", run_plan)


def run_plan(args) -> None:
    from stvgkit.files import write_json
    from stvgkit.training.plan import plan

    needs, gpus, path = plan(args.argv)
    print(needs.table(gpus), file=_beside(path))
    if path:
        write_json(path, needs.as_dict(gpus))


def add_prepare(commands) -> None:
    from stvgkit.plugins.files import FRAMEWORKS, SPACES

    prepare = commands.add_parser(
        "prepare",
        help="check a benchmark's videos and write a split that everything else reads",
        description="Read a benchmark's annotations, check every video, and write samples.jsonl "
        "and report.json, which counts and lists by reason what was skipped or changed.",
    )
    _add_benchmark(prepare, ["hcstvg", "vidstg", "vue-stg"], required=True)
    prepare.add_argument(
        "--videos", type=Path, help="folder, searched to the end; without it no video is checked"
    )
    prepare.add_argument("--out", type=Path, required=True, help="folder to write")
    prepare.add_argument(
        "--check",
        choices=["shown", "full"],
        default="shown",
        help="which frames to decode: those that a model is shown at 2 a second, or all",
    )
    prepare.add_argument(
        "--for",
        dest="framework",
        choices=FRAMEWORKS,
        help="write OUT/FRAMEWORK/rows.* as well, which this framework trains on, and its frames",
    )
    prepare.add_argument(
        "--space",
        choices=SPACES,
        default="0-1000",
        help="--for: numbers of the answers; 0-1000 for Qwen3-VL, pixels for Qwen2.5-VL",
    )
    prepare.add_argument("--max-frames", type=int, help="--for: most frames shown of a clip")
    prepare.set_defaults(run=run_prepare)


def run_prepare(args) -> None:
    from stvgkit.datasets.prepare import prepare

    if args.max_frames is not None and not args.framework:
        raise InputError("--max-frames needs --for: only clips that are written out have frames")
    if args.framework == "verl":
        need("prepare --for verl", "train", "pyarrow")
    account = prepare(
        args.benchmark,
        args.annotations,
        args.videos,
        args.out,
        boxes=args.boxes,
        check=args.check,
    )
    skipped = sum(reason["count"] for reason in account["skipped"].values())
    print(f"{account['samples']} samples written to {args.out}, {skipped} skipped:")
    for kind in ("skipped", "changed"):
        for reason, listed in account[kind].items():
            print(f"  {kind} {listed['count']:>6}  {reason}")
    if args.videos is None:
        print("no video was looked at: give --videos to check them")
    print(f"all ids are in {args.out / 'report.json'}")
    if args.framework:
        from stvgkit.plugins.files import write_training_file

        form = {"space": args.space, "max_frames": args.max_frames}
        path, count, report = write_training_file(args.framework, args.out, **form)
        print(f"{count} rows for {args.framework}: {path}\n{report}".strip())


def add_score(commands) -> None:
    from stvgkit.datasets import BENCHMARKS
    from stvgkit.metrics import PROTOCOLS
    from stvgkit.readers import READERS

    score = commands.add_parser(
        "score",
        help="score a file of predictions against a benchmark's annotations",
        description="Predictions: the .jsonl of stvgkit predict, HC-STVG's official .json, or "
        "VUE-STG's .csv. A missing or unparsable prediction scores 0.",
    )
    _add_benchmark(score, BENCHMARKS, required=True)
    score.add_argument("--predictions", type=Path, required=True, help="file to score")
    score.add_argument(
        "--protocol", choices=PROTOCOLS, help="how to count; default, or vue-stg on vue-stg"
    )
    score.add_argument("--reader", choices=READERS, help="who reads the answers; strict")
    score.add_argument("--json", type=Path, metavar="FILE", help="write the scores here as well")
    score.set_defaults(run=run_score)


def run_score(args) -> None:
    from stvgkit.files import check_target, write_json
    from stvgkit.scoring import score_files

    if args.json:
        check_target(args.json)
    report, notes = score_files(
        args.benchmark,
        args.annotations,
        args.predictions,
        protocol=args.protocol,
        boxes=args.boxes,
        reader=args.reader,
    )
    print(report.table(), file=_beside(args.json))
    if args.json:
        write_json(args.json, report.as_dict())
    if str(notes):
        print(f"\n{notes}", file=sys.stderr)


def add_info(commands) -> None:
    info = commands.add_parser("info", help="what a video or an annotation file holds")
    info.add_argument("path", type=Path, metavar="VIDEO|ANNOTATIONS", help="a file, or a folder")
    info.set_defaults(run=run_info)


def run_info(args) -> None:
    from stvgkit.datasets.folder import VIDEO_SUFFIXES

    if args.path.suffix.lower() not in VIDEO_SUFFIXES:
        from stvgkit.datasets.info import describe

        print(describe(args.path))
        return
    from stvgkit.video import probe

    video = probe(args.path)
    print(
        f"{args.path}: {video.width}x{video.height} pixels, {video.num_frames} frames, "
        f"{video.fps:.6g} frames per second, {video.duration:.3f} seconds"
    )


def add_play(commands) -> None:
    from stvgkit.readers import READERS

    play = commands.add_parser(
        "play",
        help="write a page that plays a video with boxes over it",
        description="Either --video with --answer, or --benchmark with --annotations and --id; "
        "the page is one file that plays anywhere and asks for nothing.",
    )
    _add_sample(play)
    play.add_argument("--query", help="the sentence to show above it")
    play.add_argument("--answer", type=Path, help="text file with a model's answer")
    play.add_argument("--space", default="0-1000", help="the answer's numbers: 0-1000 or 640x360")
    play.add_argument("--reader", choices=READERS, default="strict", help="who reads the answers")
    play.add_argument("--fps", type=float, default=2.0, help="frames a second the model was shown")
    play.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a predictions file; may be given several times, to compare",
    )
    play.add_argument(
        "--window", metavar="START-END", help="seconds to show; default: all, or around the boxes"
    )
    play.add_argument("--budget-mb", type=float, default=5.0, help="most megabytes of HTML")
    play.add_argument("--out", type=Path, default=Path("player.html"), help="the page to write")
    play.set_defaults(run=run_play)


def run_play(args) -> None:
    from stvgkit.files import check_target
    from stvgkit.viewing.play import play_answer, play_sample

    check_target(args.out)
    options = {"query": args.query, "seconds": args.window, "reader": args.reader}
    options["budget_mb"] = args.budget_mb
    if args.annotations or args.benchmark:
        _refuse(args, ["answer"], "is for a bare --video: give --predictions for a sample")
        player = play_sample(_sample(args), args.benchmark, args.predictions, **options)
    elif args.video:
        needs = "needs --annotations and --benchmark: they say which sample is meant"
        _refuse(args, ["predictions", "id", "videos", "boxes"], needs)
        player = play_answer(args.video, args.answer, args.space, args.fps, **options)
    else:
        raise InputError("nothing to play: give --video, or --benchmark with --annotations")
    player.save(args.out)
    print(f"{args.out}: {player!r}", file=_beside(args.out))
    for note in player.data["notes"]:
        print(note, file=_beside(args.out))


def add_lab(commands) -> None:
    lab = commands.add_parser(
        "lab",
        help="write a page in which an answer is bent by hand and the rewards follow",
        description="Without options, a sample clip that comes with the repository. The page is "
        "one file that works anywhere and asks for nothing.",
    )
    _add_sample(lab)
    lab.add_argument("--answer", type=Path, help="text file with the answer to start from")
    lab.add_argument("--space", default="0-1000", help="the answer's numbers: 0-1000 or 640x360")
    lab.add_argument("--out", type=Path, default=Path("lab.html"), help="the page to write")
    lab.set_defaults(run=run_lab)


def run_lab(args) -> None:
    from stvgkit.datasets import data_samples
    from stvgkit.files import check_target
    from stvgkit.viewing.play import lab_of_sample

    check_target(args.out)
    if not (args.annotations or args.benchmark):
        needs = "needs --annotations and --benchmark: a reward needs gold boxes"
        _refuse(args, ["video", "videos", "boxes"], needs)
        args.benchmark, args.videos = "hcstvg", data_samples() / "opencv"
        args.annotations = args.videos / "annotations.json"
    lab = lab_of_sample(_sample(args), args.answer, args.space)
    lab.save(args.out)
    print(f"{args.out}: {lab!r}", file=_beside(args.out))
