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
import copy
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors
from fpn_plugins.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tools/benchmarks/data/mmdet_necks.json"
PAGE = ROOT / "docs/mmdet_necks.md"
SEED, BATCH, SLIM = 7, 2, 8
FINEST = (64, 96)  # cells of the first map
Config = dict[str, Any]
# input channels, high to low resolution, of classes whose in_channels do not say them
INPUTS: dict[str, Callable[[Config], list[int]]] = {
    "BFP": lambda config: [config["in_channels"]] * config["num_levels"],
    "CTResNetNeck": lambda config: [config["in_channels"]],
    "DilatedEncoder": lambda config: [config["in_channels"]],
    "DyHead": lambda config: 3 * [config["in_channels"]],
    "YOLOV3Neck": lambda config: config["in_channels"][::-1],
}
# a class that no config has
EXAMPLES: tuple[Config, ...] = (
    {"type": "SSH", "num_scales": 3, "in_channels": [64, 64, 64], "out_channels": [64, 64, 64]},
)
# random numbers in forward: its scale is computed in single precision, in another order
TOLERANCES = {"FPN_DropBlock": 1e-6}
TOLERANCE = 1e-10
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
  cells).

"""


class Parity(NamedTuple):
    """Result for one neck: relative differences, and whether initial weights and keys with shapes are equal."""

    outputs: float
    gradients: float
    initial: bool
    checkpoint: bool


@lru_cache
def shipped_necks() -> tuple[dict[str, list[str]], list[str]]:
    """Read mmdet's configs: distinct necks, as JSON, -> files that have them; and the files that cannot be read."""
    import mmdet
    from mmengine.config import Config as File

    root = Path(mmdet.__file__).parent / ".mim" / "configs"
    necks: dict[str, list[str]] = {}
    unreadable: list[str] = []
    for path in sorted(root.rglob("*.py")):
        if "_base_" in path.parts:
            continue
        try:
            model = File.fromfile(str(path)).get("model", {})
        except (ImportError, FileNotFoundError):  # mmpretrain's backbones, files that mmdet does not package
            unreadable.append(path.name)
            continue
        neck = model.get("neck") or (model.get("detector") or {}).get("neck")  # trackers hold their detector
        for part in [] if neck is None else neck if isinstance(neck, (list, tuple)) else [neck]:
            necks.setdefault(json.dumps(part.to_dict(), sort_keys=True), []).append(str(path.relative_to(root)))
    return necks, unreadable


def distinct(kind: str | None = None) -> list[Config]:
    """List the distinct necks that mmdet itself can build, of all its classes or of one, in a fixed order."""
    configs = [json.loads(text) for text in sorted(shipped_necks()[0])]
    configs = [config for config in (*configs, *EXAMPLES) if "force_grad_on_level" not in config]
    return [config for config in configs if config["type"] in mmdets_classes() and kind in (None, config["type"])]


def mmdets_classes() -> list[str]:
    """List the necks that mmdet exports."""
    from mmdet.models import necks

    return sorted(necks.__all__)


def served() -> set[str]:
    """Return the names of mmdet's classes that have one of ours."""
    import fpn_plugins.adapters.mmdet  # noqa: F401
    from fpn_plugins.registry import MODELS

    return set(mmdets_classes()) & set(MODELS.module_dict)


