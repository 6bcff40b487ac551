"""Read images of any number of channels in Detectron2's data loaders."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from ...data import PixelReader


class PixelMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper`` with `fpn_plugins.data.PixelReader` as its reader of images.

    In a LazyConfig::

        dataloader.train.mapper.update(_target_=PixelMapper, in_chans=4, max_value=4095, image_format="RGB")

    in YAML ``INPUT.FPN_PLUGINS.ENABLED: true`` with ``MAX_VALUE``, ``BANDS`` and ``CHANNELS_FIRST``, for
    ``fpn-plugins train-d2`` and for scripts that pass ``mapper=PixelMapper(cfg, is_train)`` to Detectron2's loaders;
    ``MODEL.PIXEL_MEAN`` has an entry for each channel. Channels have the order of the file; color images are RGB.

    Args:
        is_train: see Detectron2's class, like ``**arguments``.
        in_chans: see `fpn_plugins.data.PixelReader`, like the next three.
        max_value: value that becomes 255.
        bands: channels of the file to read.
        channels_first: whether ``.npy`` files hold ``C H W``.
        image_format: ``"RGB"``, which says that nothing is reversed.
        **arguments: of Detectron2's class, such as ``augmentations``.

    Raises:
        ValueError: another ``image_format``, precomputed proposals, or see `fpn_plugins.data.PixelReader`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        in_chans: int = 3,
        max_value: float | None = None,
        bands: Sequence[int] | None = None,
        channels_first: bool = False,
        image_format: str = "RGB",
        **arguments: Any,
    ) -> None:
        if image_format != "RGB":
            raise ValueError(f"image_format={image_format!r} must be 'RGB': channels keep the order of the file")
        if arguments.get("precomputed_proposal_topk") is not None:
            raise ValueError("precomputed proposals are not read by PixelMapper; use Detectron2's DatasetMapper")
        super().__init__(is_train, image_format=image_format, **arguments)
        self.reader = PixelReader(in_chans, max_value, bands, channels_first)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read the arguments from a YAML config."""
        arguments: dict[str, Any] = super().from_config(cfg, is_train)
        return {**arguments, **reader_arguments(cfg)}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a dict of Detectron2's data sets to a sample with ``image``, ``C H W``, single precision.

        Raises:
            ValueError: an image that cannot be read, or an augmentation that does not take its channels; names it.
        """
        sample = copy.deepcopy(dataset_dict)
        image = self.reader(sample["file_name"])
        detection_utils.check_image_size(sample, image)
        labels = None
        if "sem_seg_file_name" in sample:
            labels = detection_utils.read_image(sample.pop("sem_seg_file_name"), "L").squeeze(2)
        given = T.AugInput(image, sem_seg=labels)
        transforms = self._augment(given)
        sample["image"] = torch.as_tensor(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
        if given.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(given.sem_seg.astype("long"))
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, given.image.shape[:2])
        return sample

    def _augment(self, given: T.AugInput) -> T.TransformList:
        done = []
        for augmentation in self.augmentations.augs:
            try:
                done.append(augmentation(given))
            except Exception as error:
                if self.reader.in_chans == 3:
                    raise
                raise ValueError(
                    f"the augmentation {augmentation} does not take images of {self.reader.in_chans} channels "
                    f"({type(error).__name__}: {error}); remove it, or replace it by flips, crops and resizing"
                ) from error
        return T.TransformList(done)


def reader_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Read the arguments of `PixelReader` from ``INPUT.FPN_PLUGINS`` and the length of ``MODEL.PIXEL_MEAN``."""
    node = cfg.INPUT.FPN_PLUGINS
    return {
        "in_chans": len(cfg.MODEL.PIXEL_MEAN),
        "max_value": node.MAX_VALUE,
        "bands": list(node.BANDS) or None,
        "channels_first": node.CHANNELS_FIRST,
    }


def yaml_reader(cfg: CfgNode) -> PixelReader | None:
    """Return the reader that ``INPUT.FPN_PLUGINS`` asks for; ``None`` for Detectron2's own."""
    node = cfg.INPUT.get("FPN_PLUGINS")
    return PixelReader(**reader_arguments(cfg)) if node is not None and node.ENABLED else None


def lazy_reader(mapper: Any) -> PixelReader | None:
    """Return the reader of the config of a `PixelMapper`, also inside another mapper; ``None`` for any other."""
    while isinstance(mapper, Mapping):
        if str(mapper.get("_target_")).rpartition(".")[2].rstrip("'>") == PixelMapper.__name__:
            bands = mapper.get("bands")
            return PixelReader.of({**mapper, "bands": None if bands is None else tuple(bands)})
        mapper = mapper.get("mapper")
    return None


def mapper_of(cfg: CfgNode, is_train: bool) -> PixelMapper | None:
    """Return the mapper that ``INPUT.FPN_PLUGINS`` asks for; ``None`` for Detectron2's own."""
    return PixelMapper(cfg, is_train) if yaml_reader(cfg) else None
