"""Published models of the zoo in Detectron2, by name."""

from __future__ import annotations

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from torch import nn

from ...weights import read_checkpoint
from ...weights.zoo import Zoo, forget_weights
from .config import add_fpn_plugins_config


def load_published(name: str, zoo: Zoo | None = None, device: str = "cpu") -> nn.Module:
    """A published model, in evaluation mode.

    Args:
        name: of the model.
        zoo: where it is listed; ``None`` is the source tree's.
        device: of the model.

    Raises:
        ValueError: no such model, no weights published for Detectron2, or other weights than the config's.
    """
    zoo = zoo or Zoo.read()
    return load_detector(zoo.config(name, "detectron2"), zoo.checkpoint(name, "detectron2"), device)


def load_detector(config: str, checkpoint: str, device: str = "cpu") -> nn.Module:
    """The detector of a YAML or LazyConfig file with all of its weights from a file, in evaluation mode.

    Raises:
        ValueError: the file holds other weights than the detector has.
    """
    detector = _build(config).to(device).eval()
    DetectionCheckpointer(detector).load(checkpoint)
    try:
        detector.load_state_dict(read_checkpoint(checkpoint))  # the checkpointer only warns of keys that do not fit
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} does not fit {config}: {error}") from error
    return detector


def _build(config: str) -> Any:
    if config.endswith(".py"):
        model = LazyConfig.load(config).model
        forget_weights(model)
        return instantiate(model)
    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.merge_from_file(config)
    forget_weights(cfg.MODEL.FPN_PLUGINS)
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)
