"""Figures and filmstrips: what is drawn is what was given."""

from __future__ import annotations

import itertools
import json
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from stvgkit.boxes import to_px
from stvgkit.errors import InputError
from stvgkit.metrics import score_tubes
from stvgkit.scoring import summarize
from stvgkit.tubes import Tube
from stvgkit.video import write_video
from stvgkit.viewing.pictures import GOLD, PREDICTIONS, THINK, draw_tube, layer_style, tube_svg
from stvgkit.viewing.plots import (
    clickable,
    group_bars,
    imitation_lines,
    reward_curves,
    tiou_viou,
    viou_histogram,
)

LOG = [
    {
        "step": step,
        "rewards/format_reward/mean": 0.1 * step,
        "rewards/format_reward/std": 0.05,
        "rewards/spatial_reward/mean": step - 3.0,
        "rewards/spatial_reward/std": 1.0,
        "reward": step - 2.0,
        "reward_std": 0.5,
        "frac_reward_zero_std": 0.25,
        "completions/clipped_ratio": 0.0,
    }
    for step in range(5)
] + [{"train_runtime": 12.0, "step": 5}]


def named(figure, name: str):
    return next(trace for trace in figure.data if trace.name == name)


def test_reward_curves_show_mean_spread_and_warnings(tmp_path):
    figure = reward_curves(LOG)
    names = {trace.name for trace in figure.data if trace.name}
    assert names == {
        "format", "spatial", "total", "groups without spread", "cut at the length limit",
    }  # fmt: skip
    assert list(named(figure, "spatial").y) == [-3, -2, -1, 0, 1]
    band = next(t for t in figure.data if t.fill == "toself" and t.legendgroup == "spatial")
    assert list(band.y) == [-2, -1, 0, 1, 2, 0, -1, -2, -3, -4]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": LOG}))
    assert reward_curves(path) == figure
    json.loads(figure.to_json())


def test_reward_curves_refuse_logs_without_rewards(tmp_path):
    with pytest.raises(InputError, match="no rewards"):
        reward_curves([{"step": 1, "loss": 0.1}])
    path = tmp_path / "log.json"
    path.write_text("{")
    with pytest.raises(InputError, match="log.json"):
        reward_curves(path)


def test_histogram_counts_every_defined_value():
    values = np.append(np.random.default_rng(0).random(200), [0.0, 1.0, np.nan])
    figure = viou_histogram({"run": values}, bins=8)
    assert sum(figure.data[0].y) == 202
    assert figure.data[0].y[0] == (values < 0.125).sum()


def test_bars_show_each_group_of_each_report():
    tube = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    scores = score_tubes([tube, None], [tube, tube])
    report = summarize(scores, groups=[{"query": "a"}, {"query": "b"}])
    figure = group_bars({"x": report, "y": report.as_dict()}, "query")
    assert [list(trace.y) for trace in figure.data] == [[1.0, 0.0]] * 2
    assert list(figure.data[0].x) == ["a (1)", "b (1)"]
    with pytest.raises(InputError, match="no group 'size'"):
        group_bars({"x": report}, "size")


def test_a_click_on_a_point_calls_with_its_id():
    pytest.importorskip("anywidget")
    from plotly.callbacks import InputDeviceState, Points

    opened = []
    widget = clickable(tiou_viou([0.5, 1.0], [0.2, 0.9], ["a", "b"]), opened.append)
    widget._dispatch_layout_change_callbacks  # noqa: B018  (a FigureWidget, not a Figure)
    widget.data[1]._dispatch_on_click(
        Points(point_inds=[1], xs=[1.0], ys=[0.9]), InputDeviceState()
    )
    assert opened == ["b"]


def test_without_anywidget_the_figure_comes_back(monkeypatch):
    import plotly.graph_objects as go

    def absent(figure):
        raise ImportError("Please install anywidget")

    monkeypatch.setattr(go, "FigureWidget", absent)
    figure = tiou_viou([0.5], [0.2], ["a"])
    assert clickable(figure, print) is figure


def test_in_colab_the_figure_comes_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    figure = tiou_viou([0.5], [0.2], ["a"])
    assert clickable(figure, print) is figure


