"""timm's pretrained CNN-ViT hybrids with the maps of both parts: C2-C4 from the ResNet, C5 from the transformer.

timm's own feature interface returns only the transformer's maps, all of one stride; this class also returns those of
the ResNet inside the patch embedding. Networks and weights: ViT (arXiv:2010.11929, section 3.1), AugReg
(arXiv:2106.10270), ``timm/models/vision_transformer_hybrid.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import boolean, mapping, positive_int, probability, text
from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import in_format_of
from ...ops.tracing import traced
from ...weights import KeyMap, accept_layouts
from ...weights.input_channels import accept_color_images
from ..base import Backbone, Part, check_one_source
from ..build import register_backbone
from ..hybrid import OUT_STRIDE, downsampling
from ..layer_numbers import with_prefix
from .loading import FitHook, TimmSource, first_convolutions
from .networks import check_name, fetching_timm, import_timm, pixel_statistics

TIMM_NAMES = KeyMap("timm hybrid", [("head.<*>", None), ("<*>", "model.<*>")], lacks=["downsample.<*>"])
HYBRID = re.compile(r"vit_[a-z]+_r\d+_s\d+_\d+")


@register_backbone
class TimmHybrid(Backbone):
    """CNN-ViT hybrid from timm: image in, C2..C5 out.

    Args:
        name: timm model name of a hybrid on a ResNetV2: ``vit_base_r50_s16_*``, whose encoder runs on C4 (a new,
            untrained 3x3 convolution of stride 2 turns its output into C5), ``vit_large_r50_s32_*`` or
            ``vit_small_r26_s32_*``, whose encoder runs on C5.
        pretrained: see `Backbone`.
        checkpoint: see `Backbone`; in timm's layout. The classifier is dropped; positions of another image size are
            resized as in timm.
        in_chans: see `Backbone`.
        drop_path_rate, gradient_checkpointing: see `Backbone`; for the encoder only.
        model_args: further arguments of ``timm.create_model``.
        frozen_stages: see `Backbone`; the stages are those of the ResNet, then the blocks of the encoder, the first
            with its embeddings.

    Images can have any size: position embeddings are resized as in timm with ``dynamic_img_size=True``. C5 is the
    output of timm's ``forward_features`` (with class token and final norm) without the class token. `pixel_mean` and
    `pixel_std` are 127.5 for these weights.

    State dict: ``model.*`` in timm's names, ``downsample.*`` for an encoder at stride 16.

    Raises:
        ImportError: timm is not installed.
        ValueError: the name of another network, a tag that it does not have, or a checkpoint of another architecture.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | None = False,
        checkpoint: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        model_args: Mapping[str, Any] | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        check_one_source(pretrained, checkpoint)
        self.name, self.in_chans = text("name", name, "vit_base_r50_s16_224"), positive_int("in_chans", in_chans)
        probability("drop_path_rate", drop_path_rate)
        mapping("model_args", {} if model_args is None else model_args, '{"embed_dim": 384}')
        arguments = {**(model_args or {}), "drop_path_rate": drop_path_rate, "in_chans": in_chans}
        self.model = _create(name, pretrained, arguments)
        self.mean, self.std = pixel_statistics(name)
        cnn = self.model.patch_embed.backbone
        _pad_by_integers(cnn)
        specs = [FeatureSpec(row["num_chs"], row["reduction"]) for row in cnn.feature_info if "stages" in row["module"]]
        self.downsample: nn.Module | None = downsampling(self.model.embed_dim, specs[-1].stride)
        finer = [spec for spec in specs if spec.stride < OUT_STRIDE]
        self.feature_specs = (*finer, FeatureSpec(self.model.embed_dim, OUT_STRIDE))
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        accept_layouts(self, [TIMM_NAMES])
        build = partial(_create, name, False, arguments)
        self.source = TimmSource(name, build, frozenset(self.model.state_dict()))
        accept_color_images(self, first_convolutions(name, self.state_dict()), in_chans)
        self._register_load_state_dict_pre_hook(FitHook(self.source), with_module=True)
        self.load_and_freeze(frozen_stages, checkpoint)

    def stage_parts(self) -> list[list[Part]]:
        """List the stem, the stages of the ResNet, then each block of the encoder."""
        model = self.model
        embeddings = [model.patch_embed.backbone.norm, model.patch_embed.proj, model.norm_pre, *_own(model)]
        first, *others = model.blocks
        cnn = model.patch_embed.backbone
        return [[cnn.stem], *([stage] for stage in cnn.stages), [*embeddings, first], *([block] for block in others)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to maps ``B C H/stride W/stride``, sizes rounded up."""
        self.check_image(x)
        if not traced() and len(x) == 0:  # timm's encoder reshapes maps without a size for the cells
            raise ValueError(f"{type(self).__name__} takes at least one image, but received the shape {tuple(x.shape)}")
        cnn = self.model.patch_embed.backbone
        x = cnn.stem(x)
        maps = []
        for stage in cnn.stages:
            x = stage(x)
            maps.append(x)
        finer = maps[: len(self.feature_specs) - 1]
        if self.downsample is None:
            return self.complete(finer)
        return self.complete([*finer, self.downsample(self._encode(cnn.norm(x)))])

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the transformer and the CNN's stages after the last read map, if the transformer's map is unread."""
        if len(self.feature_specs) - 1 in kept:
            return
        self.downsample = None
        cnn = self.model.patch_embed.backbone
        self.model = nn.ModuleDict({"patch_embed": nn.ModuleDict({"backbone": cnn})})
        cnn.norm = None
        del cnn.stages[max(kept) + 1 :]

    def _encode(self, x: Tensor) -> Tensor:
        """Apply the transformer to the CNN's last map: ``B C H W`` to ``B embed_dim H W``."""
        model, (height, width) = self.model, x.shape[-2:]
        tokens = model.patch_embed.proj(x).permute(0, 2, 3, 1)  # B H W C
        tokens = model.norm_pre(model._pos_embed(tokens))  # B 1+HW C
        for block in model.blocks:
            tokens = checkpointing.run(block, tokens, checkpointed=self.gradient_checkpointing)
        tokens = model.norm(tokens[:, model.num_prefix_tokens :])
        top = tokens.transpose(1, 2).unflatten(2, (height, width))
        return in_format_of(top, x)

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers as timm does: the CNN is layer 0, and the classifier, left out here, is above the last."""
        layers, top = self.source.layers()
        return with_prefix("model", layers), top + 1


def _own(model: nn.Module) -> list[nn.Parameter]:
    """Return the transformer's class token and position embeddings."""
    return list(model.parameters(recurse=False))


class _SamePadding:
    """TensorFlow's "same" padding as a hook before a layer; an object, so that the module can be copied and pickled.

    timm computes the padding in floating point, which a trace for any image size cannot simplify.
    """

    def __init__(self, kernel_size: int, stride: int, value: float) -> None:
        self.kernel_size, self.stride, self.value = kernel_size, stride, value

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        height, width = (self._total(side) for side in inputs[0].shape[-2:])
        before, above = width // 2, height // 2
        return F.pad(inputs[0], (before, width - before, above, height - above), value=self.value)

    def _total(self, side: int) -> int:
        return (side - 1) // self.stride * self.stride + self.kernel_size - side


def _pad_by_integers(cnn: Any) -> None:
    """Replace timm's padding in a ResNetV2, before the pooling and before convolutions larger than 1x1."""
    cnn.stem.pool = nn.MaxPool2d(3, 2)
    cnn.stem.pool.register_forward_pre_hook(_SamePadding(3, 2, float("-inf")))
    for layer in cnn.modules():
        if getattr(layer, "same_pad", False):
            layer.same_pad = False
            if layer.kernel_size[0] > 1:
                layer.register_forward_pre_hook(_SamePadding(layer.kernel_size[0], layer.stride[0], 0.0))


def _create(name: str, pretrained: bool | None, arguments: Mapping[str, Any]) -> Any:
    timm = import_timm()
    hybrids = [model for model in timm.list_models("vit_*") if HYBRID.fullmatch(model)]
    if name.split(".")[0] not in hybrids:
        raise ValueError(f"name={name!r} must be one of timm's hybrids on a ResNetV2 with stages: {', '.join(hybrids)}")
    check_name(name)
    with fetching_timm(name, pretrained):
        return timm.create_model(
            name, pretrained=pretrained, num_classes=0, global_pool="", dynamic_img_size=True, **arguments
        )
