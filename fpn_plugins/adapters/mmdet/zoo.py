"""Published models of the zoo in MMDetection, by name."""

from __future__ import annotations

from mmdet.apis import init_detector
from mmengine.config import Config
from torch import nn

from ...weights import read_checkpoint
from ...weights.zoo import Zoo, forget_weights


def load_published(name: str, zoo: Zoo | None = None, device: str = "cpu") -> nn.Module:
    """A published model as `mmdet.apis.init_detector` makes it, ready for `inference_detector`.

    Args:
        name: of the model.
        zoo: where it is listed; ``None`` is the source tree's.
        device: of the model.

    Raises:
        ValueError: no such model, no weights published for MMDetection, or other weights than the config's.
    """
    zoo = zoo or Zoo.read()
    return load_detector(zoo.config(name, "mmdet"), zoo.checkpoint(name, "mmdet"), device)


def load_detector(config: str, checkpoint: str, device: str = "cpu") -> nn.Module:
    """What `mmdet.apis.init_detector` makes of a config and a file that has all weights; no other file is read.

    Raises:
        ValueError: the file holds other weights than the detector has.
    """
    content = Config.fromfile(config)
    forget_weights(content.model)
    detector = init_detector(content, checkpoint, device=device)
    try:
        detector.load_state_dict(read_checkpoint(checkpoint))  # mmengine's loader only warns of keys that do not fit
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} does not fit {config}: {error}") from error
    return detector
