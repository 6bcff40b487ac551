"""HybridEncoder: the layouts of RT-DETR, D-FINE and DEIM (``encoder`` of their detectors) -> ours.

Ours, with ``i`` the position of the level from the highest resolution in ``input_convs``, elsewhere in the order in
which the modules run::

    input_convs.<i>   reduce_convs.<i>   downsample_convs.<i>[.{pointwise_conv,depthwise_conv}]
    encoders.<k>.<j>.{attention,linear1,linear2,norm1,norm2}.*
    {top_down,bottom_up}_blocks.<i>.{main_conv,short_conv,final_conv,blocks.<n>.conv1,blocks.<n>.conv2}
    {top_down,bottom_up}_blocks.<i>.{first_conv,final_conv,stages.<s>.0. the line above,stages.<s>.1}
    extra_levels.convs.<k>                                             not in their layouts

convolutions each with ``conv.*`` and ``norm.*``.
"""

from ..key_map import KeyMap

_CSP = {
    "conv1": "main_conv",
    "conv2": "short_conv",
    "conv3": "final_conv",
    "bottlenecks.<n>.conv1": "blocks.<n>.conv1",
    "bottlenecks.<n>.conv2": "blocks.<n>.conv2",
}
_ELAN = {"cv1": "first_conv", "cv4": "final_conv"}
for _number, _stage in enumerate(("cv2", "cv3")):
    _ELAN |= {f"{_stage}.0.{theirs}": f"stages.{_number}.0.{ours}" for theirs, ours in _CSP.items()}
    _ELAN[f"{_stage}.1"] = f"stages.{_number}.1"


def rt_detr() -> KeyMap:
    """Build the table of RT-DETR's encoder; v1 numbers the layers of its first convolutions, v2 names them."""
    return _table("RT-DETR HybridEncoder", _CSP, {"downsample_convs.<i>": "downsample_convs.<i>"})


def d_fine() -> KeyMap:
    """Build the table of D-FINE's and DEIM's encoder."""
    halves = {"cv1": "pointwise_conv", "cv2": "depthwise_conv"}
    downsamples = {
        f"downsample_convs.<i>.0.{theirs}": f"downsample_convs.<i>.{ours}" for theirs, ours in halves.items()
    }
    return _table("D-FINE HybridEncoder", _ELAN, downsamples)


def _table(layout: str, block: dict[str, str], downsamples: dict[str, str]) -> KeyMap:
    places = {"input_proj.<i>": "input_convs.<i>", "lateral_convs.<i>": "reduce_convs.<i>", **downsamples}
    for path, ours in (("fpn_blocks", "top_down_blocks"), ("pan_blocks", "bottom_up_blocks")):
        places |= {f"{path}.<i>.{part}": f"{ours}.<i>.{name}" for part, name in block.items()}
    rules: list[tuple[str, str | None]] = [("pos_embed<i>", None)]  # positions of one image size
    for theirs, ours in places.items():
        rules += [(f"{theirs}.{part}.<*>", f"{ours}.{part}.<*>") for part in ("conv", "norm")]
    rules += [
        (f"input_proj.<i>.{number}.<*>", f"input_convs.<i>.{part}.<*>") for number, part in enumerate(("conv", "norm"))
    ]
    rules += [("encoder.<k>.layers.<j>.self_attn.<*>", "encoders.<k>.<j>.attention.<*>")]
    rules += [("encoder.<k>.layers.<j>.<*>", "encoders.<k>.<j>.<*>")]
    return KeyMap(layout, rules)
