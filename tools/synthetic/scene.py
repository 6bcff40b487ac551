"""Place the objects of a synthetic image, annotate their visible pixels, and paint them.

Objects are placed from back to front. A placement is accepted only if the object and every object behind it keep at
least 12 visible pixels and a quarter of their area, so that the visible objects are exactly the annotated ones.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .masks import encode_rle, extent, rasterize, trace_polygons
from .shapes import CATEGORIES, paint_background, paint_object, unit_outline
from .stuff import paint_stuff

MIN_SIDE = 8.0
MIN_VISIBLE_PIXELS = 12
MIN_VISIBLE_SHARE = 0.25

_EMPTY_SHARE = 0.03
_CROWD_SHARE = 0.05
_PORTRAIT_SHARE = 0.2
_MAX_OBJECTS = 10
_PLACEMENT_TRIALS = 20
# share of its extent by which an object may extend beyond the image
_OVERHANG = 0.15


@dataclass(frozen=True)
class SceneObject:
    """One placed object.

    Attributes:
        category: one of `CATEGORIES`.
        center: x, y in px.
        axes: columns are the object's u and v unit vectors in px, shape 2 x 2.
        outline: polygon x, y in px with two decimals, shape N x 2.
        mask: pycocotools' rasterization of `outline`, including hidden pixels; boolean, shape H x W.
        is_crowd: whether the object belongs to the image's crowd region.
    """

    category: str
    center: np.ndarray
    axes: np.ndarray
    outline: np.ndarray
    mask: np.ndarray
    is_crowd: bool = False


@dataclass
class Scene:
    """Objects of one image from back to front, and the index of the visible object in each pixel.

    Attributes:
        height: height in px.
        width: width in px.
        objects: objects from back to front.
        stuff: index into `STUFF` of the background's region, shape H x W; None without stuff.
        owner: index into `objects`, -1 for the background, shape H x W.
    """

    height: int
    width: int
    objects: list[SceneObject] = field(default_factory=list)
    stuff: np.ndarray | None = None
    owner: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Start with background only."""
        self.owner = np.full((self.height, self.width), -1, dtype=np.int32)

    def place(self, candidate: SceneObject) -> bool:
        """Put an object in front of the others, unless too little of it or of another object would be visible.

        Args:
            candidate: object to place.

        Returns:
            Whether the object was placed.
        """
        if not _is_visible(int(candidate.mask.sum()), candidate):
            return False
        # members of a crowd may hide each other, because one region annotates all of them
        if not candidate.is_crowd and not self._stay_visible(candidate.mask):
            return False
        self.owner[candidate.mask] = len(self.objects)
        self.objects.append(candidate)
        return True

    def _stay_visible(self, hidden: np.ndarray) -> bool:
        """Whether each object, and the crowd as a whole, remains visible if `hidden` (H x W) is covered."""
        remaining = np.bincount(self.owner[~hidden] + 1, minlength=len(self.objects) + 1)[1:]
        if not all(o.is_crowd or _is_visible(n, o) for n, o in zip(remaining.tolist(), self.objects, strict=True)):
            return False
        members = [index for index, o in enumerate(self.objects) if o.is_crowd]
        region = sum((self.objects[index].mask for index in members), start=np.zeros_like(hidden))
        return bool(remaining[members].sum() >= MIN_VISIBLE_SHARE * region.sum())


def _is_visible(pixels: int, scene_object: SceneObject) -> bool:
    side_squared = abs(np.linalg.det(scene_object.axes))
    return pixels >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * side_squared)


def _draw_object(
    rng: np.random.Generator, scene: Scene, category: str, side: float, center: np.ndarray | None = None
) -> SceneObject:
    """Draw aspect ratio, rotation and, unless given, position of an object."""
    # a box may be twice as long as wide; other shapes are recognizable only under a milder stretch
    stretch = np.exp(rng.uniform(0, np.log(2.0 if category == "box" else 1.4)) / 2)
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axes = rotation * (side * np.array([stretch, 1 / stretch]))
    corners = unit_outline(category) @ axes.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    if center is None:
        slack = _OVERHANG * (high - low)
        first = -low - slack
        last = np.array([scene.width, scene.height]) - high + slack
        center = rng.uniform(np.minimum(first, last), np.maximum(first, last))
    outline = np.round(corners + center, 2)
    return SceneObject(category, center, axes, outline, rasterize(outline, scene.height, scene.width))


