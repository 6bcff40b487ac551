"""Any timm network with ``features_only`` as a detection backbone.

timm (https://github.com/huggingface/pytorch-image-models) publishes channels and reductions of every network in
``feature_info``; they become ``feature_specs``, and nothing is guessed from a model's name. timm is imported only when
a backbone is built, so the package works without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import boolean, mapping, positive_int, probability, text
from ...features import FeatureSpec
from ...layers import NormFactory, check_layers, make_norm
from ...ops.memory_format import as_map, in_format_of
from ...ops.scripting import ImageForm, scriptable_form
from ...weights.layouts import logger
from ..base import Backbone, Part, check_one_source
from ..build import register_backbone
from ..layer_numbers import with_prefix
from .loading import accept_timm_weights, timm_source
from .networks import (
    adopt_parameters,
    check_out_indices,
    create_network,
    pixel_statistics,
    stage_modules,
    turn_on_checkpointing,
)
from .norms import FusedActivations, replace_norms


@register_backbone
class TimmBackbone(Backbone):
    """Backbone from timm; ``mean`` and ``std`` are those of its weights.

    Args:
        name: timm model name, e.g., ``"resnet50"`` or ``"mobilenetv2_100.ra_in1k"``.
        out_indices: timm's feature maps to return, ascending. Most convolutional networks have five, of stride 2 to 32,
            so C2..C5 are ``(1, 2, 3, 4)``; some (ConvNeXt) have four, so C2..C5 are ``(0, 1, 2, 3)``; plain
            transformers have one per block, all of one stride. ``None`` is the last map of each stride from 4 on.
        pretrained, drop_path_rate, gradient_checkpointing: see `Backbone`; only for networks that have the latter two.
        checkpoint: see `Backbone`; in the layout of timm, torchvision, mmdet, this module, or, for ResNets, Detectron2.
            Tables for another image or window size are resized as in timm, with a warning.
        in_chans: see `Backbone`.
        frozen_stages: see `Backbone`. Each of timm's feature maps after the stem ends a stage: for ResNets, 1 is stem +
            ``layer1``, as in mmdet; for EfficientNets and MobileNetV2, 1 is ``conv_stem`` + ``blocks.0`` (stride 2);
            for plain transformers, every block is a stage, and the stem is the embeddings.
        norm_eval: keep all batch norms in evaluation mode during training.
        norm: replaces the batch norms: ``"SyncBN"`` computes their statistics over all processes, ``"FrozenBN"`` makes
            them constants, buffers without gradient; ``None`` keeps them.
        output_norm: norm after each map (see `make_norm`), never frozen: ``"LN"`` for networks whose maps are raw sums
            of residual branches (ConvNeXt, Swin and plain transformers), as in detectors built on them.
        model_args: further arguments of ``timm.create_model``, e.g., those that let a transformer take any size.
        feature_cache: see `Backbone`.

    The activations inside timm's batch norms stay when a utility replaces the norms
    (``SyncBatchNorm.convert_sync_batchnorm``, mmengine's ``sync_bn``, Detectron2's ``convert_frozen_batchnorm``, mmcv's
    ``fuse_conv_bn``): the next forward or change of mode attaches them to the new layers.

    Image sizes are limited by timm's forward (table in ``docs/timm_families.md``): most convolutional networks take any
    size; HRNet and DLA need multiples of 32, to which both toolboxes pad; transformers need ``model_args``.

    ``torch.jit.script`` compiles a form that returns a list, if it compiles timm's network.

    Raises:
        ImportError: timm is not installed.
        ValueError: unknown model (suggests similar names), one without feature maps or without gradient checkpointing,
            indices out of range, ``norm`` for one without batch norms, or a checkpoint of another architecture (lists
            the keys, or the shapes).
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        pretrained: bool | None = False,
        checkpoint: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        output_norm: str | NormFactory | None = None,
        model_args: Mapping[str, Any] | None = None,
        norm: str | None = None,
        feature_cache: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_one_source(pretrained, checkpoint)
        self.name, self.in_chans = text("name", name, "resnet50"), positive_int("in_chans", in_chans)
        check_layers(output_norm=output_norm)
        probability("drop_path_rate", drop_path_rate)
        mapping("model_args", {} if model_args is None else model_args, '{"dynamic_img_size": True}')
        arguments = {**(model_args or {}), **({"drop_path_rate": drop_path_rate} if drop_path_rate else {})}
        self.out_indices = check_out_indices(name, out_indices, model_args or {})
        self._build = partial(build_network, name, in_chans=in_chans, arguments=arguments, norm=norm)
        self.model = self._build(self.out_indices, pretrained)
        self._fused = FusedActivations(self.model)
        info = self.model.feature_info
        shapes = zip(info.channels(), info.reduction(), strict=True)
        self.feature_specs = tuple(FeatureSpec(int(channels), int(stride)) for channels, stride in shapes)
        self.mean, self.std = pixel_statistics(name)
        self.norm_eval = boolean("norm_eval", norm_eval)
        self._channels_last_maps = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        norms = [make_norm(output_norm, spec.channels, "output_norm") for spec in self.feature_specs]
        self.norms = nn.ModuleList(norm for norm in norms if norm is not None)
        self._checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        if gradient_checkpointing:
            turn_on_checkpointing(self.model, name)
        self.source = timm_source(self.model, name, arguments)
        accept_timm_weights(self, self.source, in_chans)
        self.load_and_freeze(frozen_stages, checkpoint, feature_cache=feature_cache)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``."""
        return self.complete(self.maps(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Compute the maps that are read, as a list; TorchScript compiles this method."""
        if not torch.jit.is_scripting():
            self.check_image(x)
            self._fused.restore()
        maps = self.model(x)
        if self._channels_last_maps:
            maps = [as_map(m, x) for m in maps]
        for index, norm in enumerate(self.norms):
            if index < len(maps):
                maps[index] = in_format_of(norm(maps[index]), x)
        return maps

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that ``torch.jit.script`` compiles instead of this one."""
        self._fused.restore()
        return scriptable_form(self, ImageForm)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Switch mode; frozen parts and, with ``norm_eval``, batch norms stay in evaluation mode."""
        self._fused.restore()
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the norms of unread maps, and the stages after the last read map, by building a smaller network."""
        for position in range(len(self.norms)):
            if position not in kept:
                self.norms[position] = nn.Identity()
        if max(kept) + 1 == len(self.out_indices):
            return
        with torch.random.fork_rng(devices=[]):
            smaller = self._build(self.out_indices[: max(kept) + 1], False)
        if not adopt_parameters(smaller, self.model):
            logger.warning(
                "%r was changed after it was built, so the stages after the last map that is read stay; to leave them "
                "out, set out_indices=%s, or change the network after the Pyramid is built",
                self.name,
                list(self.out_indices[: max(kept) + 1]),
            )
            return
        self.out_indices = self.out_indices[: max(kept) + 1]
        self.model = smaller
        self._fused = FusedActivations(self.model)
        if self._checkpointing:
            turn_on_checkpointing(self.model, self.name)
        self.train(self.training)

    def stage_parts(self) -> list[list[Part]]:
        """List the stem with the root's own parameters (a transformer's embeddings and tokens), then each stage."""
        stem, *stages = stage_modules(self.model, self.out_indices[-1])
        own = getattr(self.model, "model", self.model).parameters(recurse=False)
        first: list[Part] = [*map(self.model.get_submodule, stem), *own]
        return [first, *([*map(self.model.get_submodule, stage)] for stage in stages)]

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers as timm does for its own layer-wise learning rates."""
        layers, top = self.source.layers()
        return with_prefix("model", layers), top


def build_network(
    name: str,
    out_indices: tuple[int, ...],
    pretrained: bool | None,
    in_chans: int,
    arguments: Mapping[str, Any],
    norm: str | None,
) -> Any:
    """Build timm's feature network with other batch norms; see `create_network` and `replace_norms`."""
    network = create_network(name, out_indices, pretrained, in_chans, arguments)
    replace_norms(network, norm, name)
    return network
