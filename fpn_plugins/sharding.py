"""Train what is larger than one card: divide parameters, gradients and optimizer states between the processes.

`shard` applies PyTorch's ``fully_shard`` (FSDP2, PyTorch 2.6 or later) to every block of the backbone, and to the rest.
Classes, names and numbers of the model stay; each process holds a part of every tensor. Files stay ordinary ones:
`whole_state` collects a state dict on the first process, and whole weights load into a sharded model, in every layout
that the model reads. The toolboxes use it through ``fpn_plugins.FSDPStrategy`` (MMDetection) and ``train.fsdp``
(Detectron2's LazyConfig).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from .compat import find_fully_shard
from .necks import PyramidNeck

_BLOCK = re.compile(r"(^|\.)blocks\.\d+$")
# modules that `shard` gave to `fully_shard` -> whether their parameters are released after forward
_released: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class ShardingError(ValueError):
    """A model, a setting or an environment with which a training cannot be sharded."""


def wrap_units(model: nn.Module) -> list[nn.Module]:
    """List the modules whose parameters are gathered one at a time: blocks of ViTs, Swin, MViT, and timm's networks.

    These are the modules of the lists named ``blocks``, necks aside. A network without any is gathered as a whole.
    """
    necks = {id(part) for neck in model.modules() if isinstance(neck, PyramidNeck) for part in neck.modules()}
    return [part for name, part in model.named_modules() if _BLOCK.search(name) and id(part) not in necks]


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` has divided the model."""
    return model in _released


def shard(model: nn.Module, device: torch.device | str = "cpu", reshard_after_forward: bool = True) -> nn.Module:
    """Divide a model between all processes, in place; the first process decides the initial values.

    Build the optimizer afterwards, and call `shard_on_load` with it. `torch.nn.utils.clip_grad_norm_` clips by the norm
    over all processes. Activations are not divided: ``gradient_checkpointing=True`` of the backbone saves these.

    Args:
        model: a detector, or any module, on any device; blocks are moved one by one, so that it need not fit a card.
        device: device of this process, such as ``"cuda"``, whose current GPU is used.
        reshard_after_forward: release the parameters of each block after its forward and gather them again in backward;
            False keeps them (more memory, less traffic).

    Returns:
        The model. Its ``forward`` must be called by ``model(...)``.

    Raises:
        ShardingError: PyTorch is older than 2.6, there is no process group, or a parameter is a scalar, which cannot be
            divided.
    """
    if not dist.is_initialized():
        raise ShardingError("sharding divides a model between processes, and there is no process group: start several")
    scalars = [name for name, parameter in model.named_parameters() if parameter.dim() == 0]
    if scalars:
        raise ShardingError(
            f"parameters {scalars[:3]} are scalars, which fully_shard cannot divide; train this model without sharding"
        )
    try:
        fully_shard = find_fully_shard()
    except ImportError as error:
        raise ShardingError(str(error)) from error
    mesh = dist.device_mesh.init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    for part in (*reversed(wrap_units(model)), model):  # inner ones first
        _move_and_equalize(part, torch.device(device))
        is_root = part is model  # which backward needs first, so that it is kept
        fully_shard(part, mesh=mesh, reshard_after_forward=reshard_after_forward and not is_root)
        _released[part] = reshard_after_forward and not is_root
    for module in model.modules():
        module.register_load_state_dict_pre_hook(_divide_weights)
    return model


def _move_and_equalize(part: nn.Module, device: torch.device) -> None:
    """Move what is not yet divided to the device, with the values of the first process, contiguous in memory."""
    for module in part.modules():
        tensors = {**module._parameters, **module._buffers}
        for tensor in tensors.values():
            if tensor is not None and not _is_divided(tensor):
                tensor.data = tensor.detach().to(device).contiguous()
                dist.broadcast(tensor.data, 0)


def _is_divided(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def _part_like(own: Any, value: Any) -> Any:
    """Return this process's part of a whole tensor, divided like ``own``; other values as they are."""
    if not _is_divided(own) or _is_divided(value) or getattr(value, "shape", None) != own.shape:
        return value
    from torch.distributed.tensor import DTensor

    mesh, local = own.device_mesh, own.to_local()
    parts = value.detach().chunk(mesh.size(), 0)
    part = parts[mesh.get_local_rank()] if mesh.get_local_rank() < len(parts) else value.new_empty(local.shape)
    part = part.to(local.device, copy=True, memory_format=torch.contiguous_format)
    return DTensor.from_local(part, mesh, own.placements, run_check=False, shape=own.shape, stride=own.stride())


def _divide_weights(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, own in module._parameters.items():
        if prefix + name in weights:
            weights[prefix + name] = _part_like(own, weights[prefix + name])


def shard_on_load(optimizer: Optimizer) -> None:
    """Let the optimizer of a sharded model load the whole state of an ordinary one."""
    optimizer.register_load_state_dict_pre_hook(_divide_state)


def _divide_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    owners = dict(zip(numbers, parameters, strict=False))  # the optimizer itself checks their number
    state = {
        number: {key: _part_like(owners.get(number), value) for key, value in values.items()}
        for number, values in state_dict["state"].items()
    }
    return {**state_dict, "state": state}


def whole_state(state: Any) -> Any:
    """Collect divided tensors of a state dict, or of dicts and lists of them, on the CPU of the first process.

    All processes must call it with the same structure.

    Returns:
        A copy with whole tensors; in other processes than the first, ``None`` in their places.
    """
    if _is_divided(state):
        whole = state.detach().full_tensor()
        return whole.cpu() if dist.get_rank() == 0 else None
    if isinstance(state, dict):
        copied = copy.copy(state)  # with the versions of modules, which PyTorch attaches
        for key, value in state.items():
            copied[key] = whole_state(value)
        return copied
    return type(state)(map(whole_state, state)) if type(state) in (list, tuple) else state


@contextmanager
def whole_parameters(model: nn.Module) -> Iterator[None]:
    """Keep all parameters of a sharded model gathered, so that processes may run it different numbers of times.

    Models that are not sharded are left as they are.
    """
    parts: list[Any] = [part for part in model.modules() if part in _released]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(_released[part], recurse=False)
            part.reshard()
