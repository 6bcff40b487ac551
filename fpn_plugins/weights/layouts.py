"""State dicts that a module takes as they are: which table explains them, and the hooks that apply it on load."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from .key_map import KeyMap, Report

logger = logging.getLogger("fpn_plugins")
PARTIAL_LOAD = "FPN_PLUGINS_PARTIAL_LOAD"


def recognize(
    state_dict: Mapping[str, Tensor],
    wanted: Iterable[str],
    layouts: Callable[[Iterable[str]], Sequence[KeyMap]],
    level_prefixes: Sequence[str] = (),
) -> tuple[dict[str, Tensor], Report] | None:
    """Find the one layout that explains a state dict completely.

    Args:
        state_dict: the keys of one module, without its prefix.
        wanted: that module's own keys.
        layouts: tables to try for a set of foreign keys; called only where there are some.
        level_prefixes: prefixes of our own keys that carry the position of a level. Another number of levels under them
            is another pyramid, whose levels must not slip into the places of this one's.

    Returns:
        The renamed dict and its report, or ``None`` when the dict holds none but our own keys, all of our own and
        others that no table explains, or fits no table at all (then it is the caller's strictness that decides).

    Raises:
        ValueError: the dict fits a table only in part, or several tables that disagree; lists the keys. With the
            environment variable ``FPN_PLUGINS_PARTIAL_LOAD=1`` what fits is loaded, the rest logged as a warning.
    """
    own, wanted = set(state_dict), set(wanted)
    if own <= wanted or own >= wanted:
        slipping = sorted(key for key in own - wanted if key.startswith(tuple(level_prefixes)))
        if slipping or own <= wanted:
            return _partial(Report("our own", unexpected=slipping), state_dict) if slipping else None
        # all of our own and more, which a table may drop
        tried = [layout.apply(state_dict, wanted) for layout in layouts(own)]
        return next((result for result in tried if result[1].complete), None)
    return explain(state_dict, wanted, layouts(own))


def explain(
    state_dict: Mapping[str, Tensor], wanted: Iterable[str], layouts: Iterable[KeyMap]
) -> tuple[dict[str, Tensor], Report] | None:
    """`recognize` for a dict that is known to need a table, be it to drop keys; ``None`` when no key fits any."""
    tried = [layout.apply(state_dict, wanted) for layout in layouts]
    complete = [result for result in tried if result[1].complete]
    if len({tuple(sorted(report.matched.items())) for _, report in complete}) > 1:
        raise ValueError("ambiguous checkpoint: " + " | ".join(str(report) for _, report in complete))
    if complete:
        return complete[0]
    renamed, report = max(tried, key=lambda result: len(result[1].matched), default=({}, Report("no")))
    return _partial(report, renamed) if report.matched else None


def _partial(report: Report, renamed: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    """Refuse a dict that fits in part, unless the user has asked for it."""
    if os.environ.get(PARTIAL_LOAD) != "1":
        raise ValueError(
            f"checkpoint fits this module only in part, so nothing was loaded. {report}. Build the module as it was "
            f"trained (levels, extra levels, norm), or set the environment variable {PARTIAL_LOAD}=1 to load what fits"
        )
    logger.warning("%s=1, loading in part: %s", PARTIAL_LOAD, report)
    return {key: value for key, value in renamed.items() if key not in report.unexpected}, report


def accept_layouts(
    module: nn.Module, layouts: Callable[[Iterable[str]], Sequence[KeyMap]], level_prefixes: Sequence[str] = ()
) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) take other layouts as they are.

    Args:
        module: its own keys stay valid, and are what it saves.
        layouts: the tables to try for a set of foreign keys (a function, because Detectron2's keys carry the stage).
        level_prefixes: see `recognize`.
    """
    module._register_load_state_dict_pre_hook(_LayoutHook(layouts, tuple(level_prefixes)), with_module=True)


class _LayoutHook:
    """A load hook as an object, so that the module can be pickled and deep-copied."""

    def __init__(self, layouts: Callable[[Iterable[str]], Sequence[KeyMap]], level_prefixes: tuple[str, ...]) -> None:
        self.layouts = layouts
        self.level_prefixes = level_prefixes

    def __call__(self, module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
        own = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        present = module.state_dict()
        found = recognize(own, present, self.layouts, self.level_prefixes)
        if found is None:
            return
        renamed, report = found
        for key in own:
            del state_dict[prefix + key]
        renamed = {**renamed, **{key: present[key] for key in report.kept}}
        state_dict.update({prefix + key: value for key, value in renamed.items()})
        logger.info("%s: %s", type(module).__name__, report)


def redirect_keys(module: nn.Module, table: KeyMap) -> None:
    """Let a container pass foreign keys on to the child that understands them; keys that fit no rule stay as they are.

    Args:
        module: the container whose ``load_state_dict`` is prepared.
        table: rules from the container's foreign keys to keys under one of its children.
    """
    module._register_load_state_dict_pre_hook(_RedirectHook(table))


class _RedirectHook:
    """A load hook as an object, so that the module can be pickled and deep-copied."""

    def __init__(self, table: KeyMap) -> None:
        self.table = table

    def __call__(self, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            fits, name = self.table.rename(key[len(prefix) :])
            if fits and name is not None:
                state_dict[prefix + name] = state_dict.pop(key)
