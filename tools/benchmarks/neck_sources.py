"""Modules of published code for `neck_loads`, and the stand-ins that importing them without their projects needs."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

CHANNELS = (24, 32, 40)
TRANSFORMER = {"dim_feedforward": 48, "hidden_dim": 32, "nhead": 4, "depth_mult": 1.0}
OURS = {"out_channels": 32, "num_heads": 4, "mlp_channels": 48}
D_FINE = {**OURS, "block": "elan", "downsample": "scdown", "act_on_lateral": False}
STRIDES = {"C2-C5": (4, 8, 16, 32), "C3-C5": (8, 16, 32), "one map of stride 16": (16,), "the image": ()}


class Source(NamedTuple):
    """Module of one code base.

    Attributes:
        code: who published the code.
        name: class and design, for the page.
        kind: name of our registered class.
        build: makes the published module.
        arguments: those of ours.
        reads: key of `STRIDES`.
        channels: those of the maps.
        run: makes the published outputs, in the order of ours.
    """

    code: str
    name: str
    kind: str
    build: Callable[[], Any]
    arguments: Mapping[str, Any]
    reads: str
    channels: Sequence[int]
    run: Callable[[Any, Any], Any]


def package(name: str, path: str = "") -> None:
    """Let Python import modules from a folder of a clone without the code of the package itself."""
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module


def stub(name: str, **attributes: Any) -> None:
    """Stand in for a module that the published code imports and does not need here."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def register(given: Any = None, **_: Any) -> Any:
    """Stand in for the decorators of the registries."""
    return given if isinstance(given, type) else lambda cls: cls


def encoder(code: str, module: str, name: str, ours: Mapping[str, Any], **theirs: Any) -> Source:
    """Return the encoder of RT-DETR or of a relative, on square maps: its positions are those of squares."""

    def build() -> Any:
        return importlib.import_module(module).HybridEncoder(list(CHANNELS), **{**TRANSFORMER, **theirs})

    return Source(code, name, "HybridEncoder", build, ours, "C3-C5", CHANNELS, lambda net, maps: net(maps))


def projector(code: str, module: str, scales: Sequence[float], **ours: Any) -> Source:
    """Return the projector of LW-DETR or of RF-DETR."""

    def build() -> Any:
        made = importlib.import_module(module).MultiScaleProjector
        more = {"layer_norm": ours["norm"] == "LN"} if code == "RF-DETR" else {}
        return made([48, 48], 32, list(scales), num_blocks=2, **more)

    arguments = {"out_channels": 32, "scale_factors": tuple(scales), "num_blocks": 2, **ours}
    name = f"MultiScaleProjector, scales {', '.join(map(str, scales))}"
    return Source(
        code, name, "MultiScaleProjector", build, arguments, "one map of stride 16", (48, 48), lambda net, x: net(x)
    )


def mask2former() -> Source:
    """Return Mask2Former's pixel decoder, which returns the mask map, and the maps of the encoder from the coarsest."""
    channels = (16, *CHANNELS)

    def build() -> Any:
        shape_spec = importlib.import_module("detectron2.layers").ShapeSpec
        shapes = {f"res{k + 2}": shape_spec(channels=c, stride=4 << k) for k, c in enumerate(channels)}
        sizes = {"transformer_nheads": 4, "transformer_dim_feedforward": 48, "transformer_enc_layers": 2}
        common = {"transformer_dropout": 0.0, "conv_dim": 32, "mask_dim": 24, "norm": "GN", "common_stride": 4}
        made = importlib.import_module("m2f.pixel_decoder.msdeformattn").MSDeformAttnPixelDecoder
        return made(shapes, **sizes, **common, transformer_in_features=["res3", "res4", "res5"])

    def run(net: Any, maps: Sequence[Tensor]) -> Any:
        mask, _, coarse_to_fine = net.float().forward_features({f"res{k + 2}": x for k, x in enumerate(maps)})
        return [mask, *reversed(coarse_to_fine)]

    ours = {"out_channels": 32, "mask_channels": 24, "num_layers": 2, "num_heads": 4, "ffn_channels": 48}
    kind = "MSDeformAttnPixelDecoder"
    return Source("Mask2Former", kind, kind, build, ours, "C2-C5", channels, run)


