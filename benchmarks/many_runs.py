"""Many training runs for one table: each in a process of its own, a few at a time, and kept.

A run has a name and a seed, and the folder `OUT/seed{seed}/{name}`. It is done when `metrics.json`
is in there, as `stvgkit.demo.measured` writes it, and is not made again; what it said is in
`{name}.txt` beside the folder. `OUT/run.json` has the settings that all of them share. Nor is a run
made again whose scores the `--json` file holds, so that a table of several hours is made over
several sittings, and on several machines.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pages import publish
from tqdm.auto import tqdm

from stvgkit import demo
from stvgkit.errors import InputError
from stvgkit.files import write_json
from stvgkit.training.runs import claim, differences

# Two-sided 95 % points of Student's t distribution for n - 1 degrees of freedom.
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
MOST_SEEDS = max(T95)
# 896 beside those whose answers the demo's SFT is shown.
CLIPS = {"train": 1344, "test": demo.FULL.clips["test"]}

Run = tuple[str, int]  # a name and a seed


def options(doc: str, out: str) -> argparse.ArgumentParser:
    """A parser with what such a benchmark takes; `out` is where its runs lie."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", choices=range(MOST_SEEDS), default=[])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time")
    parser.add_argument("--json", type=Path, help="file of all scores: new ones are added to it")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    parser.add_argument("--one", nargs=2, metavar=("RUN", "SEED"), help=argparse.SUPPRESS)
    return parser


def work(
    args: argparse.Namespace,
    stages: Callable[[set[Run]], Sequence[Sequence[Run]]],
    run_one: Callable[[Path, str, int], None],
    gather: Callable[[Path], dict],
    page: Callable[[dict], str],
    settings: dict,
    clips: dict[str, int] = CLIPS,
) -> dict | None:
    """Make the runs that the options ask for, gather their scores, and print and write the page.

    Returns the results, and None in the process of a single run.

    `stages` is told which runs are done, in other folders, and says which are to be made, those of
    a stage after those of the stages before. `run_one` makes a run, in the process that is started
    for it. `gather` returns the scores of the runs that are there, `{seed: {name: metrics}}`. The
    results, and the file of them, are the `settings` that all runs share, and beside them `seeds`:
    all scores. Without `--seeds` no run is made. What was made before a failure is kept. So many
    `clips` of each split lie in `OUT/data` before the first run.
    """
    if args.one:
        run_one(args.out, args.one[0], int(args.one[1]))
        return None
    there = args.json is not None and args.json.exists()
    results = _read(args.json, settings) if there else settings | {"seeds": {}}
    if args.seeds:
        _check_settings(args, results, settings)
        wanted = stages(_runs(results))
        try:
            for split, count in clips.items():  # now, and not by two runs at a time
                demo.read_split(args.out, split, count)
            _make(args.out, wanted, args.processes)
        finally:  # what was made before a failure or an interruption counts
            results["seeds"] = _joined(results["seeds"], gather(args.out))
            if args.json:
                write_json(args.json, results)
    elif not there:
        results["seeds"] = gather(args.out)
    if not results["seeds"]:
        raise SystemExit("there is no run yet: give --seeds, or a --json that holds some")
    publish(page(results), args.write)
    return results


def check_start(out: Path, run: Run, done: Set[Run]) -> None:
    """Refuse to go on from a run that was made elsewhere and does not lie in `out`.

    Made again here it would not be the same to the last bit, and what starts from it could not be
    compared with what started from the other.
    """
    name, seed = run
    if run in done and not (out / f"seed{seed}" / name / "metrics.json").exists():
        raise SystemExit(
            f"seed {seed} was begun elsewhere: copy its folder {name} to {out}/seed{seed}, or "
            "leave the seed out"
        )


def _runs(results: dict) -> set[Run]:
    """The runs whose scores are there."""
    return {(name, int(seed)) for seed, rows in results["seeds"].items() for name in rows}


