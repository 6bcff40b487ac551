"""Run a command by its name: ``fpn-plugins COMMAND ...``, or ``python -m fpn_plugins.commands COMMAND ...``."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..checks import near_names

# name on the command line -> module; each is also a script in tools/
COMMANDS = {
    "train": "train",
    "test": "test",
    "train-d2": "train_d2",
    "predict": "predict",
    "export": "export",
    "evaluate": "evaluate",
    "convert": "convert",
    "compare": "compare",
    "cost": "cost",
    "check": "check",
    "pixels": "pixels",
    "show-pyramid": "pyramid",
    "level-weights": "level_weights",
    "subset": "subset",
    "publish": "publish",
    "mmcv-operators": "mmcv_operators",
}


def summary(module: str) -> str:
    """Return the first sentence of a command's docstring, without importing what the command needs."""
    source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def usage() -> str:
    """List the commands."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {summary(module)}" for name, module in COMMANDS.items())
    return "\n".join(
        [
            "usage: fpn-plugins COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "fpn-plugins COMMAND --help describes a command. Configs are files, or names: fpn_plugins::mmdet/NAME and",
            "fpn_plugins::detectron2/NAME of this package, mmdet::NAME and detectron2::NAME of the toolboxes.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; the others are the command's own."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        from .. import __version__

        print(f"fpn-plugins {__version__}")
        return
    if name not in COMMANDS:
        print(f"{usage()}\n\nerror: unknown command {name!r}{near_names(name, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    # argparse names the program after it, and some commands run a toolbox's script, which reads the arguments there
    sys.argv = [f"fpn-plugins {name}", *rest]
    try:
        importlib.import_module(f"{__package__}.{COMMANDS[name]}").main()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
