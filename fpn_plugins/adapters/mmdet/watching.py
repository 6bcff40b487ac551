"""mmengine's hooks for watching a training: losses on the validation set, and pictures of every level."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS
from mmengine.visualization import LocalVisBackend, MLflowVisBackend
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...checks import integer, positive_int, probability
from ...compat import uncompiled
from ...inference import Detections
from ...registry import HOOKS
from ...sharding import whole_parameters
from ...watching import (
    Watched,
    compute_as_trained,
    displayable,
    draw_watched,
    is_one_stage,
    make_batches,
    mean_losses,
    mlflow_key,
    picture_name,
    record_levels,
    spread,
    undisturbed,
)
from .watched_data import annotated_objects, loss_dataset


class _ValidationHook(Hook):
    """Hook that does something at the end of every ``interval``-th validation during a training."""

    priority = "HIGHEST"  # before EMAHook takes the averaged weights away, and before metrics are logged

    def __init__(self, interval: int) -> None:
        self.interval = positive_int("interval", interval)
        self.validations = 0
        self.trains = False

    def before_train(self, runner: Any) -> None:
        """Refuse a training without validation; ``ValueError``."""
        self.trains = True
        if runner.val_loop is None:
            raise ValueError(
                f"fpn_plugins.{type(self).__name__} works at the end of each validation, and this config has none: set "
                "val_dataloader, val_evaluator and val_cfg, or remove the hook"
            )

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Do it if it is due, in a training."""
        self.validations += self.trains
        if self.trains and self.validations % self.interval == 0:
            self.watch(runner, {} if metrics is None else metrics)

    def watch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Do what the hook is for, in all processes."""
        raise NotImplementedError


@HOOKS.register_module()
class ValidationLossHook(_ValidationHook):
    """Add the mean losses on the validation set to its metrics, as ``val/loss``, ``val/loss_cls``, ...

    Add ``custom_hooks = [dict(type='fpn_plugins.ValidationLossHook')]`` to a config. All loggers get the losses with
    the metrics, and everything that reads metrics can use them:
    ``default_hooks=dict(checkpoint=dict(save_best='val/loss', rule='less'))``, ``EarlyStoppingHook``,
    ``ReduceOnPlateauLR``.

    They are the losses that training minimizes, of the weights that are evaluated (averaged ones with ``EMAHook``), on
    images as they are resized for evaluation, without augmentation. Norms use their running statistics, and nothing is
    dropped. The training goes on as without the hook: no gradients, and mode, buffers, random numbers are restored.
    Heads that sample regions at random sample with the same random numbers in every validation.

    Args:
        interval: validate losses in every ``interval``-th validation.
        max_images: most images to use, evenly spaced in the validation set.
        batch_size: images per batch and process; ``None`` is that of the training, which losses are normalized by.
        dataset: config of the data set to use; ``None`` is that of ``val_dataloader``, with annotations loaded before
            the image is resized, as in training.
        seed: seed of the random numbers.
    """

    def __init__(
        self,
        interval: int = 1,
        max_images: int = 500,
        batch_size: int | None = None,
        dataset: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(interval)
        self.max_images = positive_int("max_images", max_images)
        self.batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
        self.config, self.seed = dataset, integer("seed", seed)
        self.dataset: Any = None

    def watch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Compute the losses."""
        loader = runner.val_dataloader
        if self.dataset is None:
            self.dataset = DATASETS.build(copy.deepcopy(self.config) or loss_dataset(runner.cfg))
        size = self.batch_size or _batch_size(runner.train_dataloader)
        batches = make_batches(len(self.dataset), self.max_images, size, get_rank(), get_world_size())
        batched: DataLoader = DataLoader(
            self.dataset,
            batch_sampler=batches.indices,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
        )
        model = _unwrapped(runner.model)

        def compute(data: Any) -> dict[str, Tensor]:
            compute_as_trained(model, (model.backbone, getattr(model, "neck", None)))
            with runner.optim_wrapper.optim_context(model), _without_batch_augments(model.data_preprocessor):
                found = model(**model.data_preprocessor(data, True), mode="loss")
                return {name: value for name, value in model.parse_losses(found)[1].items() if "loss" in name}

        found = mean_losses(model, batched, batches.weights, compute, self.seed)
        for name, value in found.items():
            # mmengine would log the mean over the last ten validations of everything named "loss"
            runner.message_hub.log_scalars.pop(f"val/val/{name}", None)
            metrics[f"val/{name}"] = value


