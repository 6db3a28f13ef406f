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
    """A server on this machine; `refuse` are the numbers of requests that it answers by 500."""

    def __init__(self, answer, refuse=(), key=None):
        self.requests = []
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                if key and handler.headers.get("Authorization") != f"Bearer {key}":
                    return handler.reply(401, {"error": "Unauthorized"})
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


@pytest.fixture()
def no_pauses(monkeypatch):
    """Tries follow one another at once; returns the pauses that were asked for."""
    from stvgkit.training import serving

    asked = []
    monkeypatch.setattr(serving.time, "sleep", asked.append)
    return asked


def lines_of(out) -> dict[str, dict]:
    return {(line := json.loads(text))["id"]: line for text in out.read_text().splitlines()}


def test_what_fails_is_tried_again_after_growing_pauses(shapes, tmp_path, no_pauses):
    out, options = tmp_path / "p.jsonl", ["--backend", "openai", "--batch_size", "1", "--url"]
    with Loopback(asked_about, refuse=[1, 2]) as server:
        assert predict(shapes, out, *options, server.url) == 0
    assert len(server.requests) == COUNT + 2 and len(no_pauses) == 2
    assert no_pauses[0] < no_pauses[1]
    assert all(isinstance(line["completion"], str) for line in lines_of(out).values())


def test_a_sample_that_fails_for_good_is_named_and_asked_again(shapes, tmp_path, no_pauses, capsys):
    out, options = tmp_path / "p.jsonl", ["--backend", "openai", "--batch_size", "1", "--url"]
    with Loopback(asked_about, refuse=[1, 2, 3, 4]) as server:
        assert predict(shapes, out, *options, server.url) == 0
        said = capsys.readouterr().out
        assert "not parsed 1: the server gave no answer (such as shapes-test-" in said
        assert "CUDA out of memory" in said
        failed = [line for line in lines_of(out).values() if "failed" in line]
        assert len(failed) == 1 and failed[0]["completion"] is None
        before = len(server.requests)
        assert predict(shapes, out, *options, server.url) == 0
        assert len(server.requests) == before + 1  # the one that failed, and no other
    assert len(lines_of(out)) == COUNT and not [x for x in lines_of(out).values() if "failed" in x]


def test_a_server_that_is_gone_ends_the_run_in_one_line(shapes, tmp_path, no_pauses, capsys):
    shapes = write_shapes(tmp_path, "test", 12)
    options = ["--backend", "openai", "--batch_size", "1", "--url"]
    with Loopback(asked_about, refuse=range(1, 99)) as server:
        assert predict(shapes, tmp_path / "p.jsonl", *options, server.url) == 2
    assert "for 8 samples one after the other" in capsys.readouterr().err.splitlines()[-1]
    assert len(server.requests) == 1 + 8 * 4


def test_a_server_that_is_not_there_is_one_line(shapes, tmp_path, capsys):
    with Loopback(asked_about) as server:
        url = server.url
    assert predict(shapes, tmp_path / "p.jsonl", "--backend", "openai", "--url", url) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stvgkit: no answer from") and "is the server running?" in error


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://", "http://a:b/v1"])
def test_what_is_no_address_is_one_line(shapes, tmp_path, url, capsys):
    assert predict(shapes, tmp_path / "p.jsonl", "--backend", "openai", "--url", url) == 2
    assert "is no address: give one like http" in capsys.readouterr().err


def test_the_key_is_sent_and_never_shown(shapes, tmp_path, monkeypatch, capsys):
    out, options = tmp_path / "p.jsonl", ["--backend", "openai", "--url"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Loopback(asked_about, key="secret") as server:
        assert predict(shapes, out, *options, server.url) == 2
        assert "give --api_key or OPENAI_API_KEY" in capsys.readouterr().err
        assert predict(shapes, out, *options, server.url, "--api_key", "secret") == 0
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert predict(shapes, tmp_path / "q.jsonl", *options, server.url) == 0
        assert predict(shapes, out, *options, server.url, "--api_key", "sec\nret") == 2
    assert "secret" not in out.read_text() and "sec\nret" not in capsys.readouterr().err


GOOD = "<time> 1 - 1 </time> <think_bbox> 1. [1, 2, 3, 4] </think_bbox> "
GOOD += "<pred_bbox> 1. [1, 2, 3, 4] </pred_bbox>"


def server_and_row(shapes, reply, monkeypatch):
    from stvgkit.datasets import read_prepared
    from stvgkit.rows import plan_rows
    from stvgkit.tiny.learning import CLIP_FORMAT
    from stvgkit.training.serving import Server

    rows = plan_rows(list(read_prepared(shapes))[:1], CLIP_FORMAT)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: io.BytesIO(reply.encode()))
    return Server("http://here", "tiny", 8), rows


