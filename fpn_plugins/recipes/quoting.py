"""Quote what a recipe embeds in a config, so that no name and no path is read as code or as a reference."""

from __future__ import annotations

import re
from typing import Any

# mmengine replaces {{...}} anywhere in the text of a config: by values of its bases, environment variables, and paths
_REFERENCE = "{{"
_ESCAPED_REFERENCE = r"{\x7b"
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def literal(value: Any) -> str:
    """Return a literal of Python for texts, numbers, and containers of them, without a reference of mmengine's."""
    # two braces are inside a text: a container has none of its own, as no dict is a key
    return repr(value).replace(_REFERENCE, _ESCAPED_REFERENCE)


def in_docstring(text: str) -> str:
    """Return a text as it has to be written between three double quotes to be read as it is."""
    found = text.replace("\\", "\\\\").replace('"', '\\"').replace(_REFERENCE, _ESCAPED_REFERENCE)
    return found.encode("utf-8", "backslashreplace").decode("utf-8")


def uninterpolated(value: Any) -> Any:
    """Escape ``${`` in the texts of a value that OmegaConf will hold, which it would read as a reference."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda match: match[1] * 2 + r"\${", value)
    if isinstance(value, dict):
        return {key: uninterpolated(part) for key, part in value.items()}
    return [uninterpolated(part) for part in value] if isinstance(value, list) else value
