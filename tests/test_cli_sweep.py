"""Every command with every option at an impossible value: a sentence and exit code 2, always.

The options are read from the parsers, so that a new one is swept as well.
"""

import argparse
import json
import os
from pathlib import Path

import pytest

from stvgkit import cli
from stvgkit.datasets.shapes import write_shapes

# What an option takes where its parser does not tell; text may be anything.
TAKES = {
    "--annotations": "file",
    "--answer": "answer",
    "--boxes": "folder",
    "--id": "choice",
    "--json": "new file",
    "--out": "new file",
    "--predictions": "file",
    "--space": "choice",
    "--videos": "folder",
    "--window": "choice",
    "path": "file",
}
NEW_FOLDERS = ("demo", "prepare")
RECIPE_COMMANDS = ("sft", "grpo", "predict", "plan")
IMPOSSIBLE = {
    "choice": ["banana", "", "-1"],
    "number": ["banana", "", "nan", "inf", "-1", "1e400"],
    "file": ["missing", "folder", "empty", "binary", "list.json", "object.json", "words.txt"],
    "answer": ["missing", "folder", "empty", "binary"],
    "folder": ["missing", "empty"],
    "new file": ["folder", "empty/below.json"],
    "new folder": ["empty", "empty/below"],
    "text": [],
}


def options_of(command: str) -> dict[str, argparse.Action]:
    """The options of a command by name, read from its parser."""
    commands = cli.build_parser()._subparsers._group_actions[0].choices
    return {
        (action.option_strings or [action.dest])[0]: action
        for action in commands[command]._actions
        if action.dest != "help"
    }


def commands() -> set[str]:
    return set(cli.build_parser()._subparsers._group_actions[0].choices)


def kind_of(command: str, option: str, action: argparse.Action) -> str:
    """What an option takes; `Path` stands for a file that is read."""
    if option == "--out" and command in NEW_FOLDERS:
        return "new folder"
    if option in TAKES:
        return TAKES[option]
    if action.choices:
        return "choice"
    return {int: "number", float: "number", Path: "file"}.get(action.type, "text")


