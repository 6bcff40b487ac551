"""Train and evaluate Detectron2's YAML configs and LazyConfig files, with one class for each.

The loops are those of Detectron2's ``train_net.py`` and ``lazyconfig_train_net.py``, which its distribution does not
contain. They evaluate COCO-format sets, also with test-time augmentation (`view_evaluation`). With a seed (``SEED``,
``train.seed``), the order and augmentation of images do not depend on the model, because random numbers are seeded
again after building it. Checkpoints are read without executing anything, and written atomically.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any, Protocol

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    default_setup,
    default_writers,
    defaults,
    hooks,
)
from detectron2.engine import create_ddp_model as _create_ddp_model
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ...files import suffix_of
from ...sharding import is_sharded, shard_on_load, whole_parameters
from .averaging import StopTraining, WeightAverage, average_of, selection_hooks
from .builders import check_builders
from .checkpointer import SafeCheckpointer
from .data_check import DataNeeds, check_registered, lazy_needs, yaml_needs
from .pixels import mapper_of
from .reading import read_lazy, read_yaml
from .resume import ExactResume
from .sharding import read_fsdp, shard_as_configured
from .view_evaluation import evaluate_lazy, evaluate_yaml, read_tta
from .watch_config import add_watching_hooks, add_watching_writers, read_watch, watching_hooks


class Job(Protocol):
    """Training or evaluation in one process.

    Attributes:
        needs: data sets that the job reads, and what its model expects of them.
    """

    needs: DataNeeds

    def run(self) -> Any:
        """Train, or evaluate with ``--eval-only``; return the results of the evaluation, if there is one."""


def make_job(args: Any, exact: bool = False) -> Job:
    """Read the config of a job, and set up logging and seeds.

    Args:
        args: arguments of ``default_argument_parser``.
        exact: train with `ExactResume`.

    Raises:
        ValueError: the config cannot be read, or names a data set that is not registered.
    """
    job: Job = (LazyJob if suffix_of(args.config_file) == ".py" else YamlJob)(args, exact)
    check_registered(job.needs)
    return job


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with COCO evaluation, the same data for every model, and processes without GPUs.

    Args:
        cfg: config.
        exact: train with `ExactResume`.

    Raises:
        ValueError: ``exact`` with ``TEST.PRECISE_BN``, whose images depend on the time of the resume.
    """

    def __init__(self, cfg: Any, exact: bool = False) -> None:
        if exact and cfg.TEST.PRECISE_BN.ENABLED:
            raise ValueError("exact resume does not cover TEST.PRECISE_BN.ENABLED=True; disable one of the two")
        self.exact = exact
        defaults.create_ddp_model = create_ddp_model  # the constructor has no other way to change its arguments
        try:
            super().__init__(cfg)
        finally:
            defaults.create_ddp_model = _create_ddp_model

    def build_hooks(self) -> list[Any]:
        """Build Detectron2's hooks, with a checkpointer that executes nothing."""
        self.checkpointer = SafeCheckpointer(self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        exact = [ExactResume(self.cfg.SEED)] if self.exact else []
        return [*exact, *add_watching_hooks(super().build_hooks(), self.cfg)]

    def build_writers(self) -> list[Any]:
        """Build Detectron2's writers, and those of ``WATCH.WRITERS``."""
        return add_watching_writers(super().build_writers(), self.cfg)

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Build Detectron2's loader; with a seed, it draws the same images for every model."""
        _seed_again(cfg.SEED)
        return build_detection_train_loader(cfg, mapper=mapper_of(cfg, True))

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
        """Build Detectron2's loader with the mapper of the config."""
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper_of(cfg, False))

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> COCOEvaluator:
        """Build the COCO evaluator of a data set; ``ValueError`` for a set of another kind."""
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
        if kind != "coco":
            raise ValueError(f"data set {dataset_name!r} is evaluated as {kind!r}; use Detectron2's own train_net.py")
        return COCOEvaluator(dataset_name, output_dir=output_folder or f"{cfg.OUTPUT_DIR}/inference")


