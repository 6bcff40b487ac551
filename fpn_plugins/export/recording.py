"""Record an exportable detector once for images of any size: a program of ``torch.export``, or an ONNX graph."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..compat import dynamic_dimension, without_leftover_hooks
from ..extras import needed_for
from ..inference.engines import KEY, Metadata
from .resizing import add_resizing

OPSET = 18
# bytes of weights that one protobuf file can hold
ONNX_LIMIT = 2**31 - 2**24
TRACED_SIZE = (256, 320)
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch.jit", "torch.utils.cpp_extension")


def example(metadata: Metadata, batch_size: int, size: tuple[int, int] = TRACED_SIZE) -> Tensor:
    """Return noise as images ``B C H W`` of the type that a detector takes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, len(metadata.input.mean), *size), generator=generator)
    if metadata.input.normalized:
        return (images.float() - 127.5) / 64
    return images.to(getattr(torch, metadata.input.dtype))


def exported_program(model: nn.Module, images: Tensor, any_batch: bool = True) -> torch.export.ExportedProgram:
    """Export a detector to a program for images of any height and width."""
    dynamic = dynamic_dimension()
    shapes = dict.fromkeys((0, 2, 3) if any_batch else (2, 3), dynamic)
    with without_leftover_hooks():
        return torch.export.export(model, (images,), dynamic_shapes=(shapes,), strict=False)


def onnx_model(model: nn.Module, images: Tensor, metadata: Metadata, opset: int = OPSET, any_batch: bool = True) -> Any:
    """Export a detector to a ``ModelProto`` that holds its description, and resizes if that says so."""
    with needed_for("ONNX files"):
        import onnxscript  # noqa: F401

    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if size > ONNX_LIMIT:
        raise ValueError(f"its weights have {size / 2**30:.1f} GiB, an ONNX file holds 2 GiB; export to .pt2")
    program = exported_program(model, images, any_batch)
    found = torch.onnx.export(
        program,
        (),
        dynamo=True,
        opset_version=opset,
        input_names=["images"],
        output_names=names_of(model, images),
        verbose=False,
    )
    assert found is not None
    found.model.metadata_props[KEY] = metadata.to_json()
    proto = found.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if written != opset:
        raise ValueError(f"opset={opset}: PyTorch and onnxscript write opset {written} here; choose a lower one")
    count_axes_from_first(proto.graph)
    if metadata.input.inside:
        add_resizing(proto, metadata.input.resize, metadata.input.dtype)
    return proto


def count_axes_from_first(graph: Any) -> None:
    """Count the axes that reductions of a ``GraphProto`` remove from the first one.

    onnxruntime (1.31) does not remove those counted from the last one if the tensor is empty, as on images without
    objects.
    """
    with needed_for("ONNX files"):
        import onnx

    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }
    constants = {value.name: value for value in graph.initializer}
    for node in graph.node:
        rank = ranks.get(node.input[0], 0) if node.input else 0
        if node.op_type in ("ArgMax", "ArgMin"):
            for attribute in node.attribute:
                if attribute.name == "axis" and attribute.i < 0 < rank:
                    attribute.i += rank
        if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1] in constants:
            axes = onnx.numpy_helper.to_array(constants[node.input[1]])
            if rank and axes.size and axes.min() < 0:
                name = f"{node.input[1]}_of_{rank}"
                if name not in constants:
                    constants[name] = onnx.numpy_helper.from_array(axes % rank, name)
                    graph.initializer.append(constants[name])
                node.input[1] = name


def names_of(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of a detector's outputs, in their order."""
    names: Any = getattr(model, "output_names", None)
    if names is not None:
        return list(names)
    outputs = model(images)
    return list(outputs) if isinstance(outputs, dict) else list(outputs._fields)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings and notes of the exporters to their developers."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def named_errors(path: Path, model: nn.Module) -> Iterator[None]:
    """Turn the errors of the exporters, of many kinds, into a ``ValueError`` that names the file and the module."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, ValueError) and str(path) not in str(error):
            raise ValueError(f"the detector cannot be exported to {str(path)!r}: {error}") from error
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporters wrap it in advice to their developers
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:400]
        part = failed_module(model, error)
        raise ValueError(f"the detector cannot be exported to {str(path)!r}: {part}{reason}") from error


def failed_module(model: nn.Module, error: BaseException) -> str:
    """Return the innermost module of a model whose call raised an error, for the head of a message; "" if none did."""
    names = {id(module): name for name, module in model.named_modules() if name}
    found = ""
    part: BaseException | None = error
    while part is not None:
        for frame, _ in traceback.walk_tb(part.__traceback__):
            owner = frame.f_locals.get("self")
            if id(owner) in names:
                found = f"{names[id(owner)]} ({type(owner).__name__}): "
        part = part.__cause__
    return found
