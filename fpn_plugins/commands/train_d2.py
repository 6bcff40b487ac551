"""Train and evaluate with Detectron2, like its ``train_net.py`` (YAML) and ``lazyconfig_train_net.py`` (``.py``).

    python tools/train_net.py --config-file FILE [--num-gpus N] [--resume] [--eval-only] [OVERRIDES]

FILE may also be ``fpn_plugins::detectron2/NAME`` or ``detectron2::NAME`` of Detectron2's model zoo.
``--data FOLDER --recipe few|small|standard`` in its place plans a training for a COCO-format folder, prints what it
chose and why, writes the config, and trains with it (``--data FOLDER --help`` lists the options).
Detectron2's own scripts run this package's configs as well (YAML files with
``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2``), but its distribution does not contain them. This command has
their command line, and checks the data first (``FPN_PLUGINS_CHECK_DATA=0`` skips the check,
``warn`` goes on after errors, ``all`` reads the header of every image). It evaluates COCO-format
sets only. ``TEST.AUG.ENABLED True`` (YAML), ``train.tta=True`` or ``train.tta.min_sizes=[640,800]`` (LazyConfig) adds
an evaluation with test-time augmentation of boxes and masks, for every detector. With a seed (``SEED``,
``train.seed``), the order and augmentation of images do not depend on the model, unlike in Detectron2.
``FPN_PLUGINS_DETERMINISTIC=1`` uses deterministic algorithms; ``FPN_PLUGINS_EXACT_RESUME=1`` too, and a training that
was interrupted and continued with ``--resume`` ends bit-equal to one that was not. Checkpoints are read without
executing anything; a damaged last one is skipped with a warning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ..adapters.hosts import check_toolbox
from ..extras import quiet_imports
from ..moved import check_config
from ..packaged import resolve_config
from .common import help_without, run_data_check, user_errors
from .recipe import planned_config, show_result
from .recipe_options import recipe_named, sets_aside
from .runs import checkpoint_errors, choose_deterministic, forgotten_if_refused, resumes_exactly


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of Detectron2's scripts."""
    from detectron2.engine import default_argument_parser

    parser = default_argument_parser()
    args = parser.parse_args(argv)
    if not args.config_file:
        parser.error("--config-file is required: a YAML file, or a LazyConfig file that ends in .py")
    with user_errors():
        args.config_file = resolve_config(args.config_file)
    return args


def run_process(args: argparse.Namespace) -> Any:
    """Check the data in one process per machine, then run this process of the job."""
    with quiet_imports():
        from detectron2.utils import comm

        from ..adapters.detectron2.data_check import find_problems
        from ..adapters.detectron2.datasets import register_from_environment
        from ..adapters.detectron2.engine import make_job

    with user_errors():
        register_from_environment()
        choose_deterministic()
        job = make_job(args, resumes_exactly())
        if comm.get_local_rank() == 0:
            run_data_check(lambda limit: find_problems(job.needs, limit))
    with checkpoint_errors():
        return job.run()


def main(argv: Sequence[str] | None = None) -> None:
    """Start ``--num-gpus`` processes, as Detectron2's scripts do; without a GPU, they are connected over gloo."""
    given, config = argv, planned_config("detectron2", argv)
    argv = argv if config is None else ["--config-file", config]
    with recipe_named("train-d2", argv):
        help_without("detectron2", sys.argv[1:] if argv is None else argv, __doc__)
        with user_errors(), quiet_imports():
            from ..adapters import detectron2  # noqa: F401  # names the extra to install if Detectron2 is missing
        from detectron2.engine import launch

        args = parse_args(argv)
    with user_errors():
        check_config(args.config_file)
        check_toolbox(args.config_file, "detectron2")
    with nullcontext() if config is None else forgotten_if_refused(config, sets_aside("detectron2", given)):
        launch(
            run_process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    if config is not None:
        show_result("detectron2", config, given)
