"""The tables of many runs: what each run is, and what the page says of results made by hand."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(root):
    """The modules in benchmarks/, by name."""
    import importlib

    sys.path.insert(0, str(root / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(root / "benchmarks"))


def scores(m_tiou, m_viou):
    return {"m_tIoU": m_tiou / 100, "m_vIoU": m_viou / 100}


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
args = parser.parse_args()
stages = lambda: [[(name, seed) for seed in args.seeds] for name in args.names]
many_runs.work(args, stages, one, many_runs.finished, lambda found: f"page of {sorted(found)}")
"""

    def test_runs_are_made_in_their_order_once_and_a_failure_is_named(self, root, tmp_path):
        script, out, found = tmp_path / "made.py", tmp_path / "out", tmp_path / "found.json"
        script.write_text(self.SCRIPT)

        def call(*argv):
            command = [sys.executable, str(script), "--out", str(out), *argv]
            paths = {"PYTHONPATH": f"{root / 'benchmarks'}:{root}", "PATH": "/usr/bin:/bin"}
            return subprocess.run(command, capture_output=True, text=True, env=paths)

        first = call("--seeds", "0", "1", "--json", str(found), "--write", str(tmp_path / "page"))
        assert first.returncode == 0, first.stderr
        assert (tmp_path / "page").read_text() == "page of ['0', '1']"
        assert set(json.loads(found.read_text())["1"]) == {"first", "second"}
        done = out / "seed0" / "first.txt"
        assert done.read_text() == "at work\n"
        done.write_text("kept")
        again = call("--seeds", "0", "1", "2")
        assert again.returncode == 0 and done.read_text() == "kept"
        assert (out / "seed2" / "second" / "metrics.json").exists()
        bad = call("--seeds", "0", "--names", "bad")
        assert bad.returncode == 1 and "bad, seed 0 failed; " in bad.stderr
        assert "as planned" in (out / "seed0" / "bad.txt").read_text()
        assert call("--seeds", "7").returncode == 2  # there is no row with so many seeds


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
        starts, rows = ablation.stages(["full", "no-think-boxes"], [3])
        assert starts == [("sft", 3), ("sft-no-think", 3)]
        for name, seed in starts + rows:
            ablation.run_one(tmp_path, name, seed)
        assert tuned["sft"][0] == tuned["sft-no-think"][0] == "sft"
        assert tuned["sft"][2]["think"] is True and tuned["sft-no-think"][2]["think"] is False
        assert tuned["full"][:2] == ("grpo", str(tmp_path / "seed3" / "sft"))
        assert tuned["no-think-boxes"][:2] == ("grpo", str(tmp_path / "seed3" / "sft-no-think"))

    def test_seeds_of_rows(self, bench):
        _, rows = bench("ablation").stages(["l1", "to-go", "no-format"], [0, 4])
        assert rows == [("l1", 0), ("to-go", 0), ("no-format", 0), ("l1", 4), ("to-go", 4)]

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
        page = bench("ablation").page({"steps": 9, "shown": 8, "seeds": seeds})
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
        last = page.splitlines()[-1]
        assert last.startswith("Not run yet") and last.count("`") == 2 * (16 - 6 + 1)

    def test_page_is_the_shipped_one(self, bench, root):
        results = json.loads((root / "data_samples" / "logs" / "ablation.json").read_text())
        assert bench("ablation").page(results) == (root / "docs" / "ablation.md").read_text()
