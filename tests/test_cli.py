"""The command line as a program among others."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("argv", [["--help"], ["info", "data_samples"]])
def test_a_reader_that_leaves_early_is_no_error(argv, root):
    """`stvgkit ... | head -c 1`: the pipe closes before anything is written."""
    program = subprocess.Popen(
        [sys.executable, "-m", "stvgkit", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    program.stdout.close()
    said = program.stderr.read()
    program.wait(timeout=120)
    assert "Broken" not in said and "Traceback" not in said
