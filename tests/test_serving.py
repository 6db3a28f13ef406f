"""Asking a model behind a server: same answers, clear errors, nothing lost."""

import base64
import importlib.util
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from stvgkit.cli import main
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError

COUNT = 4


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), "test", COUNT)


@pytest.fixture(scope="module")
def tiny():
    from stvgkit.training.models import load

    return load("tiny", dtype="float32")


def answer_of(grounder, request: dict) -> str:
    """What the model says to a request in OpenAI's chat protocol, read as a server reads it."""
    import torch

    messages, images = request["messages"], []
    for part in messages[0]["content"]:
        if part["type"] == "image_url":
            data = part["image_url"]["url"].removeprefix("data:image/png;base64,")
            images.append(Image.open(io.BytesIO(base64.b64decode(data))))
            part["type"] = "image"
    processor = grounder.processor
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[text], images=images, return_tensors="pt")
    with torch.inference_mode():
        ids = grounder.model.generate(
            **inputs, do_sample=False, max_new_tokens=request["max_tokens"]
        )
    new = ids[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(new, skip_special_tokens=True)


class Loopback:
    """A server on this machine; `refuse` are the numbers of the requests that it answers by 500."""

    def __init__(self, answer, refuse=()):
        self.requests = []
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                with lock:  # one model, one question at a time
                    number = len(self.requests)
                    self.requests.append((handler.path, json.loads(body)))
                    if number in refuse:
                        return handler.reply(500, {"error": "CUDA out of memory"})
                    text = answer(json.loads(body))
                message = {"role": "assistant", "content": text}
                handler.reply(200, {"choices": [{"index": 0, "message": message}]})

            def reply(handler, code, value):
                data = json.dumps(value).encode()
                handler.send_response(code)
                handler.send_header("Content-Length", str(len(data)))
                handler.end_headers()
                handler.wfile.write(data)

            def log_message(handler, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()


def predict(shapes, out, *more) -> int:
    argv = ["predict", "--model", "tiny", "--annotations", str(shapes), "--out", str(out)]
    return main([*argv, "--max_new_tokens", "40", *more])


def asked_about(request: dict) -> str:
    return request["messages"][0]["content"][-1]["text"]


def test_a_server_gives_the_same_answers_as_the_model_itself(shapes, tiny, tmp_path):
    with Loopback(lambda request: answer_of(tiny, request)) as server:
        options = ["--backend", "openai", "--url", server.url, "--batch_size", "2"]
        assert predict(shapes, tmp_path / "server.jsonl", *options) == 0
    # One clip at a time: in a batch, padding may move a probability by its last bit.
    own = ["--dtype", "float32", "--batch_size", "1", "--json", str(tmp_path / "own.json")]
    assert predict(shapes, tmp_path / "own.jsonl", *own) == 0
    assert (tmp_path / "server.jsonl").read_text() == (tmp_path / "own.jsonl").read_text()
    assert len((tmp_path / "own.jsonl").read_text().splitlines()) == COUNT
    assert json.loads((tmp_path / "own.json").read_text())["samples"] == COUNT
    assert {path for path, _ in server.requests} == {"/v1/chat/completions"}
    assert all(request["temperature"] == 0 for _, request in server.requests)


def test_after_an_error_only_the_missing_samples_are_asked_again(shapes, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    options = ["--backend", "openai", "--batch_size", "1", "--url"]
    with Loopback(lambda request: asked_about(request), refuse=[2]) as server:
        assert predict(shapes, out, *options, server.url) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "refused sample shapes-test-" in error and "CUDA out of memory" in error
        part = out.with_name("p.jsonl.part0")
        ids = {json.loads(line)["id"] for line in part.read_text().splitlines()}
        assert len(ids) == 2
        assert predict(shapes, out, *options, server.url) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == [f"shapes-test-{i:05}" for i in range(COUNT)]
    assert len(server.requests) == COUNT + 1  # the refused one came twice, no other did


def test_a_server_that_is_not_there_is_one_line(shapes, tmp_path, capsys):
    with Loopback(asked_about) as server:
        url = server.url
    assert predict(shapes, tmp_path / "p.jsonl", "--backend", "openai", "--url", url) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stvgkit: no answer from") and "is the server running?" in error


@pytest.mark.parametrize("reply", ["<html>", '{"choices": []}', "null"])
def test_what_is_no_answer_is_an_error(shapes, reply, monkeypatch):
    from stvgkit.datasets import read_prepared
    from stvgkit.rows import plan_rows
    from stvgkit.tiny.learning import CLIP_FORMAT
    from stvgkit.training.serving import Server

    rows = plan_rows(list(read_prepared(shapes))[:1], CLIP_FORMAT)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: io.BytesIO(reply.encode()))
    with pytest.raises(InputError, match="no answer from http://here/chat/completions"):
        Server("http://here", "tiny", 8)(rows)


def test_vllm_that_is_not_installed_is_one_line(shapes, tmp_path, capsys):
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed here")
    assert predict(shapes, tmp_path / "p.jsonl", "--backend", "vllm") == 2
    assert "--backend vllm needs vLLM: pip install vllm" in capsys.readouterr().err


def test_another_benchmark_than_the_one_trained_on(shapes, tmp_path):
    """One command asks a model about HC-STVG, whatever it learned from."""
    video = sorted((shapes.parent / "videos").iterdir())[0]
    record = {"bbox": [[16, 16, 32, 32]] * 8, "st_frame": 1, "ed_frame": 8, "img_num": 29, "fps": 8}
    record |= {"img_size": [64, 64], "English": "the red circle that appears"}
    (tmp_path / "hc.json").write_text(json.dumps({video.name: record}))
    argv = ["predict", "--model", "tiny", "--benchmark", "hcstvg", "--videos", str(video.parent)]
    argv += ["--annotations", str(tmp_path / "hc.json"), "--out", str(tmp_path / "p.jsonl")]
    perfect = "<time> 0 - 1 </time> <think_bbox> 0. [25, 25, 75, 75], 1. [25, 25, 75, 75] "
    perfect += "</think_bbox> <pred_bbox> 0. [25, 25, 75, 75], 1. [25, 25, 75, 75] </pred_bbox>"
    with Loopback(lambda request: perfect) as server:
        more = ["--backend", "openai", "--url", server.url, "--json", str(tmp_path / "s.json")]
        assert main([*argv, *more]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["samples"] == 1 and scores["unparsed"] == 0
    assert scores["metrics"]["m_tIoU"] == pytest.approx(5 / 8)  # video frames 0 to 4 of 0 to 7
    assert scores["metrics"]["m_vIoU"] == pytest.approx(5 / 8)
