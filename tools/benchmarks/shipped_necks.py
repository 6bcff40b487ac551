"""Read the necks of mmdet's configs, build each with mmdet's class and with ours, and compare them."""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEED, BATCH, SLIM = 7, 2, 8
FINEST = (64, 96)  # cells of the first map
DIVIDED = re.compile("(channels|filters|inplanes|num_groups)$")
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
# cells of the first map: mmcv's operator rounds positions of taps on larger maps in single precision; and its SAC pads
# the coarsest map by reflection
FINEST_OF = {"DyHead": (16, 24), "RFP": (96, 128)}
# at offsets of exactly 0, the derivative by an offset has two values at the map's border
CHANGES = {"DyHead": {"zero_init_offset": False}}
# random numbers in forward: its scale is computed in single precision, in another order
# mmdet's L2 norm computes in single precision
TOLERANCES = {"FPN_DropBlock": 1e-6, "SSDNeck": 1e-5}
# classes whose `init_weights` leaves what mmcv's layers drew one by one; the tests of the adapter compare its deviation
DRAWN_BY_LAYERS = ("CLRFPN", "CTResNetNeck", "NASFCOS_FPN")
TOLERANCE = 1e-10


class Parity(NamedTuple):
    """Result for one neck: relative differences, and whether initial weights and keys with shapes are equal."""

    outputs: float
    gradients: float
    initial: bool
    checkpoint: bool


class Shipped(NamedTuple):
    """A distinct neck of mmdet's configs, and the files that have it."""

    config: Config
    files: list[str]


@contextmanager
def files_read_once() -> Iterator[None]:
    """Let mmengine read a config that several others inherit from once, which is five sixths of the time."""
    from mmengine.config import Config as File

    read, known = File._file2dict, {}

    def once(filename: str, *options: Any, **named: Any) -> Any:
        key = os.path.realpath(filename), options, *named.items()
        if key not in known:
            known[key] = read(filename, *options, **named)
        return copy.deepcopy(known[key])

    with patch.object(File, "_file2dict", staticmethod(once)):
        yield


@lru_cache
@files_read_once()
def shipped_necks() -> tuple[list[Shipped], list[str]]:
    """Read mmdet's configs: distinct necks in a fixed order, and the files that cannot be read."""
    import mmdet
    from mmengine.config import Config as File

    root = Path(mmdet.__file__).parent / ".mim" / "configs"
    necks: dict[str, Shipped] = {}
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
            config = part.to_dict()
            found = necks.setdefault(json.dumps(config, sort_keys=True), Shipped(config, []))
            found.files.append(str(path.relative_to(root)))
    return [necks[text] for text in sorted(necks)], unreadable