@HOOKS.register_module()
class PyramidVisualizationHook(_ValidationHook):
    """Draw, for the same few validation images each time, what is found and what every level responds to.

    Add ``custom_hooks = [dict(type='fpn_plugins.PyramidVisualizationHook')]`` to a config. Every backend of the
    visualizer gets two pictures per image, ``detections/NAME`` and ``levels/NAME``, see
    `fpn_plugins.watching.draw_watched`; the training goes on as without the hook.

    Args:
        interval: draw in every ``interval``-th validation.
        num_images: how many images to draw, evenly spaced in the validation set.
        score_thr: lowest score of a detection to draw.
    """

    def __init__(self, interval: int = 1, num_images: int = 4, score_thr: float = 0.3) -> None:
        super().__init__(interval)
        self.num_images = positive_int("num_images", num_images)
        self.score_thr = probability("score_thr", score_thr)

    def watch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Draw in the first process."""
        model, dataset = _unwrapped(runner.model), runner.val_dataloader.dataset
        with whole_parameters(model), undisturbed(model), uncompiled():
            if not is_main_process():
                return
            model.eval()
            taken: set[str] = set()
            for index in spread(len(dataset), self.num_images):
                path, watched = self._look(model, dataset, runner.val_dataloader.collate_fn, index)
                name = picture_name(path, taken)
                for kind, picture in draw_watched(watched).items():
                    _publish(runner.visualizer, f"{kind}/{name}", picture, runner.iter)

    def _look(self, model: Any, dataset: Any, collate: Any, index: int) -> tuple[str, Watched]:
        """Run the model on an image; return the image's path, or a name."""
        data = collate([dataset[index]])
        pixels = data["inputs"][0]
        with record_levels(model) as maps:
            sample = model.val_step(data)[0].cpu()
        names = dict(enumerate(dataset.metainfo.get("classes") or ()))
        found = None
        if "pred_instances" in sample and names:
            given = sample.pred_instances
            detections = Detections(given.bboxes, given.scores, given.labels, given.get("masks"))
            found = detections.above(self.score_thr).to_coco(index, list(names))
        height, width = sample.ori_shape[:2]
        scales = sample.get("scale_factor", (1.0, 1.0))
        inner = min(round(height * scales[1]), pixels.shape[1]), min(round(width * scales[0]), pixels.shape[2])
        image = displayable(pixels[:, : inner[0], : inner[1]], (height, width), reversed_channels=True)
        truth = annotated_objects(dataset, index)
        path = sample.get("img_path") or f"{index:06}"
        return path, Watched(image, truth, found, names, maps, inner, is_one_stage(model))


def _publish(visualizer: Any, name: str, picture: np.ndarray, step: int) -> None:
    """Give a picture to every backend in the form that it can show under a name with a slash, at its step."""
    for backend in visualizer._vis_backends.values():
        if isinstance(backend, MLflowVisBackend):
            backend.experiment.log_image(picture, key=mlflow_key(name), step=step)
            continue
        if isinstance(backend, LocalVisBackend):
            folder: Any = backend.experiment._img_save_dir
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        backend.add_image(name, picture, step=step)


def _unwrapped(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model


def _batch_size(loader: Any) -> int:
    """Return the batch size of a training, whose loader may have been built or not."""
    if isinstance(loader, Mapping):
        return int(loader.get("batch_size", 1))
    return int(loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1))


@contextmanager
def _without_batch_augments(preprocessor: nn.Module) -> Iterator[None]:
    """Switch off augmentations of whole batches, such as random sizes, which are part of training."""
    augments = getattr(preprocessor, "batch_augments", None)
    if augments is not None:
        preprocessor.batch_augments = nn.ModuleList()
    try:
        yield
    finally:
        if augments is not None:
            preprocessor.batch_augments = augments
