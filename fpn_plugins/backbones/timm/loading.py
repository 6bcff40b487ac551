"""Load weights into timm's feature networks: recognize the layout, adapt the first convolution, resize tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...weights import KeyMap, accept_layouts
from ...weights.input_channels import accept_color_images
from ...weights.layouts import LoadHook, logger
from ...weights.maps import resnet
from ...weights.shapes import check_shapes, other_shapes
from .networks import flattened, import_timm, skeleton

COUNTER = "num_batches_tracked"  # of batch norms; frozen ones have none


class TimmSource(NamedTuple):
    """Names of a feature network, and how to build the full network that it is a part of.

    Attributes:
        name: timm's model name.
        build: builds the full network.
        used: names in the feature network's state dict.
    """

    name: str
    build: Callable[[], nn.Module]
    used: frozenset[str]

    def full(self) -> nn.Module:
        """Build the full network without allocating its weights."""
        network: nn.Module = skeleton(self.build)
        return network

    def places(self, full: Iterable[str]) -> dict[str, str]:
        """Map the ``full`` network's names to names in the feature network, for the parts that the latter has."""
        found = {name: next((form for form in flattened(name) if form in self.used), None) for name in full}
        return {name: place for name, place in found.items() if place is not None}

    def layers(self) -> tuple[dict[str, int], int]:
        """Number the layers as timm does (``group_matcher``), by names in the feature network; see `Backbone`.

        Raises:
            ValueError: the network does not say what its layers are.
        """
        from timm.models import group_parameters

        full = self.full()
        try:
            groups = group_parameters(full, full.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
        except (AttributeError, NotImplementedError, AssertionError):
            groups = {}
        if len(set(groups.values())) < 2:
            raise ValueError(
                f"timm's {self.name!r} does not say what its layers are (group_matcher), so it has no layer-wise "
                "learning rates; use one rate"
            )
        places = self.places(groups)
        return {place: groups[name] for name, place in places.items()}, max(groups.values())


def timm_source(network: nn.Module, name: str, arguments: Mapping[str, Any]) -> TimmSource:
    """Make the `TimmSource` of a feature network; ``arguments`` are those of ``timm.create_model`` besides ``name``."""
    return TimmSource(name, partial(import_timm().create_model, name, **arguments), frozenset(network.state_dict()))


def accept_timm_weights(module: nn.Module, source: TimmSource, in_chans: int) -> None:
    """Let ``module``, which has the feature network as ``model``, load all layouts of `TimmBackbone`.

    First convolutions for another number of channels are summed or repeated, and tables of another image or window size
    resized, both as in timm. Loading raises a ``ValueError`` if a tensor still has another shape.
    """
    accept_layouts(module, _TimmLayouts(source))
    accept_color_images(module, first_convolutions(source.name, module.state_dict()), in_chans)
    module._register_load_state_dict_pre_hook(FitHook(source), with_module=True)


class _TimmLayouts:
    """Tables from timm's full network, or Detectron2's names of ResNets, to a feature network under ``model.``.

    Keys that only the full network has (classifier, stages after the last requested map) are dropped; other keys stay
    unexplained. A layout is recognized by all of its keys: many networks share a prefix such as ``stem.conv1.``.
    """

    def __init__(self, source: TimmSource) -> None:
        self.source = source

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        full, name = self.source.full().state_dict(), self.source.name
        places = self.source.places(full)
        own = [(place, f"model.{place}") for place in places.values()]  # of a file without `model.`
        tables = [KeyMap("own", own)]
        if not any(key.endswith(COUNTER) for key in self.source.used):  # norm="FrozenBN"
            same = [(f"{part}.<*>",) * 2 for part in ("model", "norms")]
            tables.append(KeyMap("own", same).dropping([f"model.<*>.{COUNTER}"]))
        for names in (KeyMap("timm", [("<*>", "<*>")]), resnet.detectron2()):
            rules: list[tuple[str, str | None]] = []
            for key in keys:
                rule, translated = names.find(key)
                if rule is not None and translated is None:
                    rules.append((key, None))
                elif translated in full:
                    place = places.get(str(translated))
                    rules.append((key, None if place is None else f"model.{place}"))
            tables.append(KeyMap(f"{names.layout} {name}", rules, lacks=["norms.<*>"]))
        return tables


def first_convolutions(name: str, own: Collection[str]) -> list[str]:
    """List the filters that read the image in the network that timm calls ``name``, by their names among ``own``."""
    config = import_timm().get_pretrained_cfg(name)
    first = (config.first_conv if config else None) or ()
    convs = (first,) if isinstance(first, str) else first
    keys = [f"model.{candidate}.weight" for conv in convs for candidate in flattened(conv)]
    return [key for key in keys if key in own]


class FitHook(LoadHook):
    """Hook that resizes tables of positions and patch filters by the network's own ``checkpoint_filter_fn``.

    Raises:
        ValueError: a tensor of another shape that timm does not resize; also where the caller only warns of it.
    """

    def __init__(self, source: TimmSource) -> None:
        self.source = source

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Replace the tensors whose shape differs from the module's."""
        own = module.state_dict()
        wrong = other_shapes(given, own)
        if not wrong:
            return None
        fitted = {**given, **self._resize(given, own, wrong)}
        for key in wrong:
            if fitted[key].shape == own[key].shape:
                logger.warning("%s resized from %s to %s", key, tuple(given[key].shape), tuple(own[key].shape))
        check_shapes(
            fitted, own, f"Build the network as it was trained (name={self.source.name!r}, model_args, in_chans)"
        )
        return fitted

    def _resize(self, given: Mapping[str, Tensor], own: Mapping[str, Tensor], wrong: list[str]) -> dict[str, Tensor]:
        convert = _filter_function(self.source.name)
        if convert is None:
            return {}
        full = self.source.full()
        places = {f"model.{place}": name for name, place in self.source.places(full.state_dict()).items()}
        named = {places[key]: value for key, value in given.items() if key in places}
        try:
            resized = convert(dict(named), full)
        except Exception as error:  # timm's functions take weights of this architecture only
            logger.info("timm's checkpoint_filter_fn: %s: %s", type(error).__name__, error)
            return {}
        found = {key: resized.get(places[key]) for key in wrong if key in places}
        return {key: value for key, value in found.items() if value is not None and value.shape == own[key].shape}


def _filter_function(name: str) -> Callable[..., dict[str, Tensor]] | None:
    """Return the function by which timm fits a checkpoint to a network, if the network's module has one."""
    module = import_timm().model_entrypoint(name.split(".")[0]).__module__
    return getattr(sys.modules[module], "checkpoint_filter_fn", None)