class YamlJob:
    """Train or evaluate a YAML config; arguments of `make_job`."""

    def __init__(self, args: Any, exact: bool = False) -> None:
        self.args, self.exact, self.cfg = args, exact, read_yaml(args.config_file, args.opts)
        check_builders(self.cfg)
        read_watch(self.cfg.WATCH)
        self.cfg.freeze()
        default_setup(self.cfg, args)
        self.needs = yaml_needs(self.cfg, args.eval_only)

    def run(self) -> Any:
        """Train, or evaluate with ``--eval-only``."""
        if self.args.eval_only:
            model = Trainer.build_model(self.cfg)
            checkpointer = SafeCheckpointer(model, self.cfg.OUTPUT_DIR, complete=True)
            checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=self.args.resume)
            return {**Trainer.test(self.cfg, model), **evaluate_yaml(self.cfg, model)}
        trainer = Trainer(self.cfg, self.exact)
        trainer.resume_or_load(resume=self.args.resume)
        trainer.checkpointer.save_final(trainer.iter, trainer.max_iter)
        results = trainer.train()
        augmented = evaluate_yaml(self.cfg, trainer.model)
        return {**(results or {}), **augmented} if augmented else results


class LazyJob:
    """Train or evaluate a LazyConfig file; arguments of `make_job`."""

    def __init__(self, args: Any, exact: bool = False) -> None:
        self.args, self.exact = args, exact
        self.cfg = cfg = read_lazy(args.config_file, args.opts)
        read_fsdp(cfg.train)
        read_watch(cfg.train.get("watch"))
        read_tta(cfg.train)
        default_setup(cfg, args)
        self.needs = lazy_needs(cfg, args.eval_only)

    def run(self) -> Any:
        """Train, or evaluate with ``--eval-only``."""
        model = instantiate(self.cfg.model)
        if not self.args.eval_only:
            return self._train(model)
        model = create_ddp_model(model.to(self.cfg.train.device))
        SafeCheckpointer(model, complete=True).load(self.cfg.train.init_checkpoint)
        return {**(self._evaluate(model) or {}), **evaluate_lazy(self.cfg, model)}

    def _evaluate(self, model: Any, average: WeightAverage | None = None) -> Any:
        loader = instantiate(self.cfg.dataloader.test)
        with (
            whole_parameters(model),
            average.apply() if average else nullcontext(),
        ):  # processes can have different numbers of images
            results = inference_on_dataset(model, loader, instantiate(self.cfg.dataloader.evaluator))
        if comm.is_main_process():
            print_csv_format(results)
        return results

    def _train(self, model: Any) -> None:
        cfg = self.cfg
        shard_as_configured(model, cfg.train)
        cfg.optimizer.params.model = model.to(cfg.train.device)
        optimizer = instantiate(cfg.optimizer)
        _seed_again(cfg.train.get("seed"))
        loader = instantiate(cfg.dataloader.train)
        if is_sharded(model):
            shard_on_load(optimizer)
        else:
            model = create_ddp_model(model, **cfg.train.ddp)
        trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
        checkpointer = SafeCheckpointer(model, cfg.train.output_dir, trainer=trainer)
        checkpointer.average = average = average_of(cfg.train, model)
        main_process = comm.is_main_process()
        writers = default_writers(cfg.train.output_dir, cfg.train.max_iter) if main_process else []
        writers = add_watching_writers(writers, cfg) if main_process else []
        trainer.register_hooks(
            [
                ExactResume(cfg.train.get("seed")) if self.exact else None,
                average,
                hooks.IterationTimer(),
                hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
                checkpointer.periodic(**cfg.train.checkpointer),
                hooks.EvalHook(cfg.train.eval_period, lambda: self._evaluate(model, average)),
                *watching_hooks(cfg),
                *selection_hooks(cfg.train, checkpointer),
                hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main_process else None,
            ]
        )
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=self.args.resume)
        checkpointer.save_final(trainer.iter, cfg.train.max_iter)
        start = trainer.iter + 1 if self.args.resume and checkpointer.has_checkpoint() else 0
        try:
            trainer.train(start, cfg.train.max_iter)
        except StopTraining:
            checkpointer.save("model_final", iteration=trainer.iter)
        with average.apply() if average else nullcontext():
            evaluate_lazy(cfg, model)


def create_ddp_model(model: Any, **options: Any) -> Any:
    """Wrap a model in ``DistributedDataParallel`` as Detectron2 does, but without GPU numbers if it is on the CPU.

    Args:
        model: a detector.
        options: ``fp16_compression``, and arguments of ``DistributedDataParallel``.
    """
    if next(model.parameters()).device.type == "cpu":
        options.setdefault("device_ids", None)
    return _create_ddp_model(model, **options)


def _seed_again(seed: int | None) -> None:
    """Seed again, after the model's initialization has drawn random numbers, unless the seed is missing or negative."""
    if seed is not None and seed >= 0:
        seed_all_rng(seed + comm.get_rank())
