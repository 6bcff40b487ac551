"""Train with MMDetection: mmdet's own ``tools/train.py``, after a check of the data.

    python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume] [--cfg-options k=v ...] [--launcher pytorch]

The command line is mmdet's (``--help`` shows it), and so is the script that runs. Several GPUs:
``torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch``; slurm: ``srun ... --launcher slurm``.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys

from _toolbox import mmdet_script, run_or_exit

# the loaders that each of mmdet's scripts reads
LOADERS = {"train.py": ("train_dataloader", "val_dataloader"), "test.py": ("test_dataloader",)}


def check_data(arguments: list[str], loaders: tuple[str, ...]) -> None:
    """Check the data sets of the config on the command line; on the first process of several only."""
    from mmengine.config import Config, DictAction

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("config", nargs="?")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    known, _ = parser.parse_known_args(arguments)
    first = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
    if not first or known.config is None or {"-h", "--help"} & set(arguments):
        return

    from fpn_plugins.adapters.mmdet.data_check import check_datasets

    cfg = Config.fromfile(known.config)
    cfg.merge_from_dict(known.cfg_options or {})
    for report in check_datasets(cfg, loaders):
        print(report)


def main(script: str = "train.py") -> None:
    """Check the data, then hand the command line over to mmdet's script."""
    path = mmdet_script(script)
    check_data(sys.argv[1:], LOADERS[script])
    sys.argv[0] = str(path)
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    run_or_exit(main)
