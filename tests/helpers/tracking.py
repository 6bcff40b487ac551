"""Read back what TensorBoard and MLflow were given."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    return reader


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> step and value of each scalar in a folder's event files."""
    reader = _events(folder)
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def images_of(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """Tag -> step -> picture of a folder's event files."""
    from PIL import Image

    reader = _events(folder)
    return {
        tag: {
            event.step: np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
            for event in reader.Images(tag)
        }
        for tag in reader.Tags()["images"]
    }


def logged_by_mlflow(store: Path) -> tuple[set[str], list[Path]]:
    """Names of the metrics, and PNG files, of the only run in a file store."""
    (metrics,) = store.glob("*/*/metrics")
    names = {str(path.relative_to(metrics)) for path in metrics.rglob("*") if path.is_file()}
    return names, sorted(metrics.parent.glob("artifacts/images/*.png"))
