"""Run the graph of an exported detector on arrays, in each engine."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...checks import integer, one_of
from ...extras import needed_for, without_telemetry
from ...files import suffix_of
from ..devices import existing_device
from .files import digest_of, engine_for, weights_beside
from .metadata import KEY, WEIGHTS_KEY, Metadata
from .programs import check_program, moved_program

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("float32", "bfloat16")
Outputs = dict[str, "np.ndarray"]


class Session:
    """Graph of an exported detector, ready to run.

    Args:
        metadata: description in the file.
        run: function of images ``B 3 H W`` that returns arrays by name.
        engine: name of the engine.
    """

    def __init__(self, metadata: Metadata, run: Callable[[np.ndarray], Outputs], engine: str) -> None:
        self.metadata, self.run, self.engine = metadata, run, engine

    def __call__(self, images: np.ndarray) -> Outputs:
        """Run the graph on images ``B 3 H W`` as `Metadata.input` describes them.

        Raises:
            ValueError: the graph does not take such images, or does not return what `metadata` describes.
        """
        try:
            outputs = self.run(images)
        except Exception as error:  # each engine has errors of its own, derived from Exception alone
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise ValueError(
                f"the exported detector does not run in {self.engine or 'its engine'} on images of shape "
                f"{tuple(images.shape)}, type {images.dtype}: {reason}. A file exported with a batch size takes that "
                "many images; a .pt2 file refuses sizes at which a map has a single cell: choose a larger size"
            ) from error
        self._check(outputs)
        return outputs

    def _check(self, outputs: Outputs) -> None:
        """Raise ``ValueError`` for outputs that contradict the description."""
        masks = ["masks"] if self.metadata.masks else []
        semantic = ["semantic_logits"] if self.metadata.panoptic else []
        absent = [name for name in ("boxes", "scores", "labels", *masks, *semantic) if name not in outputs]
        if absent:
            raise ValueError(f"the exported detector has no output {', '.join(absent)}; export the detector again")
        labels, number = outputs["labels"], len(self.metadata.classes)
        if labels.size and not 0 <= labels.min() <= labels.max() < number:
            raise ValueError(
                f"the exported detector found class {labels.max()}, its description has {number} classes; export the "
                "detector again"
            )


def open_session(
    path: str | os.PathLike[str],
    engine: str | None = None,
    threads: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> Session:
    """Open an exported detector.

    Args:
        path: file of `fpn_plugins.export`: ``.onnx``, ``.xml`` with its ``.bin``, ``.pt2`` or ``.torchscript``.
        engine: ``"onnxruntime"``, ``"openvino"`` or ``"torch"``; by default as the suffix says.
        threads: number of CPU threads of onnxruntime or OpenVINO; their own choice by default. PyTorch has one number
            for the whole process, ``torch.set_num_threads``, which this leaves as it is.
        precision: ``"float32"``, or ``"bfloat16"`` for OpenVINO on processors that have it.
        device: ``"cpu"``; for ``.onnx`` in onnxruntime and ``.pt2`` also ``"cuda"`` or ``"cuda:1"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is damaged or was not written by this package, an engine that does not run it, or a
            precision or device that the engine does not have.
        ImportError: the engine is not installed.
    """
    name = engine_for(path, engine)
    one_of("precision", precision, PRECISIONS)
    if threads is not None:
        integer("threads", threads, 1)
    if name == "torch":
        existing_device(device)
    if precision != "float32" and name != "openvino":
        raise ValueError(f"precision={precision!r} is OpenVINO's; {name} runs the file in the precision it has")
    with _errors(path):
        if name == "openvino":
            return _openvino(os.fspath(path), threads, precision, device)
        if name == "onnxruntime":
            return _onnxruntime(os.fspath(path), threads, device)
        return _torch(Path(path), device)


@contextmanager
def _errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of many kinds that engines raise for a damaged file into a ``ValueError`` that names it."""
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # each engine has errors of its own, derived from Exception alone
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{os.fspath(path)!r} cannot be opened: {reason}; export the detector again") from error


