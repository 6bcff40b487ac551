"""Base class of backbones: pixel statistics, frozen stages, and weights that load completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..checks import boolean, file_name, integer
from ..features import FeatureSpec
from ..keywords import KeywordChecked
from ..ops.distributed import watch_first_step
from ..ops.scripting import refuse_scripting
from ..ops.windows import windows_along
from ..weights import read_checkpoint
from ..weights.layouts import LeftOutHook
from ..weights.prefixes import restore_wrappers
from .feature_cache import FeatureCache, add_feature_cache_from
from .images import check_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Weights = Mapping[str, Tensor] | str | os.PathLike[str]
Part = nn.Module | nn.Parameter


class Backbone(KeywordChecked, nn.Module):
    """Base class of backbones: image ``B in_chans H W`` in, tuple of maps out.

    A subclass sets ``feature_specs``, lists its parts in `stage_parts`, ends its constructor with `load_and_freeze` and
    its forward with `complete`, and removes layers that only some maps need in `remove_unread`. Images are RGB,
    normalized with ``mean`` and ``std`` (or `pixel_mean` and `pixel_std`).

    Arguments that several subclasses have:
        pretrained: load timm's weights of the network ``name`` (downloaded by timm, which must be installed);
            ``None`` is ``False``, as in the toolboxes.
        checkpoint: weights file to load instead, in any layout that the subclass names; read without executing
            anything, loaded completely or not at all.
        in_chans: channels of the image; weights for 3 are adapted as in timm (`fpn_plugins.weights.adapt_channels`).
        frozen_stages: see below; -1 by default.
        drop_path_rate: stochastic depth of the last block; rises linearly from 0 in the first.
        gradient_checkpointing: recompute each block in the backward pass (less memory, about a third more time).
        feature_cache: arguments of `add_feature_cache`: keep the maps of a backbone that is frozen as a whole on disk.

    Attributes:
        feature_specs: channels and stride of each returned map.
        mean: mean of the pixels that the weights were trained on, on the 0..1 scale; ImageNet's by default.
        std: standard deviation of these pixels.
        in_chans: channels of the image; ``None`` for any.
        frozen_stages: -1 freezes nothing, 0 the stem (patch embedding or first convolutions), ``n`` the stem and the
            first ``n`` stages. Frozen parts get no gradient and stay in evaluation mode.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["pixel_mean", "pixel_std"]

    feature_specs: tuple[FeatureSpec, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    frozen_stages: int = -1
    in_chans: int | None = None
    kept_maps: frozenset[int] | None = None  # positions given to `keep_maps`; None before its first call
    left_out: frozenset[str] = frozenset()  # keys of the layers that `keep_maps` removed here, not in another backbone
    feature_cache: FeatureCache | None = None
    misfit_hint = ""  # end of the message about weights that do not fit
    __prepare_scriptable__ = refuse_scripting

    @property
    def pixel_mean(self) -> list[float]:
        """``mean`` on the 0..255 scale, which both toolboxes use."""
        return pixel_statistics(self)[0]

    @property
    def pixel_std(self) -> list[float]:
        """``std`` on the 0..255 scale."""
        return pixel_statistics(self)[1]

    def expect_pixels_of(self, other: nn.Module) -> None:
        """Copy the pixel statistics of ``other``, the backbone that reads the image."""
        self.mean, self.std = getattr(other, "mean", IMAGENET_MEAN), getattr(other, "std", IMAGENET_STD)

    def check_image(self, x: Tensor) -> None:
        """Raise an error unless ``x`` is a batch of images ``B in_chans H W``; see `fpn_plugins.backbones.images`."""
        check_image(x, self.in_chans, type(self).__name__)

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the parts of the stem, then those of each stage, in the order in which ``frozen_stages`` counts."""
        return ()

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the pre-trained parameters, for layer-wise learning rates.

        Returns:
            The layer of each of these parameters by name, 0 for the embeddings or the stem, and the number of the layer
            above the last one: that of the parameters without pre-training (necks, heads, norms of the maps), also of
            the backbone's own that the dict lacks.

        Raises:
            ValueError: a backbone whose layers are not known.
        """
        raise ValueError(
            f"the layers of {type(self).__name__} are not known, so it has no layer-wise learning rates; define its "
            "parameter_layers, or use one rate"
        )

    def load_and_freeze(
        self,
        frozen_stages: int = -1,
        checkpoint: str | os.PathLike[str] | None = None,
        pretrained: bool | None = False,
        feature_cache: Mapping[str, Any] | None = None,
    ) -> None:
        """Load weights from ``checkpoint`` or timm's of the network ``self.name``, freeze, add a feature cache.

        Raises:
            TypeError: an argument of another type.
            ValueError: both sources, weights of another architecture, or stages that the backbone does not have.
        """
        check_one_source(pretrained, checkpoint)
        if integer("frozen_stages", frozen_stages) != -1:
            count = len(self.stage_parts()) - 1
            if not 0 <= frozen_stages <= count:
                stages = f"0 (the stem) or a number of stages up to {count}" if count >= 0 else "for it names no stages"
                raise ValueError(f"frozen_stages={frozen_stages} must be -1 (none), {stages}")
        if pretrained:
            from .timm.networks import timm_weights  # its package imports this module

            name: Any = getattr(self, "name", None)
            if name is None:
                raise ValueError("pretrained=True loads timm's weights of a network by its name; pass name=, too")
            self.load_weights(timm_weights(name), f"of timm's {name!r}")
        elif checkpoint is not None:
            self.load_weights(checkpoint)
        self.frozen_stages = frozen_stages
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)
        add_feature_cache_from(self, feature_cache)

    def keep_maps(self, positions: Collection[int]) -> None:
        """Remove the layers that only maps at other positions than ``positions`` need.

        `Pyramid` calls it with the maps that its neck reads, because a parameter without a gradient stops distributed
        training. `forward` still returns one map per entry of ``feature_specs``: an unread map without its norm, or
        zeros. State dicts that contain the removed layers still load.

        Raises:
            ValueError: a map whose layers an earlier call has removed.
        """
        kept = frozenset(range(len(self.feature_specs)) if self.kept_maps is None else self.kept_maps)
        read = frozenset(positions)
        if not kept >= read:
            raise ValueError(
                f"the {type(self).__name__} has lost the layers of maps {sorted(read - kept)}, because the neck of "
                f"another Pyramid reads only {sorted(kept)}; build a backbone for each Pyramid"
            )
        if read == kept:
            return
        if self.kept_maps is None:
            self._register_load_state_dict_pre_hook(LeftOutHook(), with_module=True)
        before = self.state_dict().keys()
        self.kept_maps = read
        self.remove_unread(read)
        parts = [(name, child) for name, child in self.named_children() if isinstance(child, Backbone)]
        elsewhere = {f"{name}.{key}" for name, child in parts for key in child.left_out}
        self.left_out = (self.left_out | (before - self.state_dict().keys())) - elsewhere

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the layers that only maps other than ``kept`` need; by default, there are none."""

    def complete(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the maps of `forward`, followed by zeros for the maps that `keep_maps` has cut off at the end."""
        watch_first_step(self)
        completed = list(maps)
        for index in range(len(maps), len(self.feature_specs)):
            (_, finer), (channels, coarser) = self.feature_specs[index - 1 : index + 1]
            height, width = (windows_along(side, coarser // finer) for side in completed[-1].shape[-2:])
            completed.append(unread_map(completed[-1], channels, height, width))
        return tuple(completed)

    def _frozen_parts(self) -> list[Part]:
        stages = self.stage_parts() if self.frozen_stages >= 0 else ()
        return [part for stage in stages[: self.frozen_stages + 1] for part in stage]

    def train(self, mode: bool = True) -> Backbone:
        """Switch mode; frozen modules and, with a feature cache, all of them stay in evaluation mode."""
        super().train(mode and self.feature_cache is None)
        if self.feature_cache is not None:
            self.feature_cache.forget()
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def load_weights(self, weights: Weights, source: str = "of the given state dict") -> None:
        """Load a state dict in any layout that the backbone supports, completely or not at all.

        Args:
            weights: state dict of the backbone alone, or a file that contains it, see `read_checkpoint`.
            source: origin of a state dict, for the message; a file is named by its path.

        Raises:
            ValueError: weights of another architecture; lists keys or shapes.
        """
        if not isinstance(weights, Mapping):
            source = repr(os.fspath(weights))
            weights = read_checkpoint(weights)
        before = {key: value.clone() for key, value in self.state_dict().items()}
        try:
            self.load_state_dict(restore_wrappers(weights, before))
        except (RuntimeError, ValueError) as error:
            self.load_state_dict(before)
            limit = 400 if isinstance(error, RuntimeError) else 4000  # torch has one line for all missing keys
            first, *rest = (line if len(line) < limit else f"{line[:limit]}..." for line in str(error).split("\n\t"))
            reason = "; ".join([first, *rest[:5]]) + (f"; ... ({len(rest) - 5} more)" if len(rest) > 5 else "")
            name = f" {self.name!r}" if getattr(self, "name", None) else ""
            raise ValueError(
                f"the checkpoint {source} does not fit {type(self).__name__}{name} (of a whole detector, pass the "
                f"backbone's part: fpn_plugins.weights.strip_prefix): {reason}{self.misfit_hint}"
            ) from error


def keep_maps(backbone: nn.Module, positions: Collection[int]) -> None:
    """Call `Backbone.keep_maps`; a user's own module without this method stays as it is."""
    if isinstance(backbone, Backbone):
        backbone.keep_maps(positions)


def unread_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return zeros ``B channels height width`` that take no memory, with the batch, type and device of ``like``."""
    return like.new_zeros(1).expand(like.shape[0], channels, height, width)


def stage_parts(backbone: Any) -> Sequence[Sequence[Part]]:
    """List the parts of a backbone's stem and of its stages; none for a foreign module that does not name them."""
    return backbone.stage_parts() if hasattr(backbone, "stage_parts") else ()


def pixel_statistics(backbone: nn.Module) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation, on the 0..255 scale, of a backbone's pixels; ImageNet's if it has none."""
    mean, std = getattr(backbone, "mean", IMAGENET_MEAN), getattr(backbone, "std", IMAGENET_STD)
    return [round(255 * value, 3) for value in mean], [round(255 * value, 3) for value in std]


def check_one_source(pretrained: bool | None, checkpoint: str | os.PathLike[str] | None) -> None:
    """Raise ``ValueError`` if both sources of weights are given, ``TypeError`` if one is not what it should be."""
    file_name("checkpoint", checkpoint)
    if pretrained is not None and boolean("pretrained", pretrained) and checkpoint is not None:
        raise ValueError(f"pretrained=True and checkpoint={str(checkpoint)!r} are mutually exclusive; choose one")
