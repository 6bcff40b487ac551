"""Optimizer and schedule of detectors with Transformer backbones."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from .stock import stock_train

EPOCHS_36 = 67500  # iterations of 64 images, as MViTv2 rounds them
EPOCHS_100 = 184375  # 100 * 118287 / 64
STEPS_36 = [52500, 62500]
STEPS_100 = [163889, 177546]


def adamw(lr=1e-4, weight_decay=0.1, not_decayed=()):
    """Return AdamW that decays neither norms nor parameters named ``not_decayed``."""
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.update(lr=lr, weight_decay=weight_decay)
    if not_decayed:
        optimizer.params.overrides = {name: {"weight_decay": 0.0} for name in not_decayed}
    return optimizer


def schedule(max_iter, milestones, warmup=250):
    """Divide the learning rate by ten at each of two milestones, after a warm-up of ``warmup`` iterations."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones, num_updates=max_iter),
        warmup_length=warmup / max_iter,
        warmup_factor=0.001,
    )


def amp_training(max_iter, init_checkpoint):
    """Return settings for training in mixed precision."""
    train = stock_train()
    train.update(max_iter=max_iter, init_checkpoint=init_checkpoint)
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    return train
