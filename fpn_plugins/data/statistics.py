"""How large the objects of a data set are, and which pyramid level each one falls to.

A level that almost no object reaches is paid for but not trained; the shares below tell before the first epoch.
Levels are assigned by

    FPN        k = floor(4 + log2(sqrt(w h) / 224)), clipped to p2..p5   (Lin et al., arXiv:1612.03144, equation 1)
    RetinaNet  nearest base anchor, 32 on p3 ... 512 on p7, in log2      (Lin et al., arXiv:1708.02002, section 4)
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from .coco_check import check_content
from .coco_folder import category_names, read_coco
from .coco_report import SIZE_CLASSES, size_class

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_FPN_LEVELS = (2, 5)
_RETINANET_LEVELS = (3, 7)


def fpn_level(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Pyramid level of a box by equation 1 of the FPN paper.

    Args:
        width: of the boxes in input pixels, above 0. Shape N.
        height: of the boxes in input pixels, above 0. Shape N.

    Returns:
        Level 2..5 of each box. Shape N.
    """
    # log2(w h) / 2 instead of log2(sqrt(w h)): exact at the borders between levels, where w h is a power of two.
    level = np.floor(4 + np.log2(np.asarray(width, float) * np.asarray(height, float) / 224**2) / 2)
    return np.clip(level, *_FPN_LEVELS).astype(int)