def vit_adapter() -> Source:
    """Return ViT-Adapter's backbone of the code for detection."""
    sizes = {"embed_dim": 48, "depth": 4, "num_heads": 3}

    def build() -> Any:
        made = importlib.import_module("vit_adapter_code.vit_adapter").ViTAdapter
        adapter = {"conv_inplane": 16, "n_points": 4, "deform_num_heads": 3, "deform_ratio": 0.5, "cffn_ratio": 0.25}
        return made(pretrain_size=224, **sizes, **adapter, interaction_indexes=[[0, 1], [2, 3]])

    ours = {"vit": sizes, "interaction_indices": (1, 3), "conv_inplane": 16, "deform_ratio": 0.5}
    vit = {**sizes, "window_size": 0, "global_block_indices": ()}
    ours = {**ours, "vit": vit, "deform_num_heads": 3}
    return Source("ViT-Adapter", "ViTAdapter", "ViTAdapter", build, ours, "the image", (), lambda net, x: net(x))


V2, D_FINE_CODE = "rtdetr_v2.zoo.nets.hybrid_encoder", "dfine.zoo.nets.hybrid_encoder"
SOURCES = (
    encoder("RT-DETR", "rtdetr_v1.hybrid_encoder", "HybridEncoder of v1", OURS),
    encoder("RT-DETR", V2, "HybridEncoder of v2", OURS),
    encoder("RT-DETR", V2, "the same, R18", {**OURS, "expand_ratio": 0.5}, expansion=0.5),
    encoder("D-FINE", D_FINE_CODE, "HybridEncoder, L", D_FINE),
    encoder("D-FINE", D_FINE_CODE, "the same, S", {**D_FINE, "expand_ratio": 0.5}, expansion=0.5),
    encoder("DEIM", "deim.nets.hybrid_encoder", "HybridEncoder, L", D_FINE),
    projector("LW-DETR", "lwdetr.projector", (1,), norm="BN", squeeze_above=512),
    projector("LW-DETR", "lwdetr.projector", (2, 0.5), norm="BN", squeeze_above=512),
    projector("RF-DETR", "rfdetr_code.projector", (1,), norm="LN"),
    projector("RF-DETR", "rfdetr_code.projector", (2, 0.5), norm="LN"),
    mask2former(),
    vit_adapter(),
)


def import_from(folder: Path) -> None:
    """Let Python import from the clones."""
    package("rtdetr_v1", f"{folder}/RT-DETR/rtdetr_pytorch/src/zoo/rtdetr")
    for name in ("rtdetr_v2", "rtdetr_v2.zoo", "dfine", "dfine.zoo", "deim"):
        package(name)
    package("rtdetr_v2.zoo.nets", f"{folder}/RT-DETR/rtdetrv2_pytorch/src/zoo/rtdetr")
    package("dfine.zoo.nets", f"{folder}/D-FINE/src/zoo/dfine")
    package("deim.nets", f"{folder}/DEIM/engine/deim")
    package("lwdetr", f"{folder}/LW-DETR/models/backbone")
    package("rfdetr_code", f"{folder}/rf-detr/rfdetr/models/backbone")
    package("src")
    for name in ("src.core", "rtdetr_v2.core", "dfine.core", "deim.core"):
        stub(name, register=register)
    package("m2f", f"{folder}/Mask2Former/mask2former/modeling")
    for name in ("pixel_decoder", "transformer_decoder"):
        package(f"m2f.{name}", f"{folder}/Mask2Former/mask2former/modeling/{name}")
    stub("MultiScaleDeformableAttention")
    adapter = f"{folder}/ViT-Adapter/detection"
    package("vit_adapter_code", f"{adapter}/mmdet_custom/models/backbones")
    package("vit_adapter_code.base", f"{adapter}/mmdet_custom/models/backbones/base")
    package("ops", f"{adapter}/ops")
    stub("mmdet.models.builder", BACKBONES=types.SimpleNamespace(register_module=register))
    stub("mmdet.utils", get_root_logger=None)
    stub("mmcv.runner", BaseModule=nn.Module)
    stub("mmcv_custom", my_load_checkpoint=None)


def on_cpu() -> None:
    """Replace ViT-Adapter's compiled operator by the definition beside it."""
    code = importlib.import_module("ops.functions.ms_deform_attn_func")

    def apply(value: Tensor, sizes: Tensor, _: Any, places: Tensor, weights: Tensor, __: Any) -> Any:
        return code.ms_deform_attn_core_pytorch(value, sizes, places, weights)

    importlib.import_module("ops.modules.ms_deform_attn").MSDeformAttnFunction = types.SimpleNamespace(apply=apply)
