"""What goes into the player's page, without a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from stvgkit.answers import Answer, CoordinateSpace, format_answer
from stvgkit.boxes import iou
from stvgkit.cli import main
from stvgkit.datasets import Sample
from stvgkit.errors import InputError, VideoError
from stvgkit.metrics import score_tube
from stvgkit.predictions import Prediction
from stvgkit.tubes import Span, Tube
from stvgkit.video import probe, read_frames, write_video
from stvgkit.viewing.players import player_assets, player_html, players_page, show_player
from stvgkit.viewing.webvideo import web_video


def box(x: float) -> list[float]:
    return [x, 0.2, x + 0.3, 0.7]


GOLD = Tube(np.arange(4, 17), [box(0.02 * i) for i in range(4, 17)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (20, 48, 64, 3), np.uint8), fps=10)
    return path


@pytest.fixture
def sample(clip) -> Sample:
    return Sample("s", "a box", clip, 64, 48, 10.0, Span(2, 18), GOLD.span, GOLD)


def layer(player, name: str) -> dict:
    return next(layer for layer in player.data["layers"] if layer["name"] == name)


def test_lists_run_over_the_frames_of_the_window(sample):
    player = show_player(sample)
    assert player.data["frames"] == list(range(2, 19))
    assert player.data["start"] == pytest.approx(0.2)
    np.testing.assert_allclose(player.data["times"], np.arange(17) / 10, atol=1e-6)
    gold = layer(player, "gold")
    assert gold["bars"] == [[2, 14]]
    assert [i for i, b in enumerate(gold["boxes"]) if b] == list(range(2, 15))
    np.testing.assert_allclose(gold["boxes"][5], GOLD.at([7]).boxes[0], atol=1e-5)


def test_strip_averages_to_viou(sample):
    rng = np.random.default_rng(1)
    pred = Tube(np.arange(8, 19), rng.random((11, 2)).repeat(2, 0).reshape(11, 4))
    pred = Tube(pred.frames, np.sort(rng.random((11, 2, 2)), axis=1).reshape(11, 4))
    player = show_player(sample, pred=pred)
    strip = [value for value in layer(player, "pred")["iou"] if value is not None]
    expected = score_tube(pred, GOLD)
    assert np.mean(strip) == pytest.approx(expected["vIoU"], abs=1e-3)
    assert layer(player, "pred")["score"] == f"vIoU {expected['vIoU']:.2f} · tIoU " + (
        f"{expected['tIoU']:.2f}"
    )


def test_predictions_are_interpolated_and_marked_where_written(clip):
    sparse = Tube([4, 8, 16], [box(0.1), box(0.3), box(0.2)])
    player = show_player(clip, gold=GOLD, pred=sparse)
    pred = layer(player, "pred")
    assert pred["keys"] == [4, 8, 16] and pred["bars"] == [[4, 16]]
    np.testing.assert_allclose(pred["boxes"][6], box(0.2), atol=1e-5)
    assert pred["iou"][6] == pytest.approx(iou(box(0.2), GOLD.at([6]).boxes)[0], abs=1e-3)
    assert show_player(clip, gold=GOLD, pred=GOLD).data["layers"][1]["keys"] == []


def test_long_gaps_in_gold_stay_empty(tmp_path):
    path = tmp_path / "long.mp4"
    write_video(path, np.zeros((60, 16, 16, 3), np.uint8), fps=10)
    gold = Tube([0, 10, 40], [box(0), box(0.1), box(0.2)])
    assert layer(show_player(path, gold=gold), "gold")["bars"] == [[0, 10], [40, 40]]


def test_several_predictions_each_have_a_look_of_their_own(clip):
    preds = {"base": GOLD, "SFT": GOLD.shift(1), "GRPO": None}
    player = show_player(clip, gold=GOLD, think={"SFT": GOLD}, pred=preds)
    names = [one["name"] for one in player.data["layers"]]
    assert names == ["gold", "base", "SFT think", "SFT"]
    looks = {(one["color"], one["dash"]) for one in player.data["layers"]}
    assert len(looks) == 4


def test_answers_become_layers_texts_and_remarks(sample):
    frames = [2, 7, 12, 17]
    tube = Tube([1, 2], [box(0.1), box(0.2)])
    text = format_answer(Answer(Span(1, 2), tube, tube, True), CoordinateSpace.relative(1000))
    line = {"completion": text, "frames": frames, "space": "0-1000"}
    player = show_player(
        sample, answers={"SFT": line, "base": line | {"completion": "on the left"}}
    )
    assert [one["name"] for one in player.data["layers"]] == [
        "gold", "SFT think", "SFT", "base",
    ]  # fmt: skip
    assert layer(player, "base")["bars"] == [] and "vIoU 0.00" in layer(player, "base")["score"]
    assert layer(player, "SFT")["keys"] == [] and layer(player, "SFT think")["keys"] == [5, 10]
    assert layer(player, "SFT")["bars"] == [[5, 10]]
    assert player.data["texts"][0] == {"name": "What SFT wrote", "text": text}
    assert any("base does not parse" in note for note in player.data["notes"])


LINE = {"frames": [0, 4, 8], "space": "0-1000"}
TAGS = "<time> {} </time> <think_bbox> </think_bbox> <pred_bbox> {} </pred_bbox>"


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        (TAGS.format("0 - 1", ""), "no final box of it can be seen: <pred_bbox> is empty"),
        (TAGS.format("7 - 8", "7. [1, 2, 300, 400]"), "indices 7 to 7, its time is 7 - 8, and the"),
        (TAGS.format("0 - 0", "2. [1, 2, 300, 400]"), "indices 2 to 2, its time is 0 - 0"),
        (TAGS.format("0 - 0", "0. [0.1, 0.2, 0.3, 0.4]"), "thinner than a pixel; are its numbers"),
        (TAGS.format("0 - 0", "0. [5, 5, 5, 900]"), "thinner than a pixel"),
        (None, "The answer is missing: the clip cannot be read"),
    ],
)
def test_an_answer_of_which_nothing_is_seen_says_why(clip, completion, said):
    line = LINE | {"completion": completion, "failed": "the clip cannot be read"}
    player = show_player(clip, answers={"": line})
    assert any(said in note for note in player.data["notes"])
    seen = LINE | {"completion": TAGS.format("0 - 0", "0. [1, 2, 300, 400]")}
    assert not show_player(clip, answers={"": seen}).data["notes"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_play_reads_what_windows_writes_and_says_what_is_wrong(clip, tmp_path, encoding, capsys):
    answer = tmp_path / "answer.txt"
    answer.write_text(TAGS.format("0 - 1", ""), encoding=encoding)
    argv = ["play", "--video", str(clip), "--answer", str(answer)]
    assert main([*argv, "--out", str(tmp_path / "page.html")]) == 0
    assert "no final box of it can be seen: <pred_bbox> is empty" in capsys.readouterr().out


def test_a_claimed_span_without_boxes_is_shown_and_scored(sample):
    player = show_player(sample, pred=Prediction(Tube([], []), Span(4, 16)))
    pred = layer(player, "pred")
    assert pred["bars"] == [[2, 14]] and not any(pred["boxes"])
    assert pred["score"] == "vIoU 0.00 · tIoU 1.00"


def test_times_alone_are_scored_without_boxes(sample):
    player = show_player(replace(sample, tube=None), pred=GOLD.slice(Span(4, 10)))
    assert layer(player, "pred")["score"] == "tIoU 0.54"
    assert layer(player, "gold")["bars"] == [[2, 14]]


class Counter(HTMLParser):
    """Counts the elements of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.json: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if ("type", "application/json") in attrs:
            self.json.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.json and not self.json[-1]:
            self.json[-1] = data


