"""Whole detectors on a device: the toolboxes' own against the same with our neck, inference and training steps."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector_passes import (
    FORMS,
    INFERENCE,
    STOCK,
    DetectorForm,
    DetectorSetting,
    Subject,
    build,
    draw_weights,
    make_pass,
)
from gpu_measure import MODES, Bench, Rows, describe, set_precision
from torch import nn

from fpn_plugins.analysis import agreement

# forms in single precision; the precision is that of the section
WHOLE_FORMS = {name: form for name, form in FORMS.items() if not form.bf16}
COMPILED = "ours, channels_last, backbone compiled"
LARGE, TINY = DetectorSetting((800, 1344), 2), DetectorSetting((96, 128), 1)
LEAST_SHARE = 0.9  # of the stock detector's detections that our forms have to find


def compare_detectors(bench: Bench, rows: Rows, toolboxes: Sequence[str], detectors: Sequence[str]) -> None:
    """Measure detectors of the installed toolboxes; a detector that fails is a row with its error."""
    setting = TINY if bench.tiny else LARGE
    for toolbox in toolboxes:
        if importlib.util.find_spec(toolbox) is None:
            rows.add(toolbox=toolbox, error="not installed")
            continue
        for detector in detectors:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    subject = draw_weights(toolbox, detector, Path(folder), setting)
                    _compare_detector(bench, rows, subject, setting)
                except Exception as error:  # for example, no compiled operators for this device
                    rows.add(toolbox=toolbox, detector=detector, error=describe(error))
            bench.reset()


def _compare_detector(bench: Bench, rows: Rows, subject: Subject, setting: DetectorSetting) -> None:
    models = {who: build(subject, form).to(bench.device) for who, form in WHOLE_FORMS.items()}
    _add_agreement(rows, subject, models, setting)
    for precision in bench.precisions:
        dtype = set_precision(precision)
        if bench.compiles(precision):
            models[COMPILED] = build(subject, DetectorForm(channels_last=True)).to(bench.device)
            models[COMPILED].backbone.compile(backend=bench.backend)
        for mode in MODES:
            jobs = {who: make_pass(model, subject.toolbox, mode, setting, dtype) for who, model in models.items()}
            place = {"toolbox": subject.toolbox, "detector": subject.detector, **setting._asdict()}
            bench.compare(rows, jobs, **place, precision=precision, mode=mode)
        models.pop(COMPILED, None)
        bench.reset()


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
