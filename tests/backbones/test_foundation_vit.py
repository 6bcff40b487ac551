"""`ViT` of a name: the same maps and gradients as timm's network with every block global."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import DOUBLE, assert_same_gradients, assert_same_maps
from published_vits import SMALL as WIDTH_24
from published_vits import meta_dinov3
from random_weights import nothing_trivial
from torch import Tensor

from fpn_plugins import FeatureSpec, MultiDepthViT, ViT
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.foundation_vit import join_layers
from fpn_plugins.weights.layouts import recognize
from fpn_plugins.weights.maps.foundation_vit import foundation_layouts

pytestmark = pytest.mark.timm

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3}
NAMES = [
    *("vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"),
    *("eva02_tiny_patch14_224", "eva02_base_patch14_224", "eva02_base_patch16_clip_224"),
    *("vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512", "vit_pe_lang_large_patch14_448"),
    *("vit_small_patch14_reg4_dinov2", "vit_giant_patch14_reg4_dinov2", "vit_small_patch14_dinov2"),
    *(
        "vit_base_patch16_siglip_256",
        "vit_base_patch32_siglip_256",
        "vit_medium_patch16_rope_reg1_gap_256",
        "vit_base_patch16_rope_ape_224",
    ),
    *("vit_base_patch16_224", "vit_base_patch16_clip_224"),
]
GRIDS = [(5, 5), (4, 7), (9, 3)]


@cache
def timms(name: str) -> Any:
    """timm's network of any size; its rotary positions stay in single precision, as it computes them."""
    import timm

    network = nothing_trivial(timm.create_model(name, num_classes=0, dynamic_img_size=True, **SMALL)).double().eval()
    if getattr(network, "rope", None) is not None:
        network.rope.float()
    return network


def ours_and_timms(name: str, **arguments: Any) -> tuple[ViT, Any]:
    ours, theirs = ViT(name=name, **SMALL, **arguments).double().eval(), timms(name)
    ours.load_weights(theirs.state_dict())
    return ours, theirs


