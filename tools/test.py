"""Evaluate with MMDetection: mmdet's own ``tools/test.py``, after a check of the data."""

from fpn_plugins.commands.test import main

if __name__ == "__main__":
    main()
