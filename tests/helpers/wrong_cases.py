"""Wrong arguments of every registered class and wrong inputs of every forward, and how each is reported.

The cases follow from the constructors' signatures: a parameter's annotation and default say which values are wrong.
`judge` runs one case: *clear* is a ``ValueError`` or ``TypeError`` that names the argument, *obscure* any other error,
*silent* none at all.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from mmdet_arguments import NO_NETWORKS
from registered import BACKBONE_ARGUMENTS, NECKS, in_specs
from torch import Tensor, nn

from fpn_plugins import BACKBONES, ExtraLevels, FeatureSpec, Pyramid, SemanticMerge
from fpn_plugins.necks.graph import Graph
from fpn_plugins.necks.rfp import SMALL_BACKBONE
from fpn_plugins.testing import make_pyramid

CLEAR, OBSCURE, SILENT = "clear", "obscure", "silent"
NAN, INF = float("nan"), float("inf")
TINY = {"type": "Swin", **BACKBONE_ARGUMENTS["Swin"]}
# cheaper than the contract tests' examples
PARTS_OF = {
    "ImagePyramid": {"backbone": {**TINY, "out_indices": (1, 2, 3)}},
    "HybridCNNViT": {**BACKBONE_ARGUMENTS["HybridCNNViT"], "cnn": TINY},
}
EXAMPLES = {**BACKBONE_ARGUMENTS, **PARTS_OF}
NECK = {"type": "FPN", "out_channels": 8}


class Case(NamedTuple):
    """One wrong value: the class that gets it, the argument's name, the value's text, and the call."""

    owner: str
    argument: str
    value: str
    call: Callable[[], Any]


class Subject(NamedTuple):
    """A class and arguments with which it builds."""

    name: str
    kind: Callable[..., Any]
    arguments: Mapping[str, Any]


class Foreign(nn.Module):
    """A module that is no backbone and no neck."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Any) -> Any:
        return x


INTEGERS = ["16", 8.7, NAN, [16], {}, b"1"]
BOOLS = ["false", "", 2, 0.5, NAN, [], {}]
NUMBERS = ["0.1", NAN, INF, [0.1], {}, True]
SEQUENCES = ["1234", "256,512", 256, {}, [8.7, 16], ["a", "b"], [True, False], [NAN], [None], 0.5]
FACTORIES = [3, {"type": "BN"}, "Bogus", 0.5, ["BN"], nn.BatchNorm2d(4), lambda: 3, int]
NAMES = [3, "Bogus", b"sum", ["sum"], {}, 0.5]
CONFIGS = ["BN", 3, ["BN"], {"type": "Bogus"}, {"typ": "BN"}, {"type": 3}]
PARTS = ["FPN", 3, {}, {"type": "Bogus"}, {"typ": "FPN"}, nn.Identity(), [3], ["FPN"], True]
MAPPINGS = ["a", 3, ["a"], True]
PATHS = [3, 0.5, True, ["weights.pth"], {}]

# integers that are out of range, where 0 is not one
FROM_ZERO = {
    *("num_blocks", "num_extra_levels", "start_level", "end_level", "refine_index", "refine_level", "window_size"),
    *("num_csp_blocks", "square_pad", "size_divisibility", "frozen_stages", "index", "num_stuff_classes"),
    *("num_things_classes", "ignore_index", "num_attention_layers"),
}
RATES = {"drop_path_rate", "dropout", "normalizer_momentum"}
FROM_ZERO_NUMBERS = {
    *("drop_rate", "attn_drop_rate", "ignore_value", "init_values", "l2_norm_scale", "loss_weight", "qk_scale"),
}
TAKE_MORE_MAPS = ("mmdet.CLRFPN", "mmdet.CTResNetNeck", "mmdet.DilatedEncoder")  # as mmdet's classes
FIXED = {"init_cfg", "convert_weights"}  # read by mmengine, and ignored