def message(content, **more) -> str:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"message": message, "finish_reason": "length"}]})


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (message(GOOD), GOOD),
        (message(""), ""),
        (message([{"type": "text", "text": GOOD[:9]}, {"type": "text", "text": GOOD[9:]}]), GOOD),
        (message([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": GOOD}]), GOOD),
    ],
)
def test_the_text_of_a_reply(shapes, reply, text, monkeypatch):
    server, rows = server_and_row(shapes, reply, monkeypatch)
    assert server(rows) == [text]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (message(None), "holds no text: it ended by 'length'"),
        (message(None, reasoning_content="Let me"), "reasoning alone; raise --max_new_tokens"),
        (message([]), "holds no text"),
        (message([{"type": "image"}, 3]), "holds no text"),
        (message(5), "holds no text"),
        ("<html>", "the server gave no answer: no answer from http://here/chat/completions"),
        ("[" * 100_000, "the server gave no answer"),
        ('{"choices": []}', "is not a chat completion"),
        ("null", "is not a chat completion"),
    ],
)
def test_what_is_no_answer_says_why(shapes, reply, reason, monkeypatch, no_pauses):
    from stvgkit.training.lines import NoAnswer

    server, rows = server_and_row(shapes, reply, monkeypatch)
    (answer,) = server(rows)
    assert isinstance(answer, NoAnswer) and reason in answer.reason


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", b"SSH-2.0-OpenSSH\r\n", b""]
)
def test_a_reply_that_breaks_off_is_tried_again_and_then_said(shapes, raw, no_pauses):
    """Bytes straight on the wire: cut short, of another protocol, or none."""
    import socket

    from stvgkit.datasets import read_prepared
    from stvgkit.rows import plan_rows
    from stvgkit.tiny.learning import CLIP_FORMAT
    from stvgkit.training.lines import NoAnswer
    from stvgkit.training.serving import Server

    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(4):
            connection = listener.accept()[0]
            connection.recv(1 << 20)
            connection.sendall(raw)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    row = plan_rows(list(read_prepared(shapes))[:1], CLIP_FORMAT)[0]
    answer = Server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m", 8).answer(row)
    thread.join(10)
    listener.close()
    assert isinstance(answer, NoAnswer) and "no answer from http://127.0.0.1" in answer.reason
    assert len(no_pauses) == 3 == len(set(no_pauses))


def test_a_line_without_an_answer_is_not_kept_for_ever(shapes, tmp_path, capsys):
    """What an older version wrote for a reply without content, and a line cut in the middle."""
    out = tmp_path / "p.jsonl"
    options = ["--backend", "openai", "--url"]
    with Loopback(lambda request: GOOD) as server:
        assert predict(shapes, out, *options, server.url) == 0
        lines = out.read_text().splitlines()
        null = json.dumps(json.loads(lines[0]) | {"completion": None})
        out.write_text("\n".join([null, lines[1][:50], *lines[2:]]) + "\n")
        argv = ["score", "--benchmark", "shapes", "--annotations", str(shapes), "--predictions"]
        assert main([*argv, str(out)]) == 2  # the damaged line is named
        assert "line 2" in capsys.readouterr().err
        out.write_text("\n".join([null, *lines[2:]]) + "\n")
        assert main([*argv, str(out)]) == 0
        assert (
            "not parsed 1: the model gave no text (such as shapes-test-" in capsys.readouterr().out
        )
        out.write_text("\n".join([null, lines[1][:50], *lines[2:]]) + "\n")
        before = len(server.requests)
        assert predict(shapes, out, *options, server.url) == 0
        assert len(server.requests) == before + 4  # their batch, so that answers stay the same
    assert all(line["completion"] == GOOD for line in lines_of(out).values())
    assert len(lines_of(out)) == COUNT


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--model", "other"], "model is tiny there and other here"),
        (["--fps", "4"], "fps is 2.0 there and 4.0 here"),
        (["--max_side", "32"], "max_side is 64 there and 32 here"),
        (["--space", "0-1000"], "space is 0-100 there and 0-1000 here"),
        (["--template", "full"], "template is short there and full here"),
        (["--max_new_tokens", "50"], "max_new_tokens is 40 there and 50 here"),
        (["--max_frames", "2"], "max_frames is None there and 2 here"),
    ],
)
def test_another_models_file_is_refused_by_name(asked, shapes, change, named, capsys):
    assert predict(shapes, asked, *change, "--backend", "openai", "--space", "0-100", *change) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"stvgkit: {asked} holds another model's answers: ") and named in error


@pytest.fixture(scope="module")
def asked(shapes, tmp_path_factory):
    """A finished predictions file of the tiny model, by way of a server."""
    out = tmp_path_factory.mktemp("asked") / "p.jsonl"
    with Loopback(lambda request: GOOD) as server:
        options = ["--backend", "openai", "--space", "0-100", "--url", server.url]
        assert predict(shapes, out, *options) == 0
    return out


def test_a_file_about_other_data_or_of_nobody_is_refused(asked, shapes, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    lines = list(lines_of(asked).values())
    for change, named in [
        ({"query": "the dog"}, "the query of sample shapes-test-00000 is 'the dog' there"),
        ({"frames": [0, 1]}, "the frames of sample shapes-test-00000 is [0, 1] there"),
    ]:
        out.write_text(json.dumps(lines[0] | change) + "\n")
        assert predict(shapes, out, "--backend", "openai", "--space", "0-100") == 2
        assert named in capsys.readouterr().err
    old = {key: value for key, value in lines[0].items() if key not in ("by", "query")}
    out.write_text(json.dumps(old) + "\n")
    assert predict(shapes, out, "--backend", "openai", "--space", "0-100") == 2
    assert "does not say who wrote it" in capsys.readouterr().err
    assert json.loads(out.read_text()) == old
    out.write_text("my diary\n")
    assert predict(shapes, out, "--backend", "openai", "--space", "0-100") == 2
    assert "is not a predictions file" in capsys.readouterr().err
    assert out.read_text() == "my diary\n"


def test_a_file_of_an_older_version_is_still_scored(asked, shapes, tmp_path):
    old = tmp_path / "old.jsonl"
    keys = ("id", "frames", "space", "completion")
    texts = [json.dumps({k: line[k] for k in keys}) for line in lines_of(asked).values()]
    old.write_text("\n".join(texts))
    argv = ["score", "--benchmark", "shapes", "--annotations", str(shapes)]
    for path in (old, asked):
        json_out = tmp_path / f"{path.stem}.json"
        assert main([*argv, "--predictions", str(path), "--json", str(json_out)]) == 0
    assert (tmp_path / "old.json").read_text() == (tmp_path / "p.json").read_text()


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