def distinct(kind: str | None = None) -> list[Config]:
    """List the distinct necks that mmdet itself can build, of all its classes or of one, in a fixed order."""
    configs = [*(neck.config for neck in shipped_necks()[0]), *EXAMPLES]
    configs = [config for config in configs if "force_grad_on_level" not in config]  # no argument of mmdet's class
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
    """Build mmdet's neck and ours from one config, and from one seed: some draw weights in their constructor."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    built = []
    for name in (config["type"], f"fpn_plugins.{config['type']}"):
        torch.manual_seed(SEED)
        built.append(MODELS.build({**copy.deepcopy(config), "type": name}))
    return built


def _unfolded(x: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Compute ``mmcv.ops.carafe``, which needs a GPU, by PyTorch's unfold."""
    batch, channels, height, width = x.shape
    patches = F.unfold(x, kernel, padding=kernel // 2).view(batch, channels * kernel**2, height, width)
    patches = F.interpolate(patches, scale_factor=scale, mode="nearest")
    patches = patches.view(batch, groups, channels // groups, kernel**2, scale * height, scale * width)
    masks = masks.view(batch, groups, 1, kernel**2, scale * height, scale * width)
    return (patches * masks).sum(3).flatten(1, 2)


def carafe_on_cpu() -> AbstractContextManager[Any]:
    """Let mmdet's ``FPN_CARAFE`` run on a CPU, by the operator's definition."""
    return patch.object(importlib.import_module("mmcv.ops.carafe"), "carafe", _unfolded)  # also a function's name


def slim(config: Any, factor: int = SLIM) -> Any:
    """Divide every number of channels or groups in a config, those of a backbone inside included; leave files out."""
    if not isinstance(config, dict):
        return config
    if "rfp_inplanes" in config:  # RFP's backbone, a ResNet
        config = {"base_channels": 64, **config}
    return {
        key: _divided(value, factor) if DIVIDED.search(key) else slim(value, factor)
        for key, value in config.items()
        if key != "pretrained"
    }


def _divided(value: Any, factor: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_divided(entry, factor) for entry in value)
    return max(1, value // factor) if isinstance(value, int) else value


def inputs_of(config: Config, size: tuple[int, int] = FINEST) -> list[Tensor]:
    """Draw the inputs of a neck in double precision, each of half the size of the one before, rounded up."""
    channels = INPUTS.get(config["type"], lambda config: config["in_channels"])(config)
    sizes = [[-(-side // 2**level) for side in size] for level in range(len(channels))]
    if config["type"] == "RFP":  # it also reads the image
        channels, sizes = [3, *channels], [size, *([side // 4 for side in s] for s in sizes)]
    generator = torch.Generator().manual_seed(SEED)
    draw = [torch.randn(BATCH, c, *s, generator=generator).double() for c, s in zip(channels, sizes, strict=True)]
    return [x.requires_grad_() for x in draw]


def same_checkpoint(config: Config) -> bool:
    """Return whether mmdet's state dict loads into ours at full width; both are built without memory.

    RFP is narrowed: the networks inside it, mmcv's ``ConvAWS``, read values when they load.
    """
    recursive = config["type"] == "RFP"
    with torch.device("cpu" if recursive else "meta"):
        theirs, ours = build_pair(slim(config, SLIM if recursive else 1))
        try:
            ours.load_state_dict(theirs.state_dict())
        except (RuntimeError, ValueError):
            return False
    return True


def compare(config: Config, size: tuple[int, int] | None = None) -> Parity:
    """Compare both classes in one configuration, with maps whose finest has ``size`` cells (height, width)."""
    size = size or FINEST_OF.get(config["type"], FINEST)
    narrow = {**slim(config), **CHANGES.get(config["type"], {})}
    theirs, ours = build_pair(narrow)
    for neck in (theirs, ours):
        torch.manual_seed(SEED)
        if hasattr(neck, "init_weights"):  # not mmdet's CLRFPN
            neck.init_weights()
    drawn = _translated(dict(theirs.named_parameters()), theirs, ours)
    initial = all(torch.equal(p, drawn[key]) for key, p in ours.named_parameters())
    ours.load_state_dict(theirs.state_dict())
    training = "SyncBN" not in json.dumps(config)  # it trains on GPUs only
    wanted, expected = _run(theirs.double().train(training), narrow, size)
    got, found = _run(ours.double().train(training), narrow, size)
    expected = {
        **_translated(expected, theirs, ours),
        **{key: g for key, g in expected.items() if isinstance(key, int)},
    }
    floor = 1e-3 * max(float(gradient.abs().max()) for gradient in found.values())
    gradients = _difference([found[key] for key in expected], list(expected.values()), floor)
    return Parity(_difference(got, wanted), gradients, initial, same_checkpoint(config))


def _translated(values: Mapping[Any, Tensor], theirs: nn.Module, ours: nn.Module) -> dict[Any, Tensor]:
    """Translate values of mmdet's parameters to our names, as a state dict is."""
    twin = copy.deepcopy(ours)
    twin.load_state_dict({key: values.get(key, x) for key, x in theirs.state_dict().items()})
    return {key: p.detach() for key, p in twin.named_parameters()}


def _run(neck: nn.Module, config: Config, size: tuple[int, int]) -> tuple[list[Tensor], dict[Any, Tensor]]:
    """Return outputs, and gradients of inputs, by position, and parameters, by name; each cell weighs differently."""
    inputs = inputs_of(config, size)
    torch.manual_seed(SEED)
    with carafe_on_cpu():
        outputs = list(neck(inputs))
    weighed = (x * torch.linspace(-1, 1, x.numel()).view_as(x) for x in outputs)
    sum(x.sum() / x.numel() for x in weighed).backward()  # type: ignore[union-attr]
    leaves = {**dict(enumerate(inputs)), **dict(neck.named_parameters())}
    return outputs, {key: torch.zeros_like(x) if x.grad is None else x.grad for key, x in leaves.items()}


def _difference(got: list[Tensor], wanted: list[Tensor], floor: float = 0.0) -> float:
    with torch.no_grad():
        pairs = zip(got, wanted, strict=True)
        return max(float((a - b).abs().max()) / max(float(b.abs().max()), floor, 1e-300) for a, b in pairs)
