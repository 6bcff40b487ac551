"""Build the detectors of the benchmarks, the toolboxes' own and the same with our neck, and their passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pictures import draw_pictures
from torch import nn

from fpn_plugins.adapters.hosts import Host, build_detector, host_of
from fpn_plugins.analysis import spread_predictions
from fpn_plugins.conversion import convert
from fpn_plugins.files import suffix_of
from fpn_plugins.inference import Detections
from fpn_plugins.weights import read_checkpoint, write_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOOLBOXES, DETECTORS = ("mmdet", "detectron2"), ("mask_rcnn", "retinanet")
MODES = ("inference", "training")
INFERENCE, TRAINING = MODES
STOCK_CONFIGS = {
    ("mmdet", "mask_rcnn"): "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    ("mmdet", "retinanet"): "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    ("detectron2", "mask_rcnn"): "detectron2::COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    ("detectron2", "retinanet"): "detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    ("mmdet", "swin_t"): "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py",
    ("detectron2", "swin_t"): str(Path(__file__).parent / "configs" / "detectron2_mask_rcnn_swin_t.py"),
    ("mmdet", "vitdet_b"): str(CONFIGS / "mmdet" / "mask_rcnn_vitdet_b_100e.py"),  # mmdet's package has no ViTDet
    ("detectron2", "vitdet_b"): "detectron2::common/models/mask_rcnn_vitdet.py",
}
# configs of ours with another name than DETECTOR_r50_fpn_12e
OWN_CONFIGS = {"swin_t": "mask_rcnn_swin_t_fpn_12e", "vitdet_b": "mask_rcnn_vitdet_b_100e"}
# mmdet's `PyramidBackbone` takes backbones of this package only: timm's ResNet-50 replaces mmdet's
PYRAMID = {
    "model.neck": "None",
    "model.backbone._delete_": "True",
    "model.backbone.type": "fpn_plugins.PyramidBackbone",
    "model.backbone.channels_last": "True",
    "model.backbone.backbone.type": "TimmBackbone",
    "model.backbone.backbone.name": "resnet50",
    "model.backbone.backbone.frozen_stages": "1",
    "model.backbone.backbone.norm_eval": "True",
    "model.backbone.neck.type": "FPN",
    "model.backbone.neck.out_channels": "256",
    "model.backbone.neck.num_outs": "5",
}
SWIN = {
    **PYRAMID,
    "model.backbone.backbone.type": "Swin",
    "model.backbone.backbone.name": "swin_tiny_patch4_window7_224",
}
SWIN = {key: value for key, value in SWIN.items() if not key.endswith(("frozen_stages", "norm_eval"))}
RETINANET = {"model.backbone.neck.start_level": "1", "model.backbone.neck.add_extra_convs": "on_input"}
# what is not listed has `PyramidBackbone` already
CHANNELS_LAST = {
    ("mmdet", "mask_rcnn"): PYRAMID,
    ("mmdet", "retinanet"): {**PYRAMID, **RETINANET},
    ("mmdet", "swin_t"): SWIN,
}


class DetectorForm(NamedTuple):
    """Configuration in which a detector runs.

    ``options`` are further overrides of the config, ``KEY=VALUE``.
    """

    ours: bool = True
    channels_last: bool = False
    bf16: bool = False
    options: tuple[str, ...] = ()


STOCK, OURS = "stock", "ours"
FORMS = {
    STOCK: DetectorForm(ours=False),
    OURS: DetectorForm(),
    "ours, channels_last": DetectorForm(channels_last=True),
    "stock, bf16": DetectorForm(ours=False, bf16=True),
    "ours, channels_last, bf16": DetectorForm(channels_last=True, bf16=True),
}
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def usual_forms() -> list[str]:
    """List all forms; those in bfloat16 only if the processor has instructions for it, as emulation is slow."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.11
    bf16 = any(capabilities.get(name) for name in BF16_INSTRUCTIONS)
    return [name for name, form in FORMS.items() if bf16 or not form.bf16]


class DetectorSetting(NamedTuple):
    """Images of one report; ``size`` is height and width in pixels."""

    size: tuple[int, int]
    batch: int


