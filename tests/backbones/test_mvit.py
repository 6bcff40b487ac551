"""MViTv2 for detection: parity with detectron2 at any size, weights in all layouts, freezing, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, MViT
from fpn_plugins.backbones.mvit.blocks import BlockPlan, MultiScaleAttention
from fpn_plugins.backbones.mvit.mvit import VARIANTS
from fpn_plugins.backbones.vit.attention import pooled_relative_rows
from fpn_plugins.weights import KeyMap, write_checkpoint
from fpn_plugins.weights.maps import mvit as maps

# two blocks in each stage but the first: one that halves the map, and one that attends to all of it
LASTS = (0, 2, 4, 6)
TINY: dict[str, Any] = {"name": "mvitv2_tiny", "embed_dim": 8, "num_heads": 1, "last_block_indices": LASTS}


def tiny(**arguments: Any) -> MViT:
    return nothing_zero(MViT(**{**TINY, "window_size": 8, **arguments}))


def nothing_zero(module: Any) -> Any:
    """Random values everywhere: tables of relative positions start at zero."""
    for p in module.parameters():
        nn.init.normal_(p, mean=float(p.dim() == 1), std=0.2)
    return module


def detectron2_peer(window_size: int, lasts: tuple[int, ...] = LASTS, **arguments: Any) -> nn.Module:
    from detectron2.modeling import MViT as Theirs

    return nothing_zero(
        Theirs(
            depth=lasts[-1] + 1,
            last_block_indexes=lasts,
            adaptive_window_size=window_size,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            **arguments,
        )
    )


def gradients(module: nn.Module, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The maps, and the gradients of all parameters and of the image."""
    x = x.clone().requires_grad_()
    out = module(x)
    out = list(out.values() if isinstance(out, Mapping) else out)
    sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view(m.shape)).sum() for m in out).backward()
    return out, {"patch_embed.image": x.grad, **{name: p.grad for name, p in module.named_parameters()}}


# ------------------------------------------------------------------------------------------------ equal to detectron2


@pytest.mark.detectron2
@settings(max_examples=6)
@given(
    height=st.integers(24, 110),
    width=st.integers(24, 110),
    window_size=st.sampled_from([8, 16]),
    num_heads=st.sampled_from([1, 2]),
    img_size=st.sampled_from([64, 96]),
)
def test_outputs_and_gradients_match_detectron2(
    height: int, width: int, window_size: int, num_heads: int, img_size: int
):
    """Double precision, so that no tolerance hides a difference; any size, with tables made for another one."""
    theirs = detectron2_peer(window_size, embed_dim=8, num_heads=num_heads, img_size=img_size).double()
    ours = tiny(window_size=window_size, num_heads=num_heads, img_size=img_size).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    (got, got_grads), (wanted, wanted_grads) = gradients(ours, x), gradients(theirs, x)
    wanted_grads, _ = maps.detectron2().apply(wanted_grads)
    assert set(got_grads) == set(wanted_grads)
    assert_same_maps(got, wanted)
    assert_same_gradients(got_grads, wanted_grads)


@pytest.mark.detectron2
def test_the_published_tiny_network_matches_detectron2():
    """At an odd size, with the published windows."""
    theirs = detectron2_peer(56, VARIANTS["mvitv2_tiny"].last_block_indices, embed_dim=96, num_heads=1).double().eval()
    nn.init.kaiming_normal_(theirs.patch_embed.proj.weight)
    for layer in theirs.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    ours = MViT("mvitv2_tiny").double().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 227, 131, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours(x), list(theirs(x).values()))


# ---------------------------------------------------------------------------------------------------------- attention


@given(q_size=st.integers(1, 40), k_size=st.integers(1, 40), length=st.integers(1, 9))
@pytest.mark.detectron2
def test_rows_match_detectron2(q_size: int, k_size: int, length: int):
    from detectron2.modeling.backbone.utils import get_rel_pos

    table = torch.randn(2 * length - 1, 4)
    expected = get_rel_pos(q_size, k_size, table)
    assert torch.equal(pooled_relative_rows(table, q_size, k_size, k_size > q_size), expected)
    if q_size == k_size:
        assert torch.equal(pooled_relative_rows(table, q_size, k_size, True), expected)


