"""The tables of many runs: what each run is, and what the page says of results made by hand."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from stvgkit.datasets import Sample
from stvgkit.predictions import Prediction
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.plots import imitation_lines, imitation_scores

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


def scores(m_tiou, m_viou):
    return {"m_tIoU": m_tiou / 100, "m_vIoU": m_viou / 100}


LESSON = "notebooks/py/06_grpo_with_trl.py"


def one_line(root, name):
    """The text of a page or lesson on one line, without marks."""
    text = (root / name).read_text().replace("\n# ", "\n")
    return " ".join(text.replace("*", "").split())


def shown_clip(name, start, end):
    """A clip of 29 frames, of which every 4th is shown, with one box from `start` to `end`."""
    frames = list(range(start, end + 1))
    about = {"query": "it", "video": None, "width": 64, "height": 64, "fps": 8.0}
    tube = Tube(frames, [[0.2, 0.2, 0.4, 0.4]] * len(frames))
    return Sample(id=name, window=Span(0, 28), span=Span(start, end), tube=tube, **about)


def shipped(root, name):
    return json.loads((root / "data_samples" / "logs" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "doc"),
    [("ablation", "ablation"), ("demo_seeds", "results"), ("imitation", "imitation")],
)
def test_page_is_made_from_the_shipped_scores(bench, root, name, doc):
    assert bench(name).page(shipped(root, name)) == (root / "docs" / f"{doc}.md").read_text()


class TestDemoSeeds:
    def test_readme_has_the_rows_of_the_page(self, root):
        page, readme = ((root / name).read_text() for name in ("docs/results.md", "README.md"))
        table = next(part for part in page.split("\n\n") if part.startswith("|  | m_tIoU"))
        rows = table.splitlines()[2:]
        assert len(rows) == 5 and "\n".join(rows) in readme

    def test_texts_quote_the_shipped_scores(self, root):
        """The figures of README's and lesson 06's sentences, reckoned anew."""
        seeds = shipped(root, "demo_seeds")["seeds"].values()
        demos, fresh = ([runs[name] for runs in seeds] for name in ("demo", "fresh"))
        longer = [runs["longer"]["m_vIoU"] for runs in seeds if "longer" in runs]
        readme, lesson = one_line(root, "README.md"), one_line(root, LESSON)

        def gains(runs, clips, metric):
            rows = [of[clips] for of in runs]
            return [100 * (row["grpo"][metric] - row["sft"][metric]) for row in rows]

        both = [
            tuple(np.mean(gains(runs, clips, metric)) for metric in ("m_vIoU", "m_tIoU"))
            for runs, clips in (
                (demos, "rows"), (fresh, "rows"), (demos, "parsed_before"),
                (fresh, "parsed_before"), (demos, "novel"),
            )
        ]  # fmt: skip
        old, new = (gains(runs, "rows", "m_vIoU") for runs in (demos, fresh))
        for said in (
            f"it gains {both[0][0]:.1f} points of m_vIoU in the mean, between {min(old):.1f} and "
            f"{max(old):.1f} in the five seeds, and {both[0][1]:.1f} points of m_tIoU",
            f"gain {both[1][0]:.1f} points of m_vIoU (between {min(new):.1f} and {max(new):.1f}) "
            f"and {both[1][1]:.1f} of m_tIoU",
            f"gain {both[4][0]:.1f} points of m_vIoU",
            f"run for three seeds, ends with an m_vIoU of {100 * np.mean(longer):.1f}",
            f"GRPO gains {both[2][0]:.1f} points of m_vIoU and {both[2][1]:.1f} of m_tIoU in the "
            f"mean, and {both[3][0]:.1f} and {both[3][1]:.1f} on the fresh clips",
        ):
            assert said in readme
        for said in (
            f"m_vIoU rises by {both[0][0]:.1f} points in the mean of five seeds, and by "
            f"{both[1][0]:.1f} on the fresh clips",
            f"m_vIoU rises by {both[2][0]:.1f} points, and by {both[3][0]:.1f} on the fresh clips. "
            f"m_tIoU rises by {both[2][1]:.1f} and by {both[3][1]:.1f}",
        ):
            assert said in lesson

    def test_gains_by_form_add_up(self, root):
        for runs in shipped(root, "demo_seeds")["seeds"].values():
            rows, parts = runs["demo"]["rows"], runs["demo"]["gain_by_form"]
            assert sum(parts.values()) == pytest.approx(
                rows["grpo"]["m_vIoU"] - rows["sft"]["m_vIoU"]
            )

    def test_settings_are_those_of_the_shipped_scores(self, bench, root):
        for name, settings in (
            ("demo_seeds", asdict(bench("demo_seeds").BUDGET)),
            ("ablation", bench("ablation").SETTINGS),
            ("imitation", bench("imitation").SETTINGS),
        ):
            found = shipped(root, name)
            assert {key: found[key] for key in settings} == json.loads(json.dumps(settings))

    def test_where_no_answer_parsed_there_is_a_dash(self, bench, root):
        results = shipped(root, "demo_seeds")
        seeds = results["seeds"] = {"0": results["seeds"]["0"], "1": results["seeds"]["1"]}
        for seed in seeds:
            for row in seeds[seed]["demo"]["parsed_before"].values():
                row |= {"m_tIoU": None, "m_vIoU": None if seed == "0" else 0.5}
        page = bench("demo_seeds").page(results)
        lines = [line for line in page.splitlines() if line.startswith("| gain |")]
        cells = [cell.strip() for cell in lines[0].split("|")[2:4]]
        assert cells == ["- (-, -)", "+0.0 (-, +0.0)"]

    def test_best_of_eight_says_whether_the_two_are_told_apart(self, bench, root):
        results = shipped(root, "demo_seeds")
        told = "so the two are not told apart."
        assert told in bench("demo_seeds").page(results)
        for runs in results["seeds"].values():
            best = runs["demo"]["pass@8"]
            best["grpo"] = best["sft"] + 0.05
        page = bench("demo_seeds").page(results)
        assert told not in page and "The gain is +5.0 ± 0.0 points." in page
        results["seeds"] = {"0": results["seeds"]["0"]}
        assert "The gain is +5.0 points, and one seed says" in bench("demo_seeds").page(results)

    def test_without_a_longer_run_or_a_demo(self, bench, root):
        results = shipped(root, "demo_seeds")
        for runs in results["seeds"].values():
            runs.pop("longer", None)
        page = bench("demo_seeds").page(results)
        assert "SFT for as long" not in page and "## Gain of SFT + GRPO" in page
        with pytest.raises(SystemExit, match="no demo is done yet"):
            bench("demo_seeds").page(results | {"seeds": {"0": {}}})

    def test_what_starts_from_a_demo_waits_for_it_and_for_no_other(self, bench, tmp_path):
        stages = bench("demo_seeds").stages
        first, then = stages([0, 2], [2], tmp_path)
        assert first == [("demo", 0), ("demo", 2)]
        assert then == [("fresh", 0), ("fresh", 2), ("longer", 2)]
        done = {("demo", 0), ("fresh", 0)}
        assert stages([0], [], tmp_path, done) == [[], []]
        with pytest.raises(SystemExit, match="seed 0 was begun elsewhere: copy its folder demo"):
            stages([0], [0], tmp_path, done)

    def test_form_by_length_takes_the_first_quarter(self, bench, tmp_path):
        says = ["<time> 2 - 4 </time>", "<time> 2 - 4 </time>", "<time> 0 - 0 </time>", "no time"]
        says.append("<time> 4 - 2 </time>")
        formats = [[1.0, 0.0, 1.0, 0.0, 0.0]] + 3 * [[0.0] * 5]
        groups = [
            {
                "id": "c",
                "step": 1,
                "completions": says,
                "rewards": {"format": kept},
                "total": kept,
                "advantages": kept,
            }
            for kept in formats
        ]
        (tmp_path / "groups.jsonl").write_text("".join(json.dumps(g) + "\n" for g in groups))
        assert bench("demo_seeds").form_by_length(tmp_path) == {
            "1": {"answers": 1, "broken": 0},
            "3": {"answers": 2, "broken": 1},
            "none": {"answers": 2, "broken": 2},
        }

    def test_the_best_constant_span_by_hand(self, bench):
        """Two clips of 8 frames, every 4th shown: frames 0 to 1, and 0 to 3."""
        clips = [shown_clip("1", 0, 4), shown_clip("2", 0, 12)]
        found = bench("demo_seeds").constant_span(clips)
        assert found["start"] == 0 and found["end"] in (1, 3)
        assert found["m_tIoU"] == pytest.approx((1 + 5 / 13) / 2)  # right for one of them

    def test_without_seeds_or_scores_it_says_what_to_give(self, bench, tmp_path, monkeypatch):
        for name in ("demo_seeds", "ablation", "imitation"):
            argv = [name, "--out", str(tmp_path), "--json", str(tmp_path / "nothing.json")]
            monkeypatch.setattr(sys, "argv", argv)
            with pytest.raises(SystemExit, match="there is no run yet: give --seeds"):
                bench(name).main()


class TestManyRuns:
    def test_interval_by_hand(self, bench):
        mean, half = bench("many_runs").interval([1.0, 2.0, 3.0])
        assert mean == 2.0 and half == pytest.approx(4.303 / 3**0.5, abs=1e-3)
        assert bench("many_runs").interval([5.0]) == (5.0, float("inf"))

    SCRIPT = """
