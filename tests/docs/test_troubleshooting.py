"""Every message that the page on troubleshooting quotes is one that somebody gets."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fpn_plugins
from fpn_plugins import FPN, PAFPN, Pyramid, TimmBackbone
from fpn_plugins.commands.__main__ import COMMANDS
from fpn_plugins.testing import TINY_SPECS, make_pyramid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
CHANNELS = [spec.channels for spec in TINY_SPECS]
TINY = {"type": "TimmBackbone", "name": "test_resnet"}
RETINANET, YAML = (
    "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py",
    "detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml",
)
# of Python, and of an environment in which this package is not installed
NOT_PROVOKED = ("No module named 'mmcv._ext'", "Failed to import fpn_plugins")
LEAST = 40


def quoted() -> list[str]:
    """The first quotation of each row, as it stands there."""
    return re.findall(r"^\| `([^`]+)`", PAGE.read_text(encoding="utf-8"), re.M)


def pyramid(image: torch.Tensor) -> Any:
    return Pyramid(TINY, {"type": "FPN", "out_channels": 8})(image)


def load(content: object) -> Callable[[Path], Any]:
    def run(folder: Path) -> Any:
        torch.save(content, folder / "weights.pth")
        return TimmBackbone("test_resnet", checkpoint=folder / "weights.pth")

    return run


def build(config: str, *options: str) -> Callable[[Path], Any]:
    def run(folder: Path) -> Any:
        from fpn_plugins.adapters.hosts import build_detector

        return build_detector(config, options)

    return run


def run_command(name: str, *arguments: str) -> Callable[[Path], Any]:
    def run(folder: Path) -> None:
        module = importlib.import_module(f"fpn_plugins.commands.{COMMANDS[name]}")
        torch.save({"a.weight": torch.zeros(1)}, folder / "weights.pth")
        output = io.StringIO()
        with contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
            module.main([text.replace("FOLDER", str(folder)) for text in arguments])
        raise ValueError(output.getvalue())

    return run


def neck_beside_a_pyramid(folder: Path) -> Any:
    from fpn_plugins.adapters.mmdet import FPN as mmdet_fpn  # noqa: N811

    return mmdet_fpn(CHANNELS, 16, 5)(make_pyramid([s._replace(channels=16) for s in TINY_SPECS]))


def unknown_builder(folder: Path) -> Any:
    from fvcore.common.registry import Registry

    return Registry("BACKBONE").get("build_fpn_plugins_resnet_fpn_backbone")


def unknown_key(folder: Path) -> None:
    from detectron2.config import CfgNode, get_cfg

    get_cfg().merge_from_other_cfg(CfgNode({"MODEL": {"FPN_PLUGINS": {}}}))


def tta_of_masks(folder: Path) -> None:
    from mmdet.models.test_time_augs import DetTTAModel
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    DetTTAModel._merge_single_sample(None, [DetDataSample(pred_instances=InstanceData(masks=[]))])


def check_data(**changes: Any) -> Callable[[Path], Any]:
    """Check a file of one image, which is missing, with one object."""

    def run(folder: Path) -> None:
        import json

        from fpn_plugins.data import check_coco

        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        image = {"id": 1, "file_name": "a.jpg", "width": 32, "height": 32}
        content = {"info": {}, "images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "a"}]}
        (folder / "set.json").write_text(json.dumps(content))
        check_coco(folder / "set.json", folder, **changes)

    return run


def missing_library(folder: Path) -> None:
    from fpn_plugins.extras import needed_for

    with needed_for("timm's networks"):
        raise ModuleNotFoundError("No module named 'timm'", name="timm")


MAPS = make_pyramid()
CORE: list[Callable[[Path], Any]] = [
    lambda _: FPN(CHANNELS, "16"),
    lambda _: FPN(CHANNELS, 16, num_outs=5),
    lambda _: FPN(CHANNELS, 16, norm={"type": "BN"}),
    lambda _: FPN(CHANNELS, 16, in_indices=(0, 7)),
    lambda _: FPN(CHANNELS, 16)(MAPS[:3]),
    lambda _: FPN(CHANNELS, 16)(dict(enumerate(MAPS))),
    lambda _: FPN(CHANNELS, 16)([*MAPS[:3], MAPS[3].half()]),
    lambda _: FPN(CHANNELS[::-1], 16)(MAPS[::-1]),
    lambda _: PAFPN(CHANNELS, 16)([*MAPS[:3], MAPS[3][..., :1, :]]),
    lambda _: FPN(CHANNELS, 16).load_state_dict({"inner_blocks.0.0.weight": torch.zeros(16, 4, 1, 1)}),
    lambda _: Pyramid(TINY, {"type": "FNP"}),
    lambda _: Pyramid(TINY, "FPN"),
    lambda _: Pyramid(TINY, [{"type": "FPN", "out_channels": 16}, {"type": "BFP", "in_channels": [8] * 4}]),
    lambda _: Pyramid(TINY, {"type": "FPN"}, autocast="fp16"),
    lambda _: pyramid(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)),
    lambda _: pyramid(torch.zeros(3, 64, 64)),
    lambda _: TimmBackbone("resnet5"),
    lambda _: TimmBackbone("test_resnet", out_indices=(1, 2, 9)),
    lambda _: TimmBackbone("test_resnet", frozen_stages=9),
    lambda _: TimmBackbone("test_resnet", pretrained=True, checkpoint="x.pth"),
    lambda _: TimmBackbone("hrnet_w18_small", gradient_checkpointing=True),
    lambda _: TimmBackbone("vit_tiny_patch16_224", out_indices=(0,))(torch.zeros(1, 3, 64, 64)),
    lambda _: TimmBackbone("test_resnet", checkpoint="missing.pth"),
    load({"conv1.weight": torch.zeros(1)}),
    load({"a": ValueError("executed")}),
    lambda _: importlib.import_module("fpn_plugins.weights.mask_heads"),
    check_data(check_images=True),
    check_data(check_images=False, masks=True),
    missing_library,
]
HOSTS: list[Callable[[Path], Any]] = [
    neck_beside_a_pyramid,
    unknown_builder,
    unknown_key,
    tta_of_masks,
    build(RETINANET, "model.neck.type=fpn_plugins.FNP"),
    build(RETINANET, "model.neck.type=FPN_X"),
    build(RETINANET, "model.backbone.type=fpn_plugins.TimmBackbone", "model.backbone.name=test_resnet"),
    build(RETINANET, "model.neck.type=fpn_plugins.FPN", "model.neck.num_outs=2"),
    build(RETINANET, "model.neck.type=fpn_plugins.FPN", "model.neck.add_extra_convs=on_inputs"),
    build(YAML, "MODEL.BACKBONE.NAME=build_fpn_plugins_resnet"),
    build(YAML, "MODEL.BACKBONE.NAME=build_fpn_plugins_resnet_fpn_backbone", "MODEL.FPN.NORM=Bogus"),
    build(YAML, "MODEL.BACKBONE.NAME=build_fpn_plugins_resnet_fpn_backbone", "MODEL.DEVICE=meta"),
    build(YAML, "MODEL.FPN_PLUGINS.NECK.ARGS.norm=BN"),
    run_command("train", "fpn_plugins::mmdet/demo_retinant"),
    run_command("train", "fpn_plugins::mmdet/demo_retinanet"),
    run_command("train", "fpn_plugins::detectron2/demo_mask_rcnn"),
    run_command("train", "fpn_plugins::mmdet/mask_rcnn_r50_fpn_12e", "--cfg-options", "train_cfg.max_epochs", "1"),
    run_command("train-d2", "--config-file", "fpn_plugins::mmdet/demo_retinanet"),
    run_command("cost", "configs/none.py"),
    run_command("convert", "FOLDER/weights.pth", "FOLDER/x.pth", "--config", RETINANET),
    run_command("convert", "FOLDER/weights.pth", "FOLDER/x.pkl", "--config", RETINANET),
]
# messages whose occasion needs several processes or a missing toolbox: the files that hold their words
IN_SOURCES = {
    "parameters got no gradient in the first step": "ops/distributed.py",
    "expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN": "adapters/detectron2/builders.py",
    "fpn_plugins.adapters.mmdet needs mmengine, mmcv and mmdet": "adapters/mmdet/__init__.py",
    "model with heads for another number of classes": "data/data_check.py",
    "cannot download": "weights/download.py",
    "is not registered": "adapters/detectron2/data_check.py",
    "beside it, which does not exist; move, copy and": "inference/engines/files.py",
    "was written with; copy both files of one export": "inference/engines/sessions.py",
    "a .pt2 file refuses sizes at which a map has a single cell": "inference/engines/sessions.py",
    "is for exported files; ": "commands/detector_options.py",
}


def provoke(occasions: list[Callable[[Path], Any]], folder: Path) -> list[str]:
    messages = []
    for occasion in occasions:
        try:
            occasion(folder)
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}")
        else:
            pytest.fail(f"occasion {len(messages)} raised nothing")
    return messages


def says(message: str, quotation: str) -> bool:
    return re.search(".*".join(map(re.escape, quotation.split("..."))), message, re.S) is not None


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
def test_every_quoted_message_occurs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FPN_PLUGINS_COCO", raising=False)
    messages = provoke([*CORE, *HOSTS], tmp_path)
    rows = quoted()
    assert len(rows) >= LEAST
    known = (*IN_SOURCES, *NOT_PROVOKED)
    left = [row for row in rows if not any(says(text, row) for text in messages)]
    unknown = [row for row in left if not any(text in row.replace("`", "") for text in known)]
    assert not unknown, "\n".join([*unknown, "", *messages])


@pytest.mark.parametrize(("words", "file"), IN_SOURCES.items())
def test_the_other_messages_are_in_the_sources(words: str, file: str):
    assert words in (Path(fpn_plugins.__file__).parent / file).read_text(encoding="utf-8")