@settings(max_examples=40)
@given(
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    strides=st.sampled_from([(1, 4), (1, 2), (2, 4), (2, 1), (1, 1)]),
    window_size=st.sampled_from([0, 4, 8]),
    heads=st.integers(1, 2),
)
@pytest.mark.detectron2
def test_attention_matches_detectron2(
    sides: tuple[int, int], strides: tuple[int, int], window_size: int, heads: int
) -> None:
    """Inside windows and over whole maps, for every pair of strides."""
    from detectron2.modeling.backbone.mvit import MultiScaleAttention as Theirs

    plan = BlockPlan(6 * heads, 6 * heads, heads, *strides, window_size, 16)
    ours = nothing_zero(MultiScaleAttention(plan, 1e-5)).double()
    theirs = Theirs(
        *(6 * heads, 6 * heads, heads),
        norm_layer=nn.LayerNorm,
        stride_q=strides[0],
        stride_kv=strides[1],
        window_size=window_size,
        use_rel_pos=True,
        input_size=(16, 16),
    ).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, *sides, 6 * heads, dtype=torch.double)
    outputs, grads = [], []
    for module in (ours, theirs):
        outputs.append(module(x))
        (outputs[-1] * torch.linspace(-1, 1, outputs[-1].numel()).view(outputs[-1].shape)).sum().backward()
        grads.append({key: p.grad for key, p in module.named_parameters()})
    assert_same_maps(*outputs)
    assert_same_gradients(*grads)


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.timm
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_published_network_has_the_parameters_of_timm(name: str):
    """Shapes only: nothing is allocated."""
    import timm

    theirs = timm.create_model(name, device="meta").state_dict()
    with torch.device("meta"):
        ours = MViT(name)
    renamed, report = maps.timm(VARIANTS[name].last_block_indices).apply(theirs, ours.state_dict())
    assert report.complete, report
    assert report.kept == sorted(f"norms.{i}.{part}" for i in range(4) for part in ("bias", "weight"))
    assert {key: value.shape for key, value in renamed.items()} == {
        key: value.shape for key, value in ours.state_dict().items() if key not in report.kept
    }


def tables() -> list[KeyMap]:
    return [maps.detectron2(), maps.official(), maps.timm(LASTS)]


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.layout)
def test_names_come_back_from_every_layout(table: KeyMap):
    ours = tiny().state_dict()
    theirs, report = table.inverse().apply(ours)
    assert report.unexpected == []
    assert len(set(theirs) - set(ours)) > 0 or table.layout.startswith("official")
    back, report = table.apply(theirs, ours)
    assert report.complete and set(back) | set(report.kept) == set(ours)
    assert all(torch.equal(value, ours[key]) for key, value in back.items())


