"""Build timm's networks and inspect them: the only module that imports timm, inside functions.

timm reports most errors by assertions; here they become errors with a remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...checks import ascending, near_names
from ...extras import needed_for
from ...ops.pooling import make_traceable
from ...weights.download import fetching
from ..base import IMAGENET_MEAN, IMAGENET_STD
from .published_names import timm_name

FINEST_STRIDE = 4  # stride of C2, in input pixels
# functions that change nothing but the values of a tensor
_INITIALIZES = frozenset(
    ("add_", "clamp_", "constant_", "div_", "erfinv_", "fill_", "kaiming_normal_", "kaiming_uniform_")
    + ("mul_", "normal_", "sub_", "uniform_", "xavier_uniform_", "zero_")
)
# a stage or block in a numbered list, such as "stages.0"; group 1 is the list
_NUMBERED = re.compile(r"(?!stem)(\w+)\.\d+(?:\.|$)")


def import_timm() -> Any:
    """Import and return timm; ``ImportError`` that names the extra if it is not installed."""
    with needed_for("timm's networks and weights"):
        import timm
    return timm


def timm_weights(name: str) -> dict[str, Tensor]:
    """Download the published weights of timm's network ``name`` and return its whole state dict.

    Raises:
        ImportError: timm is not installed.
        DownloadError: there are no weights of that name, or they cannot be downloaded.
    """
    with fetching_timm(name):
        weights: dict[str, Tensor] = import_timm().create_model(name, pretrained=True).state_dict()
    return weights


def fetching_timm(name: str, pretrained: bool | None = True) -> AbstractContextManager[None]:
    """Turn errors of a network's download, if it is ``pretrained``, into a `DownloadError`."""
    if not pretrained:
        return nullcontext()
    config = import_timm().get_pretrained_cfg(name)
    hub, address = (config.hf_hub_id, config.url) if config else (None, None)
    place = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{hub}" if hub else address or "no address"
    what = f"timm's weights for {name!r} from {place}"
    return fetching(what, "name a local file of the weights: checkpoint=FILE of the backbone", RuntimeError)


def turn_on_checkpointing(model: Any, name: str) -> None:
    """Turn on timm's gradient checkpointing; raise ``ValueError`` if the network has none."""
    try:
        getattr(model, "model", model).set_grad_checkpointing(True)  # feature getters have it on the inner network
    except (AssertionError, AttributeError) as error:
        raise ValueError(f"timm's {name!r} has no gradient checkpointing; set gradient_checkpointing=False") from error


def check_name(name: str) -> str:
    """Return the architecture of timm's network ``name``, which can end with the tag of its weights.

    Raises:
        ValueError: unknown network (translates its authors' name, or suggests similar ones) or tag (lists the
            network's).
    """
    timm = import_timm()
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        theirs = timm_name(name)
        if theirs is not None and timm.is_model(theirs):
            raise ValueError(f"name={name!r}: timm has no model {name!r}; it calls this network {theirs!r}")
        near = near_names(architecture.lower(), timm.list_models(), number=5)
        raise ValueError(f"name={name!r}: timm has no model {name!r}{near}")
    if dot and name not in (tags := timm.list_pretrained(f"{architecture}.*")):
        raise ValueError(f"timm has no weights {name!r}; there are {tags or 'none for this network'}")
    return architecture


def check_out_indices(name: str, out_indices: Sequence[int] | None, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the positions of the requested maps; ``None`` selects the last map of each stride from C2 on.

    Raises:
        ValueError: unknown network or tag (suggests similar names), or positions out of range (lists the maps).
    """
    check_name(name)
    info = _feature_info(name, arguments)
    if out_indices is None:
        last = {row["reduction"]: index for index, row in enumerate(info) if row["reduction"] >= FINEST_STRIDE}
        out_indices = sorted(last.values())
    table = ", ".join(f"{index}: stride {row['reduction']}" for index, row in enumerate(info))
    return ascending("out_indices", out_indices, len(info), f"of {name}'s maps ({table})")


def _feature_info(name: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read timm's rows for all feature maps of a network, without allocating its weights."""
    build = partial(import_timm().create_model, name, features_only=True, **arguments)
    try:
        try:
            info = skeleton(build).feature_info
        except AssertionError:  # fewer maps than timm returns by default; the rows list all maps in any case
            info = skeleton(partial(build, out_indices=(0,))).feature_info
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"timm's {name!r} offers no feature maps (features_only): {error}") from error
    return list(info.info)


