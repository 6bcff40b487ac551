"""Train and evaluate with Detectron2: YAML files as its ``train_net.py``, ``.py`` ones as ``lazyconfig_train_net.py``.

    python tools/train_net.py --config-file FILE [--num-gpus N] [--resume] [--eval-only] [OVERRIDES]

Detectron2's own scripts run our configs too (``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2`` for YAML files);
its distribution does not contain them, so this one stands in, with the same command line and a check of the data first
(``FPN_PLUGINS_CHECK_DATA=0`` skips it). It evaluates COCO-format sets only, and without test-time augmentation.
With a seed (``SEED``, ``train.seed``), the order of the images and their augmentation do not depend on the model, which
in Detectron2 they do; ``FPN_PLUGINS_DETERMINISTIC=1`` chooses deterministic algorithms.
"""

from __future__ import annotations

import argparse
from typing import Any

from .common import checks_data, choose_deterministic, user_errors

with user_errors():
    from ..adapters.detectron2 import add_fpn_plugins_config
    from ..adapters.detectron2.datasets import check_datasets, register_from_environment

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import MetadataCatalog
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
from detectron2.utils.env import seed_all_rng


def draw_anew(seed: int | None) -> None:
    """Seed the random numbers again once the model is there, whose initialisation has drawn from them; negative: no."""
    if seed is not None and seed >= 0:
        seed_all_rng(seed + comm.get_rank())


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with COCO evaluation."""

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Detectron2's loader; with a seed, what it draws is the same for every model."""
        draw_anew(cfg.SEED)
        return super().build_train_loader(cfg)

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> COCOEvaluator:
        """COCO evaluator of one data set; ``ValueError`` for a set that is evaluated in another way."""
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
        if kind != "coco":
            raise ValueError(f"data set {dataset_name!r} is evaluated as {kind!r}; use Detectron2's own train_net.py")
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
    retinanet, rcnn = cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS
    heads = {"RetinaNet": retinanet, "FPNPluginsRetinaNet": retinanet, "GeneralizedRCNN": rcnn}
    classes = getattr(heads.get(cfg.MODEL.META_ARCHITECTURE), "NUM_CLASSES", None)
    report([*([] if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST], classes)
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
    classes = cfg.model.get("num_classes") or cfg.model.get("roi_heads", {}).get("num_classes")
    report(
        [names for part in (["test"] if args.eval_only else ["train", "test"]) for names in names_of(cfg, part)],
        classes,
    )
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
    draw_anew(cfg.train.get("seed"))
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


def names_of(cfg: Any, part: str) -> list[str]:
    """Names of the data sets that a LazyConfig's train or test loader reads; none where it reads no catalog."""
    names = cfg.dataloader.get(part, {}).get("dataset", {}).get("names", [])
    return [names] if isinstance(names, str) else list(names)


def report(names: list[str], num_classes: int | None) -> None:
    """Check the data sets and print what they hold, on one process of each machine."""
    if comm.get_local_rank() == 0 and checks_data():
        with user_errors():
            for found in check_datasets(names, num_classes):
                print(found, flush=True)


def main(args: argparse.Namespace) -> Any:
    """Run one process of the job."""
    with user_errors():
        register_from_environment()
    choose_deterministic()
    return run_lazy(args) if args.config_file.endswith(".py") else run_yaml(args)


def launch_all() -> None:
    """Start one process per GPU, as Detectron2's scripts do."""
    parser = default_argument_parser()
    args = parser.parse_args()
    if not args.config_file:
        parser.error("--config-file is required: a YAML file, or a LazyConfig file that ends in .py")
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
