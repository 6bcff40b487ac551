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
    config = Config.fromfile(zoo.config(name, "mmdet"))
    forget_weights(config.model)
    file = zoo.checkpoint(name, "mmdet")
    detector = init_detector(config, file, device=device)
    try:
        detector.load_state_dict(read_checkpoint(file))  # mmengine's loader only warns of keys that do not fit
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit {zoo.config(name, 'mmdet')}: {error}") from error
    return detector
