"""Refuse unknown keyword arguments of constructors with the name that was probably meant."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from .checks import near_names

_PACKAGE = __name__.partition(".")[0]
# words of the toolboxes -> words of this package
_TRANSLATIONS = {
    "act_cfg": "act",
    "add_extra_convs": "extra_levels",
    "block_dilations": "dilations",
    "block_mid_channels": "mid_channels",
    "conv_cfg": "conv",
    "embed_dims": "embed_dim",
    "end_level": "in_indices",
    "fuse_type": "fusion",
    "in_features": "in_indices",
    "no_norm_on_lateral": "norm_on_lateral",
    "norm_cfg": "norm",
    "num_csp_blocks": "num_blocks",
    "num_outs": "extra_levels",
    "plugin": "after_merge",
    "pooling_type": "pooling",
    "refine_level": "refine_index",
    "refine_type": "refine",
    "relu_before_extra_convs": "extra_levels",
    "stack_times": "num_repeats",
    "start_level": "in_indices",
    "top_block": "extra_levels",
    "upsample_cfg": "upsample_mode",
    "use_abs_pos_embed": "use_abs_pos",
    "use_depthwise": "depthwise",
    "with_cp": "gradient_checkpointing",
}
# arguments of ResNet and FPN in mmdet's base configs, which a config that inherits them passes on
_INHERITED = {"depth", "num_stages", "style", "norm_cfg", "norm_eval", "out_indices", "frozen_stages"}
_DELETE = "; in a config that inherits this part from a base config, add _delete_=True to replace the base's arguments"


class KeywordChecked:
    """Base class whose constructors refuse unknown keyword arguments with `check_keywords`."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Check the names before the constructor runs."""
        check_keywords(cls, keywords)
        return super().__new__(cls)


def check_keywords(kind: type, names: Iterable[str]) -> None:
    """Raise ``TypeError`` if a constructor has no parameter of one of ``names``.

    The message suggests similar parameters, this package's word for a toolbox's argument, and ``_delete_=True`` where
    the arguments of another class seem to be inherited. A constructor outside this package that takes any keyword is
    not checked.
    """
    accepted = accepted_keywords(kind)
    if accepted is None:
        return
    unknown = [name for name in names if name not in accepted]
    if unknown:
        first = unknown[0]
        ours = _TRANSLATIONS.get(first)
        hint = f"; its word here is {ours}" if ours in accepted else near_names(first, sorted(accepted))
        if len(unknown) > 1:
            hint += f"; also unknown: {', '.join(map(repr, unknown[1:]))}"
        if len(unknown) > 1 or first in _INHERITED:
            hint += _DELETE
        raise TypeError(f"{kind.__name__}() got an unexpected keyword argument {first!r}{hint}")


def accepted_keywords(kind: type) -> set[str] | None:
    """Return the parameters of a constructor and of those that its ``**keywords`` reach; ``None`` if any is taken."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names.update(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
        if base.__module__.partition(".")[0] != _PACKAGE:
            return None
    return None


def keyword_parameters(kind: type, what: str) -> None:
    """Raise ``TypeError`` if a constructor parameter cannot be given by name, or is named ``type``.

    ``what`` is the kind of class, for the message, such as ``"backbone"``.
    """
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    unusable = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY or p.name == "type"]
    if unusable:
        raise TypeError(
            f"{what} {kind.__name__!r} needs keyword parameters: rename {unusable[0]!r}, or drop the '/' after it"
        )


def type_name(what: str, config: Any) -> Any:
    """Return a config's ``type`` without this package's scope (``fpn_plugins.FPN`` is ``FPN``); ``what`` names it.

    Raises:
        ValueError: a config of Detectron2 in place of ``{"type": name, **arguments}``.
    """
    theirs = {"_target_": "a LazyConfig", "TYPE": "a YAML config", "NAME": "a YAML config"}
    for key, kind in theirs.items():
        if key in config and "type" not in config:
            raise ValueError(
                f"{what}={dict(config)!r} is a part of {kind} of Detectron2; write "
                '{"type": name, **arguments}, or pass the module that it builds'
            )
    name = config.get("type")
    return name.removeprefix(f"{_PACKAGE}.") if isinstance(name, str) else name


def theirs(name: Any) -> str:
    """Return a remark for an unknown type that has the scope of a toolbox, such as ``mmdet.FPN``, or ``""``."""
    scope = name.partition(".")[0] if isinstance(name, str) and "." in name else ""
    return f"; {name!r} is a class of {scope}: build it there, and pass the module" if scope else ""
