"""Which pixels a backbone's weights expect, as both toolboxes' configs state it."""

from __future__ import annotations

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class StatesPixels:
    """A backbone that says how images have to be normalised for its weights.

    Attributes:
        mean: of the pixels that the weights were trained on, on the 0..1 scale, RGB; ImageNet's unless set.
        std: standard deviation of these pixels.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def pixel_mean(self) -> list[float]:
        """``mean`` on the 0..255 scale, as both toolboxes state it."""
        return [round(255 * value, 3) for value in self.mean]

    @property
    def pixel_std(self) -> list[float]:
        """``std`` on the 0..255 scale."""
        return [round(255 * value, 3) for value in self.std]
