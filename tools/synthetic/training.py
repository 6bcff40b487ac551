"""Train the demo's detector with each toolbox's own trainer, in a process of its own, and follow its progress."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"mmdet": "MMDetection", "detectron2": "Detectron2"}
LOG_PERIOD = 10  # iterations between two lines of progress
WARMUP = 50  # iterations, as in the configs
# lines of each toolbox's log about training, and about evaluation
_TRAINING = {
    "mmdet": r"Iter\(train\) \[ *(?P<iteration>\d+)/.* time: (?P<seconds>[\d.]+) .* loss: (?P<loss>[\d.]+|nan) ",
    "detectron2": r" iter: (?P<iteration>\d+) .*total_loss: (?P<loss>[\d.]+|nan) .* time: (?P<seconds>[\d.]+) ",
}
_EVALUATION = {"mmdet": "Iter(val)", "detectron2": "Start inference on"}


@dataclass
class Training:
    """A training in one toolbox, and its state.

    Attributes:
        toolbox: toolbox that trains.
        config: stem of the config, the same in both toolboxes.
        iterations: number of iterations.
        work_dir: folder to write.
        phase: ``waiting``, ``starting``, ``training``, ``evaluating`` or ``done``.
        iteration: iterations done.
        loss: loss of the last iterations; None before the first.
        rate: iterations per second; None before the first.
        result: AP of boxes and masks, and seconds, once all is done.
        process: process that trains, once it runs.
        ended: whether the training was told to stop.
    """

    toolbox: str
    config: str
    iterations: int
    work_dir: Path
    phase: str = "waiting"
    iteration: int = 0
    loss: float | None = None
    rate: float | None = None
    result: dict[str, Any] | None = None
    process: subprocess.Popen[str] | None = None
    ended: bool = False

    @property
    def config_file(self) -> str:
        """Path of the config, relative to the repository."""
        return f"configs/{self.toolbox}/{self.config}.py"

    @property
    def log(self) -> Path:
        """File with the full output."""
        return self.work_dir / "train.log"

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last iteration at the current rate; None before the first."""
        return (self.iterations - self.iteration) / self.rate if self.rate else None

    def read(self, line: str) -> bool:
        """Update the state from a line of output; return whether the line says something new."""
        if found := re.search(_TRAINING[self.toolbox], line):
            # Detectron2 counts from 0
            self.iteration = int(found["iteration"]) + (self.toolbox == "detectron2")
            self.loss, self.rate = float(found["loss"]), 1 / max(float(found["seconds"]), 1e-6)
            self.phase = "training"
            return True
        starts = self.phase != "evaluating" and _EVALUATION[self.toolbox] in line
        if starts:
            self.phase, self.iteration = "evaluating", self.iterations
        return starts

    def stop(self) -> None:
        """End the training's process, or do not let it run for long if it is not there yet."""
        self.ended = True
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def command(self, seed: int) -> list[str]:
        """Script and arguments of the training, as a user would type them."""
        warmup = min(WARMUP, self.iterations // 5)
        if self.toolbox == "mmdet":
            options = {
                **dict.fromkeys(("train_cfg.max_iters", "train_cfg.val_interval"), self.iterations),
                "default_hooks.checkpoint.interval": self.iterations,
                "default_hooks.logger.interval": LOG_PERIOD,
                "param_scheduler.0.end": warmup,
                **dict.fromkeys(("param_scheduler.1.end", "param_scheduler.1.T_max"), self.iterations),
                "val_evaluator.outfile_prefix": self.work_dir / "predictions",
                "randomness.seed": seed,
            }
            script = ["tools/train.py", self.config_file]
            script += ["--work-dir", str(self.work_dir), "--cfg-options"]
        else:
            options = {
                "train.output_dir": self.work_dir,
                **dict.fromkeys(("train.max_iter", "train.eval_period"), self.iterations),
                "train.checkpointer.period": self.iterations,
                "train.log_period": LOG_PERIOD,
                "lr_multiplier.warmup_length": warmup / self.iterations,
                "train.seed": seed,
            }
            script = ["tools/train_net.py", "--config-file", self.config_file]
        return [*script, *(f"{name}={value}" for name, value in options.items())]


def train(run: Training, seed: int, data: Path, threads: int, report: Callable[[Training], object]) -> dict[str, float]:
    """Run a training, which evaluates at its end, with its output in ``run.log``.

    Args:
        run: what to train; its state is kept up to date.
        seed: seed of all random numbers.
        data: COCO-format folder that the configs read.
        threads: threads of PyTorch's operators.
        report: called after each change of the state.

    Returns:
        ``seconds`` that it took, and ``cpu_seconds`` for which its processes computed.

    Raises:
        ValueError: the training failed; shows the end of the log.
    """
    run.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "FPN_PLUGINS_COCO": str(data), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    start, run.phase = time.monotonic(), "starting"
    report(run)
    command = [sys.executable, *run.command(seed)]
    run.process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    if run.ended:
        run.stop()
    with run.log.open("w", encoding="utf-8") as file:
        for line in run.process.stdout or ():
            file.write(line)
            if run.read(line):
                report(run)
    _, status, usage = os.wait4(run.process.pid, 0)
    run.process.returncode = os.waitstatus_to_exitcode(status)
    if run.process.returncode:
        tail = "".join(run.log.read_text(encoding="utf-8").splitlines(keepends=True)[-15:])
        raise ValueError(f"{command[1]} failed with code {run.process.returncode}; the end of {run.log}:\n{tail}")
    return {"seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1)}
