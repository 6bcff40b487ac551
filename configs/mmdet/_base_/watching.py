"""Watch a training; a config inherits this beside its own base, or one writes on the command line:

--cfg-options default_hooks.val_loss.type=fpn_plugins.ValidationLossHook \
    default_hooks.pictures.type=fpn_plugins.PyramidVisualizationHook
"""

custom_hooks = [
    # losses on at most 500 images of the validation set, as val/loss, val/loss_cls, ...
    dict(type="fpn_plugins.ValidationLossHook", max_images=500),
    # detections and every level's activations, of the same four validation images each time
    dict(type="fpn_plugins.PyramidVisualizationHook", num_images=4),
]