def _read(path: Path, settings: dict) -> dict:
    """The results that a `--json` file holds; one that holds anything else is refused."""
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise SystemExit(f"{path} is damaged ({error}): delete or mend it") from error
    named = isinstance(results, dict) and results.keys() == {*settings, "seeds"}
    if not named or not isinstance(results["seeds"], dict):
        raise SystemExit(f"{path} holds no results of this benchmark: give another --json")
    if unknown := results["seeds"].keys() - set(map(str, range(MOST_SEEDS))):
        raise SystemExit(f"{path} holds seed {min(unknown)}; there are seeds 0 to {MOST_SEEDS - 1}")
    return results


def _check_settings(args: argparse.Namespace, held: dict, settings: dict) -> None:
    """Scores of other settings do not belong into the same table, nor runs into the same folder."""
    if found := differences({name: held[name] for name in settings}, settings):
        raise SystemExit(f"{args.json} holds other runs: {'; '.join(found)}; give another --json")
    try:
        claim(args.out, settings, begun=(args.out / "run.json").exists())
    except InputError as error:
        raise SystemExit(str(error)) from error


def _joined(held: dict, own: dict) -> dict:
    """The scores of both; a run that both have made counts as made here."""
    return {seed: held.get(seed, {}) | own.get(seed, {}) for seed in sorted({*held, *own})}


def _make(out: Path, stages: Sequence[Sequence[Run]], processes: int) -> None:
    bar = tqdm(total=sum(map(len, stages)), desc="runs")
    for runs in stages:
        with ThreadPoolExecutor(processes) as pool:
            codes = pool.map(lambda run: _start(out, *run), runs)
            try:
                for (name, seed), code in zip(runs, codes, strict=True):
                    bar.update()
                    if code:
                        log = out / f"seed{seed}" / f"{name}.txt"
                        raise SystemExit(f"{name}, seed {seed} failed; {log} says why")
            except BaseException:  # an interruption too: no other run begins
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start(out: Path, name: str, seed: int) -> int:
    folder = out / f"seed{seed}"
    if (folder / name / "metrics.json").exists():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, sys.argv[0], "--out", str(out), "--one", name, str(seed)]
    with (folder / f"{name}.txt").open("w") as log:
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=one_thread)
    return done.returncode


def scores(folder: Path) -> dict:
    """What `stvgkit.demo.measured` wrote of a run, without the groups of samples."""
    row = json.loads((folder / "metrics.json").read_text())
    return {key: row[key] for key in (*demo.METRICS, "unparsed", "samples", "seconds")}


def finished(out: Path, read: Callable[[Path], dict] = scores) -> dict[str, dict[str, dict]]:
    """What `read` makes of the folder of every run that is there, as `{seed: {name: metrics}}`.

    A folder that cannot be read is named and left out, so that it does not cost the others.
    """
    seeds: dict[str, dict] = {}
    for path in sorted(out.glob("seed*/*/metrics.json")):
        folder = path.parent
        seed = folder.parent.name.removeprefix("seed")
        try:
            row = read(folder)
        except (OSError, ValueError, LookupError, TypeError) as error:
            tqdm.write(f"left out: {folder}, which cannot be read ({error!r})")
        else:
            seeds.setdefault(seed, {})[folder.name] = row
    return seeds


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval; infinite for a single value.

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.48...)
    """
    if len(values) < 2:
        return float(np.mean(values)), float("inf")
    half = T95[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), half


def with_half(mean: float, half: float) -> str:
    """A difference in points as the page shows it.

    >>> with_half(1.25, 0.5), with_half(-2.0, float("inf"))
    ('+1.2 ± 0.5', '-2.0')
    """
    return f"{mean:+.1f}" + (f" ± {half:.1f}" if np.isfinite(half) else "")


def undecided(mean: float, half: float) -> str | None:
    """Why a difference with this interval says nothing; None where the interval leaves out 0.

    >>> undecided(1.0, 3.0), undecided(1.0, float("inf")), undecided(3.0, 1.0)
    ('not told apart', 'one seed says nothing yet', None)
    """
    if not np.isfinite(half):
        return "one seed says nothing yet"
    return "not told apart" if abs(mean) <= half else None


def gained(differences: Sequence[float | None]) -> str:
    """The mean of differences in points, with half of its interval; None where nothing was scored.

    >>> gained([0.01, 0.02, None, 0.03]), gained([None])
    ('+2.0 ± 2.5', '-')
    """
    found = [100 * value for value in differences if value is not None]
    return with_half(*interval(found)) if found else "-"
