"""Time mmcv's operators on its compiled extension and on ours, side by side, alone and in whole passes of a detector.

    python tools/benchmarks/mmcv_operators.py --threads 1 --out tools/benchmarks/data/bench_mmcv_operators

Writes OUT.json and OUT.md. Needs an mmcv with a compiled extension. Operators that it compiles for CUDA alone are timed
on ours alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_report import measured, provenance, write_report
from detector_passes import MODES, DetectorForm, DetectorSetting, build, draw_weights, make_pass
from timing import Job, interleaved_seconds, median_ratio
from torch import Tensor

from fpn_plugins.adapters.mmcv import extension
from fpn_plugins.commands.common import user_errors


class Case(NamedTuple):
    """A call of an operator with its tensors; those that require gradients also time the backward pass."""

    name: str
    call: Callable[..., Any]
    tensors: list[Tensor]
    compiled: bool = True


@contextmanager
def operators_of(source: Any) -> Iterator[None]:
    """Within the context, mmcv's operators are those of ``source``."""
    modules = [module for name, module in sys.modules.items() if name.startswith("mmcv.ops.")]
    loaded = {module: module.ext_module for module in modules if hasattr(module, "ext_module")}  # type: ignore[attr-defined]
    try:
        for module in loaded:
            module.ext_module = source  # type: ignore[attr-defined]
        yield
    finally:
        for module, before in loaded.items():
            module.ext_module = before  # type: ignore[attr-defined]


def cases() -> Iterator[Case]:
    """Yield calls of the sizes of a detector at 480 x 640."""
    from mmcv import ops
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction as Attention

    torch.manual_seed(0)
    corners = torch.rand(1000, 2) * 400
    boxes, scores = torch.cat([corners, corners + 8 + torch.rand(1000, 2) * 150], 1), torch.rand(1000)
    yield Case("nms, 1000 boxes", lambda b, s: ops.nms(b, s, 0.7), [boxes, scores])
    yield Case("soft_nms, 1000 boxes", lambda b, s: ops.soft_nms(b, s, 0.5), [boxes, scores])
    yield Case("nms_match, 1000 boxes", lambda d: ops.nms_match(d, 0.5), [torch.cat([boxes, scores[:, None]], 1)])
    rois = torch.cat([torch.zeros(1000, 1), boxes], dim=1)[:512]
    maps = torch.randn(1, 256, 120, 160, requires_grad=True)
    for mode in ("avg", "max"):
        align = lambda x, r, mode=mode: ops.roi_align(x, r, 7, 0.25, 0, mode)  # noqa: E731
        yield Case(f"roi_align {mode}, 512 regions", align, [maps, rois])
    x, offset = torch.randn(1, 128, 60, 80, requires_grad=True), torch.randn(1, 18, 60, 80, requires_grad=True)
    weight = torch.randn(128, 128, 3, 3, requires_grad=True)
    yield Case("deform_conv2d, 3 x 3", lambda x, o, w: ops.deform_conv2d(x, o, w, 1, 1), [x, offset, weight])
    mask = torch.rand(1, 9, 60, 80, requires_grad=True)
    modulated = lambda x, o, m, w: ops.modulated_deform_conv2d(x, o, m, w, None, 1, 1)  # noqa: E731
    yield Case("modulated_deform_conv2d, 3 x 3", modulated, [x, offset, mask, weight])
    yield Case("roi_pool, 512 regions", lambda x, r: ops.roi_pool(x, r, 7, 0.25), [maps, rois], False)
    deform = lambda x, r: ops.deform_roi_pool(x, r, None, (7, 7), 0.25)  # noqa: E731
    yield Case("deform_roi_pool, 512 regions", deform, [maps, rois], False)
    logits, target = torch.randn(57600, 80, requires_grad=True), torch.randint(0, 81, (57600,))
    yield Case("sigmoid_focal_loss, 57600 x 80", lambda x, t: ops.sigmoid_focal_loss(x, t), [logits, target], False)
    masks = torch.rand(1, 25, 120, 160, requires_grad=True)
    carafe = lambda x, m: ops.carafe(x, m, 5, 1, 2)  # noqa: E731
    yield Case("carafe, 5 x 5", carafe, [torch.randn(1, 256, 60, 80, requires_grad=True), masks], False)
    shapes = torch.tensor([[60, 80], [30, 40], [15, 20], [8, 10]])
    keys = int(shapes.prod(1).sum())
    value = torch.randn(1, keys, 8, 32, requires_grad=True)
    places = torch.rand(1, keys, 8, 4, 4, 2, requires_grad=True)
    weights = torch.rand(1, keys, 8, 4, 4, requires_grad=True)
    attend = lambda v, p, w: Attention.apply(v, shapes, shapes[:, 0] * 0, p, w, 64)  # noqa: E731
    yield Case(f"attention, {keys} queries", attend, [value, places, weights], False)


