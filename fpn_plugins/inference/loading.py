"""Load a detector's weights, all of them or none."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor, nn

from ..weights import read_checkpoint
from ..weights.prefixes import restore_wrappers, strip_wrappers
from ..weights.shapes import check_shapes

# parts of keys whose values are determined by the config; some versions of the toolboxes store them
COMPUTED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


def is_computed(key: str) -> bool:
    """Return whether the config determines the value under a key of a state dict."""
    return any(part in key for part in COMPUTED)


def without_wrappers(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights under the keys of a model, as `read_checkpoint` does; the same object if that changes nothing."""
    stripped = restore_wrappers(strip_wrappers(weights), model.state_dict())
    return weights if set(stripped) == set(weights) else stripped


def load_detector_weights(detector: nn.Module, checkpoint: str | os.PathLike[str], config: str = "the config") -> None:
    """Load a checkpoint of exactly this detector; values that the config determines are skipped.

    Args:
        detector: detector of either toolbox.
        checkpoint: file that `read_checkpoint` reads.
        config: name of the detector's config, for messages.

    Raises:
        ValueError: parameters are missing, left over, or of other shapes.
    """
    load_weights(detector, read_checkpoint(checkpoint), str(checkpoint), config)


def load_weights(detector: nn.Module, weights: Mapping[str, Tensor], checkpoint: str, config: str) -> None:
    """Load a state dict as `load_detector_weights` does; ``checkpoint`` names its file, for messages."""
    try:
        keys = detector.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = _reason(detector, weights, error)
        raise ValueError(f"checkpoint {checkpoint!r} does not fit {config}: {reason}") from error
    missing, unexpected = (
        [key for key in found if not is_computed(key)] for found in (keys.missing_keys, keys.unexpected_keys)
    )
    if missing or unexpected:
        raise ValueError(
            f"checkpoint {checkpoint!r} does not fit {config}: {len(missing)} parameters missing {missing[:4]}, "
            f"{len(unexpected)} left over {unexpected[:4]}; tools/convert_checkpoint.py converts a checkpoint of the "
            "other toolbox"
        )


def _reason(detector: nn.Module, weights: Mapping[str, Tensor], error: Exception) -> str:
    """Return the error of a module's own check, or the first of the shapes that PyTorch's lists without end."""
    if isinstance(error, RuntimeError):
        try:
            check_shapes(weights, detector.state_dict(), "Give the config that it was trained with")
        except ValueError as shapes:
            return str(shapes)
    return " ".join(str(error).split())