def wrong_values(name: str, parameter: inspect.Parameter) -> list[Any]:
    """List wrong values of a parameter, from its name, annotation and default; ``[]`` if every value is right."""
    hint, optional = str(parameter.annotation), "None" in str(parameter.annotation)
    none = [] if optional or parameter.default is None else [None]
    base = hint.replace(" | None", "").strip()
    if name in FIXED:
        return []
    if name == "compile":
        return ["true", 3, [], None, {"mod": "default"}, {"mode": "Bogus"}, {"fullgraph": 2}]
    if name.rpartition("_")[2] in ("norm", "act", "conv") and "Factory" in hint:
        return FACTORIES
    if name in ("backbone", "cnn", "bottom_up", "neck") or "nn.Module | Mapping" in base:
        return PARTS
    if name == "upsample_mode":
        return [3, "Bogus", {"type": "Bogus"}, {}, {"type": "carafe", "kernel_size": 2}, ["nearest"], *none]
    if name == "graph":
        return [3, "Bogus", ["pan"], {}, None, lambda num_levels: num_levels, lambda num_levels: Graph(num_levels, ())]
    if name == "fusion":
        return [
            3,
            "Bogus",
            {"type": "Bogus"},
            {},
            {"type": "sum", "groups": 2},
            {"type": "freqfusion", "groups": 3},
            *none,
        ]
    if name == "extra_levels":
        return [3, "max_pool", {"num_levels": 0}, {"num_levels": "2"}, {"num_level": 1}, {"op": "pool"}, [1], True]
    if name.endswith("_cfg"):
        return [*CONFIGS, *none]
    if name in ("checkpoint", "pretrained") and "str" in base:
        return PATHS
    if base == "int":
        low = [-9] if name in FROM_ZERO or name == "in_chans" else [0, -1]
        return [*INTEGERS, *low, *none]
    if base == "bool":
        return [*BOOLS, *none]
    if base == "bool | str":
        return [3, "Bogus", 0.5, [], *none]
    if base == "float":
        out = [-1.0] + ([1.0] if name in RATES else [] if name in FROM_ZERO_NUMBERS else [0.0])
        return [*NUMBERS, *out, *none]
    if base == "Sequence[int]" or base == "int | Sequence[int]":
        low = [[-5, -4]] if "ind" in name or name.endswith(("num_upsamples", "paddings")) else [[0, 0], [-1]]
        values = [value for value in SEQUENCES if base == "Sequence[int]" or value != 256]
        return [*values, *low, *none]
    if base in ("Sequence[float]", "Sequence[str]"):
        return ["1234", 3, {}, [None], ["a"], [NAN], [[1]], 0.5, *none]
    if base == "str":
        return [*NAMES, *none]
    if base.startswith("Mapping"):
        return [*MAPPINGS, *none]
    return []


def parameters_of(kind: Any) -> dict[str, inspect.Parameter]:
    """Collect a constructor's parameters; those that ``**more`` passes on come from the next constructor."""
    found: dict[str, inspect.Parameter] = {}
    for base in getattr(kind, "__mro__", ()):
        if "__init__" not in vars(base) or not base.__module__.startswith("fpn_plugins"):
            continue
        named = list(inspect.signature(base.__init__).parameters.values())[1:]
        for parameter in named:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in named):
            break
    return found


def core_subjects() -> Iterator[Subject]:
    """Yield the registered classes of the core, and those that they are built with."""
    for name, neck in NECKS.items():
        channels = [spec.channels for spec in in_specs(name)]
        yield Subject(name, neck, {"in_channels": channels, **neck.card.example_arguments})
    for name, backbone in BACKBONES.items():
        yield Subject(name, backbone, EXAMPLES[name])
    yield Subject("Pyramid", Pyramid, {"backbone": TINY, "neck": NECK})
    yield Subject("SemanticMerge", SemanticMerge, {"in_channels": [8, 8], "inner_channels": 32})
    yield Subject("ExtraLevels", ExtraLevels, {})


