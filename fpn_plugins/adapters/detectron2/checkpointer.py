"""Read and write Detectron2's checkpoints: nothing is executed, and damaged files are skipped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine.hooks import PeriodicCheckpointer
from detectron2.utils import comm

from ...files import suffix_of, write_atomically
from ...inference import is_computed, without_wrappers
from ...sharding import is_sharded, whole_state
from ...weights.download import fetching
from ...weights.training_state import UnusableCheckpointError, find_resumable, read_training_checkpoint
from .averaging import WeightAverage

# state of a training, which files of weights alone lack
REQUIRED = ("model", "trainer", "iteration")


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's ``DetectionCheckpointer`` that executes nothing, and resumes from complete files only.

    ``.safetensors`` is read, too. A checkpoint is renamed to its name after it has been written. If the last one is
    damaged, training resumes from the one before, with a warning.

    Args:
        model: model whose weights are loaded and saved.
        save_dir: folder of the checkpoints.
        complete: refuse a file that lacks a parameter of the model; otherwise, only one that fits none of them.
        **checkpointables: what else is saved, as in Detectron2's class.

    Raises:
        UnusableCheckpointError: on loading, a file that is missing, damaged or hostile, or that does not fit.
        DownloadError: on loading, an address that does not answer, or a part of a file.
    """

    def __init__(self, model: Any, save_dir: str = "", *, complete: bool = False, **checkpointables: Any) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.average: WeightAverage | None = None
        self._resumable: str | None = None
        self._source = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write model and checkpointables to ``NAME.pth`` as Detectron2 does, but atomically.

        A sharded model is collected, so that all processes have to call this. With an ``average``, the model's weights
        are the running mean.
        """
        with nullcontext() if self.average is None else self.average.apply():
            self._save(name, **kwargs)

    def _save(self, name: str, **kwargs: Any) -> None:
        sharded = is_sharded(self.model)
        if not self.save_dir or not (self.save_to_disk or sharded):
            return
        data = {"model": self.model.state_dict()}
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()} | kwargs
        if sharded:
            data = whole_state(data)
        if not self.save_to_disk:
            return
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        with write_atomically(path) as temporary:
            torch.save(data, temporary)
        self.tag_last_checkpoint(path.name)

    def periodic(self, **options: Any) -> PeriodicCheckpointer | None:
        """Build Detectron2's hook of periodic checkpoints; ``None`` in a process that has no part in them.

        Args:
            **options: arguments of Detectron2's hook, such as ``period``.
        """
        if not comm.is_main_process():
            options["max_to_keep"] = None  # only the first process deletes files
        return PeriodicCheckpointer(self, **options) if comm.is_main_process() or is_sharded(self.model) else None

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint, atomically."""
        with write_atomically(Path(self.save_dir, "last_checkpoint")) as temporary:
            temporary.write_text(last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Return whether there is a complete checkpoint to resume from."""
        return bool(self.find_resumable())

    def find_resumable(self) -> str:
        """Return the path of the last complete checkpoint, ``""`` if there is none; all processes return the same."""
        if self._resumable is None:
            self._resumable = str(comm.all_gather(self._find() if comm.is_main_process() else "")[0])
        return self._resumable

    def _find(self) -> str:
        tag = Path(self.save_dir, "last_checkpoint")
        if not tag.is_file():
            return ""
        path, damaged = find_resumable(self.save_dir, tag.read_text().strip() or ".", REQUIRED)
        for message in damaged:
            self.logger.warning(message)
        if damaged:
            self.logger.warning("Resuming from %s instead.", path or "no checkpoint")
        return str(path or "")

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the last complete checkpoint, or load weights; as Detectron2's method."""
        found = self.find_resumable() if resume else ""
        content: dict[str, Any] = self.load(found) if found else self.load(path, checkpointables=[])
        return content

    def save_final(self, iteration: int, max_iter: int) -> None:
        """Save ``model_final`` if a training was interrupted after its last iteration and before that.

        Args:
            iteration: last iteration of the training that is resumed, counted from 0.
            max_iter: number of iterations.
        """
        if iteration == max_iter - 1 and self._resumable and Path(self._resumable).name != "model_final.pth":
            self.save("model_final", iteration=iteration)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, as Detectron2's method."""
        self._source = str(path)
        self._fetch(self._source)
        try:
            content: dict[str, Any] = super().load(path, *args, **kwargs)
        except UnusableCheckpointError:
            raise
        except (AssertionError, OSError, RuntimeError, ValueError) as error:
            raise UnusableCheckpointError(f"checkpoint {path!r}: {error}") from error
        return content

    def _fetch(self, path: str) -> None:
        """Download what ``path`` names to Detectron2's cache, if it is an address."""
        address = path.partition("?")[0]
        if "://" in address:
            remedy = "name a local file: MODEL.WEIGHTS FILE, in a LazyConfig train.init_checkpoint=FILE"
            with fetching(repr(address), remedy):
                self.path_manager.get_local_path(address)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = read_training_checkpoint(filename)
        if suffix_of(filename) == ".pyth":  # pycls
            content = {key: value for key, value in content["model_state"].items() if "num_batches_tracked" not in key}
            return {"model": content, "__author__": "pycls", "matching_heuristics": True}
        if suffix_of(filename) != ".pkl":
            return self._with_query(content if "model" in content else {"model": content.get("state_dict", content)})
        if "model" in content and "__author__" in content:
            return content
        weights = content.get("blobs", content)  # Caffe2
        weights = {key: value for key, value in weights.items() if not key.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}

    def _with_query(self, content: dict[str, Any]) -> dict[str, Any]:
        query = getattr(self._parsed_url_during_load, "query", "")
        if query not in ("", "matching_heuristics=True"):
            raise UnusableCheckpointError(f"checkpoint {self._source!r}: only ?matching_heuristics=True is known")
        return {**content, "matching_heuristics": True} if query else content

    def _load_model(self, checkpoint: Any) -> Any:
        weights = checkpoint["model"]
        if not isinstance(weights, Mapping):
            raise UnusableCheckpointError(f"checkpoint {self._source!r} holds no state dict under 'model'")
        names = sorted(weights)[:3]
        if not checkpoint.get("matching_heuristics"):
            checkpoint["model"] = without_wrappers(self.model, weights)
        found = super()._load_model(checkpoint)
        own = {key for key in self.model.state_dict() if not is_computed(key)}
        lacking = sorted(
            own.intersection(found.missing_keys) | own.intersection(key for key, *_ in found.incorrect_shapes)
        )
        if lacking and (self.complete or len(lacking) == len(own)):
            raise UnusableCheckpointError(
                f"checkpoint {self._source!r} does not fit the config: {len(lacking)} parameters missing or of other "
                f"shapes {lacking[:3]}, the file has {names}; tools/convert_checkpoint.py converts a checkpoint of the "
                "other toolbox"
            )
        return found
