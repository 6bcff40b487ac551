"""The plain ViT: parity with detectron2 and its weights, maps, options, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins import FPN, FeatureSpec, TimmBackbone, ViT, check_pyramid
from fpn_plugins.backbones.vit.blocks import DropPath
from fpn_plugins.ops.windows import from_windows, to_windows
from fpn_plugins.weights import write_checkpoint

TINY: dict[str, Any] = {
    "img_size": 96,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 3,
    "window_size": 3,
    "global_block_indices": (1,),
    "pretrain_img_size": 64,
}


def nothing_zero(module: nn.Module) -> nn.Module:
    """Randomize parameters that start at zero, such as relative positions, so that they change the output."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return module


def pair(**arguments: Any) -> tuple[ViT, nn.Module]:
    """Build our ViT and detectron2's with the same arguments, and load detectron2's weights."""
    from detectron2.modeling.backbone.vit import ViT as Theirs

    ours = ViT(**arguments)
    options = {"use_rel_pos": True, **arguments}
    global_blocks = options.pop("global_block_indices")
    options["window_block_indexes"] = [i for i in range(options["depth"]) if i not in global_blocks]
    options["residual_block_indexes"] = options.pop("residual_block_indices", ())
    theirs = nothing_zero(Theirs(**options, norm_layer=lambda dim: nn.LayerNorm(dim, eps=1e-6)))
    ours.load_state_dict(theirs.state_dict())
    return ours.double().eval(), theirs.double().eval()


def outputs_and_gradients(net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    maps = net(x)
    (out,) = maps.values() if isinstance(maps, dict) else maps
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    return out, {name: p.grad for name, p in net.named_parameters()}


def assert_equal_to_detectron2(x: Tensor, **arguments: Any) -> None:
    ours, theirs = pair(**arguments)
    (out, grads), (expected, their_grads) = (outputs_and_gradients(net, x.double()) for net in (ours, theirs))
    assert_same_maps(out, expected)
    assert_same_gradients(grads, their_grads)


@pytest.mark.detectron2
@given(height=st.integers(16, 120), width=st.integers(16, 120), batch=st.integers(1, 2))
def test_outputs_and_gradients_match_detectron2_at_any_size(height: int, width: int, batch: int):
    """Sizes that are no multiple of a patch, and maps that are no multiple of a window, smaller than one, or larger
    than the tables."""
    assert_equal_to_detectron2(torch.randn(batch, 3, height, width), **TINY, residual_block_indices=(0, 2))


@pytest.mark.detectron2
@pytest.mark.parametrize(
    "changed",
    [
        {"use_rel_pos": False},
        {"use_abs_pos": False},
        {"pretrain_use_cls_token": False},
        {"qkv_bias": False},
        {"window_size": 0, "global_block_indices": (0, 1, 2)},
        {"patch_size": 8},
        {"in_chans": 1},
        {"mlp_ratio": 2.5},
    ],
)
def test_outputs_match_detectron2_with_other_arguments(changed: dict[str, Any]):
    arguments = {**TINY, **changed}
    assert_equal_to_detectron2(torch.randn(2, arguments.get("in_chans", 3), 64, 80), **arguments)


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("depth", "num_heads", "global_blocks"),
    [(12, 12, (2, 5, 8, 11)), (24, 16, (5, 11, 17, 23)), (32, 16, (7, 15, 23, 31))],
    ids=["B", "L", "H"],
)
def test_three_sizes_of_vitdet_with_narrow_tokens(depth: int, num_heads: int, global_blocks: tuple[int, ...]):
    arguments = {"img_size": 256, "embed_dim": 4 * num_heads, "depth": depth, "num_heads": num_heads, "window_size": 14}
    assert_equal_to_detectron2(torch.randn(1, 3, 250, 333), **arguments, global_block_indices=global_blocks)


@pytest.mark.detectron2
def test_vit_b_as_published():
    """All defaults, except the size of the image."""
    with torch.no_grad():
        ours, theirs = pair(
            img_size=1024, embed_dim=768, depth=12, num_heads=12, window_size=14, global_block_indices=(2, 5, 8, 11)
        )
        defaults = ViT()
        assert {k: v.shape for k, v in defaults.state_dict().items()} == {
            k: v.shape for k, v in ours.state_dict().items()
        }
        x = torch.randn(1, 3, 224, 160, dtype=torch.double)
        expected = theirs(x)["last_feat"]
        assert_same_maps(ours(x)[0], expected)


