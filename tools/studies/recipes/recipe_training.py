"""Train a recipe, or the toolbox's own settings with the recipe's network, for a number of iterations.

    training=tools/studies/recipes/recipe_training.py
    python $training --toolbox mmdet --iterations 820 [--stock] --data FOLDER --recipe small ...

The other options are those of ``fpn-plugins train --data``. ``--way`` changes what the recipe plans for Detectron2 in a
way that may help small objects; `tools/benchmarks/small_objects.py --trained` measures it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from recipe_ways import WAYS

from fpn_plugins.commands import recipe, recipe_options, train, train_d2
from fpn_plugins.commands.common import COUNT
from fpn_plugins.recipes.plan import set_length
from fpn_plugins.recipes.reasons import stock_anchors

MMDET_STOCK = """
# mmdet's retinanet_r50_fpn_1x_coco: its anchors, optimizer, schedule and augmentation
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr={rate}, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end={warmup}),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=max_iters, milestones={milestones}, gamma=0.1),
]
custom_hooks = []
"""
DETECTRON2_STOCK = """
# Detectron2's retinanet_R_50_FPN_1x: its anchors, optimizer, schedule and augmentation
from fvcore.common.param_scheduler import MultiStepParamScheduler

optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = {rate}
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones={milestones}, num_updates=_max_iter),
    warmup_length={warmup} / _max_iter,
    warmup_factor=0.001,
)
model.normalizer_momentum = 0.9
del train.ema, train.best_checkpoint, train.early_stopping
"""


def main() -> None:
    """Write the config, and train with it."""
    parser = argparse.ArgumentParser(description="Train a recipe for a number of iterations")
    parser.add_argument("--toolbox", choices=("mmdet", "detectron2"), required=True)
    parser.add_argument("--iterations", type=COUNT, required=True)
    parser.add_argument("--stock", action="store_true", help="the toolbox's own settings in place of the recipe's")
    parser.add_argument("--way", choices=tuple(WAYS), help="a way to train for small objects, in Detectron2")
    ours, rest = parser.parse_known_args()
    if ours.way and (ours.toolbox != "detectron2" or ours.stock):
        parser.error("--way changes recipes of Detectron2: give it with --toolbox detectron2, and without --stock")
    args = recipe_options.parse_args(ours.toolbox, rest)
    work_dir = Path(args.work_dir)
    plan = set_length(recipe.make_plan(args, work_dir), ours.iterations)
    # an early end would leave the lengths different
    plan = replace(plan, patience=ours.iterations)
    end = ""
    if ours.way:
        end = WAYS[ours.way](plan)
    if ours.stock:
        strides = plan.anchors.strides
        stock = stock_anchors(plan.detector)
        levels = {"num_levels": 2, "op": "conv", "source": "input"}
        neck = {"type": "FPN", "out_channels": plan.channels, "extra_levels": levels}
        assert strides[0] == 8, "the stock RetinaNet begins at P3"
        indices = plan.backbone["out_indices"]
        backbone = {**plan.backbone, "out_indices": list(range(indices[0], indices[0] + 3))}
        short = (plan.size[0],)
        plan = replace(plan, anchors=stock, neck=neck, backbone=backbone, short_sides=short, photometric=False)
        text = MMDET_STOCK if ours.toolbox == "mmdet" else DETECTRON2_STOCK
        milestones = [round(part * ours.iterations) for part in (8 / 12, 11 / 12)]
        # their rates are for 16 images
        end = text.format(rate=0.01 * plan.batch / 16, warmup=min(500, ours.iterations // 4), milestones=milestones)
    config = recipe.write(ours.toolbox, plan, work_dir, end)
    if ours.toolbox == "mmdet":
        train.main([str(config)])
    else:
        train_d2.main(["--config-file", str(config)])


if __name__ == "__main__":
    main()