def run_case(case: Case, training: bool) -> None:
    """Call an operator, with its backward pass in training."""
    with torch.set_grad_enabled(training):
        output = case.call(*case.tensors)
    if training:
        output.sum().backward()


def with_operators(source: Any, run: Job) -> None:
    """Run a job on the operators of ``source``."""
    with operators_of(source):
        run()


def compare(name: str, mode: str, run: Job, sources: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Time a job on each source of operators; return medians in milliseconds, and the ratio of ours to compiled."""
    jobs = {who: partial(with_operators, source, run) for who, source in sources.items()}
    seconds = interleaved_seconds(jobs, repeats)
    milliseconds = {who: 1e3 * statistics.median(runs) for who, runs in seconds.items()}
    ratio = median_ratio(seconds["ours"], seconds["compiled"]) if "compiled" in seconds else None
    row = {"case": name, "mode": mode, "ms": milliseconds, "ratio": ratio}
    print(row, flush=True)
    return row


def measure(repeats: int, setting: DetectorSetting) -> Iterator[dict[str, Any]]:
    """Time every operator, then inference and a training step of the detectors."""
    from mmcv import _ext

    both = {"ours": extension, "compiled": _ext}
    for case in cases():
        available = both if case.compiled else {"ours": extension}
        for training in (False, True) if any(t.requires_grad for t in case.tensors) else (False,):
            mode = "forward and backward" if training else "forward"
            yield compare(case.name, mode, partial(run_case, case, training), available, repeats)
    for detector in ("mask_rcnn", "retinanet"):
        with tempfile.TemporaryDirectory() as folder:
            model = build(draw_weights("mmdet", detector, Path(folder), setting), DetectorForm())
        for mode in MODES:
            run = make_pass(model, "mmdet", mode, setting)
            yield compare(f"{detector}_r50_fpn", mode, run, both, max(3, repeats // 3))


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# mmcv's operators with and without a compiler",
        "",
        f"{measured(report)}: medians of interleaved runs in milliseconds, fp32, and the ratio of ours to mmcv's "
        f"compiled extension (lower is better). Detectors: images of {' x '.join(map(str, report['size']))} pixels, "
        f"batch {report['batch']}; training is a step without the optimizer. "
        "RetinaNet's training step on a CPU calls none of these operators: its ratio is the scatter of the machine.",
        "",
        "| | | ours | compiled | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    for row in report["rows"]:
        cells = [f"{row['ms'][who]:.2f}" if who in row["ms"] else "CUDA only" for who in ("ours", "compiled")]
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        lines.append(f"| {row['case']} | {row['mode']} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        setting = DetectorSetting(tuple(args.size), args.batch_size)
        report = {**provenance(["torch", "torchvision", "mmcv", "mmdet"]), **setting._asdict()}
        report["rows"] = list(measure(args.repeats, setting))
        write_report(args.out, report, page(report))


if __name__ == "__main__":
    main()