def _onnxruntime(path: str, threads: int | None, device: str) -> Session:
    with needed_for("ONNX files"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    provider, settings = _provider(device)
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"device={device!r}: this onnxruntime has no {provider}; use 'cpu', or onnxruntime-gpu")
    session = onnxruntime.InferenceSession(path, options, providers=[(provider, settings)])
    if provider not in session.get_providers():  # onnxruntime goes on with the CPU
        raise ValueError(f"device={device!r}: onnxruntime's {provider} finds no such GPU, or no CUDA; use 'cpu'")
    metadata = Metadata.from_json(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    names, entry = [node.name for node in session.get_outputs()], session.get_inputs()[0].name

    def run(images: np.ndarray) -> Outputs:
        return dict(zip(names, session.run(None, {entry: images}), strict=True))

    return Session(metadata, run, "onnxruntime")


def _provider(device: str) -> tuple[str, dict[str, str]]:
    """Return onnxruntime's name of a device, and its settings."""
    kind, _, number = device.partition(":")
    if device == "cpu":
        return "CPUExecutionProvider", {}
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ValueError(f"device={device!r}: onnxruntime runs on 'cpu', 'cuda' or 'cuda:1' here")
    return "CUDAExecutionProvider", {"device_id": number or "0"}


def _openvino(path: str, threads: int | None, precision: str, device: str) -> Session:
    with needed_for("OpenVINO files"), without_telemetry():
        import openvino

    if device != "cpu":
        raise ValueError(f"device={device!r}: OpenVINO runs on the CPU here; use 'cpu'")
    core = openvino.Core()
    model = _openvino_model(core, path)
    metadata = Metadata.from_json(rt_info(model), path)
    if metadata.input.inside and metadata.input.resize.library == "pillow":
        raise ValueError(f"{path!r} resizes images as Pillow does, which OpenVINO does not; run it in onnxruntime")
    # the default is bfloat16 on processors that have it, which changes the detections
    settings = {"INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = core.compile_model(model, "CPU", settings)
    names = [port.get_any_name() for port in compiled.outputs]
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> Outputs:
        request.infer([images])
        return {name: request.get_output_tensor(index).data.copy() for index, name in enumerate(names)}

    return Session(metadata, run, "openvino")


def _openvino_model(core: Any, path: str) -> Any:
    """Read an OpenVINO graph with the weights beside it, or an ONNX file; ``ValueError`` for weights of another one."""
    if suffix_of(path) != ".xml":
        return core.read_model(path)
    with open(path, "rb") as file:
        if not file.read(64).lstrip().startswith(b"<"):  # OpenVINO would read an ONNX file under any name
            raise ValueError(f"{path!r} is not an OpenVINO graph, which is XML; give an ONNX file the suffix .onnx")
    weights = weights_beside(path)
    model = core.read_model(path, str(weights))
    if model.has_rt_info([WEIGHTS_KEY]) and model.get_rt_info([WEIGHTS_KEY]).astype(str) != digest_of(weights):
        raise ValueError(
            f"{str(weights)!r} holds other weights than {path!r} was written with; copy both files of one export, or "
            "export the detector again"
        )
    return model


def rt_info(model: Any) -> str | None:
    """Return the description in an OpenVINO model: this package's, or that of the ONNX file it was read from."""
    for keys in ([KEY], ["framework", KEY]):
        if model.has_rt_info(keys):
            return str(model.get_rt_info(keys).astype(str))
    return None


def _torch(path: Path, device: str) -> Session:
    with needed_for("exported detectors"):
        import torchvision  # noqa: F401  (its operators are registered)

    if suffix_of(path) == ".pt2":
        check_program(path)
        extra = {KEY: ""}
        logging.getLogger("torch.export").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # PyTorch's own reading
            program = torch.export.load(path, extra_files=extra)
        model: Any = moved_program(program, device).module()
    elif device != "cpu":
        raise ValueError(f"device={device!r}: the trace {str(path)!r} makes its tensors on the CPU; use .onnx or .pt2")
    else:
        extra = {KEY: ""}
        model = torch.jit.load(str(path), map_location=device, _extra_files=extra)
    metadata = Metadata.from_json(extra[KEY], str(path))

    def run(images: np.ndarray) -> Outputs:
        with torch.no_grad():
            return _named(model(torch.from_numpy(images).to(device)))

    return Session(metadata, run, "torch")


def _named(outputs: Any) -> Outputs:
    """Return the tensors of a dict or of a NamedTuple by name."""
    named = outputs if isinstance(outputs, Mapping) else outputs._asdict()
    return {name: value.cpu().numpy() for name, value in named.items() if value is not None}
