"""Write the pages and pictures of published measurements from their data again, without measuring.

    python tools/benchmarks/published.py --out docs                all of them
    python tools/benchmarks/published.py --out docs bench_necks    some of them

A measurement that a script in `tools/` writes to ``data/NAME.json`` beside it has its page in ``docs/NAME.md`` and its
picture in ``docs/NAME.png``. Run this after a change of the words or the style of a page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

TOOLS = Path(__file__).resolve().parents[1]


class Published(NamedTuple):
    """Script in ``tools/``, the function of its module that renders the page, and the one that draws the picture."""

    script: str
    page: str = "page"
    draw: str | None = "draw"

    def load(self, function: str) -> Any:
        """Import one of the functions; scripts import their siblings by bare names."""
        path = (TOOLS / self.script).with_suffix(".py")
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        name = f"published_{path.stem}"  # `tools/mmcv_operators.py` has the name of a benchmark
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return getattr(sys.modules[name], function)


PUBLISHED = {
    "attention": Published("benchmarks/attention", "markdown"),
    "attention_forms": Published("benchmarks/attention_forms", draw=None),
    "bench_detectors": Published("benchmarks/detectors"),
    "bench_detectors_800": Published("benchmarks/detectors"),
    "bench_mmcv_operators": Published("benchmarks/mmcv_operators", draw=None),
    "bench_necks": Published("benchmarks/necks"),
    "bench_necks_compiled": Published("benchmarks/neck_compiled"),
    "bench_necks_slopes": Published("benchmarks/necks", "slopes_page", "draw_slopes"),
    "channels": Published("benchmarks/channels", "markdown", None),
    "compiled_detectors": Published("benchmarks/compiled_detectors_page"),
    "cpu_engines": Published("benchmarks/cpu_engine_page", draw=None),
    "engines": Published("benchmarks/engine_page", draw=None),
    "foundation_loads": Published("benchmarks/foundation_loads", "markdown", None),
    "foundation_networks": Published("benchmarks/foundation_networks", "markdown", None),
    "foundation_vits": Published("benchmarks/foundation_vits", "markdown", None),
    "gpu": Published("benchmarks/gpu_page", draw=None),
    "int8": Published("benchmarks/int8_page", draw=None),
    "larger_than_one_card": Published("benchmarks/larger_than_one_card", "markdown", None),
    "neck_comparison": Published("benchmarks/neck_comparison"),
    "neck_loads": Published("benchmarks/neck_loads", "markdown", None),
    "mmdet_necks": Published("benchmarks/mmdet_necks", draw=None),
    "plain_models": Published("benchmarks/revisions", "table"),
    "plain_models_2_threads": Published("benchmarks/revisions", "table"),
    "recipes": Published("studies/recipes/recipe_study"),
    "precision": Published("studies/precision/evaluate"),
    "small_objects": Published("benchmarks/small_objects_page", draw=None),
    "tuning": Published("benchmarks/tuning", "markdown", None),
    "timm_families": Published("docs/timm_families", draw=None),
}


def read_report(name: str) -> dict[str, Any]:
    """Read the data of a published measurement."""
    path = (TOOLS / PUBLISHED[name].script).parent / "data" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def page_of(name: str) -> str:
    """Render the page of a published measurement from its data."""
    published = PUBLISHED[name]
    return published.load(published.page)(read_report(name))


def draw_picture(name: str, path: Path) -> None:
    """Draw the picture of a published measurement from its data to the PNG ``path``."""
    from fpn_plugins.visualization.figures import plot

    published = PUBLISHED[name]
    assert published.draw is not None
    with plot(path, 3.2) as figure:
        published.load(published.draw)(read_report(name), figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"pages to write (default: all): {list(PUBLISHED)}")
    parser.add_argument("--out", type=Path, required=True, help="folder to write: docs")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(PUBLISHED))
    if unknown:
        parser.error(f"{unknown} are not published; choose from {list(PUBLISHED)}")
    from fpn_plugins.files import write_atomically

    for name in args.names or PUBLISHED:
        with write_atomically(args.out / f"{name}.md") as temporary:
            temporary.write_text(page_of(name), encoding="utf-8")
        if PUBLISHED[name].draw is not None:
            draw_picture(name, args.out / f"{name}.png")
        print(args.out / f"{name}.md")


if __name__ == "__main__":
    main()
