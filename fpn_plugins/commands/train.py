"""Train with MMDetection: check the data, then run mmdet's own ``tools/train.py``.

    python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume] [--cfg-options k=v ...] [--launcher pytorch]

CONFIG is a file, ``fpn_plugins::mmdet/NAME`` or ``mmdet::NAME``; ``--data FOLDER --recipe few|small|standard`` in its
place plans a training for a COCO-format folder, prints what it chose and why, writes the config, and trains with it
(``--data FOLDER --help`` lists the options). The script that runs and its command line
(``--help``) are mmdet's own. Several GPUs:
``torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch``; slurm: ``srun ... --launcher slurm``.
Without a GPU, ``--launcher pytorch`` connects its processes over gloo. ``FPN_PLUGINS_CHECK_DATA=0`` skips the check,
``warn`` goes on after errors, ``all`` reads the header of every image. ``FPN_PLUGINS_DETERMINISTIC=1`` uses
deterministic algorithms; operations that have none warn, where mmengine's ``randomness.deterministic`` raises an error.
``FPN_PLUGINS_EXACT_RESUME=1`` uses them too, and a training that was interrupted and continued with ``--resume`` ends
bit-equal to one that was not. Checkpoints are read without executing anything; a damaged last one is skipped with a
warning.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..adapters.hosts import check_toolbox
from ..data import DataCheck
from ..extras import quiet_imports
from ..moved import check_config
from ..packaged import resolve_config
from .common import help_without, make_folder, run_data_check, user_errors
from .recipe import planned_config, show_result
from .recipe_options import recipe_named, sets_aside
from .runs import checkpoint_errors, choose_deterministic, forgotten_if_refused, resumes_exactly

# data loaders that each of mmdet's scripts reads
LOADERS = {"train.py": ("train_dataloader", "val_dataloader"), "test.py": ("test_dataloader",)}
# mmengine passes GPU numbers to DistributedDataParallel unless the config says otherwise
WITHOUT_GPU = ("type=MMDistributedDataParallel", "device_ids=None", "broadcast_buffers=False")

# of ``test.py --tta`` for a config without a ``tta_model``: mmdet's own values, for a class that merges masks too
TTA_MODEL = (
    "type=fpn_plugins.MaskTTAModel",
    "tta_cfg.nms.type=nms",
    "tta_cfg.nms.iou_threshold=0.5",
    "tta_cfg.max_per_img=100",
)


def mmdet_script(name: str) -> Path:
    """Find mmdet's own, unmodified script ``name`` in its package or its source tree.

    Raises:
        FileNotFoundError: mmdet was installed without its tools.
    """
    import mmdet

    package = Path(mmdet.__file__).parent
    candidates = [package / ".mim" / "tools" / name, package.parent / "tools" / name]
    found = next(filter(Path.is_file, candidates), None)
    if found is None:
        raise FileNotFoundError(f"mmdet's tools/{name} is missing; looked for {list(map(str, candidates))}")
    return found


def check_data(args: argparse.Namespace, loaders: Sequence[str]) -> None:
    """Check the data sets of the config and print what was found."""
    from mmengine.config import Config

    from ..adapters.mmdet.data_check import find_problems

    def check(limit: int | None) -> DataCheck:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        return find_problems(cfg, loaders, limit)

    run_data_check(check)


def looks_for_unused(args: argparse.Namespace) -> bool:
    """Return the config's ``find_unused_parameters``, which mmengine ignores beside a ``model_wrapper_cfg``."""
    from mmengine.config import Config

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    given = cfg.get("find_unused_parameters", False)
    return bool((cfg.get("model_wrapper_cfg") or {}).get("find_unused_parameters", given))


def add_cfg_options(pairs: Iterable[str]) -> None:
    """Add ``KEY=VALUE`` pairs to the process's arguments, before a ``--``, after which only positions follow."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv[end:end] = ["--cfg-options", *pairs]


@contextmanager
def connected(args: argparse.Namespace) -> Iterator[None]:
    """Connect torchrun's processes over gloo if there is no GPU; mmengine itself requires one."""
    import torch

    if args.launcher != "pytorch" or torch.cuda.is_available():
        yield
        return
    torch.distributed.init_process_group("gloo")
    options = (*WITHOUT_GPU, f"find_unused_parameters={looks_for_unused(args)}")
    add_cfg_options(f"model_wrapper_cfg.{option}" for option in options)
    yield
    # wait for the first process to write its checkpoint; then exit at once, because gloo's running threads sometimes
    # abort an interpreter that shuts down normally
    torch.distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def parse_script(parse: Callable[[], argparse.Namespace], given: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of mmdet's script, whose ``--cfg-options`` takes anything and may then fail obscurely."""
    try:
        return parse()
    except ValueError as error:
        pairs = given[list(given).index("--cfg-options") + 1 :] if "--cfg-options" in given else []
        wrong = [text for text in pairs if "=" not in text]
        raise ValueError(f"--cfg-options must be KEY=VALUE ...; check {wrong or pairs} ({error})") from error


def add_hooks() -> None:
    """Add this package's hooks, and its reader of checkpoints, to mmdet's script, whose arguments are the process's."""
    from ..adapters.mmdet.loading import load_safely

    load_safely()
    names = ["SafeCheckpointHook", *(["ExactResumeHook"] if resumes_exactly() else [])]
    add_cfg_options(f"default_hooks.{name}.type=fpn_plugins.{name}" for name in names)


def run_script(script: str, argv: Sequence[str] | None, docstring: str | None = __doc__) -> None:
    """Check the data, then run mmdet's ``train.py`` or ``test.py`` with ``argv``, or the process's arguments."""
    given = sys.argv[1:] if argv is None else argv
    help_without("mmdet", given, docstring)
    with user_errors():
        path = mmdet_script(script)
        sys.argv = [sys.argv[0], *map(resolve_config, given)]  # the first is the program in mmdet's usage
        with quiet_imports():
            namespace = runpy.run_path(str(path), run_name="mmdet_script")
        args = parse_script(namespace["parse_args"], given)
        check_config(args.config)
        check_toolbox(args.config, "mmdet")
        with quiet_imports():
            from ..adapters.mmdet.detector import read_config

        cfg = read_config(args.config, changes=args.cfg_options)
        make_folder(args.work_dir or cfg.get("work_dir") or Path("work_dirs", Path(args.config).stem))
        check_data(args, LOADERS[script])
    choose_deterministic()
    add_hooks()
    if getattr(args, "tta", False) and "tta_model" not in cfg:
        add_cfg_options(f"tta_model.{option}" for option in TTA_MODEL)
    with checkpoint_errors(), connected(args):
        namespace["main"]()


def main(argv: Sequence[str] | None = None) -> None:
    """Train; arguments are those of mmdet's ``tools/train.py``, or those of a recipe."""
    config = planned_config("mmdet", argv)
    if config is None:
        with recipe_named("train", argv):
            run_script("train.py", argv)
        return
    given = sys.argv[1:] if argv is None else argv
    with forgotten_if_refused(config, sets_aside("mmdet", given)):
        run_script("train.py", [config])
    show_result("mmdet", config, given)
