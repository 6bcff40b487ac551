"""Compute the network of an exported detector with 8-bit integers, by NNCF; its post-processing stays in float32."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..extras import needed_for, without_telemetry
from ..files import suffix_of, write_atomically
from ..inference.engines import KEY, Metadata, open_session
from .recording import OPSET, example, named_errors, onnx_model, quiet
from .tracing import uncompiled
from .writing import check_export, openvino_model, write_openvino

if TYPE_CHECKING:
    import numpy as np

# layers that are quantized; what decodes, sorts and suppresses boxes has none of them
LAYERS = {".xml": ("Convolution", "GroupConvolution", "MatMul"), ".onnx": ("Conv", "Gemm", "MatMul")}


def export_int8(
    model: nn.Module,
    path: str | os.PathLike[str],
    metadata: Metadata,
    images: Iterable[np.ndarray],
    opset: int = OPSET,
    batch_size: int | None = None,
) -> Path:
    """Write a detector whose convolutions and linear layers compute with 8-bit integers.

    Args:
        model: see `export_detector`, also for the other arguments and errors.
        path: ``.xml`` (OpenVINO) or ``.onnx`` (with nodes ``QuantizeLinear`` and ``DequantizeLinear``).
        metadata: description to store; it is told that the network is quantized.
        images: batches ``1 3 H W`` as the graph takes them, of the data that the detector will see; one to three
            hundred are enough. Those on which a detector with masks finds nothing are left out.
        opset: version of ONNX's operators.
        batch_size: 1 for a graph that takes single images; ``None`` for any number.

    Raises:
        ValueError: another suffix, no images, or none on which a detector with masks finds an object.
    """
    path = check_export(path, metadata, opset, int8=True)
    if batch_size not in (None, 1):
        raise ValueError(f"batch_size={batch_size}: 8-bit integers are calibrated on single images; leave it out")
    batches = list(images)
    if not batches:
        raise ValueError("images is empty; calibration needs images that the detector will see")
    with torch.no_grad(), quiet(), named_errors(path, model), uncompiled(model):
        proto = onnx_model(
            model.eval(), example(metadata, batch_size or 2), metadata, opset, any_batch=batch_size is None
        )
        write_int8(proto, path, metadata, batches)
    return path


def write_int8(proto: Any, path: Path, metadata: Metadata, batches: Sequence[np.ndarray]) -> None:
    """Quantize a detector, a ``ModelProto`` in float32, and write it; see `export_int8`."""
    metadata = replace(metadata, int8=True)
    if metadata.masks:
        batches = with_objects(proto, batches, suffix_of(path))
    if suffix_of(path) == ".xml":
        write_openvino(quantized(openvino_model(proto), list(batches), suffix_of(path)), path, metadata)
        return
    result = quantized(proto, [{"images": batch} for batch in batches], suffix_of(path))
    for entry in result.metadata_props:
        if entry.key == KEY:
            entry.value = metadata.to_json()
    with write_atomically(path) as temporary:
        temporary.write_bytes(result.SerializeToString())


def with_objects(proto: Any, batches: Sequence[np.ndarray], suffix: str) -> list[np.ndarray]:
    """Choose the batches on which a detector finds objects.

    The mask head computes nothing on the others; NNCF takes that for values of 0, and all masks of the quantized
    detector would be the same.

    Args:
        proto: detector in float32, a ``ModelProto``.
        batches: images as the graph takes them.
        suffix: format that is written, whose engine runs the detector.

    Raises:
        ValueError: the detector finds no objects at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.onnx"
        file.write_bytes(proto.SerializeToString())
        detect = open_session(file, "openvino" if suffix == ".xml" else "onnxruntime")
        found = [batch for batch in batches if len(detect(batch)["boxes"])]
    if not found:
        raise ValueError(
            f"the detector finds no objects on any of the {len(batches)} images, which leaves its mask head without "
            "values to calibrate on; give images with objects, and the weights of a trained detector"
        )
    return found


def quantized(graph: Any, batches: list[Any], suffix: str) -> Any:
    """Quantize the layers of OpenVINO's model or of a ``ModelProto`` with the ranges seen on ``batches``."""
    with without_telemetry(), redirect_stdout(StringIO()):
        with needed_for("8-bit integers"):
            import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(
            graph,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(types=_others(graph, suffix), validate=False),
        )


def _others(graph: Any, suffix: str) -> list[str]:
    """Return the types of a graph's nodes that are not quantized."""
    types = (
        {op.get_type_name() for op in graph.get_ops()} if suffix == ".xml" else {n.op_type for n in graph.graph.node}
    )
    return sorted(types - {*LAYERS[suffix], "Constant", "Parameter", "Result"})
