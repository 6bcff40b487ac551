"""Names of foundation models in their authors' code and on Hugging Face -> timm's names, for error messages."""

from __future__ import annotations

import re

_SIZES = {
    **{"ti": "tiny", "t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant", "7b": "7b"},
    **{size: size for size in ("tiny", "small", "base", "large", "huge", "giant")},
}
_PERCEPTION_SIZES = {**_SIZES, "g": "gigantic"}
_WORD = "(?P<size>tiny|small|base|large|huge|giant)"
# pattern of a name in lower case, without the owner's -> timm's name, filled with the groups of the pattern
_NAMES = (
    (r"dinov3[_-]vit(?P<size>7b|[sblh])16(?P<plus>plus)?\b", "vit_{size}{plus}_patch16_dinov3"),
    (rf"dinov3[_-]convnext[_-]{_WORD}", "convnext_{size}"),
    (r"dinov2_vit(?P<size>[sblg])14(?P<registers>_reg)?\b", "vit_{size}_patch14{registers}_dinov2"),
    (rf"dinov2(?P<registers>-with-registers)?-{_WORD}\b", "vit_{size}_patch14{registers}_dinov2"),
    (
        r"pe[_-](?P<kind>core|lang|spatial)[_-](?P<size>[tsblg])(?P<patch>\d+)[_-](?P<side>\d+)",
        "vit_pe_{kind}_{size}_patch{patch}_{side}",
    ),
    (
        r"siglip2?-(?P<size>base|large|so400m)-patch(?P<patch>\d+)-(?P<side>\d+)",
        "vit_{size}_patch{patch}_siglip_{side}",
    ),
    (r"siglip2-giant-opt-patch16-(?P<side>\d+)", "vit_giantopt_patch16_siglip_{side}"),
    (r"eva02_(?P<size>ti|s|b|l)_\w*p14", "eva02_{size}_patch14_224"),
    (rf"vit-mae-{_WORD}", "vit_{size}_patch16_224"),
    (rf"clip-vit-{_WORD}-patch(?P<patch>\d+)", "vit_{size}_patch{patch}_clip_224"),
    (rf"vit-{_WORD}-patch(?P<patch>\d+)-(?P<side>\d+)", "vit_{size}_patch{patch}_{side}"),
)


def timm_name(name: str) -> str | None:
    """Translate a published name, such as ``dinov3_vits16`` or ``facebook/dinov2-base``; ``None`` if it is unknown.

    The result can be a network that timm does not have.
    """
    own = name.lower().rpartition("/")[2]
    for pattern, template in _NAMES:
        found = re.match(pattern, own)
        if found is not None:
            groups = {key: value or "" for key, value in found.groupdict().items()}
            sizes = _PERCEPTION_SIZES if "kind" in groups else _SIZES
            groups["size"] = sizes.get(groups.get("size", ""), groups.get("size", ""))
            marks = {
                "plus": "_plus" if groups.get("plus") else "",
                "registers": "_reg4" if groups.get("registers") else "",
            }
            return template.format(**{**groups, **marks})
    return None
