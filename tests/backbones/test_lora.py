"""LoRA adapters of a ViT: only they train, no fast form passes them by, they merge, and all weights still load."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from torch import nn

from fpn_plugins import FPN, MultiDepthViT, Pyramid, SimpleFeaturePyramid, SpatialTuningAdapter, Swin, ViT, ViTAdapter
from fpn_plugins.backbones import add_lora, merge_lora
from fpn_plugins.conversion.detectors import convert
from fpn_plugins.training import layer_lr_factors, vit_lr_factor

pytestmark = [pytest.mark.peft, pytest.mark.timm]

TINY: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2, "global_block_indices": (1,), "window_size": 3}
MLP = ("mlp.fc1", "mlp.fc2")
ALL = ("attn.qkv", "attn.proj")
# arguments, and further layers to adapt: relative positions, gated and plain MLPs, biases of their own, registers
KINDS = {
    "ViTDet": ({"img_size": 64}, MLP),
    "DINOv3": ({"name": "vit_small_plus_patch16_dinov3"}, MLP),
    "DINOv3 with biases": ({"name": "vit_small_patch16_dinov3_qkvb"}, MLP),
    "EVA-02": ({"name": "eva02_tiny_patch14_224", "patch_size": 16}, MLP),
    "PE": ({"name": "vit_pe_core_tiny_patch16_384"}, MLP),
    "DINOv2": ({"name": "vit_small_patch14_reg4_dinov2", "patch_size": 16}, MLP),
}


def vit(kind: str = "DINOv3", **more: Any) -> ViT:
    return ViT(**{**TINY, **KINDS[kind][0], **more})


def trained(module: nn.Module) -> nn.Module:
    """Give adapters and weights values that matter, in double precision."""
    for name, p in module.named_parameters():
        nn.init.normal_(p, mean=float(p.dim() == 1 and "lora" not in name), std=0.2)
    return module.double()


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 64, 84, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def learning(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_computed_and_merge_to_equal_maps(kind: str) -> None:
    """The merged network has no adapters, so a fast form that read the frozen weights would differ from it."""
    backbone = trained(vit(kind, lora={"rank": 2, "targets": (*ALL, *KINDS[kind][1])}))
    without = copy.deepcopy(backbone)
    for name, p in without.named_parameters():
        if "lora_B" in name:
            nn.init.zeros_(p)
    merged = merge_lora(copy.deepcopy(backbone))
    assert merged.state_dict().keys() == vit(kind).state_dict().keys()
    for training in (False, True):
        for module in (backbone, merged, without):
            module.train(training)
        expected = merged(images())[0]
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                got = backbone(images())[0]
            assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()
        assert (without(images())[0] - expected).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_and_the_neck_learn(kind: str) -> None:
    backbone = vit(kind, lora={"rank": 2, "targets": (*ALL, *KINDS[kind][1])})
    assert learning(backbone) == {name for name, _ in backbone.named_parameters() if ".lora_" in name}
    layers = 2 * (2 + len(KINDS[kind][1]))
    assert len(learning(backbone)) == 2 * layers
    pyramid = trained(Pyramid(backbone, SimpleFeaturePyramid([16], 8))).train()
    sum(m.square().mean() for m in pyramid(images())).backward()
    with_gradient = {name for name, p in pyramid.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == learning(pyramid) and any(name.startswith("neck.") for name in with_gradient)


def test_gradients_are_those_of_the_weights() -> None:
    """By the chain rule: dB = s dW A', dA = s B' dW."""
    backbone = trained(vit(lora={"rank": 2, "alpha": 3.0})).train()
    merged = merge_lora(copy.deepcopy(backbone)).requires_grad_(True)
    for module in (backbone, merged):
        module(images())[0].square().mean().backward()
    layers = {name: layer for name, layer in backbone.named_modules() if hasattr(layer, "lora_A")}
    weights = {name: merged.get_submodule(name).weight.grad for name in layers}
    got, expected = {}, {}
    for name, layer in layers.items():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        got |= {f"{name}.a": a.grad, f"{name}.b": b.grad}
        expected |= {f"{name}.a": 1.5 * b.T @ weights[name], f"{name}.b": 1.5 * weights[name] @ a.T}
    assert len(got) == 8
    assert_same_gradients(got, expected)


def test_checkpointing_compiling_and_exporting_keep_the_adapters() -> None:
    backbone = trained(vit(lora={"rank": 2})).train()
    (expected,) = backbone(images())
    backbone.gradient_checkpointing = True
    backbone(images())[0].square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    compiled = torch.compile(backbone, fullgraph=True, backend="eager")
    assert_same_maps(compiled(images()), [expected])
    exported = torch.export.export(backbone.eval(), (images(),))
    assert_same_maps(exported.module()(images()), [expected])


def test_training_steps_compile() -> None:
    """Forward and backward in one graph each, with equal gradients of the adapters."""
    backbone = trained(vit(lora={"rank": 2}, depth=1, global_block_indices=())).train()
    compiled = torch.compile(copy.deepcopy(backbone), fullgraph=True, backend="aot_eager")
    gradients = []
    for module in (backbone, compiled):
        module(images())[0].square().mean().backward()
        gradients.append({name.removeprefix("_orig_mod."): p.grad for name, p in module.named_parameters()})
        gradients[-1] = {name: grad for name, grad in gradients[-1].items() if grad is not None}
    assert set(gradients[0]) == learning(backbone)
    assert_same_gradients(*gradients)


@pytest.mark.parametrize("kind", ["ViTDet", "DINOv3", "EVA-02"])
@pytest.mark.parametrize("precision", ["bf16 autocast", "bf16", "fp16"])
def test_half_precision_computes_adapters(kind: str, precision: str) -> None:
    """As close to the merged network in single precision as that network in half precision is."""
    backbone = trained(vit(kind, lora={"rank": 2})).float()
    merged, x = merge_lora(copy.deepcopy(backbone)), images().float()
    expected = merged(x)[0]
    found = []
    for module in (backbone, merged):
        if precision == "bf16 autocast":
            with torch.autocast("cpu", torch.bfloat16):
                found.append(module(x)[0])
        else:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float16
            found.append(module.to(dtype)(x.to(dtype))[0])
    own, plain = (float((m.float() - expected).norm() / expected.norm()) for m in found)
    assert own < max(2 * plain, 1e-3) and plain < 0.05
    found[0].float().square().mean().backward()
    gradients = [p.grad for p in backbone.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients)


def test_a_trace_keeps_the_adapters() -> None:
    """TorchScript by tracing, which works for a ViT without adapters, too."""
    backbone = trained(vit(lora={"rank": 2})).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks whose results a trace keeps
        traced = torch.jit.trace(backbone, (images(),))
    (expected,) = backbone(images(1))
    assert (traced(images(1))[0] - expected).abs().max() <= 1e-6 * expected.abs().max()  # angles in single precision


# ------------------------------------------------------------------------------------------------------------- weights


def test_pretrained_weights_load_strictly_before_the_adapters(tmp_path: Any) -> None:
    """timm's own names, which the backbone translates, as a file; one that does not fit is refused as without LoRA."""
    import timm

    file = tmp_path / "vit.pth"
    theirs = timm.create_model("vit_small_patch16_dinov3", embed_dim=16, depth=2, num_heads=2, num_classes=0)
    torch.save(theirs.state_dict(), file)
    build = {**TINY, "name": "vit_small_patch16_dinov3", "checkpoint": str(file)}
    plain = ViT(**build)
    adapted = ViT(**build, lora={"rank": 2})
    assert_same_maps(adapted.double()(images()), plain.double()(images()))
    torch.save({key: value for key, value in theirs.state_dict().items() if "blocks.1" not in key}, file)
    with pytest.raises(ValueError, match="does not fit ViT"):
        ViT(**build, lora={"rank": 2})


