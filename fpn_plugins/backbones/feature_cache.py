"""Keep the maps of a frozen backbone on disk, so that an image is computed once for all epochs and trainings.

::

    image --sha256 with network and precision--> key --file?--> maps
                                                      none: compute, write
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from operator import is_
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import file_name, mapping, near_names, number
from ..compat import autocast_dtype, run_by_export
from .fingerprint import fingerprint, memory_of
from .map_files import MapFiles

ARGUMENTS = ("folder", "max_bytes")


class FeatureCache:
    """Cache of a backbone, whose ``forward`` takes the place of the backbone's own; see `add_feature_cache`.

    Attributes:
        backbone: the backbone.
        files: the maps on disk.
    """

    def __init__(self, backbone: Any, folder: Path, max_bytes: int) -> None:
        self.backbone, self.files = backbone, MapFiles(folder, max_bytes)
        self.forget()
        _run_outside_of_graphs()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle or copy; the copy hashes its network itself."""
        return {"backbone": self.backbone, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; the process may be a new one."""
        self.__dict__.update(state)
        self.forget()
        _run_outside_of_graphs()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of images ``B in_chans H W``; recorded graphs (``torch.export``) hold the network itself."""
        if run_by_export() or torch.jit.is_tracing():
            return self.compute(x)
        return self.look_up(x)

    def look_up(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of each image from the disk, or compute them alone, whatever else is in the batch."""
        self.backbone.check_image(x)
        check_frozen(self.backbone)
        if len(x) == 0 or type(x) is not Tensor or x.is_meta or not self._has_effect_on(x):
            return self.compute(x)
        several, setting = [], self._setting(x)
        for image in x.split(1):
            key = image_key(setting, image)
            maps = self.files.read(key, x.device)
            if maps is None:
                maps = self._without_unread(self.compute(image))
                self.files.write(key, maps)
            several.append(maps)
        return tuple(map(_joined, zip(*several, strict=True)))

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the backbone itself computes."""
        return type(self.backbone).forward(self.backbone, x)

    def forget(self) -> None:
        """Hash the network again before the next look-up; needed after writing to a tensor's ``.data``."""
        self._seen: list[Any] = []
        self._versions: list[tuple[int, int]] = []
        self._hashed = ""

    def _has_effect_on(self, x: Tensor) -> bool:
        """Return whether weights are whole, and no gradient of the pixels and no hook inside needs the network."""
        if any(type(p) is not nn.Parameter for p in self.backbone.parameters()):
            return False
        modules = list(self.backbone.modules())
        hooks = [hook for m in modules[1:] for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
        own = {_package(module) for module in modules} if hooks else set()
        return {_package(hook) for hook in hooks} <= own and not (x.requires_grad and torch.is_grad_enabled())

    def _setting(self, x: Tensor) -> str:
        """Describe everything but the pixels that decides the last bit of the maps."""
        device = x.device.type
        kind = torch.cuda.get_device_name(x.device) if device == "cuda" else torch.backends.cpu.get_cpu_capability()
        threads = torch.get_num_threads() if device == "cpu" else 0
        precision = (autocast_dtype(device), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
        mode = (torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
        return repr((self._fingerprint(), device, kind, threads, precision, mode))

    def _fingerprint(self) -> str:
        """Hash the network, if a module or an attribute was exchanged, or a tensor was written or moved."""
        modules = list(self.backbone.modules())
        seen = [*modules, *(value for module in modules for value in vars(module).values())]
        tensors = [*self.backbone.parameters(), *self.backbone.buffers()]
        versions = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        same = len(seen) == len(self._seen) and all(map(is_, seen, self._seen))
        if not same or versions != self._versions:
            self._seen, self._versions, self._hashed = seen, versions, fingerprint(self.backbone)
        return self._hashed

    def _without_unread(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Replace maps that no neck reads by zeros without memory."""
        kept = self.backbone.kept_maps
        return [
            m if kept is None or position in kept else m.new_zeros(1).expand(m.shape) for position, m in enumerate(maps)
        ]


def add_feature_cache(backbone: Any, folder: str | os.PathLike[str], max_bytes: float) -> None:
    """Let a frozen backbone keep its maps on disk, in place; backbones call it with their ``feature_cache``.

    The key of a map is a hash of the network (classes, versions, settings, parameters, buffers), the image's pixels as
    they arrive, precision (autocast, TF32), device and number of threads. So augmentation cannot make maps wrong, but
    only pixels that come again are found: the same image, resized, flipped and padded alike.

    The maps of an image are computed alone, whatever else is in the batch: kernels may round differently for another
    batch size. With one image per batch, maps equal those without a cache bit for bit; with several, those of a cache
    with ``max_bytes=0``, which keeps nothing. The backbone stays in evaluation mode.

    Images are computed without cache where one needs a gradient, where modules inside the backbone have hooks of other
    packages than the network's, and where weights are sharded (FSDP). ``torch.compile`` leaves the backbone out of its
    graph (``fullgraph=True`` is an error); ``torch.export``, ONNX and TorchScript record the network without cache.

    Args:
        backbone: `Backbone` without trainable parameters.
        folder: of the files, which several processes may share. It can be removed at any time.
        max_bytes: size of all files together. In a full folder, those that were not used since the start of the process
            are removed, the longest unused first; if there are none, further maps are not kept (with a warning).

    Raises:
        ImportError: ``safetensors`` is not installed.
        TypeError: not a `Backbone`, or an argument of another type.
        ValueError: a parameter that trains, or a negative size.
    """
    if not hasattr(backbone, "check_image"):
        raise TypeError(f"backbone={type(backbone).__name__} must be a backbone of fpn_plugins, or one derived from it")
    file_name("folder", folder)
    if folder is None:
        raise TypeError("folder=None must be the path of a folder")
    size = int(number("max_bytes", max_bytes, 0))
    check_frozen(backbone, modes=False)
    backbone.feature_cache = FeatureCache(backbone, Path(folder), size)
    backbone.forward = backbone.feature_cache.forward
    backbone.train(backbone.training)


def add_feature_cache_from(backbone: Any, feature_cache: Mapping[str, Any] | None) -> None:
    """Call `add_feature_cache` with the entries of the argument ``feature_cache`` of a backbone, unless it is ``None``.

    Raises:
        TypeError: not a mapping, or an unknown or missing key; also the errors of `add_feature_cache`.
    """
    if feature_cache is None:
        return
    given = mapping("feature_cache", feature_cache, '{"folder": "maps", "max_bytes": 100e9}')
    wrong = [key for key in given if key not in ARGUMENTS] + [key for key in ARGUMENTS if key not in given]
    if wrong:
        verb = f"has no {wrong[0]!r}{near_names(wrong[0], ARGUMENTS)}" if wrong[0] in given else f"lacks {wrong[0]!r}"
        raise TypeError(f"feature_cache {verb}; it takes {' and '.join(ARGUMENTS)}")
    add_feature_cache(backbone, **given)


def check_frozen(backbone: Any, modes: bool = True) -> None:
    """Raise ``ValueError`` for the first parameter that trains, and, with ``modes``, module in training mode."""
    kind = type(backbone).__name__
    trains = next((name for name, p in backbone.named_parameters() if p.requires_grad), None)
    if trains is not None:
        raise ValueError(
            f"feature_cache: {trains!r} of {kind} trains, so its maps change; freeze the whole backbone "
            "(frozen_stages=number of its stages, no lora), or leave out feature_cache"
        )
    training = next((name for name, module in backbone.named_modules() if module.training), None) if modes else None
    if training is not None:
        raise ValueError(
            f"feature_cache: module {training!r} of {kind} is in training mode, so its maps may be random; switch the "
            "mode of the backbone or detector as a whole, which leaves a backbone with a cache in evaluation mode"
        )


def _package(hook: Any) -> str:
    """Return the package of a module's class, or of a function; that of what it wraps for a partial or a method."""
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__self__", hook).__module__).partition(".")[0]


def image_key(setting: str, image: Tensor) -> str:
    """Hash the pixels of ``1 C H W`` and their memory format, together with a description of the rest."""
    digest = hashlib.sha256(repr((setting, image.dtype, tuple(image.shape), image.stride())).encode())
    pixels = image.detach().to("cpu").contiguous()
    digest.update(memory_of(pixels))
    return digest.hexdigest()


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Join the maps ``1 C H W`` of several images; zeros without memory stay so."""
    if len(maps) == 1:
        return maps[0]
    if not any(maps[0].stride()):
        return maps[0].expand(len(maps), *maps[0].shape[1:])
    return torch.cat(list(maps))


def _run_outside_of_graphs() -> None:
    """Let ``torch.compile`` call `FeatureCache.look_up`, not record it; importing the compiler takes a second."""
    if not hasattr(FeatureCache.look_up, "_torchdynamo_disable"):
        FeatureCache.look_up = torch.compiler.disable(FeatureCache.look_up)  # type: ignore[method-assign]
