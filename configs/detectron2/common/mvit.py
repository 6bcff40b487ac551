"""MViTv2 below our FPN, as Detectron2's ``projects/MViTv2`` trains it (arXiv:2112.01526, section 5.2).

Detectron2's wheel does not ship the project's files, so these settings are stated here.
"""

from .cascade import use_cascade

# takes statistics over all processes and accepts heads without any box
SYNC_BN = "naiveSyncBN_N"


def mvit_weights(release):
    """Return the address of one of the official ImageNet files."""
    return f"detectron2://ImageNetPretrained/mvitv2/{release}.pyth"


def use_mvit_cascade(model):
    """Give a Mask R-CNN three box heads of four convolutions, batch norm in its heads, two convolutions in the RPN."""
    use_cascade(model)
    for head in model.roi_heads.box_heads:
        head.conv_norm = SYNC_BN
    model.roi_heads.mask_head.conv_norm = SYNC_BN
    model.proposal_generator.head.conv_dims = [-1, -1]