def test_foreign_weights_load_into_a_network_with_adapters() -> None:
    """As those of ``init_cfg`` and of whole detectors, which come after the network is built."""
    import timm

    theirs = timm.create_model("vit_small_patch16_dinov3_qkvb", embed_dim=16, depth=2, num_heads=2, num_classes=0)
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    plain, adapted = vit("DINOv3 with biases"), vit("DINOv3 with biases", lora={"rank": 2})
    before = {name: p.clone() for name, p in adapted.named_parameters() if ".lora_" in name}
    for module in (plain, adapted):
        module.load_weights(theirs.state_dict())
    assert all(torch.equal(p, before[name]) for name, p in adapted.named_parameters() if name in before)
    assert_same_maps(adapted.double()(images()), plain.double()(images()))
    weights = theirs.state_dict()
    del weights["blocks.1.attn.proj.weight"]
    with pytest.raises(ValueError, match=r"does not fit ViT.*blocks\.1\.attn\.proj"):
        adapted.load_weights(weights)
    assert adapted.blocks[1].attn.proj.lora_A  # the adapters are still there


def test_adapters_load_completely_or_not_at_all() -> None:
    adapted, other = trained(vit(lora={"rank": 2})), vit(lora={"rank": 2}).double()
    other.load_weights(adapted.state_dict())
    assert_same_maps(other(images()), adapted(images()))
    weights = adapted.state_dict()
    del weights["blocks.0.attn.qkv.lora_A.default.weight"]
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv\.lora_A"):
        other.load_weights(weights)
    with pytest.raises(ValueError, match=r"lora_A.*8"):
        vit(lora={"rank": 8}).load_weights(adapted.state_dict())
    merged = vit().double()
    merged.load_weights(merge_lora(adapted).state_dict())
    assert_same_maps(merged(images()), other(images()))


