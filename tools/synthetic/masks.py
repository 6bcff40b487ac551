"""Convert masks to COCO's formats: polygons to pixels, pixels to polygons and run lengths, boxes and areas."""

from typing import Any

import numpy as np

# px by which traced polygons stay inside their pixels: edges on the grid would make rounding errors decide about pixels
# of resized masks, and the toolboxes round differently
_INSET = 0.01


def rasterize(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rasterize a polygon exactly as COCO's own tools do.

    Args:
        outline: vertices x, y in px. Shape N x 2. May leave the image.
        height: of the image in px.
        width: of the image in px.

    Returns:
        Boolean mask. Shape H x W.
    """
    from pycocotools import mask as mask_api

    return mask_api.decode(mask_api.frPyObjects([outline.ravel().tolist()], height, width)[0]).astype(bool)


def _boundary_edges(mask: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Map each corner of the boundary to the directions that leave it; the mask lies to the right of a direction."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # neighbor that has to be outside, first corner of the pixel's edge, direction along the edge; y points down
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbor, (dx, dy), direction in sides:
        for y, x in np.argwhere(inside & ~neighbor).tolist():
            edges.setdefault((x + dx, y + dy), []).append(direction)
    return edges


def _trace(mask: np.ndarray) -> list[np.ndarray]:
    """Trace the boundaries along pixel edges: clockwise around the mask, counterclockwise around its holes."""
    edges = _boundary_edges(mask)
    outlines = []
    while edges:
        (x, y), directions = next(iter(edges.items()))
        dx, dy = directions[0]
        steps = []
        while directions := edges.pop((x, y), []):
            right = (-dy, dx)  # where two pixels touch at a corner, stay at the same pixel
            dx, dy = right if right in directions else directions[0]
            if rest := [other for other in directions if other != (dx, dy)]:
                edges[x, y] = rest
            steps.append((x, y, dx, dy))
            x, y = x + dx, y + dy
        outlines.append(_corners(np.array(steps)))
    return outlines


def _corners(steps: np.ndarray) -> np.ndarray:
    """Corners N x 2 of a boundary of unit steps (x, y, dx, dy), moved into the mask by `_INSET`."""
    point, after = steps[:, :2], steps[:, 2:]
    before = np.roll(after, 1, axis=0)
    inward = (before + after)[:, ::-1] * [-1, 1]  # both directions turned right
    return np.round(point + _INSET * inward, 2)[(before != after).any(axis=1)]


def trace_polygons(mask: np.ndarray) -> list[list[float]]:
    """Convert a mask to polygons along pixel edges, which cover exactly its pixels in COCO's tools and both toolboxes.

    COCO's polygons cannot have holes: a mask with a hole is cut in two at a column through the hole.

    Args:
        mask: boolean, shape H x W.

    Returns:
        Polygons ``[x0, y0, x1, y1, ...]`` in px.
    """
    outlines = _trace(mask)
    for outline in outlines:
        x, y = outline.T
        if np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1)):  # a hole, by its orientation
            middle = round(x.min() + x.max()) // 2
            left, right = mask.copy(), mask.copy()
            left[:, middle:], right[:, :middle] = False, False
            return trace_polygons(left) + trace_polygons(right)
    return [outline.ravel().tolist() for outline in outlines]


def encode_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """Encode a mask as uncompressed run lengths in COCO's column-major order; the first run is background.

    Args:
        mask: boolean, shape H x W.

    Returns:
        `{"counts": [...], "size": [height, width]}`.
    """
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], starts, [flat.size]])).tolist()
    return {"counts": [0, *runs] if flat[0] else runs, "size": list(mask.shape)}


def extent(mask: np.ndarray) -> dict[str, Any]:
    """Compute COCO's `bbox` (x, y, width, height) and `area` of a mask, in px.

    Args:
        mask: boolean, shape H x W, not empty.
    """
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(xs[0]), int(ys[0])
    return {"bbox": [x, y, int(xs[-1]) + 1 - x, int(ys[-1]) + 1 - y], "area": int(mask.sum())}
