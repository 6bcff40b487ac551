"""Writers of Detectron2's events to W&B and MLflow, by these libraries' own clients and settings."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils.events import EventWriter, get_event_storage

from ...extras import needed_for
from ...watching import mlflow_key


class _NewEvents(EventWriter):
    """Writer that gets each scalar and picture of the storage once, by iteration.

    Register it before ``TensorboardXWriter``, which removes the pictures from the storage.

    Args:
        window_size: iterations over which noisy scalars are smoothed by their median, as in Detectron2's writers.
    """

    def __init__(self, window_size: int = 20) -> None:
        self.window_size = window_size
        self.last: dict[str, int] = defaultdict(lambda: -1)

    def write(self) -> None:
        """Log what is new."""
        storage = get_event_storage()
        new: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, step) in storage.latest_with_smoothing_hint(self.window_size).items():
            new[step][name] = value
        for name, picture, step in storage._vis_data:
            new[step][name] = np.asarray(picture).transpose(1, 2, 0)
        for step in sorted(new):
            values = {name: value for name, value in new[step].items() if step > self.last[name]}
            if values:
                self.log(values, step)
            self.last.update(dict.fromkeys(values, step))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers, and pictures ``H W 3``, by name."""
        raise NotImplementedError


class WandbWriter(_NewEvents):
    """Write scalars and pictures to W&B; ``WANDB_MODE=offline`` and its other variables work as usual.

    Args:
        folder: output folder of the training, for local files.
        project: name of the project.
        name: name of the run; ``None`` lets W&B choose.
        **options: further arguments of ``wandb.init``; in a process with an active run, that run is used.
    """

    def __init__(self, folder: str, project: str = "fpn_plugins", name: str | None = None, **options: Any) -> None:
        with needed_for("runs logged to W&B"):
            import wandb
        super().__init__()
        self.owns_run = wandb.run is None
        self.run: Any = wandb.run or wandb.init(dir=folder, project=project, name=name, **options)
        self.picture = wandb.Image
        _send_config(folder, lambda file: self.run.save(file, base_path=folder, policy="now"))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log at a step; W&B refuses steps before its last one."""
        shown = {
            name: self.picture(value) if isinstance(value, np.ndarray) else value for name, value in values.items()
        }
        self.run.log(shown, step=max(step, self.run.step))

    def close(self) -> None:
        """Finish the run, unless it was there before."""
        if self.owns_run:
            self.run.finish()


class MLflowWriter(_NewEvents):
    """Write scalars and pictures to MLflow, where ``MLFLOW_TRACKING_URI`` says.

    Args:
        folder: output folder of the training, whose ``config.yaml`` is logged.
        project: name of the experiment.
        name: name of the run; ``None`` lets MLflow choose. In a process with an active run, that run is used.
    """

    def __init__(self, folder: str, project: str = "fpn_plugins", name: str | None = None) -> None:
        with needed_for("runs logged to MLflow"):
            import mlflow
        super().__init__()
        self.mlflow = mlflow
        self.owns_run = mlflow.active_run() is None
        if self.owns_run:
            mlflow.set_experiment(project)
            mlflow.start_run(run_name=name)
        _send_config(folder, mlflow.log_artifact)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log at a step, with names of characters that MLflow allows."""
        numbers = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        self.mlflow.log_metrics({mlflow_name(name): value for name, value in numbers.items()}, step)
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self.mlflow.log_image(value, key=mlflow_key(name), step=step)

    def close(self) -> None:
        """End the run, unless it was there before."""
        if self.owns_run:
            self.mlflow.end_run()


def mlflow_name(name: str) -> str:
    """Return a name as MLflow allows it: a relative path of letters, digits and some signs.

    Metrics of classes have their names, which may hold anything.
    """
    parts = re.sub(r"[^\w\-. :/]", "_", name).split("/")
    return "/".join(part if part.strip(".") else "_" * len(part) for part in parts if part)


def _send_config(folder: str, send: Any) -> None:
    """Log the config that Detectron2 writes to the output folder."""
    file = Path(folder, "config.yaml")
    if file.is_file():
        send(os.fspath(file))


WRITERS: dict[str, Any] = {"mlflow": MLflowWriter, "wandb": WandbWriter}
