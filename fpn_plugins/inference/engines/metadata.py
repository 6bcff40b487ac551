"""Describe an exported detector in its file: input, classes, outputs, origin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import one_of
from ..panoptic import PanopticRule
from ..resizing import ResizeRule
from .typed_json import typed

# key of the description in a file
KEY = "fpn_plugins"
# key of the digest of the weights in an OpenVINO graph, which has them in another file
WEIGHTS_KEY = "fpn_plugins_weights"
FORMAT = 1
DTYPES = ("float32", "uint8")
MASKS = ("probabilities", "pasted")
TOOLBOXES = ("", "mmdet", "detectron2")


@dataclass(frozen=True)
class StoredReader:
    """Arguments of `fpn_plugins.data.PixelReader`, by which the images of an exported detector are read."""

    in_chans: int
    max_value: float | None = None
    bands: tuple[int, ...] | None = None
    channels_first: bool = False


@dataclass(frozen=True)
class InputFormat:
    """Pixels that an exported detector takes.

    Attributes:
        dtype: ``"float32"`` or ``"uint8"``.
        normalized: ``False`` if the graph takes RGB from 0 to 255 and normalizes them itself; ``True`` if it takes
            ``(pixels - mean) / std`` in the channel order ``order``.
        mean: mean of each channel, in the order ``order``.
        std: standard deviation of each channel.
        order: ``"RGB"`` or ``"BGR"``.
        resize: rule by which images are resized.
        inside: whether the graph resizes; otherwise, it takes resized images.
        reader: reader of image files, whose channels the graph takes in their order; ``None`` for 8-bit colors.
    """

    dtype: str = "float32"
    normalized: bool = False
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    order: str = "RGB"
    resize: ResizeRule = field(default_factory=ResizeRule)
    inside: bool = False
    reader: StoredReader | None = None

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, DTYPES)
        one_of("order", self.order, ("RGB", "BGR"))
        if self.normalized and self.dtype == "uint8":
            raise ValueError('dtype="uint8" holds no normalized pixels; choose dtype="float32", or normalized=False')
        number, word = (3, "three") if self.reader is None else (self.reader.in_chans,) * 2
        if len(self.mean) != number or len(self.std) != number or not all(self.std):
            raise ValueError(f"mean={self.mean}, std={self.std} must be {word} numbers each, std other than 0")
        if self.reader is not None and (self.dtype == "uint8" or self.inside):
            raise ValueError(
                "the detector reads images of its own channels, not 8-bit colors: export it with float32 pixels and "
                "without resizing in the graph"
            )


@dataclass(frozen=True)
class Metadata:
    """Description of an exported detector, stored in its file as JSON under `KEY`.

    Attributes:
        classes: class names.
        category_ids: the data set's id of each class; ``None`` if they are unknown.
        input: pixels that the graph takes.
        config: name of the config.
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        detector: kind of detector, such as ``"RetinaNet"``.
        masks: ``None``, ``"probabilities"`` (``N h w`` inside each box), or ``"pasted"`` (``N H W`` on the image).
        mask_threshold: probability from which on a pixel belongs to an object.
        panoptic: rule by which things and stuff are merged; ``None`` if the detector has no semantic head.
        score_threshold: lowest score that the graph returns.
        max_detections: largest number of detections per image.
        iou_threshold: IoU above which the lower-scored of two boxes of a class is dropped where views are merged.
        int8: whether the network computes with 8-bit integers.
        version: version of this package that wrote the file.
        format: version of this description.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int | str, ...] | None = None
    input: InputFormat = field(default_factory=InputFormat)
    config: str = ""
    toolbox: str = ""
    detector: str = ""
    masks: str | None = None
    mask_threshold: float = 0.5
    panoptic: PanopticRule | None = None
    score_threshold: float = 0.0
    max_detections: int = 100
    iou_threshold: float = 0.5
    int8: bool = False
    version: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.masks is not None:
            one_of("masks", self.masks, MASKS)
        one_of("toolbox", self.toolbox, TOOLBOXES)
        if self.category_ids is not None and len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError(f"category_ids={self.category_ids} holds an id more than once; give one per class")
        if self.category_ids is not None and len(self.category_ids) != len(self.classes):
            raise ValueError(
                f"category_ids has {len(self.category_ids)} ids, classes {len(self.classes)} names; give one per class"
            )

    @property
    def names(self) -> dict[int, str]:
        """Category id -> class name, in the order of the class indices; classes without ids are numbered from 0."""
        ids: Any = self.category_ids if self.category_ids is not None else range(len(self.classes))
        return dict(zip(ids, self.classes, strict=True))

    def to_json(self) -> str:
        """Return the description as one JSON object; the resizing rule of ``input`` has the key ``inside``."""
        content = asdict(self)
        content["input"]["resize"]["inside"] = content["input"].pop("inside")
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str | bytes | None, source: str) -> Metadata:
        """Read a description; ``source`` names the file for messages.

        Raises:
            ValueError: no description, one of a later version, or one that is damaged.
        """
        if not text:
            raise ValueError(f"{source!r} has no description {KEY!r}, so it was not written by `fpn-plugins export`")
        try:
            content = json.loads(text)
            if content.get("format") != FORMAT:
                raise ValueError(f"its format is {content.get('format')!r}, this version reads {FORMAT}")
            found = dict(content["input"])
            resize = dict(found.pop("resize"))
            found["inside"] = resize.pop("inside")
            built: Metadata = typed(cls, {**content, "input": {**found, "resize": resize}}, "description")
            return built
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{source!r}: the description {KEY!r} cannot be read: {error}; export the detector again"
            ) from error
