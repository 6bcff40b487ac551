"""Level weights of a loss, and layer-wise learning rates."""

from __future__ import annotations

import pytest
import torch

from fpn_plugins.training import check_level_weights, vit_lr_factor, weigh_levels


def test_no_weights_give_none() -> None:
    assert check_level_weights(None, 5) is None
    assert check_level_weights([], 5) is None


def test_weights_become_floats() -> None:
    weights = check_level_weights([2, 0, 0.5], 3)
    assert weights == (2.0, 0.0, 0.5) and all(type(weight) is float for weight in weights)


def test_another_number_of_weights_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"are 3 weights, the head has 5 levels"):
        check_level_weights([1, 1, 1], 5)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, float("nan")], [float("inf"), 1.0], [0, 0]])
def test_weights_that_make_no_loss_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="must be finite, none below 0 and not all 0"):
        check_level_weights(weights, 2)


def test_each_level_gets_its_own_weight() -> None:
    weighed = weigh_levels([torch.tensor(3.0), torch.tensor(5.0)], [2.0, 0.5])
    assert [float(loss) for loss in weighed] == [6.0, 2.5]
    with pytest.raises(ValueError, match="argument"):
        weigh_levels([torch.tensor(3.0)], [2.0, 0.5])


DETECTRON2_NAMES = [
    "backbone.net.pos_embed",
    "backbone.net.patch_embed.proj.weight",
    *(f"backbone.net.blocks.{i}.{rest}" for i in range(12) for rest in ("norm1.weight", "attn.rel_pos_h")),
    "backbone.net.blocks.11.residual.conv1.weight",
    "backbone.net.blocks.2.residual.norm3.bias",
    "backbone.simfp_2.0.weight",
    "backbone.simfp_5.2.norm.weight",
    "proposal_generator.rpn_head.conv.conv0.weight",
    "roi_heads.mask_head.deconv.bias",
]


@pytest.mark.detectron2
@pytest.mark.parametrize("name", DETECTRON2_NAMES)
def test_matches_detectron2(name: str) -> None:
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate

    for decay in (0.7, 0.9):
        assert vit_lr_factor(name, decay, 12) == get_vit_lr_decay_rate(name, decay, 12)


@pytest.mark.parametrize("place", ["bottom_up.", "backbone.", "bottom_up.vit.", "backbone.model.", ""])
def test_the_prefix_of_the_vit_does_not_matter(place: str) -> None:
    names = {
        "patch_embed.proj.bias": 0,
        "cls_token": 0,
        "blocks.0.attn.qkv.weight": 1,
        "blocks.3.mlp.fc2.bias": 4,
        "blocks.3.residual.conv2.weight": 5,
        "resamples.0.0.weight": 5,
    }
    for name, layer in names.items():
        assert vit_lr_factor(f"backbone.{place}{name}", 0.5, 4) == 0.5 ** (5 - layer)


def test_other_parts_get_the_full_rate_and_a_hybrid_cnn_is_layer_0() -> None:
    """A neck's blocks are not layers of the ViT; the CNN of a hybrid is below its encoder."""
    assert vit_lr_factor("backbone.neck.top_down_blocks.0.blocks.1.conv1.conv.weight", 0.5, 4) == 1
    assert vit_lr_factor("neck.blocks.1.weight", 0.5, 4) == 1
    assert vit_lr_factor("backbone.bottom_up.cnn.model.blocks.7.conv.weight", 0.5, 4) == 0.5**5
    assert vit_lr_factor("roi_head.blocks.1.weight", 0.5, 4) == 1


def test_too_small_a_depth_is_an_error() -> None:
    """The rate would exceed the base rate."""
    with pytest.raises(ValueError, match="depth=4, but there is a parameter .*block 4"):
        vit_lr_factor("backbone.bottom_up.blocks.4.norm1.weight", 0.7, 4)
