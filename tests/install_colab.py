"""The notebooks as Colab runs them: its versions, the install cell, every lesson in smoke mode.

    make test-colab

Needs Python 3.13 and downloads gigabytes, so CI does not run it. `/content` is a folder here, and
holds a clone of this repository, so that the install cell finds one and clones nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from install_wheel import ROOT, pythons, run

sys.path.insert(0, str(ROOT / "notebooks"))

import build

ENV = ROOT / ".venv-colab"
OUT = ROOT / "out" / "colab"
VERSION = "3.13"
# Runs a cell as a notebook does, in a Python that takes itself for Colab's.
RUN_CELL = """
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell(open(sys.argv[1]).read()).raise_error()
"""


def versions() -> dict[str, str]:
    """What the environment holds, by name."""
    lines = run(ENV / "bin/python", "-m", "pip", "list", "--format=freeze").split()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def main() -> None:
    """Prints what the install cell changed, then what nbval says of each lesson."""
    python = next((found for found in pythons() if is_colabs(found)), None)
    if python is None:
        sys.exit(f"make test-colab needs Python {VERSION}, as Colab has it")
    for folder in (ENV, OUT):
        shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", ENV)
    run(ENV / "bin/pip", "install", "-q", "-r", ROOT / "tests/colab.txt", "pytest", "nbval")
    run("git", "clone", "-q", ROOT, OUT / "content" / "stvgkit")
    before = versions()
    (OUT / "cell.py").write_text(build.install_cell().replace("/content", str(OUT / "content")))
    print(run(ENV / "bin/python", "-c", RUN_CELL, OUT / "cell.py", cwd=OUT).strip())
    after = versions()
    for name in sorted(before):
        if after.get(name) != before[name]:
            print(f"the install cell changed {name}: {before[name]} to {after.get(name)}")
    run(sys.executable, ROOT / "notebooks/build.py", "--solutions", OUT / "notebooks")
    nbval = ["-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900"]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [ENV / "bin/python", *nbval, "-q", "-p", "no:cacheprovider", OUT / "notebooks"]
    sys.exit(subprocess.run(command, env={**clean, "STVGKIT_SMOKE": "1"}).returncode)


def is_colabs(python: str) -> bool:
    """Whether this Python is of Colab's version."""
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    return run(python, "-c", code).strip() == VERSION


if __name__ == "__main__":
    main()