@pytest.mark.parametrize(
    "lora, message",
    [
        (
            {"rank": 4},
            r"size mismatch.*blocks\.0\.attn\.qkv\.lora_A.*Build the backbone with the lora of the checkpoint",
        ),
        ({"rank": 2, "targets": ["mlp.fc1"]}, r"it lacks blocks\.0\.mlp\.fc1\.lora_A.*\(rank, targets\)"),
        ({"rank": 2, "targets": ["attn.qkv"]}, r"it has also blocks\.0\.attn\.proj\.lora_A.*merge_lora"),
    ],
    ids=str,
)
def test_adapters_of_another_kind_are_refused_where_missing_keys_are_only_warned_of(lora: Any, message: str) -> None:
    """As the toolboxes load: not strictly."""
    weights = trained(vit(lora={"rank": 2})).state_dict()
    with pytest.raises(ValueError, match=message):
        vit(lora=lora).load_state_dict(weights, strict=False)


def test_a_network_without_adapters_says_how_to_merge_them(tmp_path: Any) -> None:
    torch.save(vit(lora={}).state_dict(), tmp_path / "lora.pth")
    for lora in ({"lora": {}}, {}):
        with pytest.raises(
            ValueError,
            match=r"does not fit ViT.*FPN_PLUGINS_PARTIAL_LOAD=1.*has LoRA adapters: load it into.*merge_lora",
        ):
            vit(**lora, checkpoint=tmp_path / "lora.pth")
    detector = {"roi_heads.box_predictor.cls_score.weight": torch.zeros(2, 4)}
    plain, adapted = (
        {**detector, **{f"backbone.bottom_up.{key}": value for key, value in network.state_dict().items()}}
        for network in (vit(), vit(lora={}))
    )
    with pytest.raises(ValueError, match="no place in it.*has LoRA adapters.*merge_lora"):
        convert(adapted, plain)


def test_copies_keep_their_adapters() -> None:
    adapted = trained(vit(lora={"rank": 2}))
    for clone in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert learning(clone) == learning(adapted)
        assert_same_maps(clone(images()), adapted(images()))
        clone.load_weights(vit().state_dict())


