"""Compare our necks with mmdet's in every config that the installed mmdet ships, and count configs and necks.

    python tools/benchmarks/mmdet_necks.py --write
    python tools/benchmarks/mmdet_necks.py --only HRFPN SSH

Each distinct neck of the configs is built with both classes. At the width of the config, on PyTorch's meta device,
mmdet's state dict has to load into our class; at an eighth of the width, both have to draw the same initial weights
from the same seed, and outputs and gradients are compared in double precision. ``--write`` writes
``docs/mmdet_necks.md`` and its data, from which ``tools/benchmarks/published.py`` writes the page again.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shipped_necks import DRAWN_BY_LAYERS, FINEST, FINEST_OF, compare, distinct, served, shipped_necks

from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors
from fpn_plugins.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tools/benchmarks/data/mmdet_necks.json"
PAGE = ROOT / "docs/mmdet_necks.md"
HEADER = """# Necks of mmdet's configs

Compared with mmdet {version} by `python tools/benchmarks/mmdet_necks.py --write`.

mmdet ships {files} config files with a neck; in {served} of them, every neck has a class of the same name here, so that
`type='fpn_plugins.NAME'` is the only change to the config. {unreadable} more files cannot be read without packages or
files that mmdet does not bring.

For each distinct neck, both classes are built with the arguments of the config:

- *checkpoints*: at full width, mmdet's state dict loads into our class, completely and with equal shapes;
- *initial weights*: after the same seed, `init_weights` of both draws the same numbers (at an eighth of the width);
- *outputs*, *gradients*: largest difference in double precision, of the inputs' and all parameters' gradients in
  training, relative to the largest value of each map (at an eighth of the width, finest map of {height} x {width}
  cells; {others}).

mmdet's `SSDNeck` and `DropBlock` compute in single precision. {by_layers} keep weights that mmcv's layers draw on
construction, in another order; tests compare their distribution.

"""


def measure(kinds: list[str]) -> dict[str, Any]:
    """Compare every distinct neck of some classes, and count the configs."""
    import mmdet

    necks, unreadable = shipped_necks()
    rows = {}
    for kind in kinds:
        found = [compare(config) for config in distinct(kind)]
        rows[kind] = {
            "configs": len({name for neck in necks if neck.config["type"] == kind for name in neck.files}),
            "necks": len(found),
            "outputs": max(p.outputs for p in found),
            "gradients": max(p.gradients for p in found),
            "initial": sum(p.initial for p in found),
            "checkpoint": sum(p.checkpoint for p in found),
        }
        print(kind, rows[kind], flush=True)
    files = {name for neck in necks for name in neck.files}
    others = {name for neck in necks if neck.config["type"] not in served() for name in neck.files}
    counts = {"files": len(files), "served": len(files - others), "unreadable": len(unreadable)}
    return {"version": mmdet.__version__, **counts, "necks": rows}


def page(data: Mapping[str, Any]) -> str:
    """Build the page."""
    lines = [
        "| neck | configs | distinct necks | checkpoints | initial weights | outputs | gradients |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, row in data["necks"].items():
        equal = " | ".join(f"{row[key]} of {row['necks']}" for key in ("checkpoint", "initial"))
        differences = " | ".join(f"{row[key]:.0e}" for key in ("outputs", "gradients"))
        lines.append(f"| {kind} | {row['configs']} | {row['necks']} | {equal} | {differences} |")
    total = {key: sum(row[key] for row in data["necks"].values()) for key in ("necks", "checkpoint", "initial")}
    equal = " | ".join(f"{total[key]} of {total['necks']}" for key in ("checkpoint", "initial"))
    lines.append(f"| all | {data['served']} | {total['necks']} | {equal} | | |")
    by_layers = ", ".join(f"`{name}`" for name in DRAWN_BY_LAYERS)
    numbers = {key: data[key] for key in ("version", "files", "served", "unreadable")}
    others = ", ".join(f"{height} x {width} for {kind}" for kind, (height, width) in FINEST_OF.items())
    return HEADER.format(**numbers, by_layers=by_layers, height=FINEST[0], width=FINEST[1], others=others) + "\n".join(
        [*lines, ""]
    )


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Compare our necks with mmdet's in every config of mmdet")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=None, help="classes of mmdet (default: all)")
    parser.add_argument("--write", action="store_true", help="write the page and its data (all classes only)")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write needs all classes: leave out --only")
    logging.disable(logging.INFO)  # mmengine reports the initialization of each parameter
    with user_errors():
        data = measure([one_of("--only", kind, served()) for kind in sorted(args.only or served())])
    print(f"{data['served']} of {data['files']} configs")
    if args.write:
        for path, text in ((DATA, json.dumps(data, indent=2) + "\n"), (PAGE, page(data))):
            with write_atomically(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
