"""Read images of any number of channels in mmdet's pipelines, and normalize them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from mmdet.models.data_preprocessors import DetDataPreprocessor as _DetDataPreprocessor

from ...checks import numbers
from ...data import PixelReader
from ...registry import MODELS, TRANSFORMS

# transforms of mmdet and mmcv that know three channels alone: arithmetic of colors, or a canvas of three
COLORS_ONLY = (
    *("PhotoMetricDistortion", "YOLOXHSVRandomAug", "PhotometricDistortion", "RandAugment", "AutoAugment"),
    *("AutoContrast", "Brightness", "Color", "ColorTransform", "Contrast", "Equalize", "Invert", "Posterize"),
    *("Sharpness", "Solarize", "SolarizeAdd", "Corrupt", "Mosaic", "MixUp", "CachedMosaic", "CachedMixUp"),
    *("CopyPaste", "InstaBoost", "Albu", "RandomGrayscale", "Normalize", "Expand", "CutOut", "RandomCenterCropPad"),
    *("ShearX", "ShearY", "TranslateX", "TranslateY"),
)
# transforms that OpenCV computes, on four channels at most
FOUR_AT_MOST = ("Pad", "RandomAffine", "Rotate")


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image with `fpn_plugins.data.PixelReader`, in the place of ``LoadImageFromFile``.

    ::

        dict(type="fpn_plugins.LoadImage", in_chans=4, max_value=4095)

    The image is single precision, with the channels in the order of the file; color images are RGB, so that the data
    preprocessor has ``bgr_to_rgb=False``. Images of other numbers of channels than 1 and 3 need
    `fpn_plugins.DetDataPreprocessor`.

    Args:
        in_chans: see `fpn_plugins.data.PixelReader`, like the other arguments and the errors.
        max_value: value that becomes 255.
        bands: channels of the file to read.
        channels_first: whether ``.npy`` files hold ``C H W``.
    """

    def __init__(
        self,
        in_chans: int = 3,
        max_value: float | None = None,
        bands: Sequence[int] | None = None,
        channels_first: bool = False,
    ) -> None:
        self.reader = PixelReader(in_chans, max_value, bands, channels_first)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, ``img_shape`` and ``ori_shape`` to a sample with ``img_path``."""
        image = self.reader(results["img_path"])
        return {**results, "img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}

    def __repr__(self) -> str:
        """Describe the reader."""
        return f"{type(self).__name__}({self.reader})"


@MODELS.register_module()
class DetDataPreprocessor(_DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor`` with ``mean`` and ``std`` for any number of channels; mmdet's takes 1 or 3.

    Args:
        mean: mean of each channel, in the order of the file.
        std: standard deviation of each channel.
        **arguments: of mmdet's class, with the same meaning.

    Raises:
        TypeError: ``mean`` or ``std`` is not a sequence of numbers.
        ValueError: of different lengths, a standard deviation that is not positive, or channels to reverse that are not
            three.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        if mean is None and std is None:
            return
        means, stds = numbers("mean", mean), numbers("std", std)
        if not means or len(means) != len(stds) or min(stds) <= 0:
            raise ValueError(f"mean={list(means)}, std={list(stds)} must be as many, one per channel, std above 0")
        reversed_by = [name for name in ("bgr_to_rgb", "rgb_to_bgr") if arguments.get(name)]
        if reversed_by and len(means) != 3:
            raise ValueError(f"{reversed_by[0]}=True reverses three channels, mean has {len(means)}; set it to False")
        self._enable_normalize = True
        for name, values in (("mean", means), ("std", stds)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), False)


def reader_of(pipeline: Sequence[Any]) -> PixelReader | None:
    """Return the reader of a pipeline that begins with `LoadImage`; ``None`` for any other."""
    for step in pipeline:
        if isinstance(step, Mapping) and _name(step) == "LoadImage":
            return PixelReader.of(step)
    return None


def check_pipeline(pipeline: Sequence[Any], place: str) -> None:
    """Raise ``ValueError`` if `LoadImage` gives channels that a later transform of a pipeline cannot take.

    Args:
        pipeline: configs of transforms.
        place: name of the pipeline, for the message.
    """
    reader = reader_of(pipeline)
    if reader is None or reader.in_chans == 3:
        return
    for name in _names(pipeline):
        limit = "three" if name in COLORS_ONLY else "four" if name in FOUR_AT_MOST and reader.in_chans > 4 else ""
        if limit:
            raise ValueError(
                f"{place}: the transform {name!r} takes {limit} channels {'' if limit == 'three' else 'at most '}"
                f"and LoadImage gives {reader.in_chans}; remove it, or replace it by flips, crops and resizing"
            )


def _name(step: Mapping[str, Any]) -> str:
    kind = step.get("type")
    return kind.split(".")[-1] if isinstance(kind, str) else getattr(kind, "__name__", "")


def _names(steps: Any) -> Iterator[str]:
    """Name the transforms of a pipeline, and those inside RandomChoice and the like."""
    if isinstance(steps, Mapping):
        yield _name(steps)
        yield from _names(steps.get("transforms") or ())
    elif isinstance(steps, (list, tuple)):
        for step in steps:
            yield from _names(step)
