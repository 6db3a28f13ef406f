"""The tiny VLM: its tokenizer, its pre-training, and what the shipped checkpoint can do."""

import json

import numpy as np
import pytest
import torch

from stvgkit.datasets.shapes import COLOURS, EVENTS, SHAPES, render, scene_of
from stvgkit.rows import gold_text, plan_row
from stvgkit.tiny import CHECKPOINT
from stvgkit.tiny.learning import Pretraining
from stvgkit.tiny.pictures import CHANGES, draw_clips, draw_pictures, thing_changes, to_patches
from stvgkit.tiny.pretrain import STAGES, main
from stvgkit.tiny.tokenizer import build_tokenizer
from stvgkit.training.evaluation import complete
from stvgkit.training.models import load


class TestTokenizer:
    tokenizer = build_tokenizer()

    @pytest.mark.parametrize(
        "text",
        [
            "<time> 5 - 7 </time>\n<think_bbox> 5. [27, 30, 100, 0], 6. [1, 2, 3, 4] </think_bbox>",
            "find: the red circle that moves left",
            *[f"the {c} {s} that {e}" for c in COLOURS for s in SHAPES for e in EVENTS],
        ],
    )
    def test_round_trip(self, text):
        ids = self.tokenizer(text).input_ids
        assert self.tokenizer.unk_token_id not in ids
        assert self.tokenizer.decode(ids) == text

    def test_a_number_is_one_token(self):
        assert all(len(self.tokenizer(str(n)).input_ids) == 1 for n in range(101))

    def test_unknown_words_are_unknown_not_an_error(self):
        ids = self.tokenizer("the flamboyant \N{SNOWMAN} pangolin").input_ids
        assert ids.count(self.tokenizer.unk_token_id) >= 2


class TestPretraining:
    def test_patches_are_those_of_the_processor(self):
        frames = render(scene_of("train", 0), [0, 12])
        processor = Pretraining(0).processor
        expected = processor.image_processor(images=list(frames), return_tensors="pt")
        assert torch.allclose(to_patches(frames), expected["pixel_values"], atol=1e-5)

    def test_pictures_and_answers_agree(self):
        rng = np.random.default_rng(0)
        for pictures in (draw_pictures(rng, 4, 3), draw_clips(rng, 4, 3)):
            b, k, i = np.argwhere(pictures.visible)[0]
            x1, y1, x2, y2 = json.loads(pictures.box(b, k, i))
            centre = pictures.frames[b, k, (y1 + y2) * 64 // 200, (x1 + x2) * 64 // 200]
            colour = list(COLOURS.values())[pictures.colours[b, i]]
            alone = pictures.visible[b, k].sum() == 1
            assert not alone or np.abs(centre.astype(int) - colour).max() < 90

    def test_changes_are_those_of_the_boxes(self):
        pictures = draw_pictures(np.random.default_rng(0), 1, 3, things=2)
        pictures.visible[0] = [[True, False], [True, True], [True, True]]
        pictures.boxes[0, :, 0] = [[0.1, 0.1, 0.3, 0.3], [0.4, 0.1, 0.6, 0.3], [0.4, 0.1, 0.6, 0.3]]
        pictures.boxes[0, 1:, 1] = [[0.5, 0.5, 0.6, 0.6], [0.45, 0.45, 0.65, 0.65]]
        rows, frames, things, kinds = thing_changes(pictures)
        found = {(k, i): CHANGES[n] for k, i, n in zip(frames, things, kinds, strict=True)}
        assert not rows.any()
        assert found == {(1, 0): "right", (1, 1): "appears", (2, 0): "none", (2, 1): "grows"}

    @pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
    def test_a_few_steps_lower_the_loss(self, stage):
        run = Pretraining(0)
        pictures = draw_pictures(run.rng, 12, stage.frames[1][-1])

        def loss():
            if stage.text is None:
                return run.encoder_loss(pictures)[0]
            rng = np.random.default_rng(0)
            texts = [stage.text(pictures, b, rng, turns=3) for b in range(12)]
            return run.text_loss(pictures, texts, stage.changes)[0]

        parameters = [*run.model.parameters(), *run.heads.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3)
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            losses.append(loss())
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]

    def test_one_command_makes_a_checkpoint_and_goes_on_after_a_stop(self, tmp_path):
        main(["--out", str(tmp_path), "--scale", "0.002"])
        log = json.loads((tmp_path / "pretraining.json").read_text())["log"]
        assert [line["stage"] for line in log] == [stage.name for stage in STAGES]
        (tmp_path / "dialogue" / "log.json").unlink()  # as if stopped in the last stage
        kept = (tmp_path / "places" / "log.json").stat().st_mtime_ns
        main(["--out", str(tmp_path), "--scale", "0.002"])
        assert (tmp_path / "places" / "log.json").stat().st_mtime_ns == kept
        assert load(str(tmp_path)).clip_format.space == "0-100"


class TestCheckpoint:
    def test_is_small_and_without_pickles(self):
        files = list(CHECKPOINT.iterdir())
        assert sum(path.stat().st_size for path in files) <= 10e6
        assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]

    def test_log_is_that_of_the_stages(self):
        record = json.loads((CHECKPOINT / "pretraining.json").read_text())
        last = {line["stage"]: line["step"] for line in record["log"]}
        assert last == {stage.name: stage.steps for stage in STAGES}

    def test_points_at_the_right_thing(self):
        run = Pretraining(0)
        run.model = load("tiny").model
        figures = run.point(draw_pictures(np.random.default_rng(1), 64, 1))
        assert figures["right"] > 0.9 and figures["IoU"] > 0.7

    def test_has_never_answered_an_stvg_question(self, tmp_path):
        from stvgkit.datasets import read_prepared
        from stvgkit.datasets.shapes import write_shapes

        tiny = load("tiny")
        samples = read_prepared(write_shapes(tmp_path, "validation", 4))
        rows = [plan_row(sample, tiny.clip_format) for sample in samples]
        assert not any("<time>" in text for text in complete(tiny, rows, max_new_tokens=20))
        assert all("<time>" in gold_text(row) for row in rows)
