"""Whole detectors on a device: the toolboxes' own against the same with our pyramid, inference and training steps."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector_passes import (
    FORMS,
    INFERENCE,
    OURS,
    STOCK,
    DetectorForm,
    DetectorSetting,
    Subject,
    build,
    draw_weights,
    make_pass,
)
from gpu_graphs import Graphed
from gpu_measure import MODES, Bench, Rows, describe, set_precision
from torch import nn

from fpn_plugins.analysis import agreement

# forms in single precision; the precision is that of the section
WHOLE_FORMS = {name: form for name, form in FORMS.items() if not form.bf16}
# what the names of forms end in whose pyramid is compiled or replayed
COMPILED, GRAPH, COMPILED_GRAPH = ", backbone compiled", ", backbone as CUDA graph", ", backbone compiled, CUDA graph"
# detectors whose compiled pyramids the default run measures: a compilation takes half a minute
DEFAULT_COMPILED = {("detectron2", "mask_rcnn")}
LARGE, TINY = DetectorSetting((800, 1344), 2), DetectorSetting((96, 128), 1)
VITDET, TINY_VITDET = DetectorSetting((1024, 1024), 2), DetectorSetting((128, 128), 1)
# overrides that make ViTDet-B small enough to try the program: Detectron2's, and ours
SMALL_HEADS = ("model.proposal_generator.post_nms_topk=[40,40]", "model.roi_heads.box_predictor.test_topk_per_image=5")
SMALL_STOCK = SMALL_HEADS + tuple(
    f"model.backbone.{option}"
    for option in (
        *("square_pad=128", "net.img_size=128", "net.embed_dim=24", "net.depth=3", "net.num_heads=2"),
        "net.window_block_indexes=[0,1]",
    )
)
SMALL_OURS = SMALL_HEADS + tuple(
    f"model.backbone.{option}"
    for option in (
        *("square_pad=128", "bottom_up.img_size=128", "bottom_up.embed_dim=24", "bottom_up.depth=3"),
        *("bottom_up.num_heads=2", "bottom_up.global_block_indices=[2]"),
    )
)
LEAST_SHARE = 0.9  # of the stock detector's detections that our forms have to find


def compare_detectors(bench: Bench, rows: Rows, toolboxes: Sequence[str], detectors: Sequence[str]) -> None:
    """Measure detectors of the installed toolboxes; a detector that fails is a row with its error."""
    for detector in detectors:
        for toolbox in toolboxes:
            _try_detector(bench, rows, toolbox, detector, TINY if bench.tiny else LARGE, WHOLE_FORMS)


def compare_vitdet(bench: Bench, rows: Rows) -> None:
    """Measure ViTDet-B's Mask R-CNN of Detectron2 at 1024 x 1024 pixels."""
    stock, ours = (SMALL_STOCK, SMALL_OURS) if bench.tiny else ((), ())
    forms = {STOCK: DetectorForm(ours=False, options=stock), OURS: DetectorForm(options=ours)}
    _try_detector(bench, rows, "detectron2", "vitdet_b", TINY_VITDET if bench.tiny else VITDET, forms)


def _try_detector(
    bench: Bench, rows: Rows, toolbox: str, detector: str, setting: DetectorSetting, forms: Mapping[str, DetectorForm]
) -> None:
    if importlib.util.find_spec(toolbox) is None:
        rows.add(toolbox=toolbox, detector=detector, skipped=f"{toolbox} is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            options = forms[STOCK].options
            subject = draw_weights(toolbox, detector, Path(folder), setting, options, bench.device)
            _compare_detector(bench, rows, subject, setting, forms)
        except Exception as error:  # continue with the others
            rows.add(toolbox=toolbox, detector=detector, error=describe(error))
    bench.reset()


def _compare_detector(
    bench: Bench, rows: Rows, subject: Subject, setting: DetectorSetting, forms: Mapping[str, DetectorForm]
) -> None:
    """Add detections, and times of all forms with those of the fastest one's pyramid compiled and as a graph."""
    models = {who: build(subject, form).to(bench.device) for who, form in forms.items()}
    _add_agreement(rows, subject, models, setting)
    fast = next((who for who, form in forms.items() if form.channels_last), OURS)
    with_compiled = bench.full or (subject.toolbox, subject.detector) in DEFAULT_COMPILED
    for precision in bench.precisions:
        dtype = set_precision(precision)
        graphed = _derived_forms(bench, subject, fast, forms[fast], bench.compiles(precision) and with_compiled)
        for mode, training in MODES.items():
            chosen = {**models, **graphed}
            if training:  # a graph is for inference, and its module is among the others
                chosen = {who: model for who, model in chosen.items() if not isinstance(model.backbone, Graphed)}
                if not bench.compiles_mode(precision, training):
                    chosen.pop(fast + COMPILED, None)
            jobs = {who: make_pass(model, subject.toolbox, mode, setting, dtype) for who, model in chosen.items()}
            place = {"toolbox": subject.toolbox, "detector": subject.detector, **setting._asdict()}
            bench.compare(rows, jobs, **place, precision=precision, mode=mode)
        bench.reset()


def _derived_forms(
    bench: Bench, subject: Subject, who: str, form: DetectorForm, compiled: bool
) -> dict[str, nn.Module]:
    """Build a form of the detector with its pyramid as a CUDA graph and, if asked for, compiled, and both."""
    models = {}
    for name in [GRAPH, COMPILED, COMPILED_GRAPH] if compiled else [GRAPH]:
        models[who + name] = model = build(subject, form).to(bench.device)
        if name != GRAPH:
            model.backbone.compile(backend=bench.backend)
        if name != COMPILED:
            model.backbone = Graphed(model.backbone, bench.on_gpu)
    return models


def _add_agreement(rows: Rows, subject: Subject, models: Mapping[str, nn.Module], setting: DetectorSetting) -> None:
    """Add how many of the stock detector's detections each form finds, in float32."""
    set_precision("float32")
    found = {who: make_pass(model, subject.toolbox, INFERENCE, setting)() for who, model in models.items()}
    for who, detections in found.items():
        if who != STOCK:
            pairs = ((index, *pair) for index, pair in enumerate(zip(found[STOCK], detections, strict=True)))
            share = agreement(pairs, box_tolerance=0.1, score_tolerance=1e-3).share
            error = {} if share >= LEAST_SHARE else {"error": "other detections than the stock detector's"}
            number = sum(len(image.scores) for image in detections)
            rows.add(
                toolbox=subject.toolbox, detector=subject.detector, who=who, detections=number, share=share, **error
            )