@pytest.mark.timm
@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_outputs_match_timm_with_every_block_global(layer_scale: float | None):
    """Without a class token, which takes part in timm's attention; LayerScale is folded into the weights."""
    import timm

    theirs = (
        timm.create_model(
            "vit_tiny_patch16_224", class_token=False, global_pool="avg", depth=4, init_values=layer_scale
        )
        .double()
        .eval()
    )
    ours = (
        ViT(
            **{"img_size": 224, "embed_dim": 192, "depth": 4, "num_heads": 3, "window_size": 0, "use_rel_pos": False},
            global_block_indices=(),
            pretrain_use_cls_token=False,
        )
        .double()
        .eval()
    )
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 224, 224, dtype=torch.double)
    with torch.no_grad():
        (expected,) = theirs.forward_intermediates(x, indices=[3], norm=False, intermediates_only=True)
        assert_same_maps(ours(x)[0], expected)


# -------------------------------------------------------------------------------------------------------- its own maps


def test_maps_are_the_outputs_of_the_chosen_blocks():
    net = nothing_zero(ViT(**TINY, out_block_indices=(0, 2))).eval()
    assert net.feature_specs == (FeatureSpec(24, 16), FeatureSpec(24, 16))
    seen: list[Tensor] = []
    for index in (0, 2):
        net.blocks[index].register_forward_hook(lambda module, inputs, out: seen.append(out.permute(0, 3, 1, 2)))
    x = torch.randn(2, 3, 50, 70)
    maps = net(x)
    check_pyramid(maps, net.feature_specs, (50, 70))
    assert [torch.equal(m, s) for m, s in zip(maps, seen, strict=True)] == [True, True]


def test_blocks_after_the_last_wanted_map_are_left_out():
    net, everything = ViT(**TINY, out_block_indices=(0, 1)), ViT(**TINY)
    assert len(net.blocks) == 2
    net.load_state_dict(everything.state_dict())
    assert torch.equal(net.blocks[1].mlp.fc1.weight, everything.blocks[1].mlp.fc1.weight)
    sum(m.sum() for m in net(torch.randn(1, 3, 32, 32))).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@given(height=st.integers(1, 9), width=st.integers(1, 9), size=st.integers(1, 5))
