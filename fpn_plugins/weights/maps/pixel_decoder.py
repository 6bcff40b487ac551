"""MSDeformAttnPixelDecoder: the layouts of mmdet and of Mask2Former's own code -> ours.

Ours, with ``i`` the position of a map of the encoder from the lowest resolution, ``k`` the position of a finer map from
the highest::

    input_convs.<i>.{conv,norm}.*        level_embed
    layers.<j>.self_attn.{sampling_offsets,attention_weights,value_proj,output_proj}.*
    layers.<j>.{norm1,linear1,linear2,norm2}.*
    lateral_convs.<k>.{conv,norm}.*      output_convs.<k>.{conv,norm}.*      mask_conv.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``MSDeformAttnPixelDecoder``."""
    convs = conv_modules("", [(f"{name}.<i>",) * 2 for name in ("input_convs", "lateral_convs", "output_convs")])
    layer = "encoder.layers.<j>"
    others = [
        (f"{layer}.self_attn.<*>", "layers.<j>.self_attn.<*>"),
        (f"{layer}.norms.0.<*>", "layers.<j>.norm1.<*>"),
        (f"{layer}.norms.1.<*>", "layers.<j>.norm2.<*>"),
        (f"{layer}.ffn.layers.0.0.<*>", "layers.<j>.linear1.<*>"),
        (f"{layer}.ffn.layers.1.<*>", "layers.<j>.linear2.<*>"),
        ("level_encoding.weight", "level_embed"),
        ("mask_feature.<*>", "mask_conv.<*>"),
    ]
    return KeyMap("mmdet MSDeformAttnPixelDecoder", [*convs.rules, *others])


def mask2former() -> KeyMap:
    """Build the table of the authors' ``MSDeformAttnPixelDecoder`` (``sem_seg_head.pixel_decoder`` of a detector)."""
    rules = [
        ("input_proj.<i>.0.<*>", "input_convs.<i>.conv.<*>"),
        ("input_proj.<i>.1.<*>", "input_convs.<i>.norm.<*>"),
        ("transformer.level_embed", "level_embed"),
        ("transformer.encoder.layers.<j>.<*>", "layers.<j>.<*>"),
        ("mask_features.<*>", "mask_conv.<*>"),
    ]
    for theirs, ours in (("adapter_<k+1>", "lateral_convs.<k>"), ("layer_<k+1>", "output_convs.<k>")):
        rules += [(f"{theirs}.norm.<*>", f"{ours}.norm.<*>"), (f"{theirs}.<*>", f"{ours}.conv.<*>")]
    return KeyMap("Mask2Former pixel decoder", rules)


def layouts() -> tuple[KeyMap, ...]:
    """Collect the tables."""
    return mmdet(), mask2former()
