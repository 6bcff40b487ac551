"""Imports of optional libraries: name the extra that installs a missing one; silence what is said and reported."""

from __future__ import annotations

import importlib.util
import io
import os
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


def require(purpose: str, *libraries: str) -> None:
    """Raise the ``ImportError`` of `needed_for` for a library that is not installed, before work that needs it later.

    Args:
        purpose: what the libraries are needed for, in the plural.
        libraries: import names.
    """
    for library in libraries:
        with needed_for(purpose):
            if importlib.util.find_spec(library) is None:
                raise ImportError(f"no module named {library!r}", name=library)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep OpenVINO and NNCF, around their imports and calls, from reporting to a server that they are used.

    They do so from forked processes, and read these variables as a request not to.
    """
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ.update(CI="true", NNCF_CI="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Drop what toolboxes print and warn about optional parts of theirs while they are imported; errors pass."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