def test_windows_hold_neighbors_and_join_again(height: int, width: int, size: int):
    x = torch.randn(2, height, width, 3, dtype=torch.double)
    windows = to_windows(x, size)
    columns = -(-width // size)
    assert windows.shape == (2 * -(-height // size) * columns, size, size, 3)
    y, u = height - 1, width - 1  # the last token's place
    assert torch.equal(windows[(y // size) * columns + u // size, y % size, u % size], x[0, y, u])
    assert torch.equal(from_windows(windows, height, width), x)
    assert_same_maps(windows.sum(), x.sum(), floor=1.0)  # the rest is zero


def test_gradient_checkpointing_gives_equal_gradients():
    plain = nothing_zero(ViT(**TINY)).double().train()
    saving = ViT(**TINY, gradient_checkpointing=True).double().train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 48, 64, dtype=torch.double)
    (out, grads), (expected, their_grads) = (outputs_and_gradients(net, x) for net in (saving, plain))
    assert torch.equal(out, expected)
    assert_same_gradients(grads, their_grads)


def test_drop_path_leaves_out_whole_images_and_keeps_the_mean():
    drop = DropPath(0.25).train()
    kept = drop(torch.ones(4000, 2, 3))
    per_image = kept.flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    assert per_image[:, 0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(float(kept.mean()) - 1) < 0.05
    x = torch.randn(3, 2)
    assert drop.eval()(x) is x


def test_drop_path_rises_linearly_and_is_off_in_evaluation_and_in_frozen_blocks():
    net = ViT(**TINY, drop_path_rate=0.2, frozen_stages=2)
    assert [block.drop_path.rate for block in net.blocks] == pytest.approx([0, 0.1, 0.2])
    net.train()
    assert [block.drop_path.training for block in net.blocks] == [False, False, True]
    net.eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x)[0], net(x)[0])


@pytest.mark.parametrize(("stages", "free"), [(-1, ["p", "0", "1", "2"]), (0, ["0", "1", "2"]), (2, ["2"]), (3, [])])
def test_frozen_stages(stages: int, free: list[str]):
    net = ViT(**TINY, frozen_stages=stages)
    parts = {
        name.split(".")[1] if name.startswith("blocks") else "p"
        for name, p in net.named_parameters()
        if p.requires_grad
    }
    assert parts == set(free)


def test_pixel_statistics_are_those_of_imagenet():
    net = ViT(**TINY)
    assert net.pixel_mean == [123.675, 116.28, 103.53]
    assert net.pixel_std == [58.395, 57.12, 57.375]


def test_initial_weights():
    """Relative positions and residual blocks change nothing at first."""
    net = ViT(**TINY, residual_block_indices=(1,)).double().eval().requires_grad_(False)
    plain = ViT(**TINY, use_rel_pos=False).double().eval()
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if key in plain.state_dict()})
    x = torch.randn(1, 3, 48, 48, dtype=torch.double)
    assert_same_maps(net(x)[0], plain(x)[0])
    assert float(net.blocks[0].mlp.fc1.weight.std()) == pytest.approx(0.02, rel=0.1)
    assert float(net.pos_embed.std()) == pytest.approx(0.02, rel=0.2)
    assert not net.blocks[0].attn.qkv.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"global_block_indices": (1, 3)}, r"global_block_indices=\[1, 3\]: \[3\] are not among the 3 blocks"),
        ({"residual_block_indices": (-1,)}, r"residual_block_indices=\[-1\]: \[-1\] are not among"),
        ({"out_block_indices": (2, 1)}, r"out_block_indices=\[2, 1\] must be ascending positions among the 3 blocks"),
        ({"out_block_indices": (3,)}, r"out_block_indices=\[3\] must be ascending"),
        ({"out_block_indices": ()}, r"out_block_indices=\[\] must be ascending"),
        ({"num_heads": 5}, "num_heads=5 must divide the 24 channels"),
        ({"window_size": -1}, "window_size=-1 must be a number of tokens"),
        ({"frozen_stages": 4}, r"frozen_stages=4 must be -1 .* up to 3"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be at least 0 and below 1"),
        ({"depth": 0, "global_block_indices": ()}, "depth=0 must be at least 1"),
        ({"mlp_ratio": 0.04}, r"mlp_ratio=0.04 leaves no hidden channel of 24; use at least 0.0416667"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ViT(**{**TINY, **arguments})


def test_a_file_of_another_depth_is_an_error(tmp_path: Path):
    file = write_checkpoint(ViT(**{**TINY, "depth": 2, "global_block_indices": (1,)}).state_dict(), tmp_path / "v.pth")
    with pytest.raises(ValueError, match=r"does not fit ViT \(of a whole"):
        ViT(**TINY, checkpoint=file)


def test_an_image_below_one_patch_is_an_error():
    with pytest.raises(ValueError, match=r"an image of \(15, 64\) is smaller than one patch of 16 pixels"):
        ViT(**TINY)(torch.randn(1, 3, 15, 64))


@EXPORTS
def test_onnx_equals_eager_at_other_sizes(tmp_path: Path):
    import onnxruntime

    net = nothing_zero(ViT(**TINY)).eval()
    file = tmp_path / "vit.onnx"
    sides = {2: 16 * torch.export.Dim("height", min=2, max=64), 3: 16 * torch.export.Dim("width", min=2, max=64)}
    torch.onnx.export(net, (torch.randn(1, 3, 96, 64),), file, dynamo=True, dynamic_shapes=(sides,), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in ((96, 64), (48, 112)):
        x = torch.randn(1, 3, *size)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert_same_maps(torch.from_numpy(got), net(x)[0])


# ------------------------------------------------------------------------------------------------------- in a toolbox


@pytest.mark.mmdet
@pytest.mark.parametrize("through", ["checkpoint", "init_cfg"])
def test_in_mmdet_weights_survive_init_weights(through: str, tmp_path: Path):
    from mmdet.registry import MODELS

    import fpn_plugins.adapters.mmdet  # noqa: F401

    source = nothing_zero(ViT(**TINY))
    file = str(write_checkpoint(source.state_dict(), tmp_path / "vit.pth"))
    given_as = (
        {"checkpoint": file} if through == "checkpoint" else {"init_cfg": {"type": "Pretrained", "checkpoint": file}}
    )
    net = MODELS.build({"type": "fpn_plugins.ViT", **TINY, **given_as, "frozen_stages": 1})
    net.init_weights()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.state_dict().items())
    assert not net.blocks[0].attn.qkv.weight.requires_grad and net.blocks[1].attn.qkv.weight.requires_grad


@pytest.mark.detectron2
def test_in_detectron2_as_bottom_up():
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    vit = nothing_zero(ViT(**TINY))
    net = PyramidBackbone(bottom_up=vit, neck={"type": "FPN", "out_channels": 8})
    x = torch.randn(1, 3, 64, 96)
    maps = net(x)
    assert net.size_divisibility == 16
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {"p4": (8, 4, 6)}
    neck = FPN([24], 8)
    neck.load_state_dict(net.neck.state_dict())
    assert_same_maps(maps["p4"], neck(vit(x))[0])


@pytest.mark.timm
def test_vits_with_registers_work_through_timm():
    """`TimmBackbone` runs timm's own network, with global attention in every block and without its final norm."""
    options = {"dynamic_img_size": True, "dynamic_img_pad": True, "depth": 2, "embed_dim": 32, "num_heads": 2}
    net = TimmBackbone("vit_small_patch14_reg4_dinov2", out_indices=(1,), model_args={**options, "img_size": 56}).eval()
    assert net.feature_specs == (FeatureSpec(32, 14),)
    for size in ((56, 56), (70, 44)):
        with torch.no_grad():
            (m,) = net(torch.randn(1, 3, *size))
        assert m.shape == (1, 32, -(-size[0] // 14), -(-size[1] // 14))
