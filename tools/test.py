"""Evaluate with MMDetection: mmdet's own ``tools/test.py``, after a check of the data.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--show-dir DIR] [--cfg-options k=v ...]

The command line is mmdet's (``--help`` shows it), and so is the script that runs.
"""

from fpn_plugins.commands.train import main

if __name__ == "__main__":
    main("test.py")
