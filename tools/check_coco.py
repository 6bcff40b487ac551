"""Check COCO annotations before training on them, and show which sizes of objects they hold."""

import sys

from fpn_plugins.commands.check import main

if __name__ == "__main__":
    sys.exit(main())
