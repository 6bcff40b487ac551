"""Base class of backbones: the pixels that their weights expect, frozen parts, and complete loading of weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from ..features import FeatureSpec
from ..weights import read_checkpoint

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Weights = Mapping[str, Tensor] | str | os.PathLike[str]


class Backbone(nn.Module):
    """Base class: image in, tuple of maps out.

    Attributes:
        feature_specs: channels and stride of each map.
        mean: of the pixels that the weights were trained on, on the 0..1 scale, RGB; ImageNet's unless set.
        std: standard deviation of these pixels.
    """

    feature_specs: tuple[FeatureSpec, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    # ends the message about weights that do not fit
    misfit_hint = ""

    @property
    def pixel_mean(self) -> list[float]:
        """``mean`` on the 0..255 scale, as both toolboxes state it."""
        return [round(255 * value, 3) for value in self.mean]

    @property
    def pixel_std(self) -> list[float]:
        """``std`` on the 0..255 scale."""
        return [round(255 * value, 3) for value in self.std]

    def expect_pixels_of(self, other: nn.Module) -> None:
        """State the pixels of the backbone that reads the image."""
        self.mean, self.std = getattr(other, "mean", IMAGENET_MEAN), getattr(other, "std", IMAGENET_STD)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Parts without gradients; the modules among them stay in evaluation mode."""
        return ()

    def freeze(self) -> None:
        """Turn off the gradients of `frozen_parts`; to be called at the end of a constructor."""
        for part in self.frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Switch mode; frozen modules stay in evaluation mode, so that their norms and stochastic depth are off."""
        super().train(mode)
        for part in self.frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def load_weights(self, weights: Weights, source: str = "") -> None:
        """Load a state dict in any of the layouts that the backbone knows, completely or not at all.

        Args:
            weights: keys and tensors of this backbone alone, or a file that holds them.
            source: where they come from, for the message; of a file its path.

        Raises:
            ValueError: they are of another architecture; lists the keys, or the shapes.
        """
        weights, source = read_weights(weights, source)
        before = {key: value.clone() for key, value in self.state_dict().items()}
        try:
            self.load_state_dict(weights)
        except (RuntimeError, ValueError) as error:
            self.load_state_dict(before)
            first, *rest = str(error).split("\n\t")  # torch's message has a line per tensor of another shape
            reason = "; ".join([first, *rest[:5]]) + (f"; ... ({len(rest) - 5} more)" if len(rest) > 5 else "")
            name = f" {self.name!r}" if hasattr(self, "name") else ""
            raise ValueError(
                f"the checkpoint {source} does not fit {type(self).__name__}{name} (of a whole detector, pass the "
                f"backbone's part: fpn_plugins.weights.strip_prefix): {reason}{self.misfit_hint}"
            ) from error


def read_weights(weights: Weights, source: str = "") -> tuple[Mapping[str, Tensor], str]:
    """A state dict, read without executing anything where it is a file, and where it comes from, for messages."""
    if isinstance(weights, Mapping):
        return weights, source or "of the given state dict"
    return read_checkpoint(weights), repr(os.fspath(weights))


def check_one_source(pretrained: bool, checkpoint: str | os.PathLike[str] | None) -> None:
    """Raise ``ValueError`` where both are given."""
    if pretrained and checkpoint is not None:
        raise ValueError(f"pretrained=True and checkpoint={str(checkpoint)!r} exclude each other; choose one")


def check_ascending(argument: str, indices: Sequence[int], count: int, of_what: str) -> tuple[int, ...]:
    """Ascending positions below ``count`` as a tuple; ``of_what`` ends the message of the ``ValueError``."""
    chosen = tuple(int(index) for index in indices)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"{argument}={list(chosen)} must be ascending positions {of_what}")
    return chosen


def check_frozen_stages(frozen_stages: int, last: int, meaning: str) -> int:
    """``frozen_stages`` from -1 to ``last``; ``meaning`` leads up to ``last`` in the ``ValueError``."""
    if not -1 <= frozen_stages <= last:
        raise ValueError(f"frozen_stages={frozen_stages} must be -1 (none) or {meaning} {last}")
    return frozen_stages


def initialize_linear(module: nn.Module) -> None:
    """Draw the weights of all linear layers as Vision Transformers do: truncated normal of 0.02, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
