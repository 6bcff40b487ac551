"""Find parameters without a gradient in the first step of ``DistributedDataParallel``, which fails in its second one.

PyTorch's own message comes a step later and numbers the parameters; this one names them and says what to change.
"""

from __future__ import annotations

from functools import partial
from weakref import WeakSet

import torch
from torch import nn
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel

from .tracing import traced

MAX_NAMES = 6
_watched: WeakSet[nn.Module] = WeakSet()


def watch_first_step(module: nn.Module) -> None:
    """Let the backward pass of the first distributed training step raise if parameters get no gradient.

    Call it in the forward of ``module``. It has an effect once per ``DistributedDataParallel`` whose forward is running
    and that does not look for unused parameters itself (``find_unused_parameters``, ``static_graph``). The backward
    pass raises a ``ValueError`` that names the parameters and the remedies.
    """
    if not module.training or traced():
        return
    ddp = DistributedDataParallel._active_ddp_module
    if ddp is None or ddp in _watched or not ddp.require_backward_grad_sync or not torch.is_grad_enabled():
        return
    _watched.add(ddp)
    if not (ddp.find_unused_parameters or ddp.static_graph):
        _FirstStep(ddp)


class _FirstStep:
    """Names of the parameters that the running step has not reached yet."""

    def __init__(self, ddp: DistributedDataParallel) -> None:
        parameters = {name: p for name, p in ddp.module.named_parameters() if p.requires_grad}
        self.missing = [name for name in parameters if name not in ddp.parameters_to_ignore]
        self.started = False
        self.hooks = [
            parameters[name].register_post_accumulate_grad_hook(partial(self._reached, name)) for name in self.missing
        ]

    def _reached(self, name: str, _: torch.Tensor) -> None:
        self.missing = [other for other in self.missing if other != name]
        if not self.started:
            self.started = True
            Variable._execution_engine.queue_callback(self._finish)  # runs at the end of this backward pass

    def _finish(self) -> None:
        for hook in self.hooks:
            hook.remove()
        if self.missing:
            more = len(self.missing) - MAX_NAMES
            names = ", ".join(self.missing[:MAX_NAMES]) + (f", ... ({more} more)" if more > 0 else "")
            raise ValueError(
                f"{len(self.missing)} parameters got no gradient in the first step: {names}. The second step of "
                "DistributedDataParallel would fail. If they belong to maps that no neck or head reads, leave these "
                "maps out with the backbone's out_indices (MODEL.RESNETS.OUT_FEATURES), or levels of the neck; or set "
                "find_unused_parameters=True (MMDetection: in the config, at the top; Detectron2's LazyConfig: "
                "train.ddp; elsewhere: an argument of DistributedDataParallel)"
            )
