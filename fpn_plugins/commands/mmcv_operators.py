"""Use mmcv's operators without a compiler: install, remove or describe the file that brings in ours.

    fpn-plugins mmcv-operators install      # or: python -m fpn_plugins.commands.mmcv_operators install

Then MMDetection's own scripts run as they are. A compiled extension of mmcv always has precedence, and ``install``
refuses to write beside one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..adapters.mmcv import installation
from .common import user_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Use mmcv's operators without a compiler")
    actions = {
        "install": "write mmcv/_ext.py, unless mmcv has a compiled extension",
        "remove": "delete the mmcv/_ext.py that install wrote",
        "status": "print where mmcv is and which operators it uses",
    }
    commands = parser.add_subparsers(dest="action", required=True, metavar="|".join(actions))
    for name, text in actions.items():
        commands.add_parser(name, help=text, description=text)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    args = parse_args(argv)
    with user_errors():
        if args.action == "install":
            print(f"wrote {installation.install()}")
        elif args.action == "remove":
            removed = installation.remove()
            print(f"removed {removed}" if removed else "nothing to remove: fpn_plugins has written no mmcv/_ext.py")
        else:
            print("\n".join(installation.status()))


if __name__ == "__main__":
    main()