def mmdet_subjects() -> Iterator[Subject]:
    """Yield the classes registered in mmdet, called as mmdet's registry calls them."""
    from mmdet.utils import register_all_modules

    import fpn_plugins.adapters.mmdet  # noqa: F401
    from fpn_plugins.registry import MODELS

    register_all_modules()
    level = {"in_channels": [4, 6, 8, 10], "out_channels": 32, "num_outs": 5}
    special: dict[str, dict[str, Any]] = {
        "CTResNetNeck": {"in_channels": 8, "num_deconv_filters": [8, 4], "num_deconv_kernels": [4, 4]},
        "SSDNeck": {
            **{"in_channels": [6, 8], "out_channels": [6, 8, 8, 4, 4]},
            **{"level_strides": [2, 2, 2], "level_paddings": [1, 1, 1]},
        },
        "YOLOV3Neck": {"num_scales": 3, "in_channels": [8, 6, 4], "out_channels": [8, 6, 4]},
        "BFP": {"in_channels": 32, "num_levels": 4, "refine_type": "conv"},
        "NASFPN": {**level, "stack_times": 1},
        "DilatedEncoder": {
            **{"in_channels": 8, "out_channels": 32, "block_mid_channels": 8},
            **{"num_residual_blocks": 1, "block_dilations": (2,)},
        },
        "SSH": {"num_scales": 2, "in_channels": [8, 16], "out_channels": [32, 32]},
        "RFP": {
            **{"rfp_steps": 2, "rfp_backbone": SMALL_BACKBONE, "aspp_out_channels": 4},
            **{"in_channels": [8, 16, 32, 64], "out_channels": 32, "num_outs": 5},
        },
        "DyHead": {"in_channels": 32, "out_channels": 32, "num_levels": 3, "num_blocks": 1},
        "FPG": {**level, "stack_times": 1, "paths": ["bu"]},
        "CSPNeXtPAFPN": {"in_channels": [4, 6, 8, 10], "out_channels": 32},
        **dict.fromkeys(("CSPPAFPN", "YOLOXPAFPN"), {"in_channels": [4, 6, 8, 10], "out_channels": 32}),
        "SimpleFeaturePyramid": {**level, "in_channels": [16]},
        "MSDeformAttnPixelDecoder": {"in_channels": [4, 6, 8, 10]},
        "HybridEncoder": {**level, "mlp_channels": 8},
        "MultiScaleProjector": {**level, "in_channels": [8, 16]},
        "SingleScale": {**level, "num_outs": 1, "start_level": 3},
        "CorePyramid": {"backbone": TINY, "neck": NECK},
        "PyramidBackbone": {"backbone": TINY, "neck": {**NECK, "num_outs": 5}},
        "SwinTransformer": {"embed_dims": 32, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
        "PanopticFPNHead": {"in_channels": 32, "inner_channels": 32},
        "LN2d": {"channels": 8},
        "RetinaHead": {"num_classes": 3, "in_channels": 8},
    }
    for name, kind in MODELS.module_dict.items():
        if name not in NO_NETWORKS - {"LN2d"}:  # most of their arguments are mmdet's own
            yield Subject(f"mmdet.{name}", kind, special.get(name, EXAMPLES.get(name, level)))


def other_subjects() -> Iterator[Subject]:
    """Yield the classes of the other two adapters."""
    from detectron2.layers import ShapeSpec

    import fpn_plugins.adapters.detectron2 as detectron2
    import fpn_plugins.adapters.torchvision as torchvision

    yield Subject("detectron2.PyramidBackbone", detectron2.PyramidBackbone, {"bottom_up": TINY, "neck": NECK})
    shapes = {name: ShapeSpec(channels=8, stride=stride) for name, stride in (("p2", 4), ("p3", 8))}
    head = {"input_shape": shapes, "num_classes": 3, "conv_dims": 32, "common_stride": 4, "loss_weight": 1.0}
    yield Subject("detectron2.PanopticFPNHead", detectron2.PanopticFPNHead, {**head, "norm": "GN", "ignore_value": 255})
    yield Subject("torchvision.PyramidBackbone", torchvision.PyramidBackbone, {"backbone": TINY, "neck": NECK})


def subjects() -> list[Subject]:
    """List all classes."""
    return [*core_subjects(), *mmdet_subjects(), *other_subjects()]


def text_of(value: Any) -> str:
    """Return a value's text in one line."""
    return " ".join(getattr(value, "__qualname__", repr(value)).split())[:60]


def wrong_argument(subject: Subject, name: str, value: Any) -> Case:
    """Make the case of one wrong value of one argument."""
    return Case(subject.name, name, text_of(value), lambda: subject.kind(**{**subject.arguments, name: value}))


def constructor_cases(chosen: Subject) -> Iterator[Case]:
    """Yield every wrong value of every parameter of a class, then a misspelled parameter."""
    parameters = parameters_of(chosen.kind)
    for name, parameter in parameters.items():
        for value in wrong_values(name, parameter):
            yield wrong_argument(chosen, name, value)
    for name in [name for name in parameters if len(name) > 3]:
        misspelled = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name[:-1]
        if misspelled not in parameters:
            yield wrong_argument(chosen, misspelled, 1)


def maps_of(specs: tuple[FeatureSpec, ...], side: int = 352) -> list[Tensor]:
    """Draw a pyramid without values."""
    return list(make_pyramid(specs, (side, side + 128), batch_size=2, device="meta"))


def wrong_maps(specs: tuple[FeatureSpec, ...], takes_more: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield wrong arguments of a neck's forward, each with its name."""
    good = maps_of(specs)
    last = len(good) - 1

    def other(position: int, x: Any) -> list[Any]:
        return [x if index == position else feature for index, feature in enumerate(good)]

    yield "none", None
    yield "a dict of maps", {f"p{spec.level}": x for spec, x in zip(specs, good, strict=True)}
    yield "one map", good[0]
    yield "a number", 3
    yield "names", [f"p{spec.level}" for spec in specs]
    yield "no maps", []
    if not takes_more:
        yield "one more map", [*good, good[-1]]
    yield "lists of maps", [good]
    for position in sorted({0, last}):
        x = good[position]
        yield f"none as map {position}", other(position, None)
        yield f"three dimensions of map {position}", other(position, x[0])
        yield f"five dimensions of map {position}", other(position, x[None])
        yield f"more channels of map {position}", other(position, x.repeat(1, 2, 1, 1))
        yield f"channels last in map {position}", other(position, x.permute(0, 2, 3, 1))
        yield f"integers in map {position}", other(position, x.long())
        yield f"no cells in map {position}", other(position, x[:, :, :0])
        if last:
            yield f"no images in map {position}", other(position, x[:0])
            yield f"one image in map {position}", other(position, x[:1])
            yield f"one cell in map {position}", other(position, x[:, :, :1, :1])
            yield f"another dtype of map {position}", other(position, x.double())
            yield f"another device of map {position}", other(position, torch.zeros(x.shape))
    yield "only integers", [x.long() for x in good]
    yield "only complex numbers", [x.to(torch.complex64) for x in good]
    if last:
        sizes = [x.shape[-2:] for x in good]
        flipped = [x.new_empty(*x.shape[:2], *size) for x, size in zip(good, sizes[::-1], strict=True)]
        if sizes[0] != sizes[-1]:
            yield "ascending sizes", flipped
        yield "one map less", good[:-1]


def wrong_images() -> Iterator[tuple[str, Any]]:
    """Yield wrong arguments of a backbone's forward, each with its name."""
    good = torch.empty(2, 3, 64, 96, device="meta")
    yield "none", None
    yield "a list of images", [good[0], good[1]]
    yield "a dict", {"image": good}
    yield "a text", "image.jpg"
    yield "three dimensions", good[0]
    yield "five dimensions", good[None]
    yield "one channel", good[:, :1]
    yield "four channels", good.new_empty(2, 4, 64, 96)
    yield "channels last", good.permute(0, 2, 3, 1)
    yield "bytes", good.to(torch.uint8)
    yield "integers", good.long()
    yield "complex numbers", good.to(torch.complex64)
    yield "no pixels", good[:, :, :0]


def forward_cases(chosen: Subject) -> Iterator[Case]:
    """Yield every wrong input of a class's forward; classes without one yield none."""
    with torch.device("meta"), quiet():
        module = chosen.kind(**chosen.arguments)
    if not isinstance(module, nn.Module) or hasattr(module, "loss_by_feat") or chosen.name.endswith(("Head", "LN2d")):
        return
    reads_maps = hasattr(module, "in_channels") and hasattr(module, "out_specs") or "SemanticMerge" in chosen.name
    if reads_maps:
        name, same = chosen.name.split(".")[-1], len(set(module.in_channels)) == 1 < len(module.in_channels)
        example = {spec.channels: spec for spec in in_specs(name)} if name in NECKS and not same else {}
        strides = [example[c].stride if c in example else 4 << k for k, c in enumerate(module.in_channels)]
        specs = tuple(FeatureSpec(c, s) for c, s in zip(module.in_channels, strides, strict=True))
        inputs = wrong_maps(specs, chosen.name in TAKE_MORE_MAPS)
    else:
        inputs = wrong_images()
    for text, value in inputs:
        yield Case(chosen.name, "forward", text, lambda value=value: module(value))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed, logged and warned of."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


# what a message about an input has to contain one of
_INPUT = re.compile(r"in_channels|\bmaps?\b|\bimages?\b")


class _TooLongError(Exception):
    """A case did not end in time."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `_TooLongError` in the block after so many seconds."""

    def stop(*unused: Any) -> None:
        raise _TooLongError(f"not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(case: Case) -> tuple[str, str]:
    """Run a case on the meta device; return clear, obscure or silent, and the error."""
    try:
        with limited(20), torch.device("meta"), quiet(), torch.no_grad():
            case.call()
    except (ValueError, TypeError) as error:
        message = str(error)
        named = _INPUT if case.argument == "forward" else re.compile(rf"\b{re.escape(case.argument)}\b")
        return (CLEAR if named.search(message) else OBSCURE), f"{type(error).__name__}: {message}"
    except Exception as error:  # noqa: BLE001  (any other error is obscure)
        return OBSCURE, f"{type(error).__name__}: {error}"
    return SILENT, ""
