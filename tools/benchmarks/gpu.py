"""Check and time the package on a GPU: parity with the CPU, times, memory; write a page and its data.

    python tools/benchmarks/gpu.py --out results/gpu                              under nine minutes
    python tools/benchmarks/gpu.py necks windows --out results/gpu                some sections
    python tools/benchmarks/gpu.py --full --out results/gpu                       everything, some hours
    python tools/benchmarks/gpu.py --out results/dry --device cpu --tiny         dry run

Needs PyTorch, NumPy and this package; timm, MMDetection, Detectron2, effdet and torchvision take part where they are
installed, MMDetection also without mmcv's compiled operators. Each section runs in a process of its own under a time
limit. OUT.json and OUT.md hold every row from the moment it is measured, and the rows of earlier runs with the same
OUT on the same device; the page lists what was stopped. Exits with code 1 if a row has an error or a section failed.

- parity: maps and gradients of every registered module against its float32 result on the CPU
- vitdet: Mask R-CNN with ViTDet-B at 1024 x 1024 pixels, Detectron2's and ours
- attention, windows: forms of attention with relative positions, whole layers; forms in Swin's windows
- rotary: ViTs with rotary positions against timm's and Detectron2's
- necks, backbones: whole models; eager, compiled and as CUDA graphs, necks also against their convolutions alone
- detectors: detection and training steps of Mask R-CNN and RetinaNet of both toolboxes

The default run is eager in bfloat16, with attention also in float32, and compiled inference and CUDA graphs of FPN,
Swin-T, MViTv2-T, ViT-B and Detectron2's Mask R-CNN. ``--full`` adds compiled training, all necks, the other precisions,
channels-last necks and FlexAttention, with a process for each model and precision.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_report import write_report
from gpu_page import page
from gpu_section import SECTIONS, about, add_options, items_of, options_of

from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors

HERE = Path(__file__).resolve().parent
SECTION_SECONDS = 230.0  # a section stays under four minutes
DEFAULT_SECONDS = 530.0  # the default run stays under nine
LEAST_SECONDS = 15.0  # with less left, a section cannot start
FULL_PRECISIONS = ("bfloat16", "float16", "float32", "tf32")
POLL_SECONDS = 0.5


class Part(NamedTuple):
    """A section, or one model of it in one precision, which a process of its own measures."""

    section: str
    changed: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the section and of what is chosen of it."""
        return " ".join([self.section, *(value for values in self.changed.values() for value in values)])


def parts_of(args: argparse.Namespace) -> Iterator[Part]:
    """List the parts to run: a section each; in full, a model and precision each."""
    for name in args.sections or SECTIONS:
        section = SECTIONS[one_of("section", name, SECTIONS)]
        if not args.full:
            yield Part(name, {})
            continue
        precisions = [None] if name == "parity" else args.precisions or FULL_PRECISIONS
        options = section.options if name != "parity" else ()
        items = [{}] if not options else [{options[-1]: (item,)} for item in items_of(args, options[-1])]
        for option in options[:-1]:
            items = [{option: (item,), **more} for item in items_of(args, option) for more in items]
        for chosen in items:
            for precision in precisions:
                yield Part(name, {**chosen, **({"precisions": (precision,)} if precision else {})})


class Report:
    """Report of a run, which starts with the parts of an earlier one on the same device and keeps both files current.

    Args:
        out: path of the files without suffix.
        device: ``"cuda"`` or ``"cpu"``.
    """

    def __init__(self, out: Path, device: str) -> None:
        self.out = out
        self.report: dict[str, Any] = {**about(device), "parts": []}
        file = out.with_suffix(".json")
        if file.is_file():
            earlier = json.loads(file.read_text(encoding="utf-8"))
            if all(earlier.get(key) == self.report[key] for key in ("device", "torch", "versions")):
                self.report["parts"] = earlier["parts"]

    def put(self, part: str, section: str, status: str, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Replace the entry of a part, and write JSON and page."""
        entry = {"part": part, "section": section, "status": status, "seconds": round(seconds, 1), "rows": rows}
        entry |= {"command": self.report["command"], "date": self.report["date"]}
        others = [other for other in self.report["parts"] if other["part"] != part]
        order = list(SECTIONS)
        self.report["parts"] = sorted([*others, entry], key=lambda found: order.index(found["section"]))
        write_report(self.out, self.report, page(self.report))


def run_part(part: Part, args: argparse.Namespace, report: Report, limit: float) -> bool:
    """Run a part, and put its rows into the report as they come; return whether it ended without an error."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / "gpu_section.py"), part.section, "--out", str(file)]
        # a session of its own, so that a compiler's processes are stopped with it
        process = subprocess.Popen([*command, *options_of(args, part.changed)], start_new_session=True)
        seen = ""
        try:
            while process.poll() is None and time.monotonic() - start < limit:
                time.sleep(POLL_SECONDS)
                text = file.read_text(encoding="utf-8") if file.is_file() else ""
                if text != seen:
                    report.put(part.name, part.section, "running", time.monotonic() - start, json.loads(text)["rows"])
                    seen = text
        finally:
            stopped = process.poll() is None
            if stopped:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    status = "complete"
    if stopped:
        status = f"stopped after {limit:.0f} s"
    elif process.returncode != 0 and not any("error" in row for row in rows):
        status = f"failed, exit code {process.returncode}"
    report.put(part.name, part.section, status, time.monotonic() - start, rows)
    return process.returncode == 0


def run(args: argparse.Namespace) -> bool:
    """Run the chosen parts; return whether all ended without an error."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU; use --device cpu --tiny for a dry run")
    parts = list(parts_of(args))
    end = float("inf") if args.full or args.sections else time.monotonic() + DEFAULT_SECONDS
    report = Report(args.out, args.device)
    fine = True
    for part in parts:
        left = end - time.monotonic()
        print(f"{part.name} on {report.report['device']}", flush=True)
        if left < LEAST_SECONDS:
            report.put(part.name, part.section, "not started: the time of the run was over", 0, [])
            fine = False
        else:
            fine &= run_part(part, args, report, min(args.time_limit, left))
    print(f"{args.out}.json, {args.out}.md", flush=True)
    return fine


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"sections to run (default: {list(SECTIONS)})")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--time-limit", type=float, default=SECTION_SECONDS, help="seconds of a section")
    add_options(parser)
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the section's process, too
    with user_errors():
        fine = run(args)
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
