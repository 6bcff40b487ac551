"""Try one small network of each timm family as a detection backbone, and list the image sizes that it takes.

    python tools/docs/timm_families.py --write
    python tools/docs/timm_families.py --family convnext swin_transformer maxxvit

Downloads nothing and computes mostly shapes; all families take some minutes. ``--write`` writes
``docs/timm_families.md`` and its data, from which ``tools/benchmarks/published.py`` writes the page again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from families import FamilyReport, families_table, probe_families

from fpn_plugins.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tools/docs/data/timm_families.json"
HEADER = """# timm's families as detection backbones

Image sizes that one network of each family takes as `TimmBackbone`, tried with timm {version} by
`python tools/docs/timm_families.py --write` (shapes, and one image in memory).

- The number after a family counts its networks; a small one was tried. Larger networks take the same sizes unless their
  name states another window or image size.
- *any*: every size; *multiple of N*: pad to a multiple (mmdet's `pad_size_divisor`, our `size_divisibility` in
  Detectron2); *fixed*: one size only; *none*: no size that was tried works.
- The last column lists arguments with which a network takes more sizes: `TimmBackbone(name, model_args=dict(...))`;
  *chosen* is one size, chosen when the network is built.
- Maps are the last ones of each stride from 4 on, the default of `TimmBackbone`. The forward passes of timm's Swin and
  MViTv2 differ from those of the detectors of these names: use `Swin` and `MViT`, and `ViT` for plain transformers.

"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Try timm's families as detection backbones")
    parser.add_argument(
        "--family", dest="families", nargs="+", metavar="NAME", help="modules of timm.models (default: all)"
    )
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="S", help="seconds for a family (default 60)")
    parser.add_argument("--write", action="store_true", help="write the page and its data (all families only)")
    args = parser.parse_args(argv)
    if args.write and args.families:
        parser.error("--write writes a page of all families; leave --family out")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return 0, or 1 after an error that the user can correct."""
    args = parse_args(argv)
    try:
        reports = probe_families(args.families, args.time_limit)
        print(families_table(reports))
        if args.write:
            import timm

            content = {"timm": timm.__version__, "families": [report.as_dict() for report in reports]}
            _write(DATA, json.dumps(content, indent=1) + "\n")
            _write(ROOT / "docs/timm_families.md", page(content))
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_reports(content: dict[str, Any]) -> list[FamilyReport]:
    """Make reports of the page's data."""
    rows = content["families"]
    arguments = [{key: tuple(v) if isinstance(v, list) else v for key, v in r["model_args"].items()} for r in rows]
    return [FamilyReport(**{**row, "model_args": own}) for row, own in zip(rows, arguments, strict=True)]


def page(content: dict[str, Any]) -> str:
    """Render the page from its data."""
    return HEADER.format(version=content["timm"]) + families_table(read_reports(content))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