import json, sys
from pathlib import Path
import many_runs
from stvgkit import demo
demo.read_split = lambda *a: []

def one(out, name, seed):
    folder = out / f"seed{seed}" / name
    assert name != "bad", "as planned"
    if name == "second":
        assert (out / f"seed{seed}" / "first" / "metrics.json").exists()
    folder.mkdir(parents=True)
    print("at work")
    row = dict.fromkeys([*demo.METRICS, "unparsed", "samples", "seconds"], 0.5)
    (folder / "metrics.json").write_text(json.dumps(row))

parser = many_runs.options("what it is", "unused")
parser.add_argument("--names", nargs="+", default=["first", "second"])
parser.add_argument("--steps", type=int, default=5)
args = parser.parse_args()

def stages(done):
    last = args.names[-1]
    seeds = [seed for seed in args.seeds if (last, seed) not in done]
    return [[(name, seed) for seed in seeds] for name in args.names]

many_runs.work(
    args, stages, one,
    many_runs.finished,
    lambda found: f"page of {sorted(found['seeds'])}",
    {"steps": args.steps},
)
"""

    @pytest.fixture
    def call(self, root, tmp_path):
        script = tmp_path / "made.py"
        script.write_text(self.SCRIPT)

        def call(out, *argv):
            command = [sys.executable, str(script), "--out", str(out), *argv]
            paths = {"PYTHONPATH": f"{root / 'benchmarks'}:{root}", "PATH": "/usr/bin:/bin"}
            return subprocess.run(command, capture_output=True, text=True, env=paths)

        return call

    def test_runs_are_made_in_their_order_once_and_a_failure_is_named(self, call, tmp_path):
        out, found = tmp_path / "out", tmp_path / "found.json"
        page = tmp_path / "page"
        first = call(out, "--seeds", "0", "1", "--json", str(found), "--write", str(page))
        assert first.returncode == 0, first.stderr
        assert page.read_text() == "page of ['0', '1']"
        assert set(json.loads(found.read_text())["seeds"]["1"]) == {"first", "second"}
        done = out / "seed0" / "first.txt"
        assert done.read_text() == "at work\n"
        done.write_text("kept")
        again = call(out, "--seeds", "0", "1", "2")
        assert again.returncode == 0 and done.read_text() == "kept"
        assert (out / "seed2" / "second" / "metrics.json").exists()
        bad = call(out, "--seeds", "3", "--names", "first", "bad", "--json", str(found))
        assert bad.returncode == 1 and "bad, seed 3 failed; " in bad.stderr
        # What was made before the failure counts.
        assert set(json.loads(found.read_text())["seeds"]["3"]) == {"first"}
        assert "as planned" in (out / "seed3" / "bad.txt").read_text()
        one = ("--processes", "1")
        assert call(out, "--seeds", "0", "1", "4", "--names", "bad", *one).returncode == 1
        assert (out / "seed0" / "bad.txt").exists()
        assert not (out / "seed4" / "bad.txt").exists()  # no other begins after a failure
        assert call(out, "--seeds", "7").returncode == 2  # there is no row with so many seeds

    def test_a_table_is_made_over_several_machines(self, call, tmp_path):
        """What the file of scores holds is kept and not run again where no folder is."""
        found, there, here = tmp_path / "found.json", tmp_path / "there", tmp_path / "here"
        assert call(there, "--seeds", "0", "1", "--json", str(found)).returncode == 0
        scores = json.loads(found.read_text())
        scores["seeds"]["0"]["first"]["m_vIoU"] = 0.25  # as only that run can have scored
        del scores["seeds"]["1"]["second"]
        found.write_text(json.dumps(scores))
        second = call(here, "--seeds", "0", "1", "2", "--json", str(found))
        assert second.returncode == 0, second.stderr
        assert sorted(path.name for path in here.glob("seed*")) == ["seed1", "seed2"]
        scores = json.loads(found.read_text())["seeds"]
        assert scores["0"]["first"]["m_vIoU"] == 0.25 and list(scores) == ["0", "1", "2"]
        assert all(set(rows) == {"first", "second"} for rows in scores.values())
        alone = call(tmp_path / "nothing", "--json", str(found))
        assert alone.stdout.strip() == "page of ['0', '1', '2']"
        before = found.read_text()
        other = call(here, "--seeds", "0", "3", "--json", str(found), "--steps", "9")
        assert other.returncode == 1 and "steps is 5 there and 9 here; give another" in other.stderr
        assert found.read_text() == before and not (here / "seed3").exists()
        other = call(here, "--seeds", "0", "--steps", "9")
        assert other.returncode == 1 and "here holds another run: steps is 5" in other.stderr

    def test_a_folder_that_cannot_be_read_does_not_cost_the_others(self, call, tmp_path):
        out, found = tmp_path / "out", tmp_path / "found.json"
        assert call(out, "--seeds", "0").returncode == 0
        (out / "seed0" / "first" / "metrics.json").write_text("{")
        (out / "seed0" / "second" / "metrics.json").write_text("[]")
        done = call(out, "--seeds", "1", "--json", str(found))
        assert done.returncode == 0
        for name in ("first", "second"):
            assert f"left out: {out / 'seed0' / name}, which cannot be read (" in done.stdout
        seeds = json.loads(found.read_text())["seeds"]
        assert {seed: set(rows) for seed, rows in seeds.items()} == {"1": {"first", "second"}}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"steps": 5, "seeds', "is damaged (Unterminated string"),
            ("", "is damaged (Expecting value"),
            ("[]", "holds no results of this benchmark"),
            ('{"shown": 8, "seeds": {}}', "holds no results of this benchmark"),
            ('{"steps": 5, "seeds": []}', "holds no results of this benchmark"),
            ('{"steps": 5, "seeds": {"9": {}}}', "holds seed 9; there are seeds 0 to 4"),
        ],
    )
    def test_a_file_that_holds_no_scores_is_refused_and_kept(self, call, tmp_path, text, said):
        found = tmp_path / "found.json"
        found.write_text(text)
        for argv in ((), ("--seeds", "0")):
            done = call(tmp_path / "out", *argv, "--json", str(found))
            assert done.returncode == 1 and f"{found} {said}" in done.stderr
            assert "Traceback" not in done.stderr and found.read_text() == text
        assert not (tmp_path / "out").exists()


class TestAblation:
    def test_every_row_writes_as_many_answers_a_step_in_whole_groups(self, bench):
        from stvgkit.training.trainers import GRPO_DEFAULTS

        ablation = bench("ablation")
        for row in ablation.ROWS.values():
            settings = GRPO_DEFAULTS | ablation.BUDGET.grpo | row.change
            batch = settings["per_device_train_batch_size"]
            assert batch * settings["gradient_accumulation_steps"] == 64
            assert batch % settings["num_generations"] == 0

    def test_rows_without_think_boxes_have_a_start_of_their_own(self, bench, tmp_path, monkeypatch):
        ablation, tuned = bench("ablation"), {}

        def tune(trainer, base, clips, folder, **settings):
            tuned[folder.name] = (trainer.__name__, base, settings)

        monkeypatch.setattr(ablation.demo, "read_split", lambda *a: [])
        monkeypatch.setattr(ablation.demo, "tune", tune)
        monkeypatch.setattr(ablation.demo, "evaluate", lambda *a: None)
        monkeypatch.setattr(ablation.demo, "measured", lambda folder, work: work(folder))
        starts, rows = ablation.stages(["full", "no-think-boxes"], [3], tmp_path)
        assert starts == [("sft", 3), ("sft-no-think", 3)]
        for name, seed in starts + rows:
            ablation.run_one(tmp_path, name, seed)
        assert tuned["sft"][0] == tuned["sft-no-think"][0] == "sft"
        assert tuned["sft"][2]["think"] is True and tuned["sft-no-think"][2]["think"] is False
        assert tuned["full"][:2] == ("grpo", str(tmp_path / "seed3" / "sft"))
        assert tuned["no-think-boxes"][:2] == ("grpo", str(tmp_path / "seed3" / "sft-no-think"))

    def test_seeds_of_rows(self, bench, tmp_path):
        stages = bench("ablation").stages
        _, rows = stages(["l1", "to-go", "no-format"], [0, 4], tmp_path)
        assert rows == [("l1", 0), ("to-go", 0), ("no-format", 0), ("l1", 4), ("to-go", 4)]
        wanted = stages(["l1", "no-think-boxes"], [0], tmp_path, {("no-think-boxes", 0)})
        assert wanted == [[("sft", 0)], [("l1", 0)]]

    def test_a_seed_goes_on_from_its_own_start_alone(self, bench, tmp_path):
        """Another start, made anew on this machine, would not be the one of the other rows."""
        stages = bench("ablation").stages
        with pytest.raises(SystemExit, match="seed 2 was begun elsewhere: copy its folder sft to"):
            stages(["full", "l1"], [2], tmp_path, {("sft", 2), ("full", 2)})
        start = tmp_path / "seed2" / "sft" / "metrics.json"
        start.parent.mkdir(parents=True)
        start.write_text("{}")
        wanted = stages(["full", "l1"], [2], tmp_path, {("sft", 2), ("full", 2)})
        assert wanted == [[("sft", 2)], [("l1", 2)]]
        assert stages(["full"], [1], tmp_path, {("sft", 1), ("full", 1)}) == [[], []]

    def test_page_tells_differences_apart_and_lists_what_is_missing(self, bench):
        full = [(70, 60), (72, 62), (71, 61)]
        changed = {
            "giou": [(70, 57), (72, 59.2), (71, 57.8)],  # worse in m_vIoU, as in the paper
            "l1": [(72, 63), (74, 65), (73, 64.2)],  # better in both, unlike the paper
            "to-go": [(69, 57), (71, 58.8), (70.1, 58)],  # the paper has no such row
            "parts": [(60, 70), (80, 50), (71, 61)],
        }
        seeds = {
            str(seed): {"sft": scores(60, 50), "full": scores(*full[seed])}
            | {name: scores(*rows[seed]) for name, rows in changed.items()}
            for seed in range(3)
        }
        seeds["0"]["beta-0.02"] = scores(71, 61)
        for seed, rows in enumerate(seeds.values()):
            for row in rows.values():
                over = {"start": {"m_tIoU": 0.02, "m_vIoU": 0.03 + 0.01 * seed}}
                over["full"] = {"m_tIoU": -0.01, "m_vIoU": None}
                row |= {"form_share": 0.875, "broken": seed, "over": over}
        seeds["0"]["l1"]["form_share"] = None  # all its groups were silent
        grpo = {"max_steps": 9, "temperature": 1.0}
        about = {"clips": {"test": 12}, "shown": 8, "sft": {}, "grpo": grpo}
        page = bench("ablation").page(about | {"seeds": seeds})
        assert "*Without think boxes* starts" not in page and "12 test clips" in page
        page, _, before = page.partition("## Clips whose answer parses before and after")
        lines = {line.split(" | ")[0][2:]: line for line in page.splitlines() if line[:2] == "| "}
        cells = [cell.strip() for cell in lines["spatial reward: GIoU alone"].split("|")[1:-1]]
        assert cells[1:4] == ["3", "71.0", "58.0"]
        assert cells[4:6] == ["+0.0 ± 0.0", "-1.7"]  # 58.6 - 60.3 in the paper's table
        assert cells[6] == "-3.0 ± 0.5" and cells[7] == "-3.5"
        assert cells[8] == "In m_tIoU not told apart, in m_vIoU same direction as in the paper."
        assert lines["spatial reward: L1 alone"].endswith("| Opposite to the paper. |")
        assert lines["credit: to-go"].endswith("| Worse than full. |")
        assert lines["credit: parts"].endswith("| Not told apart. |")
        assert lines["β = 0.02"].endswith("| +1.0 |  | +1.0 |  | One seed says nothing yet. |")
        assert lines["SFT alone"].startswith("| SFT alone | 3 | 60.0 | 50.0 |")
        assert "groups of 2 answers" not in page
        missing = page.partition("Still to be run:\n\n")[2].splitlines()
        assert "- `full`: 3 of 5 seeds are there" in missing
        assert "- `no-think-reward`: 0 of 5 seeds are there" in missing
        assert "- `beta-0.02`: 1 of 3 seeds are there" in missing
        assert sum(line.startswith("- ") for line in missing) == 17
        lines = {line.split(" | ")[0][2:]: line for line in before.splitlines() if line[:2] == "| "}
        gains = "| 3 | 1.0 | +2.0 ± 0.0 | +4.0 ± 2.5 |"
        assert lines["spatial reward: L1 alone"].endswith(f"{gains} -1.0 ± 0.0 | - | 88% |")
        full = "full: the paper's five rewards and credit"
        assert lines[full].endswith(f"{gains}  |  | 88% |")
        for of in seeds.values():
            del of["l1"]["over"]["full"]  # gathered where no full run was
            of["sft-no-think"] = scores(66, 52.5)
        page = bench("ablation").page(about | {"seeds": seeds})
        assert "+4.0 ± 2.5 | - | - | 88% |" in page
        assert "differs from the other by +2.5 ± 0.0 points of m_vIoU" in page

    def test_accuracy_is_told_on_clips_that_parse_before_and_after(
        self, bench, tmp_path, monkeypatch
    ):
        """Four clips: right before and after, broken since, mended since, half right before."""
        ablation = bench("ablation")
        sample, whole = shown_clip("0", 0, 8), Prediction(shown_clip("0", 0, 8).tube)
        half, broken = Prediction(shown_clip("0", 0, 3).tube), Prediction(None)
        samples = [replace(sample, id=str(k)) for k in range(4)]
        told = {
            "sft": dict(zip("0123", (whole, whole, broken, half), strict=True)),
            "full": dict(zip("0123", (half, whole, whole, broken), strict=True)),
            "l1": dict(zip("0123", (whole, broken, whole, whole), strict=True)),
        }
        monkeypatch.setattr(ablation, "read_completions", lambda path: told[path.parent.name])
        monkeypatch.setattr(ablation, "scores", lambda folder: {})
        row = ablation.read_run(samples, tmp_path / "l1")
        gained = 1 - 4 / 9  # 4 of 9 frames were right before
        assert row["over"]["start"]["m_tIoU"] == pytest.approx(gained / 2)  # of clips 0 and 3
        assert row["over"]["start"]["samples"] == 2 and row["broken"] == 1
        assert "full" not in row["over"] and row["form_share"] is None
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "metrics.json").touch()
        (tmp_path / "l1").mkdir()
        group = {"id": "c", "step": 1, "completions": ["a", "b"], "advantages": [1.0, -1.0]}
        group |= {"total": [3.0, 0.0], "rewards": {"format": [1.0, 0.0]}}
        (tmp_path / "l1" / "groups.jsonl").write_text(json.dumps(group) + "\n")
        row = ablation.read_run(samples, tmp_path / "l1")
        assert row["over"]["full"]["m_tIoU"] == pytest.approx(gained)  # of clip 0
        assert row["form_share"] == pytest.approx(1)
        assert "full" not in ablation.read_run(samples, tmp_path / "full")["over"]
        told["sft"] = dict.fromkeys("0123", broken)
        over = ablation.read_run(samples, tmp_path / "l1")["over"]["start"]
        assert over == {"m_tIoU": None, "m_vIoU": None, "samples": 0}

    def test_lessons_quote_the_shipped_scores(self, bench, root):
        rows = list(shipped(root, "ablation")["seeds"].values())

        def over(name, other, metric="m_vIoU"):
            return bench("many_runs").gained([row[name]["over"][other][metric] for row in rows])

        def mean(name, other, metric="m_vIoU"):
            return over(name, other, metric).split()[0].lstrip("+-")

        lesson = one_line(root, LESSON)
        for said in (
            f"whole gains nothing there: {over('full', 'start')} points of m_vIoU over SFT. It "
            f"loses {mean('full', 'start', 'm_tIoU')} points of m_tIoU",
            f"Parts and boxes gain accuracy: {mean('parts', 'start')} and {mean('boxes', 'start')} "
            f"points of m_vIoU over SFT, and {mean('parts', 'full')} and {mean('boxes', 'full')} "
            "over whole",
            f"It breaks up to {max(row['parts']['broken'] for row in rows)} answers",
        ):
            assert said in lesson
        lead, start = (
            100 * np.mean([row[mine]["m_vIoU"] - row[other]["m_vIoU"] for row in rows])
            for mine, other in (("no-think-boxes", "full"), ("sft-no-think", "sft"))
        )
        lesson = one_line(root, "notebooks/py/07_evaluation.py")
        assert f"ends {lead:.1f} points ahead, where the paper's ends 2.3 behind" in lesson
        assert f"its SFT was {start:.1f} ahead" in lesson

    def test_form_share_by_hand(self, bench):
        def group(total, kept):
            return {"total": total, "rewards": {"format": kept}}

        share = bench("ablation").form_share
        assert share([group([0.0, 0.0, 2.0, 4.0], [0, 0, 1, 1])]) == pytest.approx(9 / 11)
        assert share([group([3.0, 3.0], [1, 1]), group([0.0, 0.0], [0, 0])]) is None


class TestNoisyAnnotators:
    @pytest.fixture(scope="class")
    def samples(self):
        """Clips whose gold spans begin and end at the window's edge, or leave room."""

        def sample(number, start, end):
            clip = shown_clip(str(number), start, end)
            boxes = [[0.5, 0.5, 0.7, 0.9]] * len(clip.tube.frames)
            boxes[0], boxes[-1] = [0.0, 0.0, 0.2, 0.4], [0.8, 0.6, 1.0, 1.0]
            return replace(clip, tube=Tube(clip.tube.frames, boxes))

        spans = [(0, 28), (4, 8), (12, 24), (0, 4), (20, 28)] * 60
        return [sample(number, *span) for number, span in enumerate(spans)]

    def test_a_third_of_the_spans_is_off_by_one_shown_frame_at_one_end(self, bench, samples):
        imitation = bench("imitation")
        marked = imitation.noisy(samples, 0)
        moved = [
            {after.span.start - before.span.start, after.span.end - before.span.end}
            for before, after in zip(samples, marked, strict=True)
        ]
        off = [ends for ends in moved if ends != {0}]
        assert len(off) == len(samples) / 3
        assert all(ends in ({0, 4}, {0, -4}) for ends in off)
        assert {4, -4} == set().union(*off) - {0}
        for sample in marked:
            assert 0 <= sample.span.start <= sample.span.end <= 28
            assert sample.tube.frames.tolist() == sample.span.frames().tolist()

    def test_edges_move_by_a_tenth_of_the_box_at_most_and_stay_in_the_frame(self, bench, samples):
        moves = []
        for before, after in zip(samples, bench("imitation").noisy(samples, 0), strict=True):
            assert after.tube.boxes.min() >= 0 and after.tube.boxes.max() <= 1
            here = [frame in before.span for frame in after.tube.frames]
            places = after.tube.frames[here] - before.span.start
            gold, boxes = before.tube.boxes[places], after.tube.boxes[here]
            sides = np.tile(gold[:, 2:] - gold[:, :2], 2)
            moves.append((boxes - gold) / sides)
        inner = np.concatenate(moves)
        assert np.abs(inner).max() <= 0.1 + 1e-9
        assert inner.std() == pytest.approx(0.1 / 3**0.5, rel=0.05)  # of an even distribution

    def test_a_seed_marks_the_same_and_another_marks_otherwise(self, bench, samples):
        noisy = bench("imitation").noisy
        assert noisy(samples, 1) == noisy(samples, 1)
        assert noisy(samples, 1) != noisy(samples, 2)
        assert samples[0].tube.boxes[1].tolist() == [0.5, 0.5, 0.7, 0.9]  # left as they were


