"""Write an exportable detector to a file: ONNX, OpenVINO, a program of ``torch.export``, TorchScript."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import integer
from ..compat import dynamic_dimension, without_leftover_hooks
from ..extras import needed_for
from ..files import write_atomically
from ..inference.engines import KEY, SUFFIXES, Metadata
from .resizing import add_resizing

OPSET = 18
# bytes of weights that one protobuf file can hold
ONNX_LIMIT = 2**31 - 2**24
TRACED_SIZE = (256, 320)
OTHER_SIZE = (197, 283)
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch.jit", "torch.utils.cpp_extension")


def export_detector(
    model: nn.Module,
    path: str | os.PathLike[str],
    metadata: Metadata,
    opset: int = OPSET,
    batch_size: int | None = None,
) -> Path:
    """Write a detector for another engine; the file is complete or absent.

    Args:
        model: detector as `ExportableDetector`: maps images ``B 3 H W`` to a dict or NamedTuple of tensors.
        path: file to write. Its suffix is the format: ``.onnx``, ``.xml`` (OpenVINO, with a ``.bin`` beside it),
            ``.pt2`` (``torch.export``), ``.torchscript``.
        metadata: description to store in it.
        opset: version of ONNX's operators, from 18 on.
        batch_size: number of images that the graph takes at once; ``None`` for any.

    Returns:
        Path of the file.

    Raises:
        ValueError: another suffix, an ``opset`` that is too old or too new, or a detector that cannot be exported to
            the format.
        OSError: the folder of ``path`` does not exist or cannot be written to.
        ImportError: a library of the format is not installed.
    """
    path = check_export(path, metadata, opset)
    images = example(metadata, batch_size or 2)
    with torch.no_grad(), quiet(), named_errors(path):
        _WRITERS[path.suffix](model.eval(), images, path, metadata, opset, batch_size is None)
    return path


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write, before the detector is exported; for errors, see `export_detector`."""
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"path={str(path)!r} must be a file {', '.join(SUFFIXES)}; the suffix chooses the format")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"path={str(path)!r}: the folder {str(path.parent)!r} cannot be written to")
    return path


def check_export(path: str | os.PathLike[str], metadata: Metadata, opset: int = OPSET) -> Path:
    """Return the path of a file to write with this description; for errors, see `export_detector`."""
    path = check_target(path)
    integer("opset", opset, OPSET)
    if metadata.input.inside:
        _check_resizing(path, metadata)
    Metadata.from_json(metadata.to_json(), str(path))  # so that what is written can be read
    return path


def _check_resizing(path: Path, metadata: Metadata) -> None:
    """Raise ``ValueError`` for a graph that cannot resize."""
    if path.suffix not in (".onnx", ".xml"):
        raise ValueError(f"path={str(path)!r}: only graphs in .onnx and .xml resize images; leave resizing outside")
    if path.suffix == ".xml" and metadata.input.resize.library == "pillow":
        raise ValueError(f"path={str(path)!r}: OpenVINO does not resize as Pillow does; leave resizing outside")
    if metadata.input.normalized or metadata.masks == "pasted":
        raise ValueError("a graph that resizes takes pixels from 0 to 255, and returns masks as probabilities")


def example(metadata: Metadata, batch_size: int, size: tuple[int, int] = TRACED_SIZE) -> Tensor:
    """Return noise as images ``B 3 H W`` of the type that a detector takes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, *size), generator=generator)
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
    if metadata.input.inside:
        add_resizing(proto, metadata.input.resize, metadata.input.dtype)
    return proto


def names_of(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of a detector's outputs, in their order."""
    names: Any = getattr(model, "output_names", None)
    if names is not None:
        return list(names)
    outputs = model(images)
    return list(outputs) if isinstance(outputs, dict) else list(outputs._fields)


def _write_onnx(model: nn.Module, images: Tensor, path: Path, metadata: Metadata, opset: int, any_batch: bool) -> None:
    proto = onnx_model(model, images, metadata, opset, any_batch)
    with write_atomically(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def _write_openvino(
    model: nn.Module, images: Tensor, path: Path, metadata: Metadata, opset: int, any_batch: bool
) -> None:
    write_openvino(openvino_model(onnx_model(model, images, metadata, opset, any_batch)), path, metadata)


def openvino_model(proto: Any) -> Any:
    """Convert a ``ModelProto`` to OpenVINO's model."""
    with needed_for("OpenVINO files"):
        import openvino

    return openvino.Core().read_model(proto.SerializeToString())


def write_openvino(model: Any, path: Path, metadata: Metadata) -> None:
    """Write OpenVINO's model with a description: ``path`` and the weights beside it, ``.bin``."""
    with needed_for("OpenVINO files"):
        import openvino

    model.set_rt_info(metadata.to_json(), [KEY])
    with write_atomically(path.with_suffix(".bin")) as weights, write_atomically(path) as temporary:
        openvino.serialize(model, str(temporary), str(weights))


def _write_program(
    model: nn.Module, images: Tensor, path: Path, metadata: Metadata, opset: int, any_batch: bool
) -> None:
    program = exported_program(model, images, any_batch)
    with write_atomically(path) as temporary:
        torch.export.save(program, temporary, extra_files={KEY: metadata.to_json()})


def _write_torchscript(
    model: nn.Module, images: Tensor, path: Path, metadata: Metadata, opset: int, any_batch: bool
) -> None:
    script = torch.jit.trace(model, (images,), strict=False, check_trace=False)
    other = example(metadata, 3 if any_batch else len(images), OTHER_SIZE)
    expected = model(other)
    try:
        found = script(other)
        same = all(torch.allclose(found[name], expected[name], atol=1e-3) for name in found)
    except RuntimeError:
        same = False
    if not same:
        raise ValueError("its trace holds for images of one size only; export to .onnx, .xml or .pt2")
    with write_atomically(path) as temporary:
        torch.jit.save(script, str(temporary), _extra_files={KEY: metadata.to_json()})


_WRITERS: dict[str, Callable[[nn.Module, Tensor, Path, Metadata, int, bool], None]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_program,
    ".torchscript": _write_torchscript,
}


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
def named_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the exporters, of many kinds, into a ``ValueError`` that names the file."""
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
        raise ValueError(f"the detector cannot be exported to {str(path)!r}: {reason}") from error
