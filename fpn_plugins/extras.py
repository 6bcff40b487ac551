"""Explain missing optional libraries by the extra that installs them, and silence what toolboxes say when imported."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# library's import name -> extra of setup.cfg that lists it
EXTRAS = {
    **dict.fromkeys(("timm", "safetensors"), "timm"),
    **dict.fromkeys(("huggingface_hub", "yaml"), "zoo"),
    **dict.fromkeys(("numpy", "PIL", "pycocotools", "tifffile", "tqdm"), "data"),
    **dict.fromkeys(("matplotlib", "rich"), "analysis"),
    **dict.fromkeys(("nncf", "onnx", "onnxruntime", "onnxscript", "openvino"), "export"),
    "panopticapi": "panoptic",
    "peft": "lora",
    "sahi": "sahi",
    "supervision": "supervision",
    **dict.fromkeys(("mlflow", "tensorboard", "wandb"), "watch"),
}
# libraries that no extra installs -> what to install
PACKAGES = {"cv2": "opencv-python-headless", "torchvision": "torchvision"}


@contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """Turn a missing library into an ``ImportError`` that names what to install, around its import statement.

        with needed_for("pictures"):
            from matplotlib.figure import Figure

    Args:
        purpose: what the library is imported for, in the plural: "pictures", "videos".
    """
    try:
        yield
    except ImportError as error:
        library = (error.name or "").split(".")[0]
        if library not in {**EXTRAS, **PACKAGES}:
            raise
        package = PACKAGES.get(library) or f"'fpn_plugins[{EXTRAS[library]}]'"
        raise ImportError(f"{purpose} need {library}: pip install {package}", name=library) from error


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Drop what toolboxes print and warn about optional parts of theirs while they are imported; errors pass."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
