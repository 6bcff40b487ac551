"""Detectron2's hooks for watching a training: losses on the validation set, and pictures of every level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
from detectron2.engine import AMPTrainer, HookBase
from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ...checks import integer, positive_int, probability
from ...compat import uncompiled
from ...inference import Detections
from ...sharding import whole_parameters
from ...watching import (
    Watched,
    compute_as_trained,
    displayable,
    draw_watched,
    is_one_stage,
    make_batches,
    mean_losses,
    picture_name,
    record_levels,
    spread,
    undisturbed,
)

# a prime, at which no model draws what VIS_PERIOD asks for
_NO_ITERATION = 2**31 - 1


class _PeriodicHook(HookBase):
    """Hook that watches when Detectron2's ``EvalHook`` evaluates: every ``period`` iterations and at the end."""

    def __init__(self, period: int) -> None:
        self.period = integer("period", period, 0)

    def after_step(self) -> None:
        """Watch every ``period`` iterations, but not after the last one."""
        done = self.trainer.iter + 1
        if self.period and done % self.period == 0 and done != self.trainer.max_iter:
            self.watch()

    def after_train(self) -> None:
        """Watch at the end of a training that did not fail."""
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.watch()

    @property
    def model(self) -> Any:
        """Return the trainer's model without the wrapper of its processes."""
        model: Any = self.trainer.model  # type: ignore[attr-defined]
        return model.module if isinstance(model, DistributedDataParallel) else model

    def watch(self) -> None:
        """Do what the hook is for, in all processes."""
        raise NotImplementedError


class ValidationLoss(_PeriodicHook):
    """Log the mean losses on a validation set as ``val/total_loss``, ``val/loss_cls``, ...

    ``WATCH.VAL_LOSS True`` (YAML) and ``train.watch.val_loss=True`` (LazyConfig) add it in this package's
    ``train_net.py``; in a script of your own, register it before Detectron2's ``PeriodicWriter``, see
    `add_watching_hooks`. Detectron2's ``BestCheckpointer`` can choose by ``val/total_loss``, with the mode ``"min"``.

    They are the losses that training minimizes, on images without augmentation. Norms use their running statistics, and
    nothing is dropped. The training goes on as without the hook: no gradients, and mode, buffers, running normalizers
    and random numbers are restored. Heads that sample regions at random sample with the same random numbers each time.

    Args:
        dataset: dicts in Detectron2's format, with annotations.
        mapper: function that maps such a dict to a sample for training, such as a ``DatasetMapper`` with
            ``is_train=True`` and the evaluation's augmentations.
        period: iterations between two validations; 0 validates at the end only.
        max_images: most images to use, evenly spaced in the data set.
        batch_size: images per batch and process; losses are normalized by batch, so give that of the training.
        num_workers: processes that read images.
        seed: seed of the random numbers.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], Any],
        period: int,
        max_images: int = 500,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(period)
        positive_int("max_images", max_images)
        self.batches = make_batches(len(dataset), max_images, batch_size, comm.get_rank(), comm.get_world_size())
        self.seed = integer("seed", seed)
        self.loader: DataLoader = DataLoader(
            MapDataset(DatasetFromList(list(dataset), copy=False), mapper),
            batch_sampler=self.batches.indices,
            num_workers=integer("num_workers", num_workers, 0),
            collate_fn=trivial_batch_collator,
            worker_init_fn=worker_init_reset_seed,
        )

    def watch(self) -> None:
        """Compute and log the losses."""
        model = self.model
        trainer: Any = getattr(self.trainer, "_trainer", self.trainer)
        mixed = isinstance(trainer, AMPTrainer)

        def compute(batch: Any) -> Mapping[str, Any]:
            compute_as_trained(model, (model.backbone,))
            precision = torch.autocast("cuda", dtype=trainer.precision) if mixed else nullcontext()
            with EventStorage(_NO_ITERATION), precision:  # detectors log into it
                return model(batch)

        found = mean_losses(model, self.loader, self.batches.weights, compute, self.seed)
        storage = self.trainer.storage
        storage.put_scalar("val/total_loss", sum(found.values()), smoothing_hint=False)
        for name, value in found.items():
            storage.put_scalar(f"val/{name}", value, smoothing_hint=False)


class PyramidVisualization(_PeriodicHook):
    """Draw, for the same few images each time, what is found and what every level responds to.

    ``WATCH.PICTURES 4`` (YAML) and ``train.watch.pictures=4`` (LazyConfig) add it in this package's ``train_net.py``;
    elsewhere, see `ValidationLoss`. Writers get two pictures per image, ``detections/NAME`` and ``levels/NAME``, see
    `fpn_plugins.watching.draw_watched`; the training goes on as without the hook.

    Args:
        dataset: dicts in Detectron2's format.
        mapper: function that maps such a dict to a sample for evaluation.
        names: names of the classes.
        period: iterations between two times; 0 draws at the end only.
        num_images: how many images to draw, evenly spaced in the data set.
        min_score: lowest score of a detection to draw.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], Any],
        names: Sequence[str],
        period: int,
        num_images: int = 4,
        min_score: float = 0.3,
    ) -> None:
        super().__init__(period)
        self.images = [dataset[index] for index in spread(len(dataset), positive_int("num_images", num_images))]
        self.mapper, self.names = mapper, dict(enumerate(names))
        self.min_score = probability("min_score", min_score)

    def watch(self) -> None:
        """Draw in the first process."""
        model = self.model
        with whole_parameters(model), undisturbed(model), uncompiled():
            if not comm.is_main_process():
                return
            model.eval()
            taken: set[str] = set()
            for entry in self.images:
                name = picture_name(entry["file_name"], taken)
                for kind, picture in draw_watched(self._look(model, entry)).items():
                    self.trainer.storage.put_image(f"{kind}/{name}", picture.transpose(2, 0, 1))

    def _look(self, model: Any, entry: dict[str, Any]) -> Watched:
        """Run the model on an image."""
        sample = self.mapper(entry)
        with record_levels(model) as maps:
            output = model([sample])[0]
        found = None
        if "instances" in output and self.names:
            given = output["instances"].to("cpu")
            masks = given.pred_masks if given.has("pred_masks") else None
            detections = Detections(given.pred_boxes.tensor, given.scores, given.pred_classes, masks)
            found = detections.above(self.min_score).to_coco(entry.get("image_id", 0), list(self.names))
        pixels, size = sample["image"], (sample["height"], sample["width"])
        reversed_channels = (getattr(model, "input_format", None) or "BGR") == "BGR"  # a training may have others
        image = displayable(pixels, size, reversed_channels=reversed_channels)
        truth = annotated_objects(entry)
        return Watched(image, truth, found, self.names, maps, tuple(pixels.shape[1:]), is_one_stage(model))


def annotated_objects(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of a dict of Detectron2's data sets in COCO's format, without crowds."""
    objects = []
    for given in entry.get("annotations") or ():
        if given.get("iscrowd"):
            continue
        bbox = BoxMode.convert(list(given["bbox"]), given["bbox_mode"], BoxMode.XYWH_ABS)
        objects.append({"bbox": bbox, "category_id": given["category_id"]})
        if given.get("segmentation"):
            objects[-1]["segmentation"] = given["segmentation"]
    return objects