@pytest.mark.timm
def test_timm_file_loads(tmp_path: Path):
    """Block by block in their order; the class token and the classifier are dropped, our norms stay as they are."""
    import timm

    theirs = timm.create_model("mvitv2_small_cls", img_size=64)
    file = write_checkpoint(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = MViT("mvitv2_small_cls", checkpoint=file, img_size=64)
    blocks = [block for stage in theirs.stages for block in stage.blocks]
    for block, expected in zip(ours.blocks, blocks, strict=True):
        assert torch.equal(block.attn.pool_k.weight, expected.attn.pool_k.weight)
        assert torch.equal(block.mlp.fc2.weight, expected.mlp.fc2.weight)
    assert torch.equal(ours.blocks[1].proj.weight, theirs.stages[1].blocks[0].shortcut_proj_attn.weight)
    assert torch.equal(ours.norms["3"].weight, torch.ones(768))


def official(backbone: MViT) -> dict[str, Tensor]:
    """A classifier's state dict in the official names."""
    weights, _ = maps.official().inverse().apply(backbone.state_dict())
    extra = {"cls_token": (1, 1, 8), "norm.weight": (64,), "norm.bias": (64,), "head.projection.weight": (10, 64)}
    return {**weights, **{key: torch.randn(shape) for key, shape in extra.items()}}


def test_an_official_file_loads_and_leaves_our_norms(tmp_path: Path):
    source = tiny()
    file = tmp_path / "MViTv2_T_in1k.pyth"
    torch.save({"model_state": official(source), "epoch": 300}, file)
    loaded = MViT(**TINY, window_size=8, checkpoint=file).state_dict()
    for key, value in source.state_dict().items():
        expected = torch.ones_like(value) * key.endswith("weight") if key.startswith("norms.") else value
        assert torch.equal(loaded[key], expected), key


def test_an_official_dict_loads_inside_a_detector():
    source, detector = tiny(), nn.ModuleDict({"backbone": tiny()})
    norm = detector["backbone"].norms["0"].weight.clone()
    detector.load_state_dict({f"backbone.{key}": value for key, value in official(source).items()})
    assert torch.equal(detector["backbone"].blocks[3].attn.qkv.weight, source.blocks[3].attn.qkv.weight)
    assert torch.equal(detector["backbone"].norms["0"].weight, norm)


@pytest.mark.parametrize("layout", [maps.detectron2(), maps.official(), maps.timm(LASTS)], ids=lambda t: t.layout)
def test_fewer_maps_take_what_they_need(layout: KeyMap):
    whole, part = tiny(), tiny(out_indices=(1, 2))
    assert len(part.blocks) == 5 and set(part.norms) == {"1", "2"}
    theirs, _ = layout.inverse().apply(whole.state_dict())
    part.load_state_dict(theirs)
    part.norms.load_state_dict({key: v for key, v in whole.norms.state_dict().items() if key[0] in "12"})
    x = torch.randn(1, 3, 70, 50)
    for got, expected in zip(part(x), whole(x)[1:3], strict=True):
        assert torch.equal(got, expected)


@pytest.mark.detectron2
def test_detectron2_detector_weights_load_as_they_are():
    """``backbone.bottom_up.*`` and the pyramid of their FPN, through `PyramidBackbone`."""
    from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    names = [f"scale{stage}" for stage in (2, 3, 4, 5)]
    bottom_up = detectron2_peer(8, embed_dim=8, num_heads=1, out_features=names)
    theirs = nn.ModuleDict({"backbone": FPN(bottom_up, names, 16, top_block=LastLevelMaxPool())}).double().eval()
    neck = {"type": "FPN", "out_channels": 16, "extra_levels": {"num_levels": 1, "op": "max_pool"}}
    ours = (
        nn.ModuleDict({"backbone": PyramidBackbone({"type": "MViT", "window_size": 8, **TINY}, neck)}).double().eval()
    )
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 96, 64, dtype=torch.double)
    with torch.no_grad():
        got, expected = ours["backbone"](x), theirs["backbone"](x)
    assert list(got) == list(expected)
    assert_same_maps(got, expected)


@pytest.mark.mmdet
def test_in_mmdet_weights_survive_init_weights(tmp_path: Path):
    from fpn_plugins.registry import MODELS

    source = tiny()
    file = write_checkpoint(source.state_dict(), tmp_path / "weights.pth")
    backbone = MODELS.build(
        {"type": "fpn_plugins.MViT", **TINY, "window_size": 8, "checkpoint": str(file), "frozen_stages": 1}
    )
    backbone.init_weights()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in backbone.state_dict().items())


# ------------------------------------------------------------------------------------------------------------ options


def test_published_specs():
    assert MViT("mvitv2_tiny.fb_in1k").feature_specs == tuple(FeatureSpec(96 * 2**i, 4 * 2**i) for i in range(4))
    assert tiny(out_indices=(0, 2)).feature_specs == (FeatureSpec(8, 4), FeatureSpec(32, 16))


def test_maps_have_the_memory_format_of_the_image():
    """mmcv's RoIAlign reads any map as NCHW."""
    x = torch.randn(2, 3, 64, 96)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert all(m.is_contiguous(memory_format=layout) for m in tiny()(x.contiguous(memory_format=layout)))


def test_gradient_checkpointing_gives_equal_gradients():
    plain, saving = tiny().double().train(), tiny(gradient_checkpointing=True).double().train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    (_, expected), (_, got) = gradients(plain, x), gradients(saving, x)
    assert_same_gradients(got, expected)


