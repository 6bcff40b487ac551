"""Fit the first convolution of weights for color images to images of another number of channels, as timm does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .layouts import LoadHook, logger

COLORS = 3  # channels of the images that published weights were trained on


def adapt_channels(filters: Tensor, in_chans: int) -> Tensor:
    """Fit filters for images of three channels to images of ``in_chans`` channels.

    For one channel, the filters are summed over the colors, so that a gray image gives what it would give as a color
    image with three equal channels. For any other number, they are repeated in the order of the channels and multiplied
    by ``3 / in_chans``, which keeps the scale of the sum.

    Args:
        filters: ``C_out 3*k h w``; ``k`` is 1, or the number of pixels that a network moves into the channels first,
            which are then the slower index.
        in_chans: channels of the image.

    Returns:
        ``C_out in_chans*k h w``, of the type of ``filters``.
    """
    colors = filters.float().unflatten(1, (-1, COLORS))
    if in_chans == 1:
        adapted = colors.sum(2, keepdim=True)
    else:
        repeats = math.ceil(in_chans / COLORS)
        adapted = colors.repeat(1, 1, repeats, 1, 1)[:, :, :in_chans] * (COLORS / in_chans)
    return adapted.flatten(1, 2).to(filters.dtype)


def fit_channels(key: str, filters: Tensor, wanted: Tensor, in_chans: int) -> Tensor:
    """Return ``filters`` for the channels of ``wanted``, the module's own, or unchanged where `adapt_channels` cannot.

    Args:
        key: name of the filters, for the log.
        filters: filters of a checkpoint.
        wanted: filters of the module, of any size; those of 1x1 pixels read a map, not an image, and stay.
        in_chans: channels of the module's image.
    """
    if filters.dim() != 4 or filters.shape[1] == wanted.shape[1] or wanted.shape[-1] == 1:
        return filters
    steps, rest = divmod(filters.shape[1], COLORS)
    if rest or wanted.shape[1] != steps * in_chans:
        return filters
    logger.info("%s: filters for %d channels adapted to %d", key, filters.shape[1], wanted.shape[1])
    return adapt_channels(filters, in_chans)


def accept_color_images(module: nn.Module, names: Sequence[str], in_chans: int) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) adapt filters for color images to ``in_chans``.

    Call it after `accept_layouts` and before `refuse_other_shapes`.

    Args:
        module: module to extend.
        names: names of its parameters that read the image.
        in_chans: channels of the image.
    """
    if in_chans != COLORS:
        module._register_load_state_dict_pre_hook(_ChannelsHook(names, in_chans), with_module=True)


@dataclass
class _ChannelsHook(LoadHook):
    names: Sequence[str]
    in_chans: int

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        own = module.state_dict()
        for key in self.names:
            if key in given and key in own:
                given[key] = fit_channels(key, given[key], own[key], self.in_chans)
        return given
