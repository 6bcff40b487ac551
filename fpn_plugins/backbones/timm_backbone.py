"""Any timm network with ``features_only`` as a detection backbone.

timm (https://github.com/huggingface/pytorch-image-models) publishes channels and reductions of every network in
``feature_info``; they become ``feature_specs`` here, and nothing is guessed from a model's name. timm is imported when
a backbone is built, so that the package works without it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..features import FeatureSpec
from ..layers import NormFactory, make_norm
from ..weights import KeyMap, accept_layouts, read_checkpoint, recognise
from ..weights.maps import resnet

# of C2, in input pixels
FINEST_STRIDE = 4


class TimmBackbone(nn.Module):
    """Backbone from timm: image in, tuple of maps out.

    Args:
        name: timm model name, e.g. ``"resnet50"`` or ``"mobilenetv2_100.ra_in1k"``.
        out_indices: which of timm's feature maps to return, ascending. Most convolutional networks have five, of stride
            2 to 32, so that C2..C5 are ``(1, 2, 3, 4)``; some (ConvNeXt) have four, C2..C5 = ``(0, 1, 2, 3)``; plain
            transformers have one per block, all of one stride. ``None`` is the last map of each stride from 4 on.
        pretrained: load timm's own weights (downloaded by timm).
        checkpoint: weights file read instead: timm's, torchvision's or mmdet's names, Detectron2's for ResNets, or this
            module's own; read without executing anything, loaded completely or not at all.
        in_chans: channels of the image; weights of another number are adapted as timm does (summed or repeated).
        frozen_stages: fix (no gradient, norms in evaluation mode) everything up to and including what computes feature
            map ``frozen_stages`` in timm's count: for ResNet 0 is the stem and 1 is stem + ``layer1``, as in mmdet. -1
            is nothing.
        norm_eval: keep all batch norms in evaluation mode while training.
        drop_path_rate: stochastic depth, for the networks that have it.
        gradient_checkpointing: recompute activations in the backward pass (less memory, about a third more time).
        output_norm: a norm behind each map (see `make_norm`): ``"LN"`` for networks that leave their maps as the
            residual blocks sum them (ConvNeXt, Swin and plain transformers), as detectors built on these have it.
        model_args: further arguments for ``timm.create_model``, e.g. those that let a transformer take any size.

    Attributes:
        feature_specs: channels and stride of each returned map.

    Input: ``B in_chans H W``, RGB, normalised with the weights' own mean and standard deviation (`mean`, `std`). Which
    sizes it may have is timm's own forward's matter (`docs/timm_families.md` has a table): most convolutional networks
    take any, HRNet and DLA need multiples of 32, to which both toolboxes pad; transformers need ``model_args``.

    Raises:
        ImportError: timm is not installed.
        ValueError: unknown model (suggests near names), one without feature maps or without gradient checkpointing,
            indices out of range, or a checkpoint of another architecture (lists the keys).
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        pretrained: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        output_norm: str | NormFactory | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint is not None:
            raise ValueError(f"pretrained=True and checkpoint={str(checkpoint)!r} exclude each other; choose one")
        self.name = name
        arguments = {**(model_args or {}), **({"drop_path_rate": drop_path_rate} if drop_path_rate else {})}
        self.out_indices = _check_out_indices(name, out_indices, model_args or {})
        self.model = _create(name, self.out_indices, pretrained, in_chans, arguments)
        info = self.model.feature_info
        shapes = zip(info.channels(), info.reduction(), strict=True)
        self.feature_specs = tuple(FeatureSpec(int(channels), int(stride)) for channels, stride in shapes)
        self.mean, self.std = _normalisation(name)
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self._frozen = _modules_up_to(self.model, frozen_stages, self.out_indices[-1])
        self._channels_last_maps = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        norms = [make_norm(output_norm, spec.channels) for spec in self.feature_specs]
        self.norms = nn.ModuleList(norm for norm in norms if norm is not None)
        if gradient_checkpointing:
            _checkpoint(self.model, name)
        self._layouts = _TimmLayouts(name, self.out_indices, arguments)
        accept_layouts(self, self._layouts)
        if checkpoint is not None:
            self._load(checkpoint, in_chans)
        self._freeze()

    @property
    def pixel_mean(self) -> list[float]:
        """Mean of the pixels that the weights expect, on the 0..255 scale, RGB, as both toolboxes' configs state it."""
        return [round(255 * value, 3) for value in self.mean]

    @property
    def pixel_std(self) -> list[float]:
        """Standard deviation of those pixels, on the 0..255 scale, RGB."""
        return [round(255 * value, 3) for value in self.std]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image batch ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``."""
        maps = self.model(x)
        if self._channels_last_maps:
            maps = [m.permute(0, 3, 1, 2) for m in maps]  # B H W C -> B C H W
        if len(self.norms):
            maps = [norm(m) for norm, m in zip(self.norms, maps, strict=True)]
        return tuple(maps)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Switch mode; frozen parts and, with ``norm_eval``, batch norms stay in evaluation mode."""
        super().train(mode)
        if mode:
            for name in self._frozen:
                self.model.get_submodule(name).eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()
        return self

    def _freeze(self) -> None:
        for name in self._frozen:
            self.model.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def _load(self, checkpoint: str | os.PathLike[str], in_chans: int) -> None:
        weights = read_checkpoint(checkpoint)
        own = self.state_dict()
        found = recognise(weights, own, self._layouts)
        renamed = weights if found is None else {**found[0], **{key: own[key] for key in found[1].kept}}
        if found is None and not set(weights) >= {key for key in own if not key.endswith("num_batches_tracked")}:
            raise ValueError(
                f"checkpoint {os.fspath(checkpoint)!r} is of another architecture than {self.name!r}: it holds "
                f"{sorted(weights)[:4]}, ..., the model needs {sorted(own)[:4]}, ... (of a whole detector, pass the "
                "backbone's part: fpn_plugins.weights.under)"
            )
        try:
            self.load_state_dict(_adapt_first_conv(self.name, renamed, own, in_chans))
        except RuntimeError as error:  # the names fit, the shapes do not
            raise ValueError(f"checkpoint {os.fspath(checkpoint)!r} does not fit {self.name!r}: {error}") from error