class TestImitation:
    def test_sft_goes_on_for_as_many_steps_as_fit_into_the_seconds_of_grpo(self, bench, tmp_path):
        imitation = bench("imitation")
        for part, seconds in (("start", 50.0), ("grpo", 125.0)):
            folder = tmp_path / f"exact-{part}-64"
            folder.mkdir()
            (folder / "cpu.json").write_text(json.dumps({"seconds": seconds}))
        wanted = round(imitation.SFT_STEPS * 2.5)
        assert imitation.steps_of(tmp_path / "exact-sft-64") == wanted

    def test_what_each_run_learns_from(self, bench, tmp_path, monkeypatch):
        imitation, tuned = bench("imitation"), {}

        def tune(trainer, base, clips, folder, **settings):
            tuned[folder.name] = (Path(base).name, clips)

        monkeypatch.setattr(imitation.demo, "read_split", lambda *a: list(range(1344)))
        monkeypatch.setattr(imitation.demo, "tune", tune)
        monkeypatch.setattr(imitation.demo, "evaluate", lambda *a: None)
        monkeypatch.setattr(imitation.demo, "measured", lambda folder, work: work(folder))
        monkeypatch.setattr(imitation, "steps_of", lambda folder: 7)
        monkeypatch.setattr(imitation, "noisy", lambda clips, seed: [-clip for clip in clips])
        runs = imitation.stages(["exact", "noisy"], [256, 1344], [0])
        assert [name.split("-")[1] for stage in runs for name, _ in stage[:1]] == [
            "start", "grpo", "sft",
        ]  # fmt: skip
        for name, seed in [run for stage in runs for run in stage]:
            imitation.run_one(tmp_path, name, seed)
        assert tuned["exact-start-256"] == ("tiny", list(range(256)))
        assert tuned["exact-sft-256"] == ("exact-start-256", list(range(256)))
        assert tuned["exact-grpo-256"] == ("exact-start-256", list(range(256, 1344)))
        assert tuned["noisy-grpo-256"][1] == [-clip for clip in range(256, 1344)]
        assert tuned["exact-grpo-1344"] == ("exact-start-1344", list(range(1344)))

    def test_a_run_that_was_stopped_begins_anew(self, bench, tmp_path, monkeypatch):
        """Its seconds would else be those of the rest alone."""
        imitation = bench("imitation")
        folder = tmp_path / "seed0" / "exact-start-64"
        folder.mkdir(parents=True)
        (folder / "half").touch()
        monkeypatch.setattr(imitation.demo, "read_split", lambda *a: [])
        monkeypatch.setattr(imitation.demo, "measured", lambda *a: None)
        imitation.run_one(tmp_path, "exact-start-64", 0)
        assert not folder.exists()

    def test_texts_quote_the_shipped_scores(self, root):
        cells = imitation_scores(shipped(root, "imitation"))
        mean = {cell: 100 * np.mean(seeds, axis=0) for cell, seeds in cells.items()}

        def gains(part, *numbers, who="exact"):  # over the start; part 1 is SFT, 2 is GRPO
            told = [f"{mean[who, n][part] - mean[who, n][0]:.1f}" for n in numbers]
            return " and ".join([", ".join(told[:-1]), told[-1]] if told[1:] else told)

        few, many = (64, 128, 256), (672, 1344)
        readme, lesson = one_line(root, "README.md"), one_line(root, LESSON)
        assert f"gains {gains(2, *few)} points of m_vIoU over that start" in readme
        assert f"SFT gains {gains(1, *many)} points, and GRPO {gains(2, *many)}." in readme
        assert f"SFT on 672 clips ends at {mean['exact', 672][1]:.1f}," in readme
        assert f"GRPO gains {gains(2, *few)} points over the start." in lesson
        assert f"SFT gains {gains(1, *many)} points, and GRPO {gains(2, *many)}." in lesson
        lost = gains(1, 256, who="noisy").removeprefix("-")
        assert f"reads wrong answers again loses {lost} points at 256" in lesson

    def test_gathering_and_the_page(self, bench, tmp_path):
        imitation = bench("imitation")
        of_parts = {"start": [40, 42], "sft": [50, 52], "grpo": [55, 58]}
        for seed in range(2):
            for part, values in of_parts.items():
                for who in ("exact", "noisy")[: 2 - seed]:
                    folder = tmp_path / f"seed{seed}" / f"{who}-{part}-64"
                    folder.mkdir(parents=True)
                    row = dict.fromkeys(imitation.demo.METRICS, values[seed] / 100)
                    row |= {"unparsed": 1, "samples": 256, "seconds": 9.0, "groups": {}}
                    (folder / "metrics.json").write_text(json.dumps(row))
                    (folder / "cpu.json").write_text('{"seconds": 8.5}')
        results = imitation.SETTINGS | {"seeds": imitation.gather(tmp_path)}
        assert results["seeds"]["1"]["exact-grpo-64"]["m_vIoU"] == 0.58
        assert results["seeds"]["0"]["noisy-sft-64"]["cpu"] == 8.5
        page = imitation.page(json.loads(json.dumps(results)))
        differences = "+10.0 ± 0.0 | +15.5 ± 6.4 | +5.5 ± 6.4"  # of 10 and 10, 15 and 16, 5 and 6
        assert f"| 64 | 2 | 41.0 | 51.0 | 56.5 | {differences} | Not told apart. |" in page
        one = "| 64 | 1 | 40.0 | 50.0 | 55.0 | +10.0 | +15.0 | +5.0 | One seed says nothing yet. |"
        assert one in page
        missing = page.partition("Still to be run:\n\n")[2].splitlines()
        assert len(missing) == 10 and missing[0] == "- `exact` 64: 2 of 3 seeds are there"
        assert missing[-1] == "- `noisy` 1,344: 0 of 3 seeds are there"
        assert imitation_lines(results).data[4].y == pytest.approx((56.5,))
