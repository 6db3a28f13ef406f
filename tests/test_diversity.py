"""What GRPO has to learn from: the numbers by hand, and runs that look at them."""

import itertools
import json
import statistics

import numpy as np
import pytest

from stvgkit.diversity import flattened, group_diversity
from stvgkit.errors import InputError

BOX = "1. [0, 0, 9, 9]"
ONE = f"<time> 1 - 1 </time> <think_bbox> {BOX} </think_bbox> <pred_bbox> {BOX} </pred_bbox>"
BROKEN = ONE.replace("</think_bbox>", "</pred_bbox>")  # its time is whole


class TestGroupDiversity:
    def test_numbers_of_groups_written_by_hand(self):
        texts = [[ONE, BROKEN, "<time>2-3</time>"], ["", "\ud800 <time>", "<time> 0 - 12 </time>"]]
        totals = [[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        found = group_diversity(texts, totals)
        assert (found.groups, found.size, found.silent) == (2, 3, 0.5)
        assert found.spread == pytest.approx(statistics.stdev(totals[0]) / 2)
        assert found.spans == (2 + 1) / 2 and found.timed == 4 / 6

    def test_the_same_span_in_other_words_is_one_span(self):
        texts = [["<time> 1 - 2 </time>", "\n<time>1-2</time> and more", "<time>01 - 02</time>"]]
        assert group_diversity(texts, [[0, 1, 2]]).spans == 1

    @pytest.mark.parametrize(
        "texts, totals, said",
        [
            (["<time>1-2</time>", "<time>1-3</time>"], [0, 1], "differ enough"),
            (["<time>1-2</time>", "<time>1-2</time>"], [0, 1], "too little"),  # one span
            (["<time>1-2</time>", "<time>1-3</time>"], [2, 2], "too little"),  # one reward
            (["no", "none"], [0, 0], "Not one answer begins with a time"),
            (["<time>1-2</time>"], [1], "too little"),  # a group of one has nothing to compare
        ],
    )
    def test_the_verdict_follows_from_them(self, texts, totals, said):
        assert said in group_diversity([texts], [totals]).verdict()


def noisy(mean, steps, seed=0):
    return (mean + 0.1 * np.random.default_rng(seed).standard_normal(steps)).tolist()


class TestFlattened:
    def test_a_rise_under_noise_is_seen(self):
        rising = (np.linspace(1, 2, 40) + noisy(0, 40)).tolist()
        assert flattened(rising, [0.01] * 40, 20) is None

    def test_level_reward_with_spread_left_goes_on(self):
        assert flattened(noisy(4, 40)[::-1], [0.5] * 20 + [0.3] * 20, 20) is None

    def test_level_reward_whose_spread_is_gone_is_flat(self):
        level = list(itertools.chain.from_iterable([4.1, 3.9] for _ in range(20)))
        said = flattened(level, [0.8] * 20 + [0.1] * 20, 20)
        assert said == "R stays at 4.00, and spreads by 0.10 within groups (0.80 at the start)"

    def test_groups_that_were_silent_from_the_start_are_flat(self):
        assert "0.00 at the start" in flattened([0.0] * 6, [0.0] * 6, 3)

    def test_two_windows_are_needed(self):
        assert flattened([4.0] * 5, [0.0] * 5, 3) is None
        assert flattened([], [], 3) is None

    def test_a_fall_is_no_rise(self):
        assert flattened([4, 4, 1, 1], [0.0] * 4, 2)


@pytest.mark.slow
class TestRuns:
    """The base model of the tiny world knows no answers: every group is silent."""

    SETTINGS = {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 6,
        "report_to": "none",
        "disable_tqdm": True,
    }

    @pytest.fixture(scope="class")
    def rows(self, tmp_path_factory):
        pytest.importorskip("trl")
        from stvgkit.datasets import read_prepared
        from stvgkit.datasets.shapes import write_shapes

        return list(read_prepared(write_shapes(tmp_path_factory.mktemp("shapes"), "train", 3)))

    def run(self, samples, out, **settings):
        from stvgkit.rows import plan_row
        from stvgkit.training.models import TINY, load
        from stvgkit.training.trainers import grpo

        grounder = load(TINY)
        rows = [plan_row(sample, grounder.clip_format) for sample in samples]
        return grpo(grounder, rows, out, **self.SETTINGS | settings)

    @pytest.mark.parametrize("share", [True, False])
    def test_a_check_is_printed_and_changes_nothing(self, rows, tmp_path, capsys, share):
        said = {}
        for prompts in (0, 2):
            settings = {"check_diversity": prompts, "share_prompt": share}
            self.run(rows, tmp_path / str(prompts), max_steps=2, **settings)
            said[prompts] = capsys.readouterr().out.splitlines()
        assert said[0] == []
        assert said[2][0] == "Before training, 2 prompts with 2 answers each:"
        assert said[2][1].startswith("R spreads by 0.00 within a group, 100% of the groups are")
        assert said[2][2].startswith("Not one answer begins with a time")
        logs = [(tmp_path / name / "groups.jsonl").read_text() for name in "02"]
        assert logs[0] == logs[1] and '"completions"' in logs[0]

    def test_a_run_that_is_flat_says_so_once_and_can_stop(
        self, rows, tmp_path, capsys, monkeypatch
    ):
        from functools import partial

        from stvgkit.training import trainers
        from stvgkit.training.runs import is_trained

        monkeypatch.setattr(trainers, "FlatCheck", partial(trainers.FlatCheck, window=2))
        steps, said = {}, {}
        for stop in (False, True):
            out = self.run(rows, tmp_path / str(stop), max_steps=6, stop_when_flat=stop)
            log = json.loads((out / "log.json").read_text())
            steps[stop] = max(line["step"] for line in log)
            said[stop] = capsys.readouterr().out.splitlines()
            assert is_trained(out) and (out / "model.safetensors").exists()
            assert [line["group_reward_std"] for line in log if "reward" in line] == [0.0] * steps[
                stop
            ]
        assert steps == {False: 6, True: 4}
        begin = "Reward and spread have flattened at step 4: R stays at 0.00, "
        assert [len(lines) for lines in said.values()] == [1, 1]
        assert said[False][0].startswith(begin) and said[True][0].startswith(begin)
        assert said[False][0].endswith("; stop_when_flat would stop here.")
        assert said[True][0].endswith("; training stops here.")
        self.run(rows, tmp_path / "True", max_steps=6, stop_when_flat=True)
        assert "finished: nothing was done" in capsys.readouterr().out

    def test_the_logged_spread_is_that_within_groups(self, rows, tmp_path, monkeypatch):
        """Rewards by hand in place of the model's: 0, 1 | 4, 4, and the mean over groups."""
        from stvgkit.rewards import REWARDS
        from stvgkit.training import group_log

        def reward(self, completions, log_extra=None, **columns):
            first = self.reward is REWARDS[0]
            if first and log_extra:
                for column in group_log.REWARD_COLUMNS:
                    log_extra(column, columns[column])
            return [0.0, 1.0, 4.0, 4.0] if first else [0.0] * 4

        monkeypatch.setattr(group_log.Reward, "__call__", reward)
        out = self.run(rows, tmp_path, max_steps=1)
        log = json.loads((out / "log.json").read_text())
        assert log[0]["group_reward_std"] == pytest.approx(statistics.stdev([0, 1]) / 2)

    def test_a_negative_number_of_prompts_is_refused(self, rows, tmp_path):
        from stvgkit.training.recipes import parse

        with pytest.raises(InputError, match="check_diversity is -1: give"):
            self.run(rows, tmp_path, max_steps=1, check_diversity=-1)
        with pytest.raises(InputError, match="check_diversity is -1: give 0 or more"):
            parse("grpo", ["tiny-grpo", "--check_diversity", "-1"])
