"""The command line: `stvgkit COMMAND`, also `python -m stvgkit COMMAND`.

Each command is a pair: `add_X` declares its options, `run_X` imports what it needs and does the
work. Wrong input raises `InputError`, which ends here as one line and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stvgkit import __version__
from stvgkit.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="stvgkit",
        description="Spatio-temporal video grounding with multimodal language models.",
    )
    parser.add_argument("--version", action="version", version=f"stvgkit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (add_demo,):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except InputError as error:
        print(f"stvgkit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # no such file, unwritable folder, full disk
        where = f": {error.filename}" if error.filename else ""
        print(f"stvgkit: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stvgkit: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def add_demo(commands) -> None:
    demo = commands.add_parser("demo", help="the whole method on generated clips, on a CPU")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder for all results")
    demo.add_argument("--seed", type=int, default=0, help="seeds data order, training, sampling")
    demo.add_argument("--smoke", action="store_true", help="a minute's run that checks the wiring")
    demo.set_defaults(run=run_demo)


def run_demo(args) -> None:
    from stvgkit.demo import run

    run(args.out, seed=args.seed, smoke=args.smoke)