def test_weights_of_removed_blocks_are_dropped() -> None:
    """The neck reads the first of two maps, so the second block goes."""
    weights = vit().state_dict()
    pyramid = Pyramid(vit(out_block_indices=(0, 1), lora={"rank": 2}), out_positions=[0])
    pyramid.backbone.load_weights(weights)
    assert len(pyramid.backbone.blocks) == 1
    full = vit(out_block_indices=(0, 1), lora={"rank": 2})
    pyramid.backbone.load_weights(full.state_dict())
    assert_same_maps(pyramid.double()(images()), full.double()(images())[:1])


# ------------------------------------------------------------------------------------------------------ parts and rates


@pytest.mark.parametrize("kind", ["ViTDet", "DINOv3"])
def test_an_adapter_has_the_rate_of_its_block(kind: str) -> None:
    adapted, plain = vit(kind, lora={"rank": 2}), layer_lr_factors(vit(kind), 0.5)
    found = layer_lr_factors(adapted, 0.5)
    assert {name.replace("base_layer.", ""): f for name, f in found.items() if ".lora_" not in name} == plain
    adapters = {name: f for name, f in found.items() if ".lora_" in name}
    assert len(adapters) == 8
    for name, factor in adapters.items():
        assert factor == 0.5 ** (2 - int(name.split(".")[1])) == vit_lr_factor(f"backbone.{name}", 0.5, 2)


def test_frozen_blocks_get_no_adapters_and_added_convolutions_learn() -> None:
    adapted = vit("ViTDet", lora={"rank": 2}, frozen_stages=1, residual_block_indices=(0, 1))
    assert all(name.startswith("blocks.1.") for name in learning(adapted))
    assert {".lora_" in name or ".residual." in name for name in learning(adapted)} == {True}
    assert any(".residual." in name for name in learning(adapted))
    assert not adapted.train().blocks[0].training


def test_composed_backbones_and_others_take_adapters() -> None:
    inner = {**TINY, "lora": {"rank": 2}}
    for composed in (
        MultiDepthViT(inner, depths=(1, 2), strides=(8, 16)),
        SpatialTuningAdapter({"type": "ViT", **inner}),
        ViTAdapter(inner, conv_inplane=4),
    ):
        own = {name for name in learning(composed) if name.startswith("vit.")}
        assert len(own) == 8 and all(".lora_" in name for name in own) and learning(composed) > own
        composed.load_state_dict(composed.state_dict())
    swin = Swin(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
    add_lora(swin, rank=2)
    pyramid = trained(Pyramid(swin, FPN([8, 16, 32, 64], 8))).eval()
    expected = [m.detach() for m in pyramid(images())]
    assert_same_maps(merge_lora(pyramid)(images()), expected)


@pytest.mark.parametrize(
    ("lora", "error", "message"),
    [
        ({"r": 8}, TypeError, "lora has no 'r'.*rank, alpha, targets, dropout"),
        ({"rank": 0}, ValueError, "rank=0 must be"),
        ({"rank": 0, "alpha": 1.0}, ValueError, "rank=0 must be"),
        ({"alpha": 0.0}, ValueError, "alpha=0.0 must be"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0 must be"),
        ({"targets": "attn.qkv"}, TypeError, "targets='attn.qkv' must be"),
        ({"targets": [3]}, TypeError, "targets=3 must be"),
        ({"targets": []}, ValueError, "targets"),
        ({"targets": ["attn.q_proj"]}, ValueError, r"'attn\.q_proj'; there are: attn\.proj, attn\.qkv, mlp\.fc1"),
        ({"targets": []}, ValueError, r"targets=\[\] must name layers"),
        ("qkv", TypeError, "lora='qkv' must be a mapping"),
    ],
)
def test_wrong_arguments_are_named(lora: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vit("ViTDet", lora=lora)


def test_adapters_are_added_once_and_merged_if_there_are_any() -> None:
    with pytest.raises(ValueError, match="already has LoRA adapters"):
        add_lora(vit(lora={}))
    with pytest.raises(ValueError, match="ViT has no LoRA adapters"):
        merge_lora(vit())
    with pytest.raises(ValueError, match="not frozen is named 'attn.qkv'; there are: none"):
        vit(lora={}, frozen_stages=2)
