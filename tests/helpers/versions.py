"""Marks of tests that need a newer PyTorch than the package does."""

from __future__ import annotations

import pytest
import torch
from torch.torch_version import TorchVersion

# what PyTorch 2.1 to 2.5 lack: `torch.export.Dim.DYNAMIC` and `torch.onnx.export(dynamo=True)`
EXPORTS = pytest.mark.skipif(
    TorchVersion(torch.__version__) < "2.6", reason="export with dynamic sizes needs PyTorch 2.6"
)