# Linear RGB as seen with each kind of colour blindness: Machado, Oliveira and Fernandes 2009,
# severity 1.0.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(color: str, seen) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(np.asarray(seen) @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_layers_are_told_apart_by_colour_blind_people(kind):
    colors = [GOLD, THINK, *PREDICTIONS]
    for a, b in itertools.combinations(colors, 2):
        difference = np.linalg.norm(lab(a, BLINDNESS[kind]) - lab(b, BLINDNESS[kind]))
        assert difference > 25  # 2.3 is just noticeable


def test_every_layer_has_a_line_style_of_its_own():
    dashes = [layer_style("gold")[1], layer_style("think")[1]]
    dashes += [layer_style("pred", i)[1] for i in range(4)]
    assert len(set(dashes)) == 6


TUBE = Tube(np.arange(5, 25), [[0.25, 0.25, 0.75, 0.75]] * 20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(path, np.full((30, 64, 64, 3), 90, np.uint8), fps=10)
    return path


def test_filmstrip_draws_the_box_where_it_is(clip):
    picture = np.asarray(draw_tube(clip, gold=TUBE, count=3, width=612)).astype(int)
    gold = np.array([int(GOLD[i : i + 2], 16) for i in (1, 3, 5)])
    cells = [picture[:200, x : x + 200] for x in (0, 206, 412)]
    hits = [(np.abs(cell - gold) < 30).all(axis=2) for cell in cells]
    assert not hits[0].any() and not hits[2].any()  # just before and just after
    ys, xs = np.where(hits[1])
    edges = [xs.min(), ys.min(), xs.max(), ys.max()]
    np.testing.assert_allclose(edges, to_px(TUBE.boxes[0], 200, 200)[0], atol=2)


def test_svg_strip_is_well_formed_and_escapes_names(clip):
    document = tube_svg(clip, gold=TUBE, pred={"<b>&": TUBE}, count=4, width=800)
    root = ET.fromstring(document)
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{space}image")) == 4
    assert "<b>&" in [text.text for text in root.iter(f"{space}text")]
    rects = [r for r in root.iter(f"{space}rect") if r.get("stroke") == GOLD]
    assert len(rects) == 2 and float(rects[0].get("width")) == pytest.approx(98, abs=1)


class TestImitationLines:
    def test_means_and_spread_of_the_seeds_that_have_all_three(self):
        def runs(cell, *scores):
            who, number = cell.split(" ")
            parts = zip(("start", "sft", "grpo"), scores, strict=False)
            return {f"{who}-{part}-{number}": {"m_vIoU": score} for part, score in parts}

        seeds = {
            "0": runs("exact 64", 0.1, 0.5, 0.6) | runs("exact 1344", 0.7, 0.8),
            "1": runs("exact 64", 0.3, 0.7, 0.6) | runs("noisy 128", 0.2, 0.4, 0.3),
        }
        figure = imitation_lines({"seeds": seeds})
        start, _, sft, noisy, grpo, _ = figure.data
        assert (start.name, sft.name, grpo.name) == ("start", "SFT goes on", "GRPO")
        assert start.x == sft.x == grpo.x == (64,) and noisy.x == (128,)
        assert [line.y for line in (start, sft, grpo)] == [
            pytest.approx((mean,)) for mean in (20, 60, 60)
        ]
        assert sft.error_y.array == pytest.approx((200**0.5,)) and noisy.error_y.array == (0.0,)
        titles = [note.text for note in figure.layout.annotations]
        assert titles == ["exact annotators", "noisy annotators"]

    def test_other_tables_are_refused(self):
        with pytest.raises(InputError, match="'full' is no run of benchmarks/imitation.py"):
            imitation_lines({"seeds": {"0": {"full": {"m_vIoU": 0.5}}}})

    @pytest.mark.parametrize("seeds", [{}, {"0": {}}, {"0": {"exact-start-64": {"m_vIoU": 0.5}}}])
    def test_nothing_to_draw_is_said(self, seeds):
        with pytest.raises(InputError, match="no run to draw"):
            imitation_lines({"seeds": seeds})
