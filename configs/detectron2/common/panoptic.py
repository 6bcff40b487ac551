"""Our semantic head instead of Detectron2's in its own LazyConfigs of Panoptic FPN, and their evaluation."""

from detectron2.evaluation import SemSegEvaluator

from fpn_plugins.adapters.detectron2 import PanopticFPNHead, load_stuff_labels


def use_panoptic_head(model):
    """Replace the class of ``model.sem_seg_head``; it reads the channels of its features from our neck."""
    model.sem_seg_head._target_ = PanopticFPNHead
    for shape in model.sem_seg_head.input_shape.values():
        shape.channels = "${....backbone.neck.out_channels}"


def use_label_loader(dataloader):
    """Let the semantic evaluator read its labels in a way that also works with NumPy 2."""
    for evaluator in dataloader.evaluator:
        if evaluator._target_ is SemSegEvaluator:
            evaluator.sem_seg_loading_fn = load_stuff_labels
