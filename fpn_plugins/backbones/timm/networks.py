"""What timm builds, and what it says about it: the one place that imports timm, and only when asked for something.

timm tells most errors by assertions and most facts by attributes; here they become errors that say what to do, and
values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# of C2, in input pixels
FINEST_STRIDE = 4


def import_timm() -> Any:
    """The package timm.

    Raises:
        ImportError: it is not installed; names the extra.
    """
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
        return import_timm().create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise _unavailable(name, error) from error


def _unavailable(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"timm has no weights for {name!r}, or could not fetch them ({type(error).__name__}: {error}); "
        "pass checkpoint=FILE"
    )


def checkpoint_network(model: Any, name: str) -> None:
    """Turn on timm's gradient checkpointing; getter networks keep the method on the network inside."""
    try:
        getattr(model, "model", model).set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:  # how timm says that it cannot
        raise ValueError(f"timm's {name!r} has no gradient checkpointing; set gradient_checkpointing=False") from error


def check_out_indices(name: str, out_indices: Sequence[int] | None, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """The wanted positions among the network's maps; ``None`` is the last map of each stride from C2's on."""
    architecture = name.split(".")[0]
    if not import_timm().is_model(architecture):
        near = difflib.get_close_matches(architecture, import_timm().list_models(), n=5, cutoff=0.5)
        raise ValueError(f"timm has no model {name!r}" + (f"; near names: {', '.join(near)}" if near else ""))
    tags = import_timm().list_pretrained(f"{architecture}.*")
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
    build = partial(import_timm().create_model, name, features_only=True, **arguments)
    try:
        try:
            info = skeleton(build).feature_info
        except AssertionError:  # fewer maps than timm returns by default; the rows are those of all maps anyway
            info = skeleton(partial(build, out_indices=(0,))).feature_info
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"timm's {name!r} offers no feature maps (features_only): {error}") from error
    return list(info.info)


def skeleton(build: Callable[[], Any]) -> Any:
    """A network without memory for its weights, where its constructor can do without values."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        return build()


def create_network(
    name: str,
    out_indices: tuple[int, ...],
    pretrained: bool,
    in_chans: int,
    arguments: Mapping[str, Any],
) -> Any:
    """timm's feature network, without what it computes after the last wanted map."""
    try:
        model = import_timm().create_model(
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
    """Empty the stages after ``last`` in its ``nn.Sequential``: EfficientNets keep, and run, all of theirs.

    Unused parameters would cost time and stop DistributedDataParallel. In a Sequential, what comes later cannot matter;
    timm's other feature networks prune themselves.
    """
    container, _, child = last.rpartition(".")
    stages = dict(model.named_modules()).get(container)
    if isinstance(stages, nn.Sequential):
        names = list(stages._modules)
        for name in names[names.index(child) + 1 :]:
            stages._modules[name] = nn.Identity()


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the weights' training images, on the 0..1 scale."""
    config = import_timm().get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def modules_up_to(model: Any, index: int, last: int) -> list[str]:
    """Names of the modules that compute feature map ``index`` and everything before it, in order of definition."""
    if index == -1:
        return []
    if not 0 <= index <= last:
        raise ValueError(
            f"frozen_stages={index} must be -1 (none) or the position of a map up to the last wanted, {last}"
        )
    rows = list(model.feature_info.info)
    names = [name for name, _ in model.named_modules() if name]
    ends = {name: max(i for i, other in enumerate(names) if f"{other}.".startswith(f"{name}.")) for name in names}
    stop = next((ends[n] for n in flattened(rows[index]["module"]) if n in ends), None)
    if stop is None:
        raise ValueError(f"frozen_stages={index}: {rows[index]['module']!r} is not a module of this network")
    inside = {name for name in names if ends[name] <= stop}
    return [name for name in names if name in inside and name.rpartition(".")[0] not in inside]


def flattened(name: str) -> tuple[str, ...]:
    """A name in timm's full network, and what its kinds of feature networks make of it.

    ``stages.0`` stays, becomes ``stages_0``, or is nested under ``model.`` or ``body.``.
    """
    return name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"


def adapt_first_conv(
    name: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor], in_chans: int
) -> dict[str, Tensor]:
    """Fit the first convolution to ``in_chans`` as timm does: RGB filters summed for one channel, repeated for more."""
    from timm.models import adapt_input_conv

    adapted = dict(weights)
    first = import_timm().get_pretrained_cfg(name)
    for conv in [] if first is None else [first.first_conv] if isinstance(first.first_conv, str) else first.first_conv:
        for key in (f"model.{candidate}.weight" for candidate in flattened(conv)):
            if key in adapted and key in own and adapted[key].shape[1] != own[key].shape[1]:
                adapted[key] = adapt_input_conv(in_chans, adapted[key])
    return adapted