KINDS = {
    (command, option): kind_of(command, option, action)
    for command in sorted(commands() - {*RECIPE_COMMANDS})
    for option, action in options_of(command).items()
}
CASES = [(*case, value) for case, kind in KINDS.items() for value in IMPOSSIBLE[kind]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A working set of files, and one of each kind that cannot be used."""
    root = tmp_path_factory.mktemp("world")
    split = write_shapes(root / "shapes", "test", 2)
    video = sorted((split.parent / "videos").iterdir())[0]
    record = {"bbox": [[16, 16, 32, 32]] * 8, "st_frame": 1, "ed_frame": 8, "img_num": 29, "fps": 8}
    record |= {"img_size": [64, 64], "English": "the red circle"}
    (root / "hc.json").write_text(json.dumps({video.name: record}))
    line = {"id": "shapes-test-00000", "completion": "x", "frames": [0, 4], "space": "0-100"}
    (root / "p.jsonl").write_text(json.dumps(line))
    (root / "answer.txt").write_text("<time> 0 - 0 </time> <think_bbox> </think_bbox>")
    (root / "folder").mkdir()
    (root / "empty").write_text("")
    (root / "binary").write_bytes(bytes(range(256)) * 8)
    (root / "list.json").write_text("[1, null, {}]")
    (root / "object.json").write_text('{"a": 1, "b": [null]}')
    (root / "words.txt").write_text("these are words\nand more\n")
    split, video = str(split), str(video)
    valid = {
        "demo": {"--out": str(root / "demo")},
        "prepare": {
            "--benchmark": "hcstvg",
            "--annotations": str(root / "hc.json"),
            "--videos": str(root / "shapes"),
            "--out": str(root / "prepared"),
        },
        "score": {
            "--benchmark": "shapes",
            "--annotations": split,
            "--predictions": str(root / "p.jsonl"),
        },
        "info": {"path": split},
        "play": {
            "--benchmark": "shapes",
            "--annotations": split,
            "--out": str(root / "page.html"),
        },
        "lab": {
            "--benchmark": "shapes",
            "--annotations": split,
            "--out": str(root / "lab.html"),
        },
        "play an answer": {
            "--video": video,
            "--answer": str(root / "answer.txt"),
            "--out": str(root / "page.html"),
        },
    }
    return root, valid


def call(capsys, argv) -> tuple[int, str]:
    """The exit code and what was said on stderr; an exception is the test's failure."""
    try:
        code = cli.main(argv)
    except SystemExit as left:  # argparse's way
        code = left.code
    return code, capsys.readouterr().err


def is_refused(capsys, argv) -> bool:
    """Whether a command ends in exit code 2 with a sentence, and names its last line's reason."""
    code, said = call(capsys, argv)
    last = (said.strip().splitlines() or [""])[-1]
    return code == 2 and "Traceback" not in said and ": " in last and len(last) > 25


def argv_of(command: str, arguments: dict[str, str]) -> list[str]:
    """A command line; `path` is an argument that has no name."""
    named = [given if name == "path" else f"{name}={given}" for name, given in arguments.items()]
    return [command, *named]


def test_the_sweep_is_wide():
    assert {"demo", "prepare", "score", "info", "play"} <= {command for command, _ in KINDS}
    assert len(CASES) > 100


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_an_impossible_value_is_a_sentence(world, command, option, value, capsys, monkeypatch):
    root, valid = world
    if command == "demo":  # nothing of it may begin
        monkeypatch.setattr("stvgkit.demo.read_split", lambda *args: pytest.fail("work began"))
    answer = command == "play" and option in ("--video", "--answer", "--space", "--fps")
    base = valid["play an answer" if answer else command]
    is_path = KINDS[command, option] not in ("choice", "number")
    argv = argv_of(command, base | {option: str(root / value) if is_path else value})
    assert is_refused(capsys, argv), argv


def test_the_valid_command_lines_are_taken(world, capsys):
    """Or a refusal above would say nothing."""
    _, valid = world
    for command, arguments in valid.items():
        if command != "demo":
            argv = argv_of(command.split()[0], arguments)
            code, said = call(capsys, argv)
            assert code == 0, (argv, said)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all files")
@pytest.mark.parametrize("command", ["score", "prepare", "info"])
def test_an_unreadable_file_is_a_sentence(world, tmp_path, command, capsys):
    _, valid = world
    locked = tmp_path / "locked.json"
    locked.write_text("{}")
    locked.chmod(0)
    name = "path" if command == "info" else "--annotations"
    assert is_refused(capsys, argv_of(command, valid[command] | {name: str(locked)}))


@pytest.mark.parametrize("command", sorted(commands() - {"demo", "lab"}))
def test_a_command_without_anything_is_a_sentence(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_refused(capsys, [command])


def parse(command: str, argv: list[str]) -> str:
    """How a recipe's command line is taken: its error, or nothing."""
    from stvgkit.errors import InputError
    from stvgkit.training import recipes

    try:
        recipes.parse(command, argv)
    except InputError as error:
        return str(error)
    except SystemExit as left:
        assert left.code == 2
        return "argparse has said it"
    return ""


@pytest.mark.parametrize("command", ["sft", "grpo", "predict"])
def test_every_field_of_a_recipe_takes_what_it_takes(command, capsys):
    """Hundreds of fields, most of them of TRL: no value raises, and no number is a word or NaN."""
    from trl import ModelConfig, TrlParser

    from stvgkit.training.recipes import CONFIGS, Asking, Task

    fields = TrlParser((Task, ModelConfig, CONFIGS.get(command, (Asking,))[0]))._actions
    numbers = 0
    for action in fields:
        if action.option_strings and action.dest != "help":
            option = action.option_strings[0]
            refused = {word: parse(command, [f"{option}={word}"]) for word in ("banana", "nan")}
            if action.type in (int, float):
                numbers += 1
                assert all(refused.values()), (option, refused)
    assert numbers > (4 if command == "predict" else 20)


OWN = [
    ("sft", "--think_noise", ["nan", "-1", "inf"]),
    ("sft", "--fps", ["0", "-1", "inf", "1e9"]),
    ("sft", "--max_frames", ["0", "-1"]),
    ("sft", "--max_side", ["0", "-5"]),
    ("sft", "--template", ["banana", ""]),
    ("sft", "--space", ["banana", "", "0-0", "0x5"]),
    ("sft", "--method", ["banana", "grpo"]),
    ("sft", "--launch", ["banana", ""]),
    ("sft", "--max_steps", ["0"]),
    ("sft", "--max_length", ["0", "-1"]),
    ("sft", "--learning_rate", ["-1", "inf"]),
    ("sft", "--per_device_train_batch_size", ["0", "-1"]),
    ("grpo", "--num_generations", ["0", "-1", "1", "3"]),
    ("grpo", "--temperature", ["0", "-1", "inf"]),
    ("grpo", "--max_completion_length", ["0", "-1"]),
    ("predict", "--batch_size", ["0", "-1"]),
    ("predict", "--max_new_tokens", ["0", "-1"]),
    ("predict", "--protocol", ["banana", ""]),
    ("predict", "--reader", ["banana"]),
    ("predict", "--backend", ["banana"]),
]


@pytest.mark.parametrize(
    ("command", "option", "value"), [(c, o, value) for c, o, values in OWN for value in values]
)
def test_an_impossible_field_is_refused_on_reading(command, option, value, capsys):
    assert parse(command, [f"{option}={value}"])


FILES = [
    (command, option, value)
    for command, options in {
        "sft": {"--data": "file", "--out": "new folder", "--model": "model"},
        "grpo": {"--data": "file", "--out": "new folder", "--model": "model"},
        "predict": {
            "--data": "file",
            "--out": "new file",
            "--json": "new file",
            "--model": "model",
            "--videos": "folder",
        },
    }.items()
    for option, kind in options.items()
    for value in (IMPOSSIBLE | {"model": ["missing", "folder", "empty", "shapes"]})[kind]
]


@pytest.mark.parametrize(("command", "option", "value"), FILES)
def test_an_impossible_file_of_a_recipe_is_a_sentence(
    world, command, option, value, capsys, monkeypatch
):
    def begun(*args, **kwargs):
        pytest.fail("work began")

    monkeypatch.setattr("trl.SFTTrainer.train", begun)
    monkeypatch.setattr("trl.GRPOTrainer.train", begun)
    monkeypatch.setattr("stvgkit.training.evaluation.complete", begun)
    root, valid = world
    arguments = {"--model": "tiny", "--data": valid["info"]["path"], "--out": str(root / "new")}
    if command == "grpo":
        arguments |= {"--num_generations": "2", "--per_device_train_batch_size": "2"}
    assert is_refused(capsys, argv_of(command, arguments | {option: str(root / value)}))


@pytest.mark.parametrize("out", ["-", "/dev/null", "/dev/stdout"])
def test_predictions_go_to_a_file_alone(world, out, capsys):
    """They are gone on with there, so what cannot be read again will not do."""
    _, valid = world
    argv = argv_of("predict", {"--model": "tiny", "--data": valid["info"]["path"], "--out": out})
    assert is_refused(capsys, argv) and not Path(f"{out}.part0").exists()


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
@pytest.mark.parametrize("value", [*IMPOSSIBLE["file"], "recipe.yaml"])
def test_an_impossible_recipe_is_a_sentence(world, command, value, capsys):
    root, _ = world
    (root / "recipe.yaml").write_text("method: sft\nlearning_rate: [1, {}]\nfps: {a: b}\n")
    assert is_refused(capsys, [command, str(root / value)])


PLAN = {"--gpu": ["banana", "-1", "nan", "0", "inf"], "--seconds": ["banana", "nan", "-1", "0"]}
PLAN |= {"--video": ["banana", "0x0", "-1x5", "1x1x1", "9999999x9999999"], "--launch": ["banana"]}


@pytest.mark.parametrize(
    ("option", "value"), [(o, value) for o, vs in PLAN.items() for value in vs]
)
def test_an_impossible_plan_is_a_sentence(option, value, capsys):
    assert is_refused(capsys, ["plan", "tiny-sft", f"{option}={value}"])


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("sft", "--lr_scheduler_kwargs", "banana"),
        ("sft", "--report_to", "banana"),
        ("sft", "--dataset_kwargs", "banana"),
        ("sft", "--eos_token", "banana"),
        ("sft", "--max_length", "32"),
        ("grpo", "--loss_type", "banana"),
        ("grpo", "--cache_implementation", "banana"),
    ],
)
def test_what_a_library_refuses_is_a_sentence(world, tmp_path, command, option, value, capsys):
    """Each is found by the library in its own code, some after the first batch."""
    _, valid = world
    out = tmp_path / "out"
    arguments = {"--model": "tiny", "--data": valid["info"]["path"], "--out": str(out)}
    arguments |= {"--per_device_train_batch_size": "2", "--max_steps": "1", "--report_to": "none"}
    if command == "grpo":
        arguments |= {"--num_generations": "2", "--max_completion_length": "2"}
    assert is_refused(capsys, argv_of(command, arguments | {option: value}))
    assert not (out / "log.json").exists() and not (out / "model.safetensors").exists()


def test_an_error_of_our_own_is_not_hidden(tmp_path):
    from stvgkit.errors import InputError
    from stvgkit.rows import shown_tube
    from stvgkit.training.refusals import one_line

    with pytest.raises(AttributeError), one_line(tmp_path):
        shown_tube(None, [])
    with pytest.raises(InputError, match="JSONDecodeError: .* traceback is in"), one_line(tmp_path):
        json.loads("{")
    assert "json/decoder.py" in (tmp_path / "traceback.txt").read_text()
