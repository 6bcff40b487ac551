"""Say which engine to take on this CPU: whole detectors, eager, compiled, in bfloat16, onnxruntime and OpenVINO.

    python tools/benchmarks/cpu_engines.py --out tools/benchmarks/data/cpu_engines
    python tools/benchmarks/cpu_engines.py --out work_dirs/cpu --detector retinanet --toolbox mmdet --size 640 1088

Writes OUT.json and OUT.md after each group of engines. Rows that OUT.json has are kept, those that failed are measured
again; ``--again`` measures all again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from bench_report import provenance, write_report
from cpu_engine_forms import (
    BF16_PRECISION,
    ENGINES,
    INT8,
    INT8_FILE,
    ONNX,
    First,
    Worker,
    bf16_ratio,
    export,
    instructions,
    quantize,
    seconds,
    start,
)
from cpu_engine_page import SIZES, engines_of, page
from detector_passes import STOCK, TOOLBOXES, DetectorSetting, Subject, draw_weights
from detectors import share_of_equals
from timing import median_ratio

from fpn_plugins.commands.common import COUNT, user_errors

TINY_SIZE = (64, 96)
TINY_OPTIONS = ("model.backbone.depth=18", "model.neck.in_channels=[64,128,256,512]")
PACKAGES = ("torch", "fpn_plugins", "mmdet", "mmcv", "detectron2", "timm", "onnxruntime", "openvino", "nncf")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="path of the report, without suffix")
    parser.add_argument("--detector", nargs="+", choices=SIZES, default=list(SIZES), help="detectors")
    parser.add_argument("--toolbox", nargs="+", choices=TOOLBOXES, default=list(TOOLBOXES), help="toolboxes")
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES)[1:], default=list(ENGINES)[1:], help="engines")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=f"of the images (default: {SIZES})"
    )
    parser.add_argument("--repeats", type=COUNT, default=5, help="timed rounds (default 5)")
    parser.add_argument("--together", type=COUNT, default=4, help="engines in memory at a time (default 4)")
    parser.add_argument("--num-images", type=COUNT, default=4, help="drawn images that calibrate INT8 (default 4)")
    parser.add_argument("--threads", type=COUNT, default=torch.get_num_threads(), help="threads of every engine")
    parser.add_argument("--again", action="store_true", help="measure again what OUT.json has")
    parser.add_argument("--tiny", action="store_true", help="a small RetinaNet of mmdet on one small image, to try it")
    args = parser.parse_args()
    if args.tiny:
        args.detector, args.toolbox, args.repeats, args.num_images = ["retinanet"], ["mmdet"], 1, 1
        args.size = args.size or TINY_SIZE
        args.engine = [name for name in args.engine if "channels_last" not in name]  # of a ResNet-50 only
    return args


class Case:
    """A detector of a toolbox in several engines.

    Args:
        subject: detector; the exported files go to the folder of its weights.
        setting: images.
        args: command line.
    """

    def __init__(self, subject: Subject, setting: DetectorSetting, args: argparse.Namespace) -> None:
        self.subject, self.setting, self.args = subject, setting, args
        self.folder = subject.weights.parent

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the row of each engine, measured in groups together with the toolbox's detector."""
        with self._worker() as stock:
            first = stock.call(start, self.subject, STOCK, self.setting, self.folder)
            for place in range(0, len(names), self.args.together):
                yield from self._group(names[place : place + self.args.together], stock, first)

    def _worker(self) -> Worker:
        return Worker(self.subject.toolbox, self.args.threads)

    def _group(self, names: Sequence[str], stock: Worker, first: First) -> Iterator[dict[str, Any]]:
        with ExitStack() as stack:
            workers, rows, times = {STOCK: stock}, {}, {STOCK: list[float]()}
            for name in names:
                rows[name] = {"toolbox": self.subject.toolbox, "detector": self.subject.detector, "engine": name}
                rows[name] |= {"size": list(self.setting.size), "rounds": self.args.repeats}
                worker = stack.enter_context(self._worker())
                try:
                    rows[name] |= self._start(worker, name, first)
                    workers[name], times[name] = worker, []
                except Exception as error:  # one engine's failure is its row's, see the page
                    rows[name]["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                print(
                    {key: rows[name].get(key) for key in ("engine", "objects", "equal", "error")},
                    file=sys.stderr,
                    flush=True,
                )
            for _ in range(self.args.repeats if len(workers) > 1 else 0):
                for name, worker in workers.items():
                    times[name].append(worker.call(seconds))
        for name, row in rows.items():
            if name in times:
                row["seconds"], row["stock_seconds"] = (statistics.median(times[who]) for who in (name, STOCK))
                row["ratio"] = median_ratio(times[name], times[STOCK])
            yield row

    def _start(self, worker: Worker, name: str, stock: First) -> dict[str, Any]:
        """Write the files that an engine needs, and start it."""
        if ENGINES[name].runtime and not (self.folder / ONNX).is_file():
            with self._worker() as exporter:  # what it leaves in memory is not the engine's
                exporter.call(export, self.subject, self.setting, self.folder)
        if name == INT8 and not (self.folder / INT8_FILE).is_file():
            with self._worker() as exporter:
                exporter.call(quantize, self.setting, self.args.num_images, self.folder)
        found, resident = worker.call(start, self.subject, name, self.setting, self.folder)
        row = {"objects": sum(len(image.scores) for image in found), "resident": resident}
        row |= {"stock_objects": sum(len(image.scores) for image in stock.found), "stock_resident": stock.resident}
        return row | {"equal": share_of_equals(stock.found, found)}