def build_pair(config: Config) -> list[nn.Module]:
    """Build mmdet's neck and ours from one config."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    kind = config["type"]
    return [MODELS.build({**copy.deepcopy(config), "type": name}) for name in (kind, f"fpn_plugins.{kind}")]


def slim(config: Any) -> Any:
    """Divide every number of channels in a config by `SLIM`."""
    if not isinstance(config, dict):
        return config
    return {
        key: _divided(value) if re.search("channels$|filters$", key) else slim(value) for key, value in config.items()
    }


def _divided(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_divided(entry) for entry in value]
    return max(1, value // SLIM) if isinstance(value, int) else value


def inputs_of(config: Config, size: tuple[int, int] = FINEST) -> list[Tensor]:
    """Draw the inputs of a neck in double precision, each of half the size of the one before, rounded up."""
    channels = INPUTS.get(config["type"], lambda config: config["in_channels"])(config)
    sizes = [[-(-side // 2**level) for side in size] for level in range(len(channels))]
    generator = torch.Generator().manual_seed(SEED)
    draw = [torch.randn(BATCH, c, *s, generator=generator).double() for c, s in zip(channels, sizes, strict=True)]
    return [x.requires_grad_() for x in draw]


def same_checkpoint(config: Config) -> bool:
    """Return whether mmdet's state dict loads into ours at full width; both are built without memory."""
    with torch.device("meta"):
        theirs, ours = build_pair(config)
        try:
            ours.load_state_dict(theirs.state_dict())
        except (RuntimeError, ValueError):
            return False
    return True


def compare(config: Config, size: tuple[int, int] = FINEST) -> Parity:
    """Compare both classes in one configuration, with maps whose finest has ``size`` cells (height, width)."""
    narrow = slim(config)
    theirs, ours = build_pair(narrow)
    for neck in (theirs, ours):
        torch.manual_seed(SEED)
        neck.init_weights()
    drawn = zip(theirs.parameters(), ours.parameters(), strict=True)
    initial = all(torch.equal(p, q) for p, q in drawn)
    ours.load_state_dict(theirs.state_dict())
    training = "SyncBN" not in json.dumps(config)  # it trains on GPUs only
    (wanted, expected), (got, found) = (_run(neck.double().train(training), narrow, size) for neck in (theirs, ours))
    largest = max(float(x.abs().max()) for x in expected)
    return Parity(
        _difference(got, wanted), _difference(found, expected, 1e-3 * largest), initial, same_checkpoint(config)
    )


def _run(neck: nn.Module, config: Config, size: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs, and gradients of inputs and parameters for a loss that weighs each cell differently."""
    inputs = inputs_of(config, size)
    torch.manual_seed(SEED)
    outputs = list(neck(inputs))
    weighed = (x * torch.linspace(-1, 1, x.numel()).view_as(x) for x in outputs)
    sum(x.sum() / x.numel() for x in weighed).backward()  # type: ignore[union-attr]
    leaves = [*inputs, *neck.parameters()]
    return outputs, [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]


def _difference(got: list[Tensor], wanted: list[Tensor], floor: float = 0.0) -> float:
    pairs = zip(got, wanted, strict=True)
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), floor, 1e-300) for a, b in pairs)


def measure(kinds: list[str]) -> dict[str, Any]:
    """Compare every distinct neck of some classes, and count the configs."""
    import mmdet

    necks, unreadable = shipped_necks()
    rows = {}
    for kind in kinds:
        found = [compare(config) for config in distinct(kind)]
        rows[kind] = {
            "configs": len(
                {name for text, names in necks.items() if json.loads(text)["type"] == kind for name in names}
            ),
            "necks": len(found),
            "outputs": max(p.outputs for p in found),
            "gradients": max(p.gradients for p in found),
            "initial": sum(p.initial for p in found),
            "checkpoint": sum(p.checkpoint for p in found),
        }
        print(kind, rows[kind], flush=True)
    files = {name for names in necks.values() for name in names}
    others = {name for text, names in necks.items() if json.loads(text)["type"] not in served() for name in names}
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
    numbers = {key: data[key] for key in ("version", "files", "served", "unreadable")}
    return HEADER.format(**numbers, height=FINEST[0], width=FINEST[1]) + "\n".join([*lines, ""])


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Compare our necks with mmdet's in every config of mmdet")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=None, help="classes of mmdet (default: all)")
    parser.add_argument("--write", action="store_true", help="write the page and its data (all classes only)")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write needs all classes: leave out --only")
    with user_errors():
        data = measure([one_of("--only", kind, served()) for kind in sorted(args.only or served())])
    print(f"{data['served']} of {data['files']} configs")
    if args.write:
        for path, text in ((DATA, json.dumps(data, indent=2) + "\n"), (PAGE, page(data))):
            with write_atomically(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
