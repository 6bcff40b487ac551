"""Convert masks to COCO's formats: polygons to pixels, pixels to run lengths, boxes and areas."""

from typing import Any

import numpy as np


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