def test_drop_path_rises_and_drops_in_training_only():
    backbone = tiny(drop_path_rate=0.6)
    assert [block.drop_path.rate for block in backbone.blocks] == pytest.approx([0.1 * i for i in range(7)])
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(backbone.train()(x)[-1], backbone(x)[-1])
        assert torch.equal(backbone.eval()(x)[-1], backbone(x)[-1])


@pytest.mark.parametrize(("stages", "free"), [(-1, 0), (0, 0), (1, 1), (2, 3), (4, 7)])
def test_frozen_stages(stages: int, free: int):
    """``free`` is the first block that is not frozen."""
    backbone = tiny(frozen_stages=stages, drop_path_rate=0.1).train()
    for index, block in enumerate(backbone.blocks):
        assert block.training == (index >= free)
        assert all(p.requires_grad == (index >= free) for p in block.parameters())
    for index, norm in backbone.norms.items():
        assert norm.weight.requires_grad == (int(index) >= stages)
    assert backbone.patch_embed.proj.weight.requires_grad == (stages < 0)


def test_windows_attend_to_themselves():
    """The first stage is windowed: a pixel far away changes nothing there, but everything after a global block."""
    backbone = tiny()
    x = torch.zeros(1, 3, 128, 64)
    y = x.clone()
    y[..., -1, -1] = 9.0
    with torch.no_grad():
        before, after = backbone(x), backbone(y)
    assert torch.equal(before[0][..., :8, :8], after[0][..., :8, :8])
    assert not torch.equal(before[0], after[0])
    assert not torch.equal(before[1][..., :2, :2], after[1][..., :2, :2])


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mvitv2_tyni"}, r"name='mvitv2_tyni' is unknown; choose one of .* \(near: mvitv2_tiny"),
        ({"name": "mvitv2_large"}, "doubles its channels in the MLPs.*mvitv2_large_cls"),
        ({"out_indices": (0, 4)}, r"out_indices=\[0, 4\] must be ascending positions of the stages \(0: stride 4, 1: "),
        ({"out_indices": ()}, r"out_indices=\[\] must be"),
        ({"frozen_stages": 3, "out_indices": (0, 1)}, "frozen_stages=3 must be .* up to 2"),
        ({"window_size": 12}, "window_size=12 gives a stage windows of 3 cells, .* multiple of 8"),
        ({"last_block_indices": (2, 1)}, r"last_block_indices=\[2, 1\] must be ascending"),
        ({"num_heads": 3}, "num_heads=3 must divide the 8 channels"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be"),
        ({"pretrained": True, "checkpoint": "x.pth"}, "are mutually exclusive"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MViT(**{**TINY, "window_size": 8, **arguments})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"last_block_indices": (0, 2, 5, 7)}, "blocks.7.attn"),  # deeper: keys are left over
        ({"last_block_indices": (0, 1, 2, 3)}, "blocks.4.attn"),
        ({"embed_dim": 16}, "size mismatch"),
        ({"img_size": 112}, "rel_pos_w of another length are for another img_size"),
    ],
)
def test_a_checkpoint_of_another_size_is_an_error(other: dict[str, Any], message: str, tmp_path: Path):
    theirs, _ = maps.detectron2().inverse().apply(tiny(**other).state_dict())
    file = write_checkpoint(theirs, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        MViT(**TINY, window_size=8, checkpoint=file)


@pytest.mark.timm
def test_pretrained_comes_from_timm(monkeypatch: pytest.MonkeyPatch):
    import timm

    theirs = timm.create_model("mvitv2_tiny", img_size=64)
    asked = []

    def create(name: str, pretrained: bool = False) -> nn.Module:
        asked.append((name, pretrained))
        return theirs

    monkeypatch.setattr(timm, "create_model", create)
    ours = MViT("mvitv2_tiny.fb_in1k", pretrained=True, img_size=64)
    assert asked == [("mvitv2_tiny.fb_in1k", True)]
    assert torch.equal(ours.blocks[9].mlp.fc1.bias, theirs.stages[3].blocks[1].mlp.fc1.bias)


def test_pixels_are_those_of_imagenet():
    assert F.mse_loss(torch.tensor(tiny().pixel_mean), torch.tensor([123.675, 116.28, 103.53])) < 1e-6
    assert tiny().pixel_std == [58.395, 57.12, 57.375]