class _WithoutInitialization(TorchFunctionMode):
    """Skip what initialization computes on tensors without values: it takes longer than all the rest of a skeleton."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor that a function in `_INITIALIZES` would change, and the result of any other function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _INITIALIZES:
            changed = args[0] if args else kwargs.get("tensor")
            if changed is not None and changed.is_meta:
                return changed
        return func(*args, **kwargs)


def skeleton(build: Callable[[], Any]) -> Any:
    """Build a network without allocating its weights, if its constructor does not need their values."""
    try:
        with torch.device("meta"), _WithoutInitialization():
            return build()
    except NotImplementedError:
        return build()


def create_network(
    name: str, out_indices: tuple[int, ...], pretrained: bool | None, in_chans: int, arguments: Mapping[str, Any]
) -> Any:
    """Build timm's feature network without the layers after the last requested map."""
    try:
        with fetching_timm(name, pretrained):
            model = import_timm().create_model(
                name, features_only=True, out_indices=out_indices, pretrained=pretrained, in_chans=in_chans, **arguments
            )
    except AssertionError as error:  # timm lists a map that it has no hook for
        raise ValueError(f"timm cannot return maps {list(out_indices)} of {name!r}: {error}") from error
    _prune_after(model, model.feature_info.info[out_indices[-1]]["module"])
    make_traceable(model)
    return model


def _prune_after(model: nn.Module, last: str) -> None:
    """Empty the stages after ``last`` in its ``nn.Sequential``, because EfficientNets keep and run all of their stages.

    Unused parameters would cost time and break DistributedDataParallel. timm prunes its other feature networks itself.
    """
    container, _, child = last.rpartition(".")
    stages = dict(model.named_modules()).get(container)
    if isinstance(stages, nn.Sequential):
        names = list(stages._modules)
        for name in names[names.index(child) + 1 :]:
            stages._modules[name] = nn.Identity()


def adopt_parameters(smaller: nn.Module, network: nn.Module) -> bool:
    """Let ``smaller`` hold the parameters and buffers of ``network``, of which it is the beginning.

    Returns:
        Whether it does; not for a ``network`` with layers of another kind, or with further parameters or hooks, as
        utilities make them (``convert_sync_batchnorm``, adapters).
    """
    layers, pairs = dict(network.named_modules()), []
    for name, module in smaller.named_modules():
        if isinstance(module, nn.Identity):  # in the place of a stage that is left out
            continue
        layer = layers.get(name)
        if layer is None or type(layer) is not type(module) or _holds(layer) != _holds(module):
            return False
        pairs.append((module, layer))
    for module, layer in pairs:
        module._parameters, module._buffers = layer._parameters, layer._buffers
    return True


def _holds(layer: nn.Module) -> tuple[list[str], ...]:
    """Name the parameters, the buffers and the hooks of one layer, without timm's hooks that collect maps."""
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values(), *layer._backward_hooks.values()]
    modules = [str(getattr(hook, "func", hook).__module__) for hook in hooks]
    return list(layer._parameters), list(layer._buffers), [name for name in modules if not name.startswith("timm.")]


def pixel_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up the mean and standard deviation of the weights' training images, on the 0..1 scale."""
    config = import_timm().get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else (IMAGENET_MEAN, IMAGENET_STD)


def stage_modules(model: Any, last: int) -> list[list[str]]:
    """Name the modules of a feature network's stem, then those of each stage up to feature map ``last``.

    A stage computes one feature map from the map before. The stem is everything before the first stage; many networks,
    such as ResNets, list a map of the stem first, and their first stage computes the second map.

    Raises:
        ValueError: a feature map that is not the output of a module.
    """
    names = [name for name, _ in model.named_modules() if name]
    position = {name: index for index, name in enumerate(names)}
    ends = {name[: match.start()]: position[name] for name in names for match in re.finditer(r"\.|$", name)}
    rows = list(model.feature_info.info)
    outputs = [_own_name(row["module"], position) for row in rows[: last + 1]]
    if "" in outputs:
        map_without = rows[outputs.index("")]["module"]
        raise ValueError(f"{map_without!r} is not a module of this network, so no stages can be frozen; pass -1")
    stops = [ends[name] for name in outputs]
    lists = [_NUMBERED.match(row["module"]) for row in rows[:2]]
    starts = [position.get(_own_name(f"{numbered[1]}.0", position), 0) if numbered else 0 for numbered in lists]
    if starts[0] == 0 and rows[0]["reduction"] >= FINEST_STRIDE:
        starts[0] = position[outputs[0]]
    if starts[0] > 0:
        stops.insert(0, starts[0] - 1)
    else:  # the first map may be taken in the middle of the stem
        stops[0] = max([stops[0], *(start - 1 for start in starts[1:])])
    stages = []
    for start, stop in zip([-1, *stops], stops, strict=False):
        inside = {name for name in names if start < position[name] and ends[name] <= stop}
        stages.append([name for name in names if name in inside and name.rpartition(".")[0] not in inside])
    return stages


def _own_name(name: str, own: Mapping[str, Any]) -> str:
    return next((form for form in flattened(name) if form in own), "")


def flattened(name: str) -> tuple[str, ...]:
    """Return a name in timm's full network and its variants in timm's feature networks.

    ``stages.0`` stays, becomes ``stages_0``, or is nested under ``model.`` or ``body.``.
    """
    return name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"
