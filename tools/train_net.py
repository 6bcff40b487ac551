"""Train and evaluate with Detectron2: YAML files as its ``train_net.py``, ``.py`` ones as ``lazyconfig_train_net.py``.

    python tools/train_net.py --config-file FILE [--num-gpus N] [--resume] [--eval-only] [OVERRIDES]

Detectron2's own scripts run our configs too (``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2`` for YAML files);
its distribution does not contain them, so this one stands in, with the same command line and a check of the data first.
"""

from __future__ import annotations

import argparse
from typing import Any

from _toolbox import run_or_exit
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
    launch,
)
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm

from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config
from fpn_plugins.adapters.detectron2.datasets import check_datasets, register_from_environment


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with COCO evaluation."""

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> COCOEvaluator:
        """COCO evaluator of one data set."""
        return COCOEvaluator(dataset_name, output_dir=output_folder or f"{cfg.OUTPUT_DIR}/inference")


def yaml_config(args: argparse.Namespace) -> Any:
    """Detectron2's default config with our keys, the file and the command line merged into it."""
    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


def run_yaml(args: argparse.Namespace) -> Any:
    """Train or evaluate what a YAML file describes."""
    cfg = yaml_config(args)
    default_setup(cfg, args)
    if comm.is_main_process():
        classes = cfg.MODEL.RETINANET.NUM_CLASSES if "Retina" in cfg.MODEL.META_ARCHITECTURE else None
        report((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST), classes or cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate(cfg: Any, model: Any) -> Any:
    """Evaluate a model of a LazyConfig on its test loader."""
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
    if comm.is_main_process():
        print_csv_format(results)
    return results


def run_lazy(args: argparse.Namespace) -> Any:
    """Train or evaluate what a LazyConfig file describes."""
    cfg = LazyConfig.apply_overrides(LazyConfig.load(args.config_file), args.opts)
    default_setup(cfg, args)
    if comm.is_main_process():
        classes = cfg.model.get("num_classes") or cfg.model.get("roi_heads", {}).get("num_classes")
        report((cfg.dataloader.train.dataset.names, cfg.dataloader.test.dataset.names), classes)
    model = instantiate(cfg.model).to(cfg.train.device)
    if args.eval_only:
        model = create_ddp_model(model)
        DetectionCheckpointer(model).load(cfg.train.init_checkpoint)
        return evaluate(cfg, model)
    return train_lazy(cfg, model, resume=args.resume)


def train_lazy(cfg: Any, model: Any, resume: bool) -> None:
    """Detectron2's training loop with the hooks of its ``lazyconfig_train_net.py``."""
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    main_process = comm.is_main_process()
    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter) if main_process else []
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer) if main_process else None,
            hooks.EvalHook(cfg.train.eval_period, lambda: evaluate(cfg, model)),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main_process else None,
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, cfg.train.max_iter)


def report(names: Any, num_classes: int | None) -> None:
    """Check the data sets and print what they hold."""
    flat = [name for entry in names for name in ([entry] if isinstance(entry, str) else entry)]
    for found in check_datasets(flat, num_classes):
        print(found)


def main(args: argparse.Namespace) -> Any:
    """Run one process of the job."""
    register_from_environment()
    return run_lazy(args) if args.config_file.endswith(".py") else run_yaml(args)


def launch_all() -> None:
    """Start one process per GPU, as Detectron2's scripts do."""
    args = default_argument_parser().parse_args()
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


if __name__ == "__main__":
    run_or_exit(launch_all)