def test_hostile_text_adds_no_element_and_survives_whole(sample):
    nasty = "</script><!--<script>\"'&lt; \u2028 \ud83d </section><iframe src=//x>"
    plain, hostile = (
        Counter(player_html(replace(sample, query=text, id=text), pred={text: GOLD}))
        for text in ("x", nasty)
    )
    assert plain.tags == hostile.tags
    assert json.loads(hostile.json[0])["title"] == nasty


def test_page_of_many_holds_script_and_style_once(sample):
    player = show_player(sample)
    page = players_page([player] * 5, title="<b>Five</b>")
    tags = Counter(page).tags
    assert tags.count("section") == 5 and tags.count("style") == 1 and tags.count("script") == 6
    assert len(page) < 5 * len(player.fragment()) + len(player_assets()) + 1500
    assert "<b>Five" not in page


def test_policy_names_the_very_script_of_the_page(sample):
    import base64
    import hashlib

    page = player_html(sample)
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize("budget_mb", [0.3, 0.5])
def test_large_videos_are_cut_and_scaled_to_the_budget_and_say_so(tmp_path, budget_mb):
    path = tmp_path / "large.mp4"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (8, 270, 480, 3), np.uint8)
    write_video(path, (noise[i % 8] for i in range(40)), fps=8)
    player = show_player(path, gold=Tube(np.arange(40), [box(0.1)] * 40), budget_mb=budget_mb)
    assert len(player.html()) <= budget_mb * 1e6
    (note,) = player.data["notes"]
    assert note.startswith("Shown here: ")
    kept = len(player.data["frames"])
    assert ("seconds" in note) == (kept < 40)
    assert player.data["width"] == 480  # boxes are given in the original's pixels
    assert len(layer(player, "gold")["boxes"]) == kept


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """40 seconds, of which a page of 0.25 MB holds about five."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, np.zeros((200, 48, 64, 3), np.uint8), fps=5)
    return path


def kept(player) -> Span:
    return Span(player.data["frames"][0], player.data["frames"][-1])


def flat(first: int, last: int) -> Tube:
    return Tube(np.arange(first, last + 1), [box(0.1)] * (last - first + 1))


@pytest.mark.parametrize(
    ("gold", "pred", "inside"),
    [
        (flat(150, 160), None, Span(150, 160)),
        (flat(0, 5), flat(8, 10), Span(0, 10)),
        (flat(195, 199), None, Span(195, 199)),
        (flat(150, 155), flat(160, 165), Span(150, 165)),
        (flat(150, 155), flat(10, 12), Span(150, 155)),  # both do not fit: gold is kept
        (None, flat(120, 125), Span(120, 125)),
    ],
)
def test_of_a_long_video_the_part_around_the_boxes_is_kept(long_clip, gold, pred, inside):
    player = show_player(long_clip, gold=gold, pred=pred, budget_mb=0.25)
    part = kept(player)
    assert part.intersect(inside) == inside and 20 <= len(part) <= 30
    note = player.data["notes"][-1]
    assert f"(frames {part.start} to {part.end}) of a part of 40 seconds" in note
    assert len(player.html()) <= 250_000


def test_of_boxes_that_are_too_many_the_beginning_is_kept(long_clip):
    assert kept(show_player(long_clip, gold=flat(50, 150), budget_mb=0.25)).start == 50


def test_without_boxes_the_beginning_is_kept(long_clip):
    assert kept(show_player(long_clip, budget_mb=0.25)).start == 0


def test_a_window_without_a_box_says_where_the_boxes_are(long_clip):
    player = show_player(long_clip, gold=flat(150, 155), window=Span(0, 9))
    assert "No box is in this part: the boxes are on frames 150 to 155." in player.data["notes"]


def test_play_shows_the_seconds_asked_for(long_clip, tmp_path, capsys):
    out = tmp_path / "page.html"
    command = ["play", "--video", str(long_clip), "--out", str(out), "--window"]
    assert main([*command, "12-13.9"]) == 0
    assert "frames 60 to 69 of 200" in out.read_text()
    for window in ("5", "9-3", "a-b", "-4-5", "41-50", "1-nan", "3-3"):
        assert main([*command[:-1], f"--window={window}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("stvgkit: ") and window in line


def test_web_video_holds_the_frames_it_says(tmp_path):
    path = tmp_path / "steps.mp4"
    frames = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 64 * 64 * 3)
    write_video(path, frames.reshape(30, 64, 64, 3), fps=12.5)
    part = web_video(path, Span(7, 21))
    out = tmp_path / "part.mp4"
    out.write_bytes(part.data)
    info = probe(out)
    np.testing.assert_allclose(info.times, part.times, atol=1e-3)
    shown = read_frames(out).frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown, part.frames * 8, atol=4)


def test_small_files_go_in_as_they_are_without_sound_or_metadata(clip):
    whole = web_video(clip)
    assert whole.note == "" and len(whole.data) < clip.stat().st_size + 2000
    assert np.array_equal(whole.frames, np.arange(20))


def test_wrong_input_is_named(sample, tmp_path):
    with pytest.raises(InputError, match="no video file"):
        show_player(replace(sample, video=None))
    with pytest.raises(InputError, match="frames"):
        show_player(sample, window=Span(100, 120))
    with pytest.raises(InputError, match=r"0\.25 to 10000 MB"):
        show_player(sample, budget_mb=0.1)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="broken.mp4"):
        show_player(broken)


def write_prepared_sample(sample: Sample, folder) -> str:
    from stvgkit.datasets import write_prepared

    path = folder / "samples.jsonl"
    write_prepared(path, [sample], "test")
    return str(path)


def test_play_writes_a_page_with_every_prediction(sample, tmp_path, capsys):
    annotations = write_prepared_sample(sample, tmp_path)
    line = {"id": "s", "completion": "left", "frames": [2, 7], "space": "0-1000"}
    preds = tmp_path / "preds.jsonl"
    preds.write_text(json.dumps(line))
    out = tmp_path / "page.html"
    common = ["play", "--benchmark", "prepared", "--annotations", annotations, "--out", str(out)]
    assert main([*common, "--predictions", str(preds), "--predictions", f"GRPO={preds}"]) == 0
    data = json.loads(Counter(out.read_text()).json[0])
    assert [text["name"] for text in data["texts"]] == ["What preds wrote", "What GRPO wrote"]
    assert data["title"] == "a box" and data["layers"][0]["name"] == "gold"
    assert "page.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ([], "nothing to play"),
        (["--video", "none.mp4"], "no such file"),
        (["--video", "CLIP", "--answer", "none.txt"], "none.txt is not a file"),
        (["--video", "CLIP", "--answer", "CLIP", "--space", "0-x"], "coordinate space"),
        (["--video", "CLIP", "--predictions", "p.jsonl"], "--annotations"),
        (["--annotations", "ANN"], "--benchmark"),
        (["--video", "CLIP", "--benchmark", "prepared"], "--annotations"),
        (["--video", "CLIP", "--id", "s"], "--id needs --annotations"),
        (["--video", "CLIP", "--boxes", "."], "--boxes needs --annotations"),
        (
            ["--benchmark", "prepared", "--annotations", "ANN", "--answer", "CLIP"],
            "give --predictions for a sample",
        ),
        (["--benchmark", "prepared", "--annotations", "ANN", "--id", "q"], "no sample with id 'q'"),
        (["--benchmark", "prepared", "--annotations", "ANN", "--predictions", "x.csv"], "x.csv"),
    ],
)
def test_play_says_in_one_line_what_is_wrong(sample, clip, tmp_path, capsys, extra, fault):
    names = {"CLIP": str(clip), "ANN": write_prepared_sample(sample, tmp_path)}
    arguments = [names.get(one, one) for one in extra]
    assert main(["play", *arguments, "--out", str(tmp_path / "x.html")]) == 2
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_play_draws_an_answer_over_a_bare_video(clip, tmp_path):
    tube = Tube([0, 1], [box(0.1), box(0.2)])
    answer = tmp_path / "answer.txt"
    answer.write_text(
        format_answer(Answer(Span(0, 1), tube, tube, True), CoordinateSpace.pixels(64, 48))
    )
    out = tmp_path / "p.html"
    command = ["play", "--video", str(clip), "--answer", str(answer), "--space", "64x48"]
    assert main([*command, "--fps", "2", "--out", str(out)]) == 0
    data = json.loads(Counter(out.read_text()).json[0])
    pred = next(one for one in data["layers"] if one["name"] == "pred")
    assert pred["bars"] == [[0, 5]]  # sampled frames 0 and 1 are video frames 0 and 5
    np.testing.assert_allclose(pred["boxes"][5], box(0.2), atol=0.012)
