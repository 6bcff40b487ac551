"""Load weights of the published networks' own code into named `fpn_plugins.ViT`s, and compare the maps.

    python tools/benchmarks/foundation_loads.py --sources FOLDER --out tools/benchmarks/data/foundation_loads

Each network is built by its own code, small and with random weights; nothing is downloaded. FOLDER has clones of
github.com/facebookresearch/dinov2 (b8931f7), dinov3 (6876159) and perception_models (3e352cc), and of baaivision/EVA
(5623d08); they need einops. Networks of timm and transformers are those that are installed. Without its code, a
network's row says so. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_report import measured, provenance, write_report
from foundation_vits import difference, randomize
from torch import Tensor, nn

from fpn_plugins import ViT
from fpn_plugins.commands.common import user_errors

SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 4, "num_heads": 3}
IN_DETECTORS: dict[str, Any] = {
    **{"patch_size": 16, "window_size": 4, "global_block_indices": (1, 3), "prefix_tokens_in_windows": "drop"},
    **{"window_positions": "window", "antialias_positions": False},
}
ROTARY = {"rope", "rope_embed", "rope_embeddings"}  # layers that compute rotary positions, in single precision
# folders of the clones that Python imports from
FOLDERS = ("dinov2", "dinov3", "perception_models", "EVA/EVA-02/det", "perception_models/apps/detection")


class Source(NamedTuple):
    """Network of one code base.

    Attributes:
        code: who published the code.
        name: name of our network.
        build: makes the published network.
        grid: rows and columns of tokens of the compared image.
        arguments: further arguments of ours.
        run: makes the map of an image, ``B C H W``.
    """

    code: str
    name: str
    build: Callable[[], Any]
    run: Callable[[Any, Tensor], Any]
    grid: tuple[int, int] = (5, 8)
    arguments: Mapping[str, Any] = {}


def timms(name: str) -> Source:
    """Return a network of timm."""

    def build() -> Any:
        return importlib.import_module("timm").create_model(name, num_classes=0, dynamic_img_size=True, **SMALL)

    def run(network: Any, x: Tensor) -> Any:
        return network.forward_intermediates(x, indices=[SMALL["depth"] - 1], norm=True, intermediates_only=True)[0]

    return Source("timm", name, build, run)


def metas_dino(version: str, name: str, **arguments: Any) -> Source:
    """Return a DINO of Meta's own code."""

    def build() -> Any:
        module = importlib.import_module(f"{version}.models.vision_transformer")
        network = module.DinoVisionTransformer(**SMALL, **arguments)
        network.init_weights()
        return network

    def run(network: Any, x: Tensor) -> Any:
        return network.get_intermediate_layers(x, n=1, reshape=True, norm=True)[0]

    return Source(f"Meta, {version}", name, build, run)


def metas_pe(name: str, image_size: int, **arguments: Any) -> Source:
    """Return an image encoder of Meta's Perception Encoder, at the size of its pre-training."""
    side, common = image_size // 16, {"patch_size": 16, "width": 48, "layers": 4, "heads": 3, "mlp_ratio": 4}

    def build() -> Any:
        module = importlib.import_module("core.vision_encoder.pe")
        return module.VisionTransformer(**common, image_size=image_size, use_cls_token=True, **arguments)

    def run(network: Any, x: Tensor) -> Any:
        cells = network.forward_features(x, norm=True, strip_cls_token=True)
        return cells.unflatten(1, (side, side)).permute(0, 3, 1, 2)

    return Source("Meta, perception_models", name, build, run, (side, side))


