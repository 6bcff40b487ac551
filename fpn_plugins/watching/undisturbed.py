"""Run a model in the middle of its training without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..extras import needed_for
from ..resuming import ModuleAttributes

with needed_for("watched trainings"):
    import numpy as np


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Compute no gradients inside, and restore everything but the weights at the end.

    That is: the modes of all modules, buffers (statistics of batch norms), numbers that modules keep as attributes
    (running normalizers of losses), and the random numbers of Python, NumPy and PyTorch. Weights change by optimizers
    alone.

    Args:
        model: model in training; hooks inside may change what is restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    attributes = ModuleAttributes(model)
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(list(devices)), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        attributes.load_state_dict([*place, value] for place, value in attributes.initial.items())
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer.copy_(before)
        for module, training in modes:
            module.training = training


def compute_as_trained(model: nn.Module, extractors: Iterable[nn.Module | None]) -> None:
    """Set a detector to the mode in which it computes losses with the layers that it is evaluated with.

    Heads compute losses in training mode only. Feature extractors, and norms and dropout anywhere, are in evaluation
    mode: norms use their running statistics, and nothing is dropped.

    Args:
        model: a detector.
        extractors: its backbone and neck; ``None`` is skipped.
    """
    model.train()
    for extractor in extractors:
        if extractor is not None:
            extractor.eval()
    for module in model.modules():
        if _is_noisy(module):
            module.training = False


def _is_noisy(module: nn.Module) -> bool:
    """Return whether a layer computes something else in training: norms, dropout of any kind, attention."""
    dropped = type(module).__name__.startswith("Drop")
    return dropped or isinstance(module, (_NormBase, nn.modules.dropout._DropoutNd, nn.MultiheadAttention))