def pending(
    args: argparse.Namespace, rows: list[dict[str, Any]], case: tuple[str, str, list[int]], bf16: float
) -> list[str]:
    """List the engines of a toolbox's detector at a size that are to be measured; drop their old rows."""
    toolbox, detector, size = case
    wanted = [name for name in engines_of(toolbox, detector) if name in args.engine]
    if bf16 >= 1:  # emulated
        wanted = [name for name in wanted if ENGINES[name].precision != BF16_PRECISION]
    mine = [row for row in rows if (row["toolbox"], row["detector"], row["size"]) == (toolbox, detector, size)]
    done = [row["engine"] for row in mine if "error" not in row and not args.again]
    wanted = [name for name in wanted if name not in done]
    for row in mine:
        if row["engine"] in wanted:
            rows.remove(row)
    return wanted


def earlier_rows(path: Path, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the rows of a report that is continued.

    Raises:
        ValueError: it was measured on another processor or with another number of threads.
    """
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    for key in ("processor", "threads"):
        if earlier[key] != report[key]:
            raise ValueError(f"{str(path)!r}: its {key} {earlier[key]!r} is not {report[key]!r}; choose another --out")
    return earlier["rows"]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line names and has no row yet."""
    report = {**provenance(PACKAGES), "instructions": instructions(), "bf16_ratio": bf16_ratio()}
    rows = earlier_rows(args.out.with_suffix(".json"), report)
    report |= {"command": "tools/benchmarks/cpu_engines.py", "rows": rows}  # rows may come from several commands
    for detector in args.detector:
        for toolbox in args.toolbox:
            setting = DetectorSetting(tuple(args.size or SIZES[detector]), 1)
            names = pending(args, rows, (toolbox, detector, list(setting.size)), report["bf16_ratio"])
            if not names:
                continue
            with tempfile.TemporaryDirectory() as folder:
                options = TINY_OPTIONS if args.tiny else ()
                subject = draw_weights(toolbox, detector, Path(folder), setting, options)
                subject = subject._replace(options=options)
                for row in Case(subject, setting, args).rows(names):
                    rows.append(row)
                    write_report(args.out, report, page(report))
    return report


def main() -> None:
    """Measure and write the files."""
    args = parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        print(page(run(args)))


if __name__ == "__main__":
    main()