def transformers(name: str, model: str, prefix: int, **config: Any) -> Source:
    """Return a network of Hugging Face's transformers, whose maps follow ``prefix`` tokens."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "attn_implementation": "sdpa"}

    def build() -> Any:
        module = importlib.import_module("transformers")
        return getattr(module, f"{model}Model")(getattr(module, f"{model}Config")(**sizes, **config))

    def run(network: Any, x: Tensor) -> Any:
        extra = {"interpolate_pos_encoding": True} if "Siglip" in model else {}
        tokens = network(pixel_values=x, **extra).last_hidden_state[:, prefix:]
        height, width = (side // config["patch_size"] for side in x.shape[-2:])
        return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    grid = (config["image_size"] // config["patch_size"],) * 2
    return Source("transformers", name, build, run, grid)


def detectors(code: str, name: str, module: str, network: str, **arguments: Any) -> Source:
    """Return the backbone of a fork of Detectron2, at the size of its images."""
    blocks = {**SMALL, "img_size": 128, "patch_size": 16, "window_size": 4, "window_block_indexes": [0, 2]}
    ours = {**IN_DETECTORS, "pretrain_img_size": arguments["pretrain_img_size"]}
    if "tile_posemb" in arguments:
        ours |= {"tile_positions": True, "final_norm": False}

    def build() -> Any:
        return getattr(importlib.import_module(module), network)(**blocks, **arguments)

    return Source(code, name, build, lambda net, x: net(x)["last_feat"], (8, 8), ours)


DINOV3 = {"layerscale_init": 1e-5, "norm_layer": "layernormbf16", "n_storage_tokens": 4, "mask_k_bias": True}
DINOV3 |= {"pos_embed_rope_dtype": "fp32"}
DINOV2 = {"img_size": 518, "patch_size": 14, "init_values": 1e-5, "num_register_tokens": 4, "block_chunks": 0}
DINOV2 |= {"interpolate_antialias": True, "interpolate_offset": 0.0}
HIDDEN = {"intermediate_size": 192}
PE_DETECTOR = ("detectron2_pe.modeling.backbone.pev1_det", "PEv1_det")
PE_SIZES = {"pretrain_img_size": 64, "pretrain_use_cls_token": False, "pt_hw_seq_len": 32, "tile_posemb": True}
PE_SIZES |= {"mlp_ratio": 8960 / 1536}
EVA_CODE, PE_CODE = "BAAI, EVA-02/det", "Meta, apps/detection"
SOURCES = (
    *map(timms, ("vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3", "eva02_tiny_patch14_224")),
    *map(timms, ("eva02_base_patch14_224", "vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512")),
    *map(timms, ("vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_256")),
    metas_dino("dinov3", "vit_small_patch16_dinov3_qkvb", **DINOV3),
    metas_dino("dinov3", "vit_small_plus_patch16_dinov3_qkvb", **DINOV3, ffn_ratio=6, ffn_layer="swiglu"),
    metas_dino("dinov2", "vit_small_patch14_reg4_dinov2", **DINOV2),
    metas_pe("vit_pe_core_tiny_patch16_384", 384, output_dim=24, attn_pooler_heads=3),
    metas_pe("vit_pe_spatial_tiny_patch16_512", 512, output_dim=None, pool_type="none", use_ln_post=False),
    transformers(
        "vit_small_patch16_dinov3_qkvb", "DINOv3ViT", 5, patch_size=16, image_size=96, num_register_tokens=4, **HIDDEN
    ),
    transformers("vit_small_patch14_reg4_dinov2", "Dinov2WithRegisters", 5, patch_size=14, image_size=518),
    transformers("vit_base_patch16_siglip_256", "SiglipVision", 0, patch_size=16, image_size=256, **HIDDEN),
    detectors(EVA_CODE, "eva02_base_patch14_224", "eva_fork.vit", "ViT", pretrain_img_size=224, xattn=False),
    detectors(PE_CODE, "vit_pe_spatial_gigantic_patch14_448", *PE_DETECTOR, **PE_SIZES, init_values=0.1),
    detectors(PE_CODE, "vit_pe_core_gigantic_patch14_448", *PE_DETECTOR, **PE_SIZES),
)


def import_from(folder: Path) -> None:
    """Let Python import from the clones; the fork of Detectron2 is a package of its own beside the installed one."""
    sys.path += [str(folder / name) for name in FOLDERS]
    fork = types.ModuleType("eva_fork")
    fork.__path__ = [str(folder / "EVA/EVA-02/det/detectron2/modeling/backbone")]
    sys.modules["eva_fork"] = fork


def loaded(source: Source) -> dict[str, Any]:
    """Load the weights of one network and compare the maps."""
    row: dict[str, Any] = {"code": source.code, "name": source.name}
    torch.manual_seed(0)
    try:
        network: nn.Module = source.build()
    except ImportError as error:
        return {**row, "missing": str(error)}
    randomize(network)
    weights, network = network.state_dict(), network.double().eval()
    for rotary in ROTARY & {name for name, _ in network.named_children()}:
        getattr(network, rotary).float()
    ours = ViT(name=source.name, **{**SMALL, **source.arguments})
    ours.load_weights(weights)
    x = torch.randn(1, 3, *(side * ours.patch_size for side in source.grid)).double()
    with torch.no_grad():
        (got,), expected = ours.double().eval()(x), source.run(network, x)
    row |= {"keys": len(weights), "strict": _refuses(ours, weights), "grid": list(source.grid)}
    return {**row, "difference": difference(got, expected)}


def _refuses(network: ViT, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a foreign key and a missing one are errors."""
    needed = next(key for key in weights if key.endswith(("norm2.weight", "ln_2.weight", "layer_norm2.weight")))
    fewer = {key: value for key, value in weights.items() if key != needed}
    for wrong in ({**weights, "adapter.weight": weights[needed]}, fewer):
        try:
            network.load_weights(wrong)
        except ValueError:
            continue
        return False
    return True


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Published weights of foundation ViTs",
        "",
        f"{measured(report)}.",
        "",
        "Networks are built by the published code, with 4 blocks of 48 channels and random weights of which none is",
        "trivial; their state dicts load into `ViT(name=...)` as they are. Strict: a foreign key and a missing one are",
        "errors. Difference: of the last map, relative to the largest value, in double precision; rotary positions are",
        "computed in single precision. SigLIP's base network has an exact GELU in timm, which `ViT` follows, and an",
        "approximate one in transformers.",
        "",
        "| code | network | keys | loaded | strict | tokens | difference |",
        "|---|---|---:|---|---|---|---:|",
    ]
    for row in report["loads"]:
        start = f"| {row['code']} | `{row['name']}` |"
        if "missing" in row:
            lines.append(f"{start} | not measured: {row['missing']} | | | |")
            continue
        strict, grid = "yes" if row["strict"] else "no", " x ".join(map(str, row["grid"]))
        lines.append(f"{start} {row['keys']} | yes | {strict} | {grid} | {row['difference']:.1e} |")
    lines += ["", "Whole detectors of EVA-02 and of the Perception Encoder [load](guides/foundation_vits.md), too."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Load weights of published networks into ViTs of fpn_plugins")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--sources", type=Path, help="folder with clones of the published code")
    args = parser.parse_args()
    with user_errors():
        if args.sources is not None:
            import_from(args.sources)
        installed = [name for name in ("timm", "transformers") if importlib.util.find_spec(name)]
        report: dict[str, Any] = {**provenance(["torch", "fpn_plugins", *installed]), "loads": []}
        for source in SOURCES:
            row = loaded(source)
            print(row, flush=True)
            report["loads"].append(row)
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
