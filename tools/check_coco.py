"""Check COCO annotations before training on them, and report the sizes of their objects."""

from fpn_plugins.commands.check import main

if __name__ == "__main__":
    main()
