"""Stvgkit as people install it: a wheel, in fresh environments, away from the repository.

    python tests/install_wheel.py          numpy alone: numpy 1.26 on the oldest Python at hand,
                                           the newest numpy on the newest
    python tests/install_wheel.py --all    every extra (gigabytes): the demo, a player, a recipe

`make test-wheel` and `make test-wheel-all` run these. The functions named `inside_...` run in the
fresh environment, where this file is all that is left of the repository.
"""

from __future__ import annotations

import argparse
import doctest
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINORS = range(11, 15)  # Python 3.11 to 3.14
# Doctests that write a video or draw a progress line, which numpy alone cannot.
NEED_VIDEO = {
    "stvgkit.datasets.shapes.write_shapes",
    "stvgkit.progress.Progress",
    "stvgkit.rows.plan_rows",
}

# --- outside: build, install, call ----------------------------------------------------------------


def build(folder: Path) -> Path:
    """The wheel, which must hold every file of the package and of data_samples that git knows."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # files that are deleted since would go along
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    (wheel,) = folder.glob("*.whl")
    tracked = run("git", "-C", ROOT, "ls-files", "stvgkit", "data_samples").split("\n")
    wanted = {name.replace("data_samples/", "stvgkit/data_samples/", 1) for name in tracked if name}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted, f"wheel and repository differ: {sorted(held ^ wanted)}"
    return wheel


def pythons() -> list[str]:
    """Every Python at hand that stvgkit supports, one of each version, the oldest first."""
    found = {}
    for minor in MINORS:
        named = shutil.which(f"python3.{minor}")
        places = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for python in [*filter(None, [named]), *map(str, places)]:
            said = subprocess.run([python, "-c", "import sys; print(sys.version_info.minor)"],
                                  capture_output=True, text=True)  # fmt: skip
            if said.returncode == 0 and said.stdout.strip() == str(minor):
                found.setdefault(minor, python)
    found.setdefault(sys.version_info.minor, sys.executable)
    return [found[minor] for minor in sorted(found)]


def check(python: str, *packages: Path | str, inside: str) -> None:
    """Install packages into an environment of its own; run `inside` there."""
    with tempfile.TemporaryDirectory() as folder:
        env, work = Path(folder, "env"), Path(folder, "work")
        work.mkdir()
        run(python, "-m", "venv", "--without-pip", env)
        its_python = env / "bin" / "python"
        start = time.perf_counter()
        run(sys.executable, "-m", "pip", "-q", "--python", its_python, "install", *packages)
        seconds = time.perf_counter() - start
        (ours,) = env.glob("lib/*/site-packages/stvgkit")
        script = shutil.copy(__file__, work)
        said = run(its_python, "-I", script, "--inside", inside, cwd=work)
        print(
            f"{said.strip()}: installed in {seconds:.0f} s, {megabytes(env):.1f} MB, "
            f"of which stvgkit {megabytes(ours):.1f}"
        )


def megabytes(folder: Path) -> float:
    """The size of all files below a folder, compiled ones too; a link counts as a link."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def run(*command, cwd: Path | None = None) -> str:
    """What a command prints; where it fails, all that it said and the end of this script."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


# --- inside the fresh environment -----------------------------------------------------------------


def stvgkit(*argv, code: int = 0) -> str:
    """Both outputs of the installed command, which must end with this exit code."""
    command = Path(sysconfig.get_path("scripts"), "stvgkit")
    done = subprocess.run([command, *map(str, argv)], capture_output=True, text=True)
    assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def inside_core() -> str:
    """Numpy alone: import, doctests, scores, rewards, and what a missing extra says."""
    installed = {found.name for found in distributions()}
    assert installed == {"stvgkit", "numpy"}, installed
    import numpy as np

    from stvgkit import CoordinateSpace, Tube, score_answer
    from stvgkit.datasets import data_samples, read_benchmark
    from stvgkit.rewards import temporal_reward

    examples = doctests()
    clips = data_samples() / "opencv"
    perfect = {}
    for sample in read_benchmark("hcstvg", clips / "annotations.json", clips):
        size = [sample.width, sample.height] * 2
        boxes = (sample.tube.boxes * size).tolist()
        frames = dict(zip((sample.tube.frames + 1).tolist(), boxes, strict=True))
        ends = {"st_frame": sample.span.start + 1, "ed_frame": sample.span.end + 1}
        perfect[sample.id] = {**ends, "bbox": frames}
    Path("perfect.json").write_text(json.dumps(perfect))
    read = ["--benchmark", "hcstvg", "--annotations", clips / "annotations.json"]
    stvgkit("score", *read, "--predictions", "perfect.json", "--json", "scores.json")
    metrics = json.loads(Path("scores.json").read_text())["metrics"]
    assert abs(metrics["m_vIoU"] - 1) < 1e-6, metrics
    assert "2 samples" in stvgkit("info", clips / "annotations.json")
    assert "no video was looked at" in stvgkit("prepare", *read, "--out", "split")

    text = """<time> 1 - 1 </time> <think_bbox> 1. [0, 0, 50, 50] </think_bbox>
    <pred_bbox> 1. [0, 0, 50, 50] </pred_bbox>"""
    gold = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    assert score_answer(text, gold, CoordinateSpace.relative(100)).total == 4.5
    columns = {"target_frames": [[1, 2]], "target_boxes": [gold.boxes.tolist()], "space": ["0-100"]}
    assert temporal_reward([text], **columns) == [0.5]

    for command in (["predict", "--help"], ["demo"], ["play", "--video", clips / "box.mp4"]):
        told = stvgkit(*command, code=2)
        assert told.count("\n") == 1 and "pip install 'stvgkit[" in told, told
    version = ".".join(map(str, sys.version_info[:2]))
    return f"Python {version}, numpy {np.__version__} alone: {examples} examples hold"


def doctests() -> int:
    """Run the examples of every module that loads here; returns how many there were."""
    import stvgkit
    from stvgkit.errors import MissingExtra

    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
    heavy = ("stvgkit.video", "stvgkit.viewing", "stvgkit.training", "stvgkit.tiny")
    for module in pkgutil.walk_packages(stvgkit.__path__, "stvgkit.", onerror=lambda name: None):
        if module.name.startswith(heavy) or module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(loaded):
            with tempfile.TemporaryDirectory() as folder:
                test.globs["getfixture"] = lambda name, folder=folder: Path(folder)
                if test.name not in NEED_VIDEO:
                    runner.run(test)
    for name in heavy:
        try:
            importlib.import_module(name)
        except MissingExtra:
            continue
        raise AssertionError(f"{name} loads with numpy alone")
    assert not runner.failures, f"{runner.failures} examples fail"
    return runner.tries


def inside_all() -> str:
    """Every extra: the demo from another folder, a player, a recipe."""
    from stvgkit.datasets import data_samples
    from stvgkit.training.recipes import parse

    clips = data_samples() / "opencv"
    stvgkit("demo", "--smoke", "--out", "out")
    assert {"base", "sft", "grpo"} <= set(json.loads(Path("out/metrics.json").read_text())["rows"])
    read = ["--benchmark", "hcstvg", "--annotations", clips / "annotations.json"]
    stvgkit("play", *read, "--videos", clips, "--out", "player.html")
    assert "data:video/mp4" in Path("player.html").read_text()
    _, model, config = parse("sft", ["tiny-sft", "--data", "train", "--out", "sft"])
    assert (model.model_name_or_path, config.output_dir) == ("tiny", "sft"), (model, config)
    return f"Python {sys.version.split()[0]}, every extra: demo, player, recipe"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--inside", choices=["core", "all"])
    args = parser.parse_args()
    if args.inside:
        print(inside_core() if args.inside == "core" else inside_all())
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        if args.all:
            check(sys.executable, f"{wheel}[all]", inside="all")
        else:
            oldest, *_, newest = [*pythons(), *pythons()]
            check(oldest, wheel, "numpy==1.26.*", inside="core")
            check(newest, wheel, "numpy>=2", inside="core")
