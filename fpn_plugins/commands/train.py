"""Train with MMDetection: mmdet's own ``tools/train.py``, after a check of the data.

    python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume] [--cfg-options k=v ...] [--launcher pytorch]

The command line is mmdet's (``--help`` shows it), and so is the script that runs. Several GPUs:
``torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch``; slurm: ``srun ... --launcher slurm``.
Without a GPU, ``--launcher pytorch`` connects its processes over gloo. ``FPN_PLUGINS_CHECK_DATA=0`` skips the check;
``FPN_PLUGINS_DETERMINISTIC=1`` chooses deterministic algorithms, where ``randomness.deterministic`` stops at the first
operation that has none.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .common import SKIP_CHECK, checks_data, choose_deterministic, mmdet_script, user_errors

# the loaders that each of mmdet's scripts reads
LOADERS = {"train.py": ("train_dataloader", "val_dataloader"), "test.py": ("test_dataloader",)}
# mmengine passes GPU numbers to DistributedDataParallel unless the config says otherwise
WITHOUT_GPU = ("type=MMDistributedDataParallel", "device_ids=None", "broadcast_buffers=False")


def check_data(args: argparse.Namespace, loaders: tuple[str, ...]) -> None:
    """Check the data sets of the config and print what they hold."""
    from mmengine.config import Config

    from ..adapters.mmdet.data_check import check_datasets

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    print(f"checking the data ({SKIP_CHECK}=0 skips this)", flush=True)
    for report in check_datasets(cfg, loaders):
        print(report, flush=True)


@contextmanager
def connected(launcher: str) -> Iterator[None]:
    """Without a GPU, connect torchrun's processes over gloo: mmengine asks for a GPU, unless they are connected."""
    import torch

    if launcher != "pytorch" or torch.cuda.is_available():
        yield
        return
    torch.distributed.init_process_group("gloo")
    sys.argv += ["--cfg-options", *(f"model_wrapper_cfg.{option}" for option in WITHOUT_GPU)]
    yield
    # the first process publishes its checkpoint last; gloo's threads now and then abort an interpreter that is torn
    # down while they run, so that a job that has done all its work would end with an error
    torch.distributed.barrier()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(0)


def main(script: str = "train.py") -> None:
    """Check the data, then hand the command line over to mmdet's script."""
    with user_errors():
        path = mmdet_script(script)
        sys.argv[0] = str(path)
        namespace = runpy.run_path(str(path), run_name="mmdet_script")
        args = namespace["parse_args"]()
        if checks_data():
            check_data(args, LOADERS[script])
    choose_deterministic()
    with connected(args.launcher):
        namespace["main"]()