def image(net: ViT, grid: tuple[int, int], dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(2, 3, *(side * net.patch_size for side in grid), dtype=dtype)


def renamed(theirs: dict[str, Tensor], ours: ViT) -> dict[str, Tensor]:
    """Rename timm's parameters, or their gradients, by the table that loads its checkpoints."""
    joined = join_layers(theirs)
    found = recognize(joined, ours.state_dict(), foundation_layouts(2, 2))
    return joined if found is None else found[0]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", NAMES)
def test_maps_and_gradients_match_timm_with_every_block_global(name: str, grid: tuple[int, int]):
    ours, theirs = ours_and_timms(name, out_block_indices=(0, 1))
    x = image(ours, grid)
    results = []
    for maps, network in (
        (ours(x), ours),
        (theirs.forward_intermediates(x, indices=[0, 1], norm=True, intermediates_only=True), theirs),
    ):
        used = {key: p for key, p in network.named_parameters() if not key.startswith(("attn_pool", "fc_norm"))}
        weighting = [torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view(m.shape) for m in maps]
        loss = sum((m * w).sum() for m, w in zip(maps, weighting, strict=True))
        results.append((list(maps), dict(zip(used, torch.autograd.grad(loss, list(used.values())), strict=True))))
    (maps, gradients), (their_maps, their_gradients) = results
    assert_same_maps(maps, their_maps, tolerance=DOUBLE)
    assert_same_gradients(gradients, renamed(their_gradients, ours))


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_near(name: str):
    ours, theirs = ours_and_timms(name)
    x = image(ours, (6, 4))
    expected = theirs.forward_intermediates(x, indices=[1], norm=True, intermediates_only=True)
    with torch.no_grad():
        assert_same_maps(list(ours.float()(x.float())), [m.float() for m in expected], tolerance=1e-5)


def test_a_name_decides_sizes_pixels_and_weights():
    net = ViT(name="vit_large_patch16_dinov3.sat493m", depth=1, embed_dim=64)
    assert net.mean == (0.430, 0.411, 0.296)
    assert net.feature_specs == (FeatureSpec(64, 16),)
    assert net.design.num_heads == 16 and net.design.norm_eps == 1e-5
    assert ViT(name="vit_small_patch14_reg4_dinov2", **SMALL).pos_embed.shape == (1, 37 * 37, 48)
    assert ViT(name="vit_pe_spatial_tiny_patch16_512", **SMALL).mean == (0.5, 0.5, 0.5)


def test_the_final_norm_of_the_network_is_that_of_every_map():
    ours, theirs = ours_and_timms("vit_small_patch16_dinov3", out_block_indices=(0, 1))
    assert torch.equal(ours.norm.weight, theirs.norm.weight)
    with torch.no_grad():
        for m in ours(image(ours, (4, 4))):
            cells = m.movedim(1, -1).sub(ours.norm.bias).div(ours.norm.weight)
            assert_same_maps(cells.mean(-1), torch.zeros_like(cells[..., 0]), tolerance=1e-9)


def test_tables_of_another_image_and_patches_of_another_size_are_resized():
    theirs = timms("vit_small_patch14_dinov2")
    net = ViT(name="vit_small_patch14_dinov2", **SMALL, pretrain_img_size=224, patch_size=16).double()
    net.load_weights(theirs.state_dict())
    assert net.pos_embed.shape == (1, 1 + 14 * 14, 48)
    assert torch.equal(net.pos_embed[:, :1], theirs.pos_embed[:, :1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vit_small_patch16_dinov4"}, "timm has no model 'vit_small_patch16_dinov4' .near: vit_small_patch16"),
        ({"name": "resnet50"}, "name='resnet50' is a ResNet, not a plain Vision Transformer; use TimmBackbone"),
        ({"name": "vit_base_patch16_sapiens2"}, "has .* which ViT does not compute; use TimmBackbone"),
        ({"name": "vit_base_patch16_rope_mixed_224"}, "has RotaryEmbeddingMixed as rope, which ViT does not compute"),
        ({"name": "eva02_enormous_patch14_clip_224"}, "has EvaBlockPostNorm as blocks.0, which ViT does not compute"),
        ({"use_rel_pos": True}, "use_rel_pos=True is decided by name='vit_small_patch16_dinov3'; leave it out"),
        ({"tile_positions": True}, "tile_positions=True repeats position embeddings, but the network has none"),
        ({"residual_block_indices": (1,)}, r"residual_block_indices=\[1\] are convolutions on a map"),
        ({"num_heads": 8}, "num_heads=8 leaves 6 channels per head, but rotary positions need a multiple of 4"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ViT(**{"name": "vit_small_patch16_dinov3", **SMALL, **arguments})


@pytest.mark.parametrize(
    ("name", "timms"),
    [
        ("dinov3_vits16plus", "vit_small_plus_patch16_dinov3"),
        ("facebook/dinov3-vith16plus-pretrain-lvd1689m", "vit_huge_plus_patch16_dinov3"),
        ("facebook/dinov3-convnext-tiny-pretrain-lvd1689m", "convnext_tiny"),
        ("dinov2_vitg14_reg", "vit_giant_patch14_reg4_dinov2"),
        ("facebook/dinov2-with-registers-small", "vit_small_patch14_reg4_dinov2"),
        ("facebook/PE-Core-G14-448", "vit_pe_core_gigantic_patch14_448"),
        ("PE-Spatial-T16-512", "vit_pe_spatial_tiny_patch16_512"),
        ("google/siglip2-base-patch16-256", "vit_base_patch16_siglip_256"),
        ("google/siglip2-giant-opt-patch16-256", "vit_giantopt_patch16_siglip_256"),
        ("eva02_B_pt_in21k_p14", "eva02_base_patch14_224"),
        ("facebook/vit-mae-base", "vit_base_patch16_224"),
        ("openai/clip-vit-large-patch14", "vit_large_patch14_clip_224"),
    ],
)
def test_names_of_the_authors_are_translated(name: str, timms: str):
    with pytest.raises(ValueError, match=f"timm has no model '{name}'; it calls this network '{timms}'"):
        ViT(name=name)


def test_other_names_have_near_ones():
    with pytest.raises(ValueError, match=r"'VIT_Small_Patch16_DINOv3' \(near: vit_small_patch16_dinov3"):
        ViT(name="VIT_Small_Patch16_DINOv3")
    with pytest.raises(ValueError, match=r"timm has no model 'facebook/vit-mae-huge'"):  # nor under another name
        ViT(name="facebook/vit-mae-huge")


def test_weights_of_another_network_are_refused():
    net = ViT(name="vit_small_patch16_dinov3", **SMALL)
    with pytest.raises(ValueError, match="does not fit ViT 'vit_small_patch16_dinov3'.*q_bias"):
        net.load_weights(timms("vit_small_patch16_dinov3_qkvb").state_dict())
    with pytest.raises(ValueError, match="reg_token"):
        net.load_weights(timms("vit_small_patch14_dinov2").state_dict())


def test_maps_of_several_strides():
    net = MultiDepthViT({"name": "vit_small_patch16_dinov3", **SMALL}, depths=(1, 2), strides=(8, 32))
    assert [tuple(m.shape) for m in net(torch.randn(1, 3, 64, 96))] == [(1, 48, 8, 12), (1, 48, 2, 3)]
    with pytest.raises(ValueError, match="must ascend among the ViT's 12 blocks"):
        MultiDepthViT({"name": "vit_small_patch16_dinov3"}, depths=(1, 13), strides=(8, 32))


def test_weights_of_a_name_need_one():
    with pytest.raises(ValueError, match="pretrained=True loads timm's weights of a network by its name; pass name="):
        ViT(embed_dim=8, depth=1, num_heads=1, global_block_indices=(), pretrained=True)


@pytest.mark.mmdet
def test_in_mmdet_with_published_weights(tmp_path: Path):
    from mmdet.registry import MODELS

    import fpn_plugins.adapters.mmdet  # noqa: F401

    source = nothing_trivial(ViT(name="vit_small_patch16_dinov3", **WIDTH_24)).state_dict()
    file = str(write_checkpoint(meta_dinov3(source), tmp_path / "dinov3.pth"))
    config = {"type": "fpn_plugins.ViT", "name": "vit_small_patch16_dinov3", **WIDTH_24}
    net = MODELS.build({**config, "frozen_stages": 1, "init_cfg": {"type": "Pretrained", "checkpoint": file}})
    net.init_weights()
    assert all(torch.equal(value, source[key]) for key, value in net.state_dict().items())
    assert [name for name, p in net.named_parameters() if p.requires_grad and not name.startswith("blocks.1.")] == [
        *("norm.weight", "norm.bias")
    ]


@pytest.mark.detectron2
def test_in_detectron2_by_yaml_keys(caplog: pytest.LogCaptureFixture):
    from detectron2.config import CfgNode, get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_backbone"
    node = cfg.MODEL.FPN_PLUGINS
    node.BACKBONE.TYPE, node.BACKBONE.ARGS = "ViT", CfgNode({"name": "vit_pe_spatial_tiny_patch16_512", **SMALL})
    node.NECK.TYPE, node.NECK.ARGS = "SimpleFeaturePyramid", CfgNode({"out_channels": 8})
    maps = build_backbone(cfg)(torch.randn(1, 3, 64, 96))
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        **{"p2": (8, 16, 24), "p3": (8, 8, 12)},
        **{"p4": (8, 4, 6), "p5": (8, 2, 3)},
    }
    assert (
        "the weights of vit_pe_spatial_tiny_patch16_512 expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [127.5,"
        in caplog.text
    )
