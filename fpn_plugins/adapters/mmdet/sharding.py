"""mmengine's FSDP strategy on PyTorch's ``fully_shard``, with whole checkpoints that every other training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.model import BaseDataPreprocessor
from torch import nn

from ...checks import boolean
from ...registry import STRATEGIES
from ...sharding import ShardingError, is_sharded, shard, shard_on_load, whole_state
from .loading import newest_checkpoint

_UNUSED = ("model_wrapper", "skip_init_weights", "state_dict_cfg", "activation_checkpointing")


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """Divide parameters, gradients and optimizer states between the processes; see `fpn_plugins.sharding`.

    Two lines make any config of mmdet train sharded, in its own scripts and in this package's, on GPUs, or on gloo
    without one::

        runner_type = "FlexibleRunner"
        strategy = dict(type="fpn_plugins.FSDPStrategy")

    mmengine's class wraps the model in PyTorch's older ``FullyShardedDataParallel``, which runs on no CPU, and whose
    names of parameters layer-wise rates cannot read; it cannot resume with PyTorch 2.1 or later. With this class,
    checkpoints are those of a training without sharding, and each of the two resumes from the other's. Without a
    launcher, it trains on one device. ``EMAHook`` copies the model, which a sharded one does not allow.

    Args:
        reshard_after_forward: release the parameters of each block after its forward; False needs more memory and less
            traffic.
        **options: ``sync_bn`` and what the runner passes.

    Raises:
        ShardingError: an option of mmengine's class that has no effect here.
    """

    def __init__(self, *, reshard_after_forward: bool = True, **options: Any) -> None:
        if unused := [name for name in _UNUSED if name in options]:
            raise ShardingError(
                f"{unused} of strategy have no effect in fpn_plugins.FSDPStrategy; remove them. Blocks are sharded one "
                "by one, checkpoints are whole, and gradient_checkpointing=True of the backbone recomputes activations"
            )
        self.reshard_after_forward = boolean("reshard_after_forward", reshard_after_forward)
        super().__init__(state_dict_cfg="full", **options)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if not is_distributed():
            return SingleDeviceStrategy._wrap_model(self, model)
        if is_sharded(model):
            return model
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(get_device())
        return shard(self.convert_model(model), get_device(), self.reshard_after_forward)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> Any:
        """Build the optimizer of a divided model, as without sharding."""
        wrapper = DDPStrategy.build_optim_wrapper(self, optim_wrapper, model)
        for part in wrapper.values() if isinstance(wrapper, dict) else [wrapper]:
            shard_on_load(part.optimizer)
        return wrapper

    def model_state_dict(self) -> dict[str, Any]:
        """Collect the weights on the first process."""
        weights: dict[str, Any] = whole_state(self.model.state_dict())
        return weights

    def optim_state_dict(self) -> dict[str, Any]:
        """Collect the state of the optimizer on the first process."""
        state: dict[str, Any] = whole_state(self.optim_wrapper.state_dict())
        return state

    def load_model_state_dict(self, state_dict: dict[str, Any], **options: Any) -> None:
        """Load whole weights."""
        DDPStrategy.load_model_state_dict(self, state_dict, **options)

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the whole state of the optimizer."""
        self.optim_wrapper.load_state_dict(state_dict)

    def resume(self, filename: str, **options: Any) -> dict[str, Any]:
        """Resume a training; if the last checkpoint of its folder is damaged, from the one before, with a warning."""
        last = Path(self.work_dir, "last_checkpoint")
        if last.is_file() and last.read_text().strip() == filename:
            filename = newest_checkpoint(self.work_dir, self.logger) or filename
        content: dict[str, Any] = super().resume(filename, **options)
        return content
