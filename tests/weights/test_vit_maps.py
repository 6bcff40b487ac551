"""Checkpoints of plain ViTs as their projects publish them, in the plain ViT for detection."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from precision import assert_same_maps, single
from torch import Tensor, nn

from fpn_plugins import ViT
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.resize import resize_patch_filters, resize_positions, resize_relative_positions
from fpn_plugins.weights.vit import fold_layer_scale

TINY: dict[str, Any] = {
    "img_size": 64,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "window_size": 2,
    "global_block_indices": (1,),
    "pretrain_img_size": 64,
}


def randomized(net: nn.Module) -> dict[str, Tensor]:
    """Draw all parameters of a network, so that none is zero or one, and return its state dict."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.state_dict()


def timm_network(name: str = "vit_tiny_patch16_224", **arguments: Any) -> nn.Module:
    import timm

    small = {"img_size": 64, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return timm.create_model(name, **{**small, **arguments}).eval()


def shared(net: ViT, weights: dict[str, Tensor], except_for: tuple[str, ...] = ("rel_pos",)) -> bool:
    """Whether every parameter equals the one of that name in ``weights``."""
    own = net.state_dict()
    names = [name for name in own if not any(part in name for part in except_for)]
    return all(torch.equal(own[name], weights[name]) for name in names)


# ------------------------------------------------------------------------------------------------------ code bases


@pytest.mark.timm
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k"])
def test_timm_and_deit(name: str):
    weights = randomized(timm_network(name))
    assert {"cls_token", "norm.weight", "head.weight"} <= set(weights)
    net = ViT(**TINY)
    net.load_state_dict(weights)
    assert shared(net, weights)
    assert not net.blocks[1].attn.rel_pos_h.any()  # as initialized


@pytest.mark.timm
def test_both_tokens_of_distilled_deit_are_dropped():
    weights = randomized(timm_network("deit_tiny_distilled_patch16_224"))
    net = ViT(**TINY)
    net.load_state_dict(weights)
    assert shared(net, weights, except_for=("rel_pos", "pos_embed"))
    assert torch.equal(net.pos_embed[:, 1:], weights["pos_embed"][:, 2:])


@pytest.mark.timm
@pytest.mark.parametrize("names", [("ls1.gamma", "ls2.gamma"), ("gamma_1", "gamma_2")], ids=["DINOv2", "DeiT III"])
def test_layer_scale_is_folded_exactly(names: tuple[str, str]):
    """Each of our blocks equals timm's block with its factors."""
    theirs = timm_network("vit_small_patch14_dinov2", patch_size=16)
    weights = randomized(theirs)
    x = torch.randn(1, 4, 4, 16, dtype=torch.double)
    net = ViT(**{**TINY, "window_size": 0})
    renamed = {k.replace("ls1.gamma", names[0]).replace("ls2.gamma", names[1]): v for k, v in weights.items()}
    net.load_state_dict({**renamed, "mask_token": torch.zeros(1, 16)})
    with torch.no_grad():
        for ours, block in zip(net.double().blocks, theirs.double().blocks, strict=True):
            # the factors are multiplied into the weights in single precision
            assert_same_maps(ours(x).flatten(1, 2), block(x.flatten(1, 2)), tolerance=single())


def test_fold_leaves_other_dicts_as_they_are():
    weights = {"blocks.0.attn.proj.weight": torch.ones(2, 2), "blocks.0.ls2.gamma": torch.ones(2)}
    assert fold_layer_scale(weights) == weights


def test_mae_file(tmp_path: Any):
    """The pre-training network: encoder, decoder and mask token under ``model``."""
    net = ViT(**TINY)
    weights = {key: value for key, value in randomized(ViT(**TINY, use_rel_pos=False)).items()}
    decoder = ["mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_embed.bias", "decoder_norm.weight"]
    decoder += ["decoder_norm.bias", "decoder_pred.weight", "decoder_pred.bias"]
    decoder += [f"decoder_blocks.0.{key[9:]}" for key in weights if key.startswith("blocks.0.")]
    extra = {key: torch.zeros(1) for key in ["cls_token", "norm.weight", "norm.bias", *decoder]}
    file = tmp_path / "mae.pth"
    torch.save({"model": {**extra, **weights}}, file)
    for loaded in (ViT(**TINY, checkpoint=file), ViT(**TINY, residual_block_indices=(0,), checkpoint=file)):
        assert shared(loaded, weights, except_for=("rel_pos", "residual"))
    assert not shared(net, weights)


@pytest.mark.timm
@pytest.mark.parametrize("layout", ["timm", "SAM", "SAM's image encoder"])
def test_sam(layout: str):
    """At the size that they were built for; outputs are timm's before the neck."""
    theirs = timm_network("samvit_base_patch16", window_size=2, global_attn_indexes=(1,))
    weights = randomized(theirs)
    foreign = dict(weights)
    if layout != "timm":
        foreign = {key.replace("mlp.fc", "mlp.lin"): value for key, value in weights.items()}
    if layout == "SAM":
        foreign = {f"image_encoder.{key}": value for key, value in foreign.items()}
        foreign |= {
            "prompt_encoder.no_mask_embed.weight": torch.zeros(1),
            "mask_decoder.iou_token.weight": torch.zeros(1),
        }
    net = ViT(**TINY, pretrain_use_cls_token=False).eval()
    net.load_state_dict(foreign)
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    net.double(), theirs.double()
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6  # SAM's own and ours; timm builds it with 1e-5
    with torch.no_grad():
        tokens = theirs.patch_embed(x) + theirs.pos_embed
        expected = theirs.blocks(tokens).permute(0, 3, 1, 2)
        assert_same_maps(net(x)[0], expected)


@pytest.mark.detectron2
def test_keys_match_detectron2():
    from detectron2.modeling.backbone.vit import ViT as Theirs

    arguments = {key: value for key, value in TINY.items() if key != "global_block_indices"}
    theirs = Theirs(**arguments, use_rel_pos=True, window_block_indexes=[0], residual_block_indexes=[0])
    assert list(theirs.state_dict()) == list(ViT(**TINY, residual_block_indices=(0,)).state_dict())


def test_its_own_file_loads(tmp_path: Any):
    weights = randomized(ViT(**TINY))
    file = write_checkpoint(weights, tmp_path / "own.safetensors")
    assert shared(ViT(**TINY, checkpoint=file), weights, except_for=())


def test_inside_a_detector():
    weights = randomized(ViT(**TINY))
    detector = nn.ModuleDict({"backbone": ViT(**TINY), "head": nn.Linear(1, 1)})
    detector.load_state_dict({f"backbone.{key}": value for key, value in weights.items()}, strict=False)
    assert shared(detector["backbone"], weights, except_for=())
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    head = {"head.weight": torch.ones(1, 1), "head.bias": torch.ones(1)}
    detector.load_state_dict(head, strict=False)  # knows nothing of the backbone
    assert all(torch.equal(value, {**before, **head}[key]) for key, value in detector.state_dict().items())


# ------------------------------------------------------------------------------------------------------------ resizing


def test_other_grids_are_resized_with_a_warning(caplog: pytest.LogCaptureFixture):
    source = ViT(**{**TINY, "img_size": 96, "pretrain_img_size": 96, "window_size": 3})
    weights = randomized(source)
    net = ViT(**TINY)
    with caplog.at_level(logging.WARNING, "fpn_plugins"):
        net.load_state_dict(weights)
    assert "pos_embed resized from (1, 37, 16) to (1, 17, 16)" in caplog.text
    grid = resize_positions(weights["pos_embed"][:, 1:], 4, 4).flatten(1, 2)
    assert torch.equal(net.pos_embed, torch.cat([weights["pos_embed"][:, :1], grid], 1))
    table = weights["blocks.1.attn.rel_pos_w"]
    assert torch.equal(net.blocks[1].attn.rel_pos_w, resize_relative_positions(table, 7))
    assert torch.equal(weights["pos_embed"], source.pos_embed)  # the dict is the caller's


@pytest.mark.parametrize(("theirs", "ours"), [(True, False), (False, True)])
def test_position_of_the_class_token_is_dropped_or_zero(theirs: bool, ours: bool):
    weights = randomized(ViT(**TINY, pretrain_use_cls_token=theirs))
    net = ViT(**TINY, pretrain_use_cls_token=ours)
    net.load_state_dict(weights)
    assert torch.equal(net.pos_embed[:, int(ours) :], weights["pos_embed"][:, int(theirs) :])
    assert not ours or not net.pos_embed[:, 0].any()


@pytest.mark.detectron2
@pytest.mark.parametrize("size", [(4, 4), (7, 5), (2, 9)])
def test_positions_match_detectron2(size: tuple[int, int]):
    from detectron2.modeling.backbone.utils import get_abs_pos

    table = torch.randn(1, 17, 6, dtype=torch.double)
    assert_same_maps(resize_positions(table[:, 1:], *size), get_abs_pos(table, True, size))


@pytest.mark.timm
@pytest.mark.parametrize("size", [8, 14, 16, 20])
def test_patch_filters_match_timm(size: int):
    from timm.layers import resample_patch_embed

    weight = torch.randn(5, 3, 14, 14)
    assert_same_maps(resize_patch_filters(weight, size), resample_patch_embed(weight, [size, size]))


def test_larger_patch_filters_give_the_tokens_of_the_smaller_image():
    """14 -> 16, as for ViT-H and DINOv2: exact on an enlarged patch."""
    weight, patch = torch.randn(5, 3, 14, 14, dtype=torch.float64), torch.randn(1, 3, 14, 14, dtype=torch.float64)
    larger = nn.functional.interpolate(patch, size=(16, 16), mode="bicubic", antialias=True)
    tokens = nn.functional.conv2d(larger, resize_patch_filters(weight, 16))
    assert_same_maps(tokens, nn.functional.conv2d(patch, weight), tolerance=single())  # of the filters


@pytest.mark.timm
def test_patches_of_another_size_are_resized_on_load():
    weights = randomized(timm_network("vit_small_patch14_dinov2", patch_size=14, img_size=56, init_values=None))
    net = ViT(**TINY)
    net.load_state_dict(weights)
    assert torch.equal(net.patch_embed.proj.weight, resize_patch_filters(weights["patch_embed.proj.weight"], 16))


# -------------------------------------------------------------------------------------------------------------- errors


def own_with(**changed: Tensor) -> dict[str, Tensor]:
    return {**ViT(**TINY).state_dict(), **changed}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: own_with(reg_token=torch.zeros(1, 4, 16)), "in part.* 1 unexpected: reg_token"),
        (lambda: own_with(**{"blocks.2.norm1.weight": torch.zeros(16)}), "unexpected: blocks.2.norm1.weight"),
        (lambda: own_with(**{"blocks.0.attn.q_norm.weight": torch.zeros(8)}), "unexpected: blocks.0.attn.q_norm"),
        (lambda: {"conv1.weight": torch.zeros(1)}, r"another architecture than ViT: it has \['conv1.weight'"),
        (lambda: {"model": {"pos_embed": torch.zeros(1)}}, "checkpoint=FILE"),
        (lambda: own_with(pos_embed=torch.zeros(1, 20, 16)), "20 positions, which do not form a square grid"),
        (
            lambda: ViT(**{**TINY, "embed_dim": 24}).state_dict(),
            r"of another shape: pos_embed \(1, 17, 24\) for \(1, 17, 16\), .*patch_embed.proj.weight \(24, 3, 16, 16\)",
        ),
        (
            lambda: ViT(**TINY, in_chans=4).state_dict(),
            r"patch_embed.proj.weight \(16, 4, 16, 16\) for \(16, 3, 16, 16\)",
        ),
    ],
)
def test_keys_that_do_not_fit_are_errors_that_list_them(weights: Any, message: str):
    net = ViT(**TINY)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(weights())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_relative_positions_are_not_dropped_silently():
    with pytest.raises(ValueError, match=r"unexpected: blocks.0.attn.rel_pos_h"):
        ViT(**TINY, use_rel_pos=False).load_state_dict(ViT(**TINY).state_dict())
