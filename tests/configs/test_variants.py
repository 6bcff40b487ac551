"""Configs that are not files: variants by options, removed stems, and folders named after a config."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from fpn_plugins import ViT
from fpn_plugins.adapters.hosts import build_detector, toolbox_of
from fpn_plugins.moved import REMOVED_CONFIGS

ROOT = Path(__file__).resolve().parents[2] / "configs"
HOSTS = {"MMDetection": "mmdet", "Detectron2": "detectron2"}
STEM = "faster_rcnn_r50_fpn_12e"
# channels, and strides of the pyramid, of each variant
PYRAMIDS = {
    "fpn128": (128, [4, 8, 16, 32, 64]),
    "fpn512": (512, [4, 8, 16, 32, 64]),
    "single_scale_c4": (256, [16]),
    "single_scale_c5": (256, [32]),
}


def documented() -> dict[tuple[str, str], list[str]]:
    """Options that configs/README.md states for each variant and host."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Variants by options")[1]
    options: dict[tuple[str, str], list[str]] = {}
    variant = host = ""
    for word in section.split("```text")[1].split("```")[0].split():
        if "=" in word:
            options.setdefault((variant, host), []).append(word)
        elif word in HOSTS:
            host = HOSTS[word]
        else:
            variant = word
    for host in HOSTS.values():
        options["fpn512", host] = [word.replace("128", "512") for word in options["fpn128", host]]
    return options


CASES = [
    pytest.param(variant, host, marks=getattr(pytest.mark, host)) for host in HOSTS.values() for variant in PYRAMIDS
]


@pytest.mark.parametrize(("variant", "host"), CASES)
def test_documented_options_give_the_variant(variant: str, host: str) -> None:
    model = build_detector(str(ROOT / host / f"{STEM}.py"), documented()[variant, host]).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = model.extract_feat(images) if host == "mmdet" else list(model.backbone(images).values())
    channels, strides = PYRAMIDS[variant]
    assert [tuple(m.shape[1:]) for m in maps] == [(channels, -(-64 // s), -(-96 // s)) for s in strides]
    anchors = (model.rpn_head.prior_generator if host == "mmdet" else model.proposal_generator.anchor_generator).strides
    assert [s[0] if isinstance(s, tuple) else s for s in anchors] == strides
    rpn_conv = model.rpn_head.rpn_conv if host == "mmdet" else model.proposal_generator.rpn_head.conv
    assert rpn_conv.in_channels == channels


@pytest.mark.timm
@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("stem", ["mask_rcnn_dinov3_b_vitdet_100e", "retinanet_dinov2_reg_s_vitdet_100e"])
def test_tokens_and_factors_of_foundation_models_are_not_decayed(stem: str) -> None:
    """As the guide says; by name, because the networks are large."""
    from detectron2.config import LazyConfig
    from mmengine.config import Config

    with torch.device("meta"):
        network = ViT(name="vit_small_patch14_reg4_dinov2", depth=1)
    kept = [name for name, p in network.named_parameters() if p.ndim == 3 or name.endswith("gamma")]
    assert len(kept) == 5  # position embeddings, class token, registers, factors of both branches
    custom = Config.fromfile(str(ROOT / f"mmdet/{stem}.py")).optim_wrapper.paramwise_cfg.custom_keys
    overrides = LazyConfig.load(str(ROOT / f"detectron2/{stem}.py")).optimizer.params.overrides
    for name in kept:
        assert any(key in name and setting.decay_mult == 0 for key, setting in custom.items())
        assert overrides[name.rpartition(".")[2]].weight_decay == 0


def test_a_removed_config_names_its_replacement() -> None:
    assert {stem.removeprefix("faster_rcnn_r50_").removesuffix("_12e") for stem in REMOVED_CONFIGS} == set(PYRAMIDS)
    for stem in REMOVED_CONFIGS:
        for host in HOSTS.values():
            path = ROOT / host / f"{stem}.py"
            assert not path.exists() and (path.parent / f"{STEM}.py").exists()
            variant = re.search("fpn512|fpn128|single_scale_c.", stem)[0]  # type: ignore[index]
            with pytest.raises(FileNotFoundError, match=f"was removed; use {STEM} with the options of {variant} in"):
                toolbox_of(str(path))


@pytest.mark.parametrize(
    "command",
    [pytest.param("train", marks=pytest.mark.mmdet), pytest.param("train_d2", marks=pytest.mark.detectron2)],
)
def test_training_commands_explain_removed_configs(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)  # replaced by the command
    config = "configs/x/faster_rcnn_r50_fpn512_12e.py"
    arguments = [config] if command == "train" else ["--config-file", config]
    with pytest.raises(SystemExit):
        import_module(f"fpn_plugins.commands.{command}").main(arguments)
    assert "use faster_rcnn_r50_fpn_12e with the options of fpn512" in capsys.readouterr().err


@pytest.mark.detectron2
def test_output_folder_follows_the_loaded_config(tmp_path: Path, tiny_coco: Path, monkeypatch: Any) -> None:
    from detectron2.config import LazyConfig

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    for path in sorted(ROOT.glob("detectron2/*.py")):
        assert LazyConfig.load(str(path)).train.output_dir == f"work_dirs/{path.stem}_detectron2"
    derived = tmp_path / "my_detector.py"
    base = str(ROOT / f"detectron2/{STEM}.py")
    derived.write_text(f"from detectron2.config import LazyConfig\n\ntrain = LazyConfig.load({base!r}).train\n")
    assert LazyConfig.load(str(derived)).train.output_dir == "work_dirs/my_detector_detectron2"
