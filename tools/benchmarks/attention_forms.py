"""Time each form of attention on a CPU: the measurements behind `fpn_plugins.ops.attention.choose_form`.

    python tools/benchmarks/attention_forms.py --threads 1 --out tools/benchmarks/data/attention_forms

Writes OUT.json and OUT.md. For a GPU: `tools/benchmarks/gpu.py attention windows`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance, write_report
from gpu_attention import AttentionCase, BiasSource, Tensors, add_masks, as_batch
from timing import interleaved_seconds

from fpn_plugins.commands.common import user_errors
from fpn_plugins.ops.attention import AxialBias, choose_form
from fpn_plugins.ops.attention.forms import blocked, masked, plain, widened

FORMS = {"plain": plain, "masked": masked, "widened": widened, "blocked": blocked}
# windows of Swin-T (stage 1), ViT-B and MViTv2-T (stages 1 and 2) at 384 x 512, then whole maps of ViT-B
SWIN = AttentionCase("7 x 7 windows, bias per head", 266, 3, 32, 7, 7)
AXIAL = [
    AttentionCase("7 x 7 windows", 48, 1, 96, 7, 7),
    AttentionCase("14 x 14 windows", 6, 12, 64, 14, 14),
    AttentionCase("56 x 56 windows, 14 x 14 keys", 6, 1, 96, 56, 14),
    AttentionCase("28 x 28 windows", 12, 1, 96, 28, 28),
    AttentionCase("32 x 32 map", 1, 12, 64, 32, 32),
    AttentionCase("64 x 64 map", 1, 12, 64, 64, 64),
]


def cases() -> Iterator[tuple[AttentionCase, BiasSource]]:
    """Yield every case with its bias."""
    heads = (SWIN.heads, SWIN.side**2, SWIN.side**2)
    masks = torch.where(torch.rand(SWIN.batch, 1, *heads[1:]) < 0.5, -100.0, 0.0)
    yield SWIN, BiasSource([heads], as_batch)
    yield SWIN._replace(case=f"{SWIN.case}, shifted"), BiasSource([heads], partial(add_masks, masks=masks))
    for case in AXIAL:
        shape = (case.batch, case.heads, case.side**2, case.key_side)
        yield case, BiasSource([shape, shape], AxialBias)


def measure(case: AttentionCase, source: BiasSource, training: bool, repeats: int) -> dict[str, Any]:
    """Measure the median milliseconds of each form, and name the form that `attend` takes."""
    torch.manual_seed(0)
    tensors = Tensors(case, source, torch.float32, "cpu")
    q, k, v, bias = tensors.read()
    forms = FORMS if isinstance(bias, AxialBias) else {"plain": plain, "masked": masked}
    seconds = interleaved_seconds({name: tensors.job(form, training) for name, form in forms.items()}, repeats)
    chosen = choose_form(q.detach().requires_grad_(training), k, v, bias).__name__
    milliseconds = {name: 1e3 * statistics.median(runs) for name, runs in seconds.items()}
    return {**case._asdict(), "mode": "training" if training else "inference", "ms": milliseconds, "chosen": chosen}


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Forms of attention on a CPU",
        "",
        f"{measured(report)}: medians of {report['repeats']} interleaved runs in milliseconds, fp32. "
        "Training is forward and backward. The form that `attend` takes is in bold.",
        "",
        f"| | mode | {' | '.join(FORMS)} |",
        f"|---|---|{'---:|' * len(FORMS)}",
    ]
    for row in report["rows"]:
        cells = []
        for name in FORMS:
            text = f"{row['ms'][name]:.1f}" if name in row["ms"] else ""
            cells.append(f"**{text}**" if name == row["chosen"] else text)
        lines.append(f"| {row['case']} | {row['mode']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        report = {**provenance(["torch", "fpn_plugins"]), "repeats": args.repeats, "rows": []}
        for case, source in cases():
            for training in (False, True):
                report["rows"].append(measure(case, source, training, args.repeats))
                print({key: report["rows"][-1][key] for key in ("case", "mode", "ms", "chosen")}, flush=True)
        write_report(args.out, report, page(report))


if __name__ == "__main__":
    main()