def retinanet_level(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Pyramid level whose base anchor (32 px on p3, doubled on each level) is nearest to a box in log2 of sqrt(w h).

    Args:
        width: of the boxes in input pixels, above 0. Shape N.
        height: of the boxes in input pixels, above 0. Shape N.

    Returns:
        Level 3..7 of each box. Shape N.
    """
    octave = np.log2(np.asarray(width, float) * np.asarray(height, float) / 32**2) / 2
    return np.clip(np.floor(octave + 0.5) + 3, *_RETINANET_LEVELS).astype(int)


def _level_share(levels: np.ndarray, first: int, last: int) -> dict[str, float]:
    return {f"p{level}": float(np.mean(levels == level)) if levels.size else 0.0 for level in range(first, last + 1)}


def _class_counts(areas: list[float]) -> dict[str, int]:
    counts = Counter(map(size_class, areas))
    return {name: counts[name] for name in SIZE_CLASSES}


def _resize_factor(image: dict[str, Any], resize: tuple[int, int] | None) -> float:
    if resize is None:
        return 1.0
    short, long = sorted((image["width"], image["height"]))
    return min(resize[0] / short, resize[1] / long)


def _check_bins(bins: Any) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int):
        raise TypeError(f"bins={bins!r} is a {type(bins).__name__}; expected an integer >= 1")
    if bins < 1:
        raise ValueError(f"bins={bins} is too small; expected an integer >= 1")


def _check_resize(resize: Any) -> None:
    is_pair = isinstance(resize, (tuple, list)) and len(resize) == 2
    if resize is not None and not (is_pair and 0 < resize[0] <= resize[1]):
        raise ValueError(f"resize={resize!r} is not (shorter side, longest side) in px; expected e.g. (800, 1333)")


def _category_statistics(content: dict[str, Any], objects: list[dict[str, Any]]) -> dict[str, Any]:
    areas: dict[int, list[float]] = {number: [] for number in sorted(c["id"] for c in content["categories"])}
    for annotation in objects:
        areas[annotation["category_id"]].append(annotation["area"])
    return {
        name: {
            "objects": len(values),
            **_class_counts(values),
            "median_sqrt_area": float(np.median(np.sqrt(values))) if values else None,
        }
        for name, values in zip(category_names(content), areas.values(), strict=True)
    }


def _histogram(sides: np.ndarray, bins: int) -> dict[str, list[float]]:
    if not sides.size:
        return {"edges": [], "counts": []}
    # Margins of 1 % keep the smallest and the largest object off the outer edges.
    edges = np.geomspace(0.99 * sides.min(), 1.01 * sides.max(), bins + 1)
    return {"edges": edges.tolist(), "counts": np.histogram(sides, edges)[0].tolist()}


def _resized_boxes(
    content: dict[str, Any], objects: list[dict[str, Any]], resize: tuple[int, int] | None
) -> np.ndarray:
    """Widths and heights in px after resizing. Shape 2 x N."""
    factors = {image["id"]: _resize_factor(image, resize) for image in content["images"]}
    sizes = [[side * factors[a["image_id"]] for side in a["bbox"][2:]] for a in objects]
    return np.array(sizes, dtype=float).reshape(-1, 2).T


def _read_objects(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Content of a checked annotation file, and its annotations without crowd regions and boxes of zero size."""
    content = read_coco(path)
    check_content(path, content)
    return content, [a for a in content["annotations"] if not a.get("iscrowd") and min(*a["bbox"][2:], a["area"]) > 0]


def object_sizes(ann_file: str | os.PathLike[str], resize: tuple[int, int] | None = None) -> np.ndarray:
    """Widths and heights of the objects' boxes in px; the objects are those of `size_statistics`.

    Args:
        ann_file: COCO annotation file.
        resize: as for `size_statistics`.

    Returns:
        Shape 2 x N.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has a problem that `check_coco` reports, or `resize` is out of range.
    """
    _check_resize(resize)
    return _resized_boxes(*_read_objects(Path(ann_file)), resize)


def size_statistics(
    ann_file: str | os.PathLike[str], bins: int = 24, resize: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Sizes of the objects of an annotation file; crowd regions and boxes of zero size are left out.

    Args:
        ann_file: COCO annotation file.
        bins: number of histogram bins, equally wide in log(sqrt(area)).
        resize: shorter side and limit of the longer side in px to which images are resized before the network, as
            (800, 1333) in both toolboxes; it moves the pyramid levels only. None = images as they are.

    Returns:
        Content for a JSON file: `ann_file`, `resize`, `objects`, `size_classes` (counts), `sqrt_area_percentiles`
        (px; empty without objects), `histogram` (`edges` in px, `counts`), `per_category`, and `fpn_level_share`,
        `retinanet_level_share` (share of objects per level, 0..1).

    Raises:
        TypeError: if `bins` is not an integer.
        FileNotFoundError: if there is no such file.
        ValueError: if the file has a problem that `check_coco` reports, or an argument is out of range.
    """
    _check_bins(bins)
    _check_resize(resize)
    content, objects = _read_objects(Path(ann_file))
    areas = [annotation["area"] for annotation in objects]
    boxes = _resized_boxes(content, objects, resize)
    return {
        "ann_file": Path(ann_file).name,
        "resize": list(resize) if resize else None,
        "objects": len(objects),
        "size_classes": _class_counts(areas),
        "sqrt_area_percentiles": {str(p): float(np.percentile(np.sqrt(areas), p)) for p in _PERCENTILES if areas},
        "histogram": _histogram(np.sqrt(areas), bins),
        "per_category": _category_statistics(content, objects),
        "fpn_level_share": _level_share(fpn_level(*boxes), *_FPN_LEVELS),
        "retinanet_level_share": _level_share(retinanet_level(*boxes), *_RETINANET_LEVELS),
    }


def plot_size_statistics(stats: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Draw the histogram of sizes beside the shares of the pyramid levels.

    Args:
        stats: as returned by `size_statistics`.
        path: picture to write, `.png`.

    Returns:
        `path`.

    Raises:
        ValueError: if `stats` holds no object, or `path` has another suffix.
        FileNotFoundError: if the folder of `path` does not exist.
    """
    # The figure is made without pyplot, so no display is needed and the caller's figures stay as they are.
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}; expected '.png'")
    if not stats["objects"]:
        raise ValueError(f"stats of {stats['ann_file']} hold no object; nothing to draw")
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    histogram, levels = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_histogram(histogram, stats)
    _draw_levels(levels, stats)
    figure.suptitle(f"{stats['ann_file']}: {stats['objects']} objects")
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _draw_histogram(axes: Any, stats: dict[str, Any]) -> None:
    edges, counts = np.array(stats["histogram"]["edges"]), stats["histogram"]["counts"]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color="#4477aa", edgecolor="white", linewidth=0.5)
    axes.set_xscale("log", base=2)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="sqrt(area) in px", ylabel="objects")
    # Head room for the names of the size classes.
    axes.set_ylim(0, 1.15 * max(counts))
    limits = [edges[0], *(area**0.5 for area in SIZE_CLASSES.values())]
    for (name, count), low, high in zip(stats["size_classes"].items(), limits, limits[1:], strict=False):
        left, right = max(low, edges[0]), min(high, edges[-1])
        if left >= right:
            continue
        if left > edges[0]:
            axes.axvline(left, color="0.5", linestyle=":")
        axes.text((left * right) ** 0.5, 1.07 * max(counts), f"{name}\n{count}", ha="center", va="center", fontsize=8)


def _draw_levels(axes: Any, stats: dict[str, Any]) -> None:
    names = [f"p{level}" for level in range(_FPN_LEVELS[0], _RETINANET_LEVELS[1] + 1)]
    for offset, key, label, color in (
        (-0.2, "fpn_level_share", "FPN (p2-p5)", "#4477aa"),
        (0.2, "retinanet_level_share", "RetinaNet (p3-p7)", "#ee8866"),
    ):
        shares = [100 * stats[key].get(name, 0.0) for name in names]
        axes.bar(np.arange(len(names)) + offset, shares, 0.4, label=label, color=color)
    axes.set_xticks(range(len(names)), names)
    size = "x".join(map(str, stats["resize"])) if stats["resize"] else "original size"
    axes.set(xlabel=f"pyramid level ({size})", ylabel="share of objects in %")
    axes.legend(frameon=False, fontsize=8)