class Subject(NamedTuple):
    """A detector of a toolbox, the file of weights that all its forms load, and overrides of the forms' configs."""

    toolbox: str
    detector: str
    weights: Path
    options: tuple[str, ...] = ()


def draw_weights(
    toolbox: str,
    detector: str,
    folder: Path,
    setting: DetectorSetting,
    options: Sequence[str] = (),
    device: str = "cpu",
) -> Subject:
    """Write random weights, with which the toolbox's own detector finds objects, into ``folder``.

    Args:
        toolbox: name of the toolbox.
        detector: see `STOCK_CONFIGS`.
        folder: folder of the file.
        setting: size of the image on which objects are found.
        options: overrides of the toolbox's config.
        device: device on which the detector runs once; one of a LazyConfig is also built there, which is faster.
    """
    torch.manual_seed(0)
    config = STOCK_CONFIGS[toolbox, detector]
    with torch.device(device if toolbox == "detectron2" and suffix_of(config) == ".py" else "cpu"):
        stock = build_detector(config, options).to(device).eval()
    with torch.no_grad():
        spread_predictions(
            stock, partial(host_of(STOCK_CONFIGS[toolbox, detector]).detect, stock, draw_pictures(1, setting.size))
        )
    file = write_checkpoint(stock.state_dict(), folder / f"{toolbox}_{detector}.safetensors")
    return Subject(toolbox, detector, file)


def build(subject: Subject, form: DetectorForm) -> nn.Module:
    """Build a detector in one of its forms."""
    case = subject.toolbox, subject.detector
    changes = CHANNELS_LAST.get(case, {"model.backbone.channels_last": "True"}) if form.channels_last else {}
    options = [*subject.options, *(f"{key}={value}" for key, value in changes.items())]
    name = OWN_CONFIGS.get(subject.detector, f"{subject.detector}_r50_fpn_12e")
    config = str(CONFIGS / subject.toolbox / f"{name}.py") if form.ours else STOCK_CONFIGS[case]
    model = build_detector(config, [*options, *form.options])
    model.load_state_dict(convert(read_checkpoint(subject.weights), model.state_dict())[0])
    if form.bf16 and subject.toolbox == "mmdet":
        from mmdet_bf16 import allow_bf16

        allow_bf16(model)
    return model


def prepare(subject: Subject, who: str, mode: str, setting: DetectorSetting) -> Callable[[], Any]:
    """Build a detector and make its pass, in a process of its own."""
    return make_pass(build(subject, FORMS[who]), subject.toolbox, mode, setting, autocast_dtype(who))


def autocast_dtype(who: str) -> torch.dtype | None:
    """Autocast dtype of a form; `None` is no autocast."""
    return torch.bfloat16 if FORMS[who].bf16 else None


def make_pass(
    model: nn.Module, toolbox: str, mode: str, setting: DetectorSetting, dtype: torch.dtype | None = None
) -> Callable[[], Any]:
    """Make the job to time.

    Args:
        model: detector of the toolbox, on its device; its mode is set.
        toolbox: name of the toolbox.
        mode: ``"inference"`` is detection; ``"training"`` is a step without the optimizer.
        setting: images.
        dtype: autocast dtype; ``None`` is no autocast.

    Returns:
        The job, which returns detections, or losses by name.
    """
    model.train(mode == TRAINING)
    for parameter in model.parameters():  # gradients exist in every step but the first
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    host = host_of(STOCK_CONFIGS[toolbox, DETECTORS[0]])
    run = detect if mode == INFERENCE else train
    return partial(run, host, model, draw_pictures(setting.batch, setting.size), dtype)


def autocast(model: nn.Module, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to ``dtype`` on the model's device."""
    device = next(model.parameters()).device.type
    return torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None)


def detect(host: Host, model: nn.Module, pictures: Any, dtype: torch.dtype | None) -> list[Detections]:
    """Run inference from pixels to objects."""
    with torch.no_grad(), autocast(model, dtype):
        return host.detect(model, pictures)


def train(host: Host, model: nn.Module, pictures: Any, dtype: torch.dtype | None) -> dict[str, float]:
    """Run forward pass, losses and backward pass; the samplers of regions draw the same numbers each time."""
    torch.manual_seed(0)
    with autocast(model, dtype):
        total, named = host.losses(model, pictures)
    total.backward()
    return named
