"""Write docs/cost.md: common claims about the cost of FPN, compared with counts, measurements and published numbers.

    python tools/studies/claims/check.py --out docs [--measure]

Counts again and keeps the measurements of ``data/cost_measured.json``; ``--measure`` measures again, too: a minute or
two, on the GPU if one is available.

Counts need no weights, no data and no GPU. Whole detectors are Detectron2's own, from the configs of its zoo.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors

with user_errors():
    from claim import Claim, Row
    from claims import CLAIMS, FPNS, SINGLE_SCALE, SIZE

from fpn_plugins.files import write_atomically

RECORD = Path(__file__).resolve().parent / "data/cost_measured.json"
COMMAND = "python tools/studies/claims/check.py --out docs"
ROUNDS = 7
# measured networks: title -> neck, whether the backbone is checkpointed
MEASURED: dict[str, tuple[Any, bool]] = {
    "R50 alone": (None, False),
    "R50, one map": (SINGLE_SCALE, False),
    "R50, FPN P3-P5": (FPNS["P3-P5"], False),
    "R50, FPN P2-P5": (FPNS["P2-P5"], False),
    "R50, FPN P2-P5, checkpointed": (FPNS["P2-P5"], True),
}


def backbone(checkpointed: bool) -> dict[str, Any]:
    """Config of the backbone of the measured networks."""
    return {"type": "TimmBackbone", "name": "resnet50", "gradient_checkpointing": checkpointed}


def times(size: tuple[int, int], device: str, training: bool) -> dict[str, float]:
    """Median seconds of a pass of each network; the networks take turns in each round."""
    import torch

    from fpn_plugins.analysis import build_pyramid

    models = {
        title: build_pyramid(backbone(checkpointed), neck).to(device).train(training)
        for title, (neck, checkpointed) in MEASURED.items()
    }
    images = torch.zeros(1, 3, *size, device=device)
    seconds: dict[str, list[float]] = {title: [] for title in models}
    for _ in range(ROUNDS + 1):
        for title, model in models.items():
            start = time.perf_counter()
            with torch.set_grad_enabled(training):
                maps = model(images)
                if training:
                    sum(x.mean() for x in maps).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[title].append(time.perf_counter() - start)
    return {title: statistics.median(values[1:]) for title, values in seconds.items()}  # without the warm-up round


def measure(size: tuple[int, int]) -> dict[str, Any]:
    """Measure times and peak memory of the networks, and state the hardware."""
    import torch

    from fpn_plugins.analysis import build_pyramid, peak_memory
    from fpn_plugins.analysis.peak_memory import hardware

    device = "cuda" if torch.cuda.is_available() else "cpu"
    peaks = {
        title: peak_memory(build_pyramid, (backbone(checkpointed), neck), size, "training", repeats=0, device=device)
        for title, (neck, checkpointed) in MEASURED.items()
    }
    return {
        "size": list(size),
        "hardware": hardware(device),
        "versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        "rounds": ROUNDS,
        "inference_seconds": times(size, device, training=False),
        "training_seconds": times(size, device, training=True),
        "training_peak_bytes": {title: found["peak_bytes"] for title, found in peaks.items()},
    }


def measured_rows(name: str, found: dict[str, Any]) -> list[Row]:
    """Measured rows of a claim."""
    plain, checkpointed = "R50, FPN P2-P5", "R50, FPN P2-P5, checkpointed"
    if name == "speed":
        seconds = found["inference_seconds"]
        return [
            _row(f"R50 with one map -> {title[5:]}", seconds[title] / seconds["R50, one map"], "{:.2f} : 1")
            for title in ("R50, FPN P2-P5", "R50, FPN P3-P5")
        ]
    if name == "memory":
        peaks = found["training_peak_bytes"]
        return [
            _row(f"peak of a training step, R50 alone -> {title[5:]}", peaks[title] / peaks["R50 alone"], "{:.2f} x")
            for title in ("R50, FPN P2-P5", "R50, FPN P3-P5")
        ]
    if name == "checkpointing":
        peaks, seconds = found["training_peak_bytes"], found["training_seconds"]
        slower = seconds[checkpointed] / seconds[plain] - 1
        saved = 1 - peaks[checkpointed] / peaks[plain]
        return [
            _row("peak of a training step, R50 with FPN P2-P5", saved, f"{{:.0%}} saved, step {slower:+.0%} in time")
        ]
    return []


def _row(what: str, value: float, text: str) -> Row:
    return Row(what, "measured", value, text.format(value))


def section(name: str, claim: Claim, found: dict[str, Any] | None) -> list[str]:
    """Render one claim."""
    rows = [*claim.rows, *(measured_rows(name, found) if found else [])]
    answers = [answer for answer in map(claim.holds, rows) if answer != "-"]
    true = sum("yes" in answer for answer in answers)
    verdict = "holds" if true == len(answers) else "does not hold"
    if 0 < true < len(answers):
        verdict = f"holds in {true} of {len(answers)} comparisons"
    return [
        f"## {claim.title}",
        "",
        f"> {claim.statement}",
        "",
        f"**It {verdict}.** {claim.why}",
        "",
        "| comparison | source | value | as claimed? |",
        "|---|---|--:|---|",
        *(f"| {row.what} | {row.how} | {row.text} | {claim.holds(row)} |" for row in rows),
        "",
    ]


def render(found: dict[str, Any] | None) -> str:
    """Render the page.

    Args:
        found: result of `measure`; ``None`` leaves the measurements out.
    """
    lines = [
        "# Claims about the cost of FPN, checked",
        "",
        f"Generated by `{COMMAND}`; do not edit. The statements circulate in surveys, tutorials and project "
        "descriptions, mostly without stating what is compared with what; here, every comparison states it.",
        "",
        "Counted with `fpn_plugins.analysis`: multiply-adds (each counted once; FLOPs = 2 x MACs) and bytes kept for "
        f"the backward pass (fp32), for one image of {SIZE[0]} x {SIZE[1]} and necks of 256 channels unless stated. "
        "Whole detectors: Detectron2's `COCO-Detection/faster_rcnn_R_50_*_1x.yaml`, with the 1000 proposals that "
        "their configs allow.",
        "",
    ]
    if found:
        lines += [
            f"Measured (`{COMMAND} --measure`): {found['size'][0]} x {found['size'][1]}, one image, fp32, on "
            f"{found['hardware']}; {found['versions']}. Times are medians of {found['rounds']} rounds in which the "
            "networks take turns. Peaks are those of one training step above the idle network, in a fresh process. "
            "On a CPU, the peak is resident memory including workspaces of convolutions, uncertain by a few percent. "
            "Figures of a CPU and a small image show orders of magnitude, not the figures of a GPU.",
            "",
        ]
    for name, make in CLAIMS.items():
        lines += section(name, make(), found)
    return "\n".join(lines)


def main() -> None:
    """Count, measure if requested, and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/cost.md")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page: docs")
    parser.add_argument("--measure", action="store_true", help="measure time and memory again")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 320), metavar=("HEIGHT", "WIDTH"), help="of the image"
    )
    args = parser.parse_args()
    with user_errors():
        if args.measure:
            with write_atomically(RECORD) as temporary:
                temporary.write_text(json.dumps(measure(tuple(args.size)), indent=2) + "\n", encoding="utf-8")
        found = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else None
        with write_atomically(args.out / "cost.md") as temporary:
            temporary.write_text(render(found), encoding="utf-8")
    print(args.out / "cost.md")


if __name__ == "__main__":
    main()
