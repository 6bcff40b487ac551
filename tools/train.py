"""Train with MMDetection: mmdet's own ``tools/train.py``, after a check of the data."""

from fpn_plugins.commands.train import main

if __name__ == "__main__":
    main()
