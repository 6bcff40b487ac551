"""Marks of tests that need a newer PyTorch than the package does."""

from __future__ import annotations

import pytest
import torch
from torch.torch_version import TorchVersion

# what PyTorch 2.1 to 2.5 lack: `torch.export.Dim.DYNAMIC` and `torch.onnx.export(dynamo=True)`
EXPORTS = pytest.mark.skipif(
    TorchVersion(torch.__version__) < "2.6", reason="export with dynamic sizes needs PyTorch 2.6"
)
# `torch.distributed.fsdp.fully_shard`
SHARDS = pytest.mark.skipif(TorchVersion(torch.__version__) < "2.6", reason="sharding needs PyTorch 2.6")
COMPILES = pytest.mark.skipif(TorchVersion(torch.__version__) < "2.4", reason="PyTorch 2.1 to 2.3 break this graph")
HALF_ON_CPU = pytest.mark.skipif(
    TorchVersion(torch.__version__) < "2.4", reason="autocast to float16 on a CPU needs PyTorch 2.4"
)