class _TimmLayouts:
    """Tables for a timm feature network held under ``model.``: timm's full network, and Detectron2's names for ResNets.

    What the feature network leaves out (the classifier, stages after the last wanted map) is dropped on purpose; a key
    that timm's full network does not have either stays unexplained.
    """

    def __init__(self, name: str, out_indices: tuple[int, ...], arguments: Mapping[str, Any]) -> None:
        self.name = name
        self.out_indices = out_indices
        self.arguments = dict(arguments)

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        keys = list(keys)
        foreign = any(key.startswith(("stem.conv1.", "res2.")) for key in keys)
        names = resnet.detectron2() if foreign else KeyMap("timm", [("{*}", "{*}")])
        full = _skeleton(lambda: _timm().create_model(self.name, **self.arguments)).state_dict()
        used = _skeleton(lambda: _create(self.name, self.out_indices, False, 3, self.arguments)).state_dict()
        rules: list[tuple[str, str | None]] = []
        for key in keys:
            fits, name = names.rename(key)
            if fits and (name is None or name in full):
                place = None if name is None else next((n for n in _flattened(name) if n in used), None)
                rules.append((key, None if place is None else f"model.{place}"))
        return [KeyMap(f"{names.layout} {self.name}", rules, lacks=["norms.{*}"])]


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError("TimmBackbone needs timm: pip install 'fpn_plugins[timm]'") from error
    return timm


def timm_weights(name: str) -> dict[str, Tensor]:
    """State dict of timm's whole network of that name with its published weights, downloaded by timm.

    Raises:
        ImportError: timm is not installed.
        RuntimeError: there are no weights of that name, or they could not be fetched.
    """
    try:
        return _timm().create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise _unavailable(name, error) from error


def _unavailable(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"timm has no weights for {name!r}, or could not fetch them ({type(error).__name__}: {error}); "
        "pass checkpoint=FILE"
    )


def _checkpoint(model: Any, name: str) -> None:
    """Turn on timm's gradient checkpointing; getter networks keep the method on the network inside."""
    try:
        getattr(model, "model", model).set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:  # how timm says that it cannot
        raise ValueError(f"timm's {name!r} has no gradient checkpointing; set gradient_checkpointing=False") from error


