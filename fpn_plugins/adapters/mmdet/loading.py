"""Read and write the checkpoints of mmengine's runner: nothing is executed, and damaged files are skipped."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader
from mmengine.runner import checkpoint as names

from ...files import write_atomically
from ...inference import is_computed, load_weights, without_wrappers
from ...registry import HOOKS
from ...weights.training_state import (
    PickledLog,
    UnusableCheckpointError,
    find_resumable,
    read_training_checkpoint,
)
from .init_cfg import local_file

# state of a training, which files of weights alone lack
REQUIRED = ("state_dict", "optimizer", "message_hub", "meta")


def load_safely() -> None:
    """Replace mmengine's readers of checkpoint files in this process by one that executes nothing.

    It reads ``load_from``, ``resume``, the checkpoint of ``tools/test.py``, and ``init_cfg`` of every class. Named
    models of torchvision and OpenMMLab are downloaded. Other addresses (``s3://``, ``pavi://``) are an error.
    """
    readers: dict[str, Callable[[str], str]] = {
        "": os.path.expanduser,
        **dict.fromkeys(("http://", "https://"), local_file),
        **dict.fromkeys(("torchvision://", "modelzoo://"), _named(names.get_torchvision_models)),
        **dict.fromkeys(("open-mmlab://", "openmmlab://"), _named(names.get_external_models)),
        "mmcls://": _named(names.get_mmcls_models),
    }
    for prefix in {*CheckpointLoader._schemes, *readers}:
        CheckpointLoader.register_scheme(prefix, _reader(readers.get(prefix, _refuse)), force=True)


def _reader(find: Callable[[str], str]) -> Callable[..., dict[str, Any]]:
    def load_from_file_without_executing(filename: str, map_location: object = None) -> dict[str, Any]:
        return read_for_runner(find(filename))

    return load_from_file_without_executing


def _named(models: Callable[[], dict[str, str]]) -> Callable[[str], str]:
    def find(filename: str) -> str:
        name, known = filename.partition("://")[2], models()
        if name not in known:
            raise UnusableCheckpointError(f"checkpoint {filename!r}: there is no model {name!r}; give a file")
        address = known[name]
        return local_file(address) if "://" in address else os.path.join(names._get_mmengine_home(), address)

    return find


def _refuse(filename: str) -> str:
    raise UnusableCheckpointError(f"checkpoint {filename!r}: copy it to a local file, and give that")


def read_for_runner(path: str) -> dict[str, Any]:
    """Read a checkpoint as mmengine's runner expects it; nothing in it is executed.

    The text of a config in ``meta`` is removed, because mmengine would execute it, and so are the paths of best
    checkpoints in other folders, because mmengine deletes those files when it finds a better one.

    Raises:
        UnusableCheckpointError: the file is missing, damaged or hostile, or contains more than data.
    """
    content = read_training_checkpoint(path)
    if "state_dict" not in content and isinstance(content.get("model"), dict):
        content["state_dict"] = content.pop("model")
    meta, hub = content.get("meta"), content.get("message_hub")
    if isinstance(meta, dict):
        meta.pop("config", None)
    if isinstance(hub, dict) and isinstance(hub.get("log_scalars"), dict) and isinstance(hub.get("runtime_info"), dict):
        for key, log in hub["log_scalars"].items():
            if isinstance(log, PickledLog):
                hub["log_scalars"][key] = HistoryBuffer(log.values, log.counts, log.max_length)
        info = hub["runtime_info"]
        for key in [key for key in info if str(key).startswith("best_ckpt")]:
            if Path(str(info[key])).absolute().parent != Path(path).absolute().parent:
                del info[key]
        info["keep_ckpt_ids"] = [step for step in info.get("keep_ckpt_ids", ()) if isinstance(step, int)]
    return content


class AtomicBackend(LocalBackend):
    """mmengine's local files, of which each is either complete or absent under its name."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a temporary file, and rename it; missing folders are created."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(filepath) as temporary:
            temporary.write_bytes(obj)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Resume from the newest complete checkpoint, write complete ones, and refuse weights that do not fit.

    ``resume=True`` without a file takes the checkpoint before a damaged one, with a warning. Checkpoints are renamed
    after they have been written. A file that fits no parameter of the model is an error, in a test a file that lacks
    one or has other shapes, too. This package's ``tools/train.py`` and ``tools/test.py`` add the hook.
    """

    priority = "LOWEST"

    def before_run(self, runner: Any) -> None:
        """Choose the checkpoint to resume from."""
        register_backend("local", AtomicBackend, force=True, prefixes="")
        if not runner._resume or runner._load_from is not None:
            return
        runner._load_from = newest_checkpoint(runner.work_dir, runner.logger)
        runner._resume = runner._load_from is not None

    def before_train(self, runner: Any) -> None:
        """Let a training that was interrupted after its last checkpoint publish that."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and runner._resume and hook.last_ckpt is None:
                hook.last_ckpt = runner._load_from

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Check that weights fit the model before mmengine loads them."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        source = str(runner._load_from)
        try:
            weights = checkpoint["state_dict"] = without_wrappers(model, checkpoint.get("state_dict", checkpoint))
            if isinstance(runner._train_loop, BaseLoop):  # built, so this is a training
                _refuse_other_models(model, weights, source)
            else:
                load_weights(model, weights, source, "the config")
        except ValueError as error:
            raise UnusableCheckpointError(str(error)) from error


def newest_checkpoint(work_dir: str, logger: logging.Logger) -> str | None:
    """Return the last complete checkpoint of a training, ``None`` if there is none; all processes return the same."""
    tag, found = Path(work_dir, "last_checkpoint"), None
    if tag.is_file() and is_main_process():
        found, damaged = find_resumable(work_dir, tag.read_text().strip() or ".", REQUIRED)
        for message in damaged:
            logger.warning(message)
        if damaged:
            logger.warning("Resuming from %s instead.", found or "no checkpoint")
    shared: list[Any] = [None if found is None else str(found)]
    broadcast_object_list(shared)
    return None if shared[0] is None else str(shared[0])


def _refuse_other_models(model: Any, weights: Mapping[str, Any], source: str) -> None:
    """Raise an error after loading if no parameter got a value."""

    def check(module: Any, keys: Any) -> None:
        handle.remove()
        missing = set(keys.missing_keys)
        own = {key: value for key, value in module.state_dict().items() if not is_computed(key)}
        shapes = {key: getattr(weights.get(key), "shape", value.shape) for key, value in own.items()}
        if not any(key not in missing and shapes[key] == value.shape for key, value in own.items()):
            raise UnusableCheckpointError(
                f"checkpoint {source!r} fits no parameter of the model: it has {sorted(weights)[:3]}, the model "
                f"{sorted(own)[:3]}; tools/convert_checkpoint.py converts a checkpoint of the other toolbox"
            )

    handle = model.register_load_state_dict_post_hook(check)
