"""Load hooks that translate state dicts of other layouts: find the table that fits the keys, and apply it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .key_map import KeyMap, Report

logger = logging.getLogger("fpn_plugins")
PARTIAL_LOAD = "FPN_PLUGINS_PARTIAL_LOAD"
ADAPTER = ".lora_"  # marks the parameters of LoRA adapters, in peft's names

# tables to try, or a function of the foreign keys that returns them
Layouts = Sequence[KeyMap] | Callable[[Iterable[str]], Sequence[KeyMap]]


def recognize(
    state_dict: Mapping[str, Tensor],
    wanted: Iterable[str],
    layouts: Layouts,
    level_prefixes: Sequence[str] = (),
    left_out: Collection[str] = (),
) -> tuple[dict[str, Tensor], Report] | None:
    """Find the one layout that explains a state dict completely.

    Args:
        state_dict: keys of one module, without its prefix.
        wanted: the module's own keys.
        layouts: tables to try, or a function that makes them for a set of foreign keys; called only if there are any.
        level_prefixes: prefixes of our own keys that are followed by the position of a level. Other positions under
            them belong to a pyramid with another number of levels, whose weights must not be loaded level by level.
        left_out: keys of layers that the module has removed; their weights are dropped.

    Returns:
        The renamed dict and its report. ``None`` if the dict has only keys of our own (also of ``left_out``), all of
        our own plus keys that no table explains, or no key of any table; the caller's ``strict`` decides whether that
        is an error.

    Raises:
        ValueError: the dict fits a table only in part, or several tables that disagree; lists the keys. With the
            environment variable ``FPN_PLUGINS_PARTIAL_LOAD=1``, matching keys are loaded and the others logged as a
            warning.
    """
    own, wanted = set(state_dict), set(wanted)
    if own & set(left_out) and own <= wanted | set(left_out):
        return None
    if own <= wanted or own >= wanted:
        slipping = sorted(key for key in own - wanted if key.startswith(tuple(level_prefixes)))
        if slipping or own <= wanted:
            return _partial(Report("our own", unexpected=slipping), state_dict) if slipping else None
        # all of our own and more, which a table may drop
        tried = [layout.apply(state_dict, wanted, left_out) for layout in _tables(layouts, own)]
        return next((result for result in tried if result[1].complete), None)
    return explain(state_dict, wanted, layouts, left_out)


def explain(
    state_dict: Mapping[str, Tensor], wanted: Iterable[str], layouts: Layouts, left_out: Collection[str] = ()
) -> tuple[dict[str, Tensor], Report] | None:
    """Apply the table that explains a dict known to need one; as `recognize`, but ``None`` only if no key matches."""
    tried = [layout.apply(state_dict, wanted, left_out) for layout in _tables(layouts, state_dict)]
    complete = [result for result in tried if result[1].complete]
    if len({tuple(sorted(report.matched.items())) for _, report in complete}) > 1:
        raise ValueError("ambiguous checkpoint: " + " | ".join(str(report) for _, report in complete))
    if complete:
        return complete[0]
    renamed, report = max(tried, key=lambda result: len(result[1].matched), default=({}, Report("no")))
    return _partial(report, renamed) if report.matched else None


def _tables(layouts: Layouts, keys: Iterable[str]) -> Sequence[KeyMap]:
    return layouts(keys) if callable(layouts) else layouts


def adapter_hint(keys: Iterable[str]) -> str:
    """Return the remedy, as the end of a message, for keys that a network without LoRA adapters does not have."""
    if not any(ADAPTER in key for key in keys):
        return ""
    return (
        ". It has LoRA adapters: load it into a network that was built with the same lora, and not by its checkpoint "
        "argument; fpn_plugins.backbones.merge_lora then makes a network without adapters, whose weights fit here"
    )


def _partial(report: Report, renamed: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    """Refuse a dict that fits only in part, unless the user has asked for a partial load."""
    if os.environ.get(PARTIAL_LOAD) != "1":
        raise ValueError(
            f"checkpoint fits this module only in part, so nothing was loaded. {report}. Build the module as it was "
            f"trained (levels, extra levels, norm), or set the environment variable {PARTIAL_LOAD}=1 to load what fits"
            f"{adapter_hint(report.unexpected)}"
        )
    logger.warning("%s=1, loading in part: %s", PARTIAL_LOAD, report)
    return {key: value for key, value in renamed.items() if key not in report.unexpected}, report


def accept_layouts(module: nn.Module, layouts: Layouts, level_prefixes: Sequence[str] = ()) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) accept other layouts; its own keys stay valid.

    See `recognize` for ``layouts`` and ``level_prefixes``.
    """
    module._register_load_state_dict_pre_hook(_LayoutHook(layouts, tuple(level_prefixes)), with_module=True)


class LoadHook:
    """Hook that replaces a module's part of a state dict before it is loaded.

    Hooks are objects, not closures, so that the module can be pickled and deep-copied.
    """

    def __call__(self, module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
        """Replace the entries under ``prefix`` by their translation."""
        given = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        translated = self.translate(module, given) if given else None
        if translated is None:
            return
        for key in given:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in translated.items()})

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Translate a non-empty dict to the module's keys; ``None`` leaves it unchanged."""
        raise NotImplementedError


class LeftOutHook(LoadHook):
    """Hook that drops the weights of layers that a module has removed and lists in ``left_out``, under our names."""

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that the module still has, and log the others."""
        dropped = sorted(left_out_of(module) & given.keys())
        if dropped:
            report = Report("our own", dropped=dropped)
            logger.info("%s has no layers for maps that are not read; %s", type(module).__name__, report)
        return {key: value for key, value in given.items() if key not in dropped}


def left_out_of(module: nn.Module) -> frozenset[str]:
    """Return the keys of the layers that a module has removed."""
    return getattr(module, "left_out", frozenset())


@dataclass
class _LayoutHook(LoadHook):
    layouts: Layouts
    level_prefixes: tuple[str, ...]

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor] | None:
        present = module.state_dict()
        found = recognize(given, present, self.layouts, self.level_prefixes, left_out_of(module))
        if found is None:
            return None
        renamed, report = found
        logger.info("%s: %s", type(module).__name__, report)
        return {**renamed, **{key: present[key] for key in report.kept}}


def redirect_keys(module: nn.Module, table: KeyMap) -> None:
    """Let a container's ``load_state_dict`` rename foreign keys by ``table`` to keys of a child.

    Keys that match no rule stay unchanged.
    """
    module._register_load_state_dict_pre_hook(_RedirectHook(table), with_module=True)


@dataclass
class _RedirectHook(LoadHook):
    table: KeyMap

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {self.table.find(key)[1] or key: value for key, value in given.items()}