def _check_out_indices(name: str, out_indices: Sequence[int] | None, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """The wanted positions among the network's maps; ``None`` is the last map of each stride from C2's on."""
    architecture = name.split(".")[0]
    if not _timm().is_model(architecture):
        near = difflib.get_close_matches(architecture, _timm().list_models(), n=5, cutoff=0.5)
        raise ValueError(f"timm has no model {name!r}" + (f"; near names: {', '.join(near)}" if near else ""))
    tags = _timm().list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        raise ValueError(f"timm has no weights {name!r}; there are {tags or 'none for this network'}")
    info = _feature_info(name, arguments)
    if out_indices is None:
        last = {row["reduction"]: index for index, row in enumerate(info) if row["reduction"] >= FINEST_STRIDE}
        out_indices = sorted(last.values())
    indices = tuple(int(index) for index in out_indices)
    if not indices or list(indices) != sorted(set(indices)) or indices[0] < 0 or indices[-1] >= len(info):
        table = ", ".join(f"{index}: stride {row['reduction']}" for index, row in enumerate(info))
        raise ValueError(f"out_indices={list(out_indices)} must be ascending positions of {name}'s maps ({table})")
    return indices


def _feature_info(name: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """timm's rows for all feature maps of a network, without allocating its weights."""
    try:
        info = _skeleton(lambda: _timm().create_model(name, features_only=True, **arguments)).feature_info
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"timm's {name!r} offers no feature maps (features_only): {error}") from error
    return list(info.info)


def _skeleton(build: Callable[[], Any]) -> Any:
    """A network without memory for its weights, where its constructor can do without values."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        return build()


def _create(
    name: str,
    out_indices: tuple[int, ...],
    pretrained: bool,
    in_chans: int,
    arguments: Mapping[str, Any],
) -> Any:
    """timm's feature network, without what it computes after the last wanted map."""
    try:
        model = _timm().create_model(
            name, features_only=True, out_indices=out_indices, pretrained=pretrained, in_chans=in_chans, **arguments
        )
    except AssertionError as error:  # how timm says that it has no hook for a map that it lists
        raise ValueError(f"timm cannot return maps {list(out_indices)} of {name!r}: {error}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise _unavailable(name, error) from error
    _prune_after(model, model.feature_info.info[out_indices[-1]]["module"])
    return model


def _prune_after(model: nn.Module, last: str) -> None:
    """Empty the stages behind ``last`` in its ``nn.Sequential``: EfficientNets keep, and run, all of theirs.

    Unused parameters would cost time and stop DistributedDataParallel. In a Sequential, what comes later cannot matter;
    timm's other feature networks prune themselves.
    """
    container, _, child = last.rpartition(".")
    stages = dict(model.named_modules()).get(container)
    if isinstance(stages, nn.Sequential):
        names = list(stages._modules)
        for name in names[names.index(child) + 1 :]:
            stages._modules[name] = nn.Identity()


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the weights' training images, on the 0..1 scale."""
    config = _timm().get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _modules_up_to(model: Any, index: int, last: int) -> list[str]:
    """Names of the modules that compute feature map ``index`` and everything before it, in order of definition."""
    if index < 0:
        return []
    if index > last:
        raise ValueError(
            f"frozen_stages={index} must be -1 (none) or the position of a map up to the last wanted, {last}"
        )
    rows = list(model.feature_info.info)
    names = [name for name, _ in model.named_modules() if name]
    ends = {name: max(i for i, other in enumerate(names) if f"{other}.".startswith(f"{name}.")) for name in names}
    stop = next((ends[n] for n in _flattened(rows[index]["module"]) if n in ends), None)
    if stop is None:
        raise ValueError(f"frozen_stages={index}: {rows[index]['module']!r} is not a module of this network")
    inside = {name for name in names if ends[name] <= stop}
    return [name for name in names if name in inside and name.rpartition(".")[0] not in inside]


def _flattened(name: str) -> tuple[str, ...]:
    """A name in timm's full network, and what its kinds of feature networks make of it.

    ``stages.0`` stays, becomes ``stages_0``, or is nested under ``model.`` or ``body.``.
    """
    return name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"


def _adapt_first_conv(
    name: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor], in_chans: int
) -> dict[str, Tensor]:
    """Fit the first convolution to ``in_chans`` as timm does: RGB filters summed for one channel, repeated for more."""
    from timm.models import adapt_input_conv

    adapted = dict(weights)
    first = _timm().get_pretrained_cfg(name)
    for conv in [] if first is None else [first.first_conv] if isinstance(first.first_conv, str) else first.first_conv:
        for key in (f"model.{candidate}.weight" for candidate in _flattened(conv)):
            if key in adapted and key in own and adapted[key].shape[1] != own[key].shape[1]:
                adapted[key] = adapt_input_conv(in_chans, adapted[key])
    return adapted