def _add_crowd(rng: np.random.Generator, scene: Scene) -> None:
    """Place 15 to 40 objects of one category, 6 to 12 px each, behind all other objects."""
    category = CATEGORIES[rng.integers(len(CATEGORIES))]
    size = np.array([scene.width, scene.height])
    middle = rng.uniform(0.25 * size, 0.75 * size)
    for _ in range(int(rng.integers(15, 41))):
        center = middle + rng.normal(0, 0.08 * size.max(), size=2)
        member = _draw_object(rng, scene, category, rng.uniform(6, 12), center)
        scene.place(SceneObject(category, center, member.axes, member.outline, member.mask, is_crowd=True))


def draw_scene(rng: np.random.Generator, image_size: tuple[int, int]) -> Scene:
    """Draw the layout of one image.

    Sides (square roots of the areas) are log-uniform from `MIN_SIDE` to half of the image's longer side, at most three
    quarters of the shorter one, so that each octave of size has about as many objects. An object that cannot be placed
    in 20 trials is left out, which happens mostly to large ones.

    Args:
        rng: source of all random numbers.
        image_size: width, height in px; one image in five swaps them.

    Returns:
        A scene that is empty, or has 1 to 10 objects and occasionally a crowd region.
    """
    width, height = image_size[::-1] if rng.random() < _PORTRAIT_SHARE else image_size
    scene = Scene(height, width)
    kind = rng.random()
    if kind < _EMPTY_SHARE:
        return scene
    if kind < _EMPTY_SHARE + _CROWD_SHARE:
        _add_crowd(rng, scene)
    count = int(rng.integers(1, _MAX_OBJECTS + 1))
    largest = min(max(image_size) / 2, 0.75 * min(image_size))
    sides = np.exp(rng.uniform(np.log(MIN_SIDE), np.log(largest), size=count))
    # mostly large to small: in the opposite order, large objects would often hide others
    for side in sides[np.argsort(-sides * np.exp(rng.normal(0, 0.5, size=count)))]:
        category = CATEGORIES[rng.integers(len(CATEGORIES))]
        any(scene.place(_draw_object(rng, scene, category, side)) for _ in range(_PLACEMENT_TRIALS))
    return scene


def _annotation(mask: np.ndarray, category: str, segmentation: Any, is_crowd: bool) -> dict[str, Any]:
    return {
        "category_id": CATEGORIES.index(category) + 1,
        **extent(mask),
        "segmentation": segmentation,
        "iscrowd": int(is_crowd),
    }


def annotate(scene: Scene) -> list[dict[str, Any]]:
    """Write COCO annotations of the visible pixels, without `id` and `image_id`.

    Objects have polygons, which Detectron2 expects by default: a completely visible object its outline, an object that
    is partly hidden or cut by the border the contours of its visible pixels. Crowd regions are RLE, as in COCO.

    Args:
        scene: result of `draw_scene`.

    Returns:
        One annotation per object, back to front, and one with `iscrowd = 1` for all members of a crowd region.
    """
    annotations = []
    members = [i for i, o in enumerate(scene.objects) if o.is_crowd]
    if members:
        mask = np.isin(scene.owner, members)
        annotations.append(_annotation(mask, scene.objects[members[0]].category, encode_rle(mask), True))
    for index, scene_object in enumerate(scene.objects):
        if scene_object.is_crowd:
            continue
        mask, outline = scene.owner == index, scene_object.outline
        inside = (outline >= 0).all() and (outline <= [scene.width, scene.height]).all()
        is_whole = inside and np.array_equal(mask, scene_object.mask)
        segmentation = [outline.ravel().tolist()] if is_whole else trace_polygons(mask)
        annotations.append(_annotation(mask, scene_object.category, segmentation, False))
    return annotations


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint a scene.

    Args:
        scene: result of `draw_scene`.
        rng: source of textures, colors and noise.

    Returns:
        RGB image; uint8, shape H x W x 3.
    """
    canvas = paint_background(scene.height, scene.width, rng)
    if scene.stuff is not None:
        paint_stuff(canvas, scene.stuff)
    for scene_object in scene.objects:
        paint_object(canvas, scene_object.mask, scene_object.category, scene_object.center, scene_object.axes, rng)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(2, 6))
    return np.clip(canvas, 0, 255).astype(np.uint8)
