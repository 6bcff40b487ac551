"""Our semantic head in the place of Detectron2's in its own LazyConfigs of Panoptic FPN."""

from fpn_plugins.adapters.detectron2 import PanopticFPNHead


def use_panoptic_head(model):
    """Replace the class of ``model.sem_seg_head``, and read the channels of its features from our neck."""
    model.sem_seg_head._target_ = PanopticFPNHead
    for shape in model.sem_seg_head.input_shape.values():
        shape.channels = "${....backbone.neck.out_channels}"
