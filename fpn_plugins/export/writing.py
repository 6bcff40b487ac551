"""Write an exportable detector to a file: ONNX, OpenVINO, a program of ``torch.export``, TorchScript."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import integer
from ..extras import needed_for, require, without_telemetry
from ..files import suffix_of, write_atomically
from ..inference.engines import KEY, SUFFIXES, WEIGHTS_KEY, Metadata, digest_of
from .recording import OPSET, example, exported_program, named_errors, onnx_model, quiet
from .tracing import uncompiled

OTHER_SIZE = (197, 283)
# suffix -> libraries that write the format
LIBRARIES: dict[str, tuple[str, ...]] = {
    ".onnx": ("onnx", "onnxscript"),
    ".xml": ("onnx", "onnxscript", "openvino"),
    ".pt2": (),
    ".torchscript": (),
}
# the same for 8-bit integers
INT8_LIBRARIES = {".onnx": ("onnxruntime", "nncf"), ".xml": ("nncf",)}


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
    with torch.no_grad(), quiet(), named_errors(path, model), uncompiled(model):
        _WRITERS[suffix_of(path)](model.eval(), images, path, metadata, opset, batch_size is None)
    return path


def check_target(path: str | os.PathLike[str], int8: bool = False) -> Path:
    """Return the path of a file to write, before the detector is loaded and exported.

    Args:
        path: file to write.
        int8: whether it is to compute with 8-bit integers.

    Raises:
        ValueError: another suffix, or one of a format without 8-bit integers.
        OSError: the folder of ``path`` does not exist or cannot be written to.
        ImportError: a library of the format is not installed.
    """
    path, suffix = Path(path), suffix_of(path)
    if suffix not in LIBRARIES:
        raise ValueError(f"path={str(path)!r} must be a file {', '.join(SUFFIXES)}; the suffix chooses the format")
    if int8 and suffix not in INT8_LIBRARIES:
        raise ValueError(f"path={str(path)!r}: 8-bit integers are for files {', '.join(INT8_LIBRARIES)}")
    require(f"{suffix} files", *LIBRARIES[suffix])
    if int8:
        require("8-bit integers", *INT8_LIBRARIES[suffix])
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; name a file")
    if not _takes_files(path.parent):
        raise PermissionError(f"path={str(path)!r}: the folder {str(path.parent)!r} cannot be written to")
    return path


def _takes_files(folder: Path) -> bool:
    """Return whether files can be written into a folder, by its permissions and by writing one without a name."""
    if not os.access(folder, os.W_OK):
        return False
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def check_export(path: str | os.PathLike[str], metadata: Metadata, opset: int = OPSET, int8: bool = False) -> Path:
    """Return the path of a file to write with this description; for errors, see `export_detector`."""
    path = check_target(path, int8)
    integer("opset", opset, OPSET)
    if opset != OPSET and suffix_of(path) not in (".onnx", ".xml"):
        raise ValueError(f"opset={opset} is of ONNX's operators, which {str(path)!r} does not have; leave it out")
    if metadata.input.inside:
        _check_resizing(path, metadata)
    Metadata.from_json(metadata.to_json(), str(path))  # so that what is written can be read
    return path


def _check_resizing(path: Path, metadata: Metadata) -> None:
    """Raise ``ValueError`` for a graph that cannot resize."""
    if suffix_of(path) not in (".onnx", ".xml"):
        raise ValueError(f"path={str(path)!r}: only graphs in .onnx and .xml resize images; leave resizing outside")
    if suffix_of(path) == ".xml" and metadata.input.resize.library == "pillow":
        raise ValueError(f"path={str(path)!r}: OpenVINO does not resize as Pillow does; leave resizing outside")
    if metadata.input.normalized or metadata.masks == "pasted":
        raise ValueError("a graph that resizes takes pixels from 0 to 255, and returns masks as probabilities")


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
    with needed_for("OpenVINO files"), without_telemetry():
        import openvino

    return openvino.Core().read_model(proto.SerializeToString())


def write_openvino(model: Any, path: Path, metadata: Metadata) -> None:
    """Write OpenVINO's model with a description: ``path`` and the weights beside it, ``.bin``, by their digest."""
    with needed_for("OpenVINO files"), without_telemetry():
        import openvino

    model.set_rt_info(metadata.to_json(), [KEY])
    with write_atomically(path.with_suffix(".bin")) as weights, write_atomically(path) as temporary:
        openvino.serialize(model, str(temporary), str(weights))
        model.set_rt_info(digest_of(weights), [WEIGHTS_KEY])
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
