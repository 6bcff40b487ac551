"""ResNet and ResNeXt: Detectron2's names -> the names that timm, torchvision and mmdet share.

The names do not show two differences that change the result: Detectron2's ``R-50`` and ``R-101`` (MSRA's weights)
stride in the 1x1 convolution (mmdet's ``style='caffe'``) instead of the 3x3 one, and they expect BGR images with unit
standard deviation.
"""

from ..key_map import KeyMap


def detectron2() -> KeyMap:
    """Build the table of Detectron2's ``ResNet``: ``stem``, ``res2 .. res5``, ``shortcut``; norms in convolutions."""
    rules: list[tuple[str, str | None]] = [
        ("stem.conv1.norm.<*>", "bn1.<*>"),
        ("stem.conv1.<*>", "conv1.<*>"),
        ("res<s+1>.<j>.shortcut.norm.<*>", "layer<s>.<j>.downsample.1.<*>"),
        ("res<s+1>.<j>.shortcut.<*>", "layer<s>.<j>.downsample.0.<*>"),
        ("res<s+1>.<j>.conv<n>.norm.<*>", "layer<s>.<j>.bn<n>.<*>"),
        ("res<s+1>.<j>.conv<n>.<*>", "layer<s>.<j>.conv<n>.<*>"),
        ("linear.<*>", None),
    ]
    return KeyMap("detectron2 ResNet", rules)


def mmdet_with_group_norm() -> KeyMap:
    """Build the table of mmdet's ``ResNet`` with GN, whose norms are ``gn1``, ``gn2``, ...; other dicts do not fit."""
    rules = [("gn<n>.<*>", "bn<n>.<*>"), ("layer<s>.<j>.gn<n>.<*>", "layer<s>.<j>.bn<n>.<*>")]
    same = [(f"{part}.<*>",) * 2 for part in ("conv1", "layer<s>.<j>.conv<n>", "layer<s>.<j>.downsample")]
    return KeyMap("mmdet ResNet with GN", [*rules, *same])
