"""Apply mmengine's ``init_cfg`` with this package's reader of checkpoint files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.logging import print_log
from mmengine.model.weight_init import initialize

from ...necks.freq_fusion import FreqFusion
from ...ops.compilation import CompiledInPlace
from ...upsampling import CARAFE, DySample
from ...weights import read_checkpoint, strip_prefix
from ...weights.download import download
from ...weights.prefixes import restore_wrappers
from .arguments import Cfg

REMEDY = (
    ", or name a local one: --cfg-options model.backbone.init_cfg.checkpoint=FILE (weights of the backbone) or "
    "load_from=FILE (a whole detector)"
)


# layers whose initial weights decide how training begins, whatever init_cfg says of convolutions
SELF_INITIALIZED = (CARAFE, DySample, FreqFusion)


class SafeInit(CompiledInPlace):
    """Mixin of every registered class: a safe ``init_cfg=dict(type='Pretrained', checkpoint=...)``, and ``compile``.

    A ``Pretrained`` file is applied last, as in mmengine. It is read by this package: all layouts are recognized,
    nothing in the file is executed, and it loads completely or not at all. From a whole detector's file, only the keys
    under ``prefix`` are loaded, by default those of the module's usual place in a detector.

    Args:
        *args, **kwargs: of the core class.
        compile: whether to compile the module in place with ``torch.compile``, or a mapping of its options.

    Raises:
        ValueError: the file is for another architecture; lists the keys.
    """

    init_cfg: Any
    default_prefix = "neck."

    def __init__(self, *args: Any, compile: bool | Mapping[str, Any] = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compile_if(compile)

    def compile_log(self, level: int, message: str) -> None:
        """Log a message of compilation as mmengine does, to the training's log too."""
        print_log(message, "current", level)

    def init_weights(self: Any) -> None:
        """Apply ``init_cfg``."""
        given, again = self.init_cfg, self.is_init
        entries = [given] if isinstance(given, Mapping) else list(given or ())
        files = [entry for entry in entries if _names_file(entry)]
        try:
            self.init_cfg = [entry for entry in entries if entry not in files]
            self.init_layers()
        finally:
            self.init_cfg = given
        for entry in [] if again else files:
            self._load_file(entry["checkpoint"], entry.get("prefix"))

    def init_layers(self) -> None:
        """Apply the entries of ``init_cfg`` that name no file; learned upsampling and fusion keep their own."""
        again = self.is_init  # type: ignore[attr-defined]
        super().init_weights()  # type: ignore[misc]
        if not again:
            reset_self_initialized(self)

    def _load_file(self: Any, checkpoint: str, prefix: str | None) -> None:
        weights = read_checkpoint(local_file(checkpoint))
        if prefix:
            weights = strip_prefix(weights, prefix if prefix.endswith(".") else f"{prefix}.")
        elif not set(weights) & set(self.state_dict()) and any(key.startswith(self.default_prefix) for key in weights):
            weights = strip_prefix(weights, self.default_prefix)
        try:
            self.load_state_dict(restore_wrappers(weights, self.state_dict()))
        except (RuntimeError, ValueError) as error:
            name = type(self).__name__
            raise ValueError(f"init_cfg checkpoint={checkpoint!r} does not fit {name}: {error}") from error


def reset_self_initialized(module: Any) -> None:
    """Draw the initial weights of learned upsampling and fusion inside ``module``."""
    for layer in module.modules():
        if isinstance(layer, SELF_INITIALIZED):
            layer.reset_parameters()


def _names_file(entry: Any) -> bool:
    """Return whether an entry of ``init_cfg`` loads a file, whatever scope its type has."""
    overrides = entry.get("override") or ()
    if any(map(_names_file, [overrides] if isinstance(overrides, Mapping) else overrides)):
        raise ValueError(
            f"init_cfg override={overrides!r}: give a Pretrained file an entry of its own, with its prefix"
        )
    kind = entry.get("type")
    return str(getattr(kind, "__name__", kind)).rsplit(".", 1)[-1] in ("Pretrained", "PretrainedInit")


class TakesInitCfg(SafeInit):
    """Constructor mixin that takes mmengine's ``init_cfg`` besides the arguments of the core class.

    Set the data preprocessor's ``mean`` and ``std`` to the backbone's ``pixel_mean`` and ``pixel_std``, with
    ``bgr_to_rgb=True``: the backbones expect the pixels that their weights were trained on.
    """

    default_prefix = "backbone."

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


class LoadedBackbone(TakesInitCfg):
    """Mixin for backbones that initialize themselves and load their weights on construction."""

    def init_layers(self: Any) -> None:
        """Initialize nothing else: mmengine's method would overwrite the weights that inner modules have loaded."""
        if self.init_cfg and not self.is_init:
            initialize(self, self.init_cfg)
        self._is_init = True


def local_file(checkpoint: str) -> str:
    """Return a path unchanged; download a URL to torch's checkpoint folder, which mmengine uses too.

    Raises:
        DownloadError: the address does not answer, or only a part of the file came.
    """
    if urlsplit(checkpoint).scheme not in ("http", "https"):
        return checkpoint
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(checkpoint).path).name)
    if get_local_rank() == 0:  # once per machine
        download(checkpoint, path, REMEDY)
    barrier()
    return str(path)
