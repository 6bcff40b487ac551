"""Run a detector in one engine of a CPU, in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detector_passes import (
    BF16_INSTRUCTIONS,
    FORMS,
    INFERENCE,
    OURS,
    STOCK,
    DetectorForm,
    DetectorSetting,
    Subject,
    autocast_dtype,
    build,
    make_pass,
)
from pictures import draw_pictures
from torch.nn import functional

from fpn_plugins.adapters.hosts import host_of
from fpn_plugins.analysis.peak_memory import CLEAR, peak, reset_peak
from fpn_plugins.export import describe, export_detector
from fpn_plugins.export.quantization import write_int8
from fpn_plugins.inference import AnnotatedImage, Detections, ResizeRule
from fpn_plugins.inference.engines import Metadata, load_engine
from fpn_plugins.ops.compilation import CompiledInPlace

Job = Callable[[], list[Detections]]


class Engine(NamedTuple):
    """One of `FORMS` of a detector in PyTorch; or an exported file, and what runs it.

    Attributes:
        form: name of the form; ``None`` for an exported file.
        compiled: whether the pyramid is compiled.
        runtime: engine of the exported file.
        precision: type in which the network computes: ``"float32"``, ``"bfloat16"`` or ``"int8"``.
    """

    form: str | None = None
    compiled: bool = False
    runtime: str | None = None
    precision: str = "float32"


BF16, INT8, BF16_PRECISION = "ours, channels_last, bf16", "openvino, int8", "bfloat16"
# the first is the base line
ENGINES = {
    STOCK: Engine(STOCK),
    OURS: Engine(OURS),
    "ours, channels_last": Engine("ours, channels_last"),
    "ours, channels_last, compiled": Engine("ours, channels_last", compiled=True),
    "onnxruntime": Engine(runtime="onnxruntime"),
    "openvino": Engine(runtime="openvino"),
    BF16: Engine(BF16, precision=BF16_PRECISION),
    "openvino, bf16": Engine(runtime="openvino", precision=BF16_PRECISION),
    INT8: Engine(runtime="openvino", precision="int8"),
}
ONNX, INT8_FILE = "detector.onnx", "int8.xml"
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "amx_int8", "sve", "i8mm", *BF16_INSTRUCTIONS)


def instructions() -> list[str]:
    """List the processor's instructions that matter to these engines, as PyTorch names them."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.11
    return [name for name in INSTRUCTIONS if capabilities.get(name)]


def bf16_ratio(channels: int = 256, side: int = 64, repeats: int = 5) -> float:
    """Time a convolution in bfloat16 relative to float32; above 1 on processors that only emulate bfloat16."""
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.rand(1, channels, side, side).to(dtype, memory_format=torch.channels_last)
        weight = torch.rand(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            functional.conv2d(x, weight, padding=1)
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times[1:]))
    return seconds[0] / seconds[1]


def compile_pyramid(model: Any) -> None:
    """Compile backbone and neck in place."""
    parts = [getattr(model, name, None) for name in ("backbone", "neck")]
    for part in parts:
        if isinstance(part, CompiledInPlace):
            part.compile()


def export(subject: Subject, setting: DetectorSetting, folder: Path) -> Path:
    """Write our form of a detector to an ONNX file."""
    host = host_of("", subject.toolbox)
    model = host.exportable(build(subject, DetectorForm()))
    library = "opencv" if subject.toolbox == "mmdet" else "pillow"
    rule = ResizeRule(min(setting.size), max(setting.size), library=library)  # images keep their size
    names = {index: str(index) for index in range(model.settings.num_classes)}
    return export_detector(model, folder / ONNX, describe(model, names, rule))


def quantize(setting: DetectorSetting, number: int, folder: Path) -> Path:
    """Write the INT8 form of the ONNX file, with ranges seen on ``number`` drawn images."""
    import onnx

    proto = onnx.load(folder / ONNX)
    (text,) = [entry.value for entry in proto.metadata_props if entry.key == "fpn_plugins"]
    path = folder / INT8_FILE
    metadata = Metadata.from_json(text, str(path))
    images = [rgb(image, metadata) for image in draw_pictures(number, setting.size)]
    write_int8(proto, path, metadata, [image.transpose(2, 0, 1)[None].astype("float32") for image in images])
    return path


def rgb(image: AnnotatedImage, metadata: Metadata) -> Any:
    """Return an image ``3 H W`` that a toolbox's detector gets as an array ``H W 3``, RGB.

    mmdet's detectors get BGR and swap the channels themselves; Detectron2's get the order of their ``input_format``.
    """
    swapped = metadata.toolbox == "mmdet" or metadata.input.order == "BGR"
    pixels = image.pixels.flip(0) if swapped else image.pixels
    return pixels.permute(1, 2, 0).contiguous().numpy()


def prepare(subject: Subject, name: str, setting: DetectorSetting, folder: Path) -> Job:
    """Load a detector in an engine; return its pass from pixels to objects."""
    engine = ENGINES[name]
    if engine.form is not None:
        model = build(subject, FORMS[engine.form]).requires_grad_(False)
        if engine.compiled:
            compile_pyramid(model)
        return make_pass(model, subject.toolbox, INFERENCE, setting, autocast_dtype(engine.form))
    precision = BF16_PRECISION if engine.precision == BF16_PRECISION else "float32"
    file = folder / (INT8_FILE if engine.precision == "int8" else ONNX)
    predict = load_engine(file, engine.runtime, threads=torch.get_num_threads(), precision=precision)
    images = [rgb(image, predict.metadata) for image in draw_pictures(setting.batch, setting.size)]
    return lambda: [predict(image) for image in images]


class Worker:
    """Process that is a copy of one that has imported the toolbox.

    Args:
        toolbox: name of the toolbox.
        threads: number of threads of every engine.
    """

    def __init__(self, toolbox: str, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([f"fpn_plugins.adapters.{toolbox}.detector"])
        self.pool = ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the process.

        Raises:
            BrokenProcessPool: the process was ended, for example because memory ran out.
        """
        return self.pool.submit(function, *arguments).result()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


class First(NamedTuple):
    """Result of a first pass: detections without masks, and the highest resident bytes less those before loading."""

    found: list[Detections]
    resident: int | None


_job: Job


def start(subject: Subject, name: str, setting: DetectorSetting, folder: Path) -> First:
    """Load a detector in this process and run it twice, to warm up and to measure its memory."""
    global _job
    measures = CLEAR.exists()
    gc.collect()
    before = reset_peak("cpu") if measures else 0
    _job = prepare(subject, name, setting, folder)
    found = _job()
    gc.collect()
    if measures:
        reset_peak("cpu")
        _job()
    resident = peak("cpu") - before if measures else None
    return First([image._replace(masks=None) for image in found], resident)


def seconds() -> float:
    """Time a pass: of a single thread, without the time in which other programs ran."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    _job()
    return clock() - begin
