"""Every shipped config builds in its toolbox; both hosts have the same stems, whose settings agree."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2] / "configs"
MMDET = sorted(ROOT.glob("mmdet/*.py"))
DETECTRON2 = sorted([*ROOT.glob("detectron2/*.py"), *ROOT.glob("detectron2/*.yaml")])

ABLATIONS = (
    "faster_rcnn_r50_fpn_gn",
    "faster_rcnn_r50_fpn_p3p5",
    "faster_rcnn_r50_image_pyramid",
)
BASELINES = ("SSDPyramid", "TopDownPyramid")  # necks with the arguments of mmdet's FPN
# backbones of timm instead of mmdet's
OTHER_BACKBONES = ("retinanet_convnext_t_fpn_12e", "retinanet_efficientnet_b3_fpn_12e")
MMDET_ONLY = {"yolox_s_csppafpn_300e"}  # Detectron2 has no YOLOX
COCO_12E = [path for path in MMDET if path.stem.endswith("_12e") and path.stem not in OTHER_BACKBONES]


def by_stem(path: Path) -> str:
    """Parametrization id."""
    return path.stem


@pytest.fixture(autouse=True)
def coco_folder(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the folder that configs for any COCO-format set read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


def mmdet_config(path: Path) -> Any:
    """Load a config of this repository without pretrained weights."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(path))
    make_small(cfg.model.backbone)
    return cfg


def make_small(backbone: Any, kind: str = "") -> None:
    """Drop checkpoints and downloads, and narrow Transformers; everything else stays."""
    backbone.update({key: none for key, none in (("checkpoint", None), ("pretrained", False)) if key in backbone})
    kind = str(backbone.get("type", kind)).removeprefix("fpn_plugins.")
    if kind == "ViT":
        backbone.update(embed_dim=64, num_heads=4)
    elif kind == "MViT":
        backbone.update(embed_dim=8, num_heads=1)
    elif kind == "TimmHybrid":
        backbone["model_args"] = {"embed_dim": 64, "num_heads": 4}
    vit = "" if kind == "ViTAdapter" else "ViT"  # its config states the channels of its neck, too
    for part, its_kind in (("backbone", ""), ("cnn", ""), ("vit", vit)):
        if part in backbone:
            make_small(backbone[part], its_kind)


def detectron2_model(path: Path) -> Any:
    """Build the model of a config of this repository on the CPU, without a checkpoint."""
    if path.suffix == ".yaml":
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model

        from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

        cfg = get_cfg()
        add_fpn_plugins_config(cfg)
        cfg.merge_from_file(str(path))
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.FPN_PLUGINS.BACKBONE.ARGS.checkpoint = None
        return build_model(cfg)
    from detectron2.config import instantiate

    return instantiate(lazy_config(path).model)


def lazy_config(path: Path) -> Any:
    """Load a LazyConfig of this repository without pretrained weights."""
    from detectron2.config import LazyConfig

    cfg = LazyConfig.load(str(path))
    make_small(cfg.model.backbone.bottom_up)
    return cfg


def test_both_hosts_have_the_same_stems() -> None:
    stems = {path.stem for path in MMDET}
    assert stems - MMDET_ONLY == {path.stem for path in DETECTRON2}
    assert {"faster_rcnn_r50_fpn_12e", "mask_rcnn_r50_fpn_12e", "retinanet_r50_fpn_12e", "demo_mask_rcnn"} <= stems


def test_mmdet_configs_have_no_import_statement() -> None:
    # mmengine 0.10.7 takes such a file, even one that imports only `os`, for a config of the new style
    for path in ROOT.glob("mmdet/**/*.py"):
        statements = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [node for node in statements if isinstance(node, (ast.Import, ast.ImportFrom))], path


@pytest.mark.mmdet
@pytest.mark.parametrize("path", [path for path in MMDET if re.search(r"_\d+e$", path.stem)], ids=by_stem)
def test_learning_rates_scale_with_the_batch(path: Path):
    """mmdet's ``--auto-scale-lr`` stops at a config without both keys."""
    from mmengine.config import Config

    scale = Config.fromfile(str(path)).get("auto_scale_lr", {})
    assert scale.get("enable") is False and scale.get("base_batch_size", 0) > 0, scale


@pytest.mark.mmdet
@pytest.mark.parametrize("path", MMDET, ids=by_stem)
def test_mmdet_config_builds_and_extracts_features(path: Path) -> None:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    model = MODELS.build(mmdet_config(path).model).eval()
    channels = len(getattr(model.data_preprocessor, "mean", "RGB"))  # YOLOX normalizes nothing
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(1, channels, 128, 256))
    head = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
    strides = [pair[0] for pair in head.prior_generator.strides]
    assert [m.shape[-2:] for m in maps] == [(128 // s, 256 // s) for s in strides]
    neck = model.neck if model.with_neck else model.backbone.neck
    for part in neck if isinstance(neck, torch.nn.Sequential) else [neck]:
        assert type(part).__module__.startswith("fpn_plugins.")


def without_scopes(node: Any) -> Any:
    """Drop the marks that mmengine leaves on values inherited from another package."""
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != "_scope_"}
    return [without_scopes(value) for value in node] if isinstance(node, (list, tuple)) else node


def stock_base(path: Path) -> Path:
    """Find the config of mmdet that a config is based on, directly or through configs of this repository."""
    import mmdet

    written = next(line for line in path.read_text().splitlines() if line.startswith("_base_"))
    base = written.split('"')[1]
    if "::" not in base:
        return stock_base(path.parent / base)
    return Path(mmdet.__file__).parent / ".mim" / "configs" / base.split("::")[1]


@pytest.mark.mmdet
@pytest.mark.parametrize("path", COCO_12E, ids=by_stem)
def test_mmdet_coco_configs_change_nothing_but_the_neck(path: Path) -> None:
    """A `12e` config changes the neck and level weights of mmdet's own config; an ablation may change the model."""
    from mmengine.config import Config

    stock = without_scopes(Config.fromfile(str(stock_base(path))).to_dict())
    ours = without_scopes(Config.fromfile(str(path)).to_dict())
    if path.stem.startswith(ABLATIONS):  # their heads follow the neck
        ours["model"], stock["model"] = ({"neck": model["neck"]} for model in (ours["model"], stock["model"]))
    if ours["model"].get("bbox_head", {}).pop("level_weights", None):
        assert ours["model"]["bbox_head"].pop("type") == f"fpn_plugins.{stock['model']['bbox_head'].pop('type')}"
    own, theirs = ours["model"].pop("neck"), stock["model"].pop("neck")
    if "semantic_head" in ours["model"]:  # takes the arguments of mmdet's
        own_type = ours["model"]["semantic_head"]["type"]
        ours["model"]["semantic_head"]["type"] = own_type.removeprefix("fpn_plugins.")
    if backbone := ours["model"].get("backbone"):  # takes the arguments of mmdet's
        backbone["type"] = backbone["type"].removeprefix("fpn_plugins.")
    assert ours == stock
    if path.stem.startswith(ABLATIONS):
        return
    for part, stock_part in zip(*([neck] if isinstance(neck, dict) else neck for neck in (own, theirs)), strict=True):
        if part.pop("type").removeprefix("fpn_plugins.") in (stock_part.pop("type"), *BASELINES):
            assert part == stock_part


@pytest.mark.detectron2
@pytest.mark.parametrize("path", DETECTRON2, ids=by_stem)
def test_detectron2_config_builds_and_extracts_features(path: Path) -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    model = detectron2_model(path).eval()
    assert isinstance(model.backbone, PyramidBackbone)
    with torch.no_grad():
        maps = model.backbone(torch.randn(1, model.pixel_mean.numel(), 64, 96))
    shapes = model.backbone.output_shape()
    generator = getattr(model, "anchor_generator", None) or model.proposal_generator.anchor_generator
    assert [shapes[name].stride for name in maps] == list(generator.strides)
    assert [maps[name].shape[-2] for name in maps] == [-(-64 // shape.stride) for shape in shapes.values()]


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_level_weights_match_on_both_hosts() -> None:
    stem = "retinanet_r50_fpn_level_weights_12e"
    theirs, lazy = mmdet_config(ROOT / f"mmdet/{stem}.py"), lazy_config(ROOT / f"detectron2/{stem}.py")
    assert theirs.model.bbox_head.level_weights == list(lazy.model.level_weights)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("stem", ["demo_mask_rcnn", "study_mask_rcnn"])
def test_demo_settings_match_on_both_hosts(stem: str) -> None:
    """One network, one schedule: values stated in both files agree."""
    theirs = mmdet_config(ROOT / f"mmdet/{stem}.py")
    lazy = lazy_config(ROOT / f"detectron2/{stem}.py")
    assert theirs.max_iters == lazy.train.max_iter
    assert theirs.channels == lazy.model.backbone.neck.out_channels
    assert theirs.optim_wrapper.optimizer.lr == lazy.optimizer.lr
    assert theirs.optim_wrapper.optimizer.weight_decay == lazy.optimizer.weight_decay
    assert theirs.train_dataloader.batch_size == lazy.dataloader.train.total_batch_size
    assert theirs.num_classes == lazy.model.roi_heads.num_classes == 4
    anchors = theirs.model.rpn_head.anchor_generator
    assert [[anchors.scales[0] * s] for s in anchors.strides] == lazy.model.proposal_generator.anchor_generator.sizes
    for name in ("name", "frozen_stages", "norm_eval"):
        assert theirs.model.backbone.backbone[name] == lazy.model.backbone.bottom_up[name]
    for proposals, part in ((theirs.model.train_cfg.rpn_proposal, 0), (theirs.model.test_cfg.rpn, 1)):
        assert proposals.nms_pre == lazy.model.proposal_generator.pre_nms_topk[part]
        assert proposals.max_per_img == lazy.model.proposal_generator.post_nms_topk[part]
    assert theirs.model.data_preprocessor.mean == lazy.model.pixel_mean
    assert theirs.model.data_preprocessor.std == lazy.model.pixel_std
    assert theirs.model.train_cfg.rcnn.sampler.num == lazy.model.roi_heads.batch_size_per_image


VITDET = sorted(path.stem for path in MMDET if re.search("_(rotary_)?vit(?!_adapter)|_sta_", path.stem))


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("stem", VITDET)
def test_vitdet_settings_match_on_both_hosts(stem: str) -> None:
    """Backbone, levels, optimizer and schedule agree; data and heads are each toolbox's own."""
    from detectron2.config import LazyConfig
    from mmengine.config import Config
    from omegaconf import OmegaConf

    theirs = Config.fromfile(str(ROOT / f"mmdet/{stem}.py"))
    lazy = LazyConfig.load(str(ROOT / f"detectron2/{stem}.py"))
    backbones = []
    for backbone in (theirs.model.backbone.backbone.to_dict(), OmegaConf.to_container(lazy.model.backbone.bottom_up)):
        backbone.get("vit", backbone).pop("checkpoint", None)  # Detectron2 loads it when it trains
        backbones.append(json.loads(json.dumps(backbone)))  # lists for tuples
    assert backbones[0] == backbones[1]
    padding = [lazy.model.backbone.get(name) for name in ("square_pad", "size_divisibility")]
    assert theirs.model.data_preprocessor.pad_size_divisor in padding
    assert theirs.model.data_preprocessor.mean == lazy.model.pixel_mean
    assert theirs.model.data_preprocessor.std == lazy.model.pixel_std
    gpus = 1 if stem.startswith("demo_") else 16
    assert theirs.train_dataloader.batch_size * gpus == lazy.dataloader.train.total_batch_size
    assert theirs.get("auto_scale_lr", {}).get("base_batch_size") in (None, lazy.dataloader.train.total_batch_size)
    recipe, groups = theirs.optim_wrapper.paramwise_cfg, lazy.optimizer.params
    assert {"decay": recipe.decay_rate, "depth": recipe.num_layers} == groups.lr_factor_func.keywords
    assert ("custom_keys" in recipe) == bool(groups.overrides) == (groups.weight_decay_norm is not None)
    assert theirs.optim_wrapper.optimizer.lr == lazy.optimizer.lr
    assert theirs.optim_wrapper.optimizer.weight_decay == lazy.optimizer.weight_decay
    assert theirs.train_cfg.max_iters == lazy.train.max_iter
    assert theirs.param_scheduler[0].end == pytest.approx(lazy.lr_multiplier.warmup_length * lazy.train.max_iter)
    if "milestones" in theirs.param_scheduler[1]:
        assert theirs.param_scheduler[1].milestones == lazy.lr_multiplier.scheduler.milestones


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_the_convolutional_foundation_model_trains_alike_on_both_hosts() -> None:
    """Each parameter has the same rate and decay."""
    from detectron2.config import instantiate
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.optim import build_optim_wrapper

    stem = "mask_rcnn_dinov3_convnext_t_fpn_36e"
    register_all_modules()
    theirs, lazy = mmdet_config(ROOT / f"mmdet/{stem}.py"), lazy_config(ROOT / f"detectron2/{stem}.py")
    assert theirs.optim_wrapper.type == "AmpOptimWrapper" and lazy.train.amp.enabled
    found = []
    model = MODELS.build(theirs.model).backbone
    found.append((model, build_optim_wrapper(model, {**theirs.optim_wrapper, "type": "OptimWrapper"}).optimizer))
    lazy.optimizer.params.model = model = instantiate(lazy.model.backbone)
    found.append((model, instantiate(lazy.optimizer)))
    settings = []
    for model, optimizer in found:
        names = {p: name.replace("bottom_up.", "backbone.") for name, p in model.named_parameters()}
        groups = [(names[p], group) for group in optimizer.param_groups for p in group["params"]]
        # Detectron2 decays norms of its own kinds only
        settings.append({n: (g["lr"], g["weight_decay"]) for n, g in groups if not n.startswith("backbone.norms.")})
    assert settings[0] == settings[1]
    lowest = min(lr for lr, _ in settings[0].values())
    assert lowest == pytest.approx(1e-4 * 0.95**7, rel=0.03)  # ConvNeXt's recipe


MVITV2 = sorted(path.stem for path in MMDET if "_mvitv2_" in path.stem)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("stem", MVITV2)
def test_mvitv2_settings_match_on_both_hosts(stem: str) -> None:
    """Backbone, neck, pixels, optimizer and schedule agree; data and heads are each toolbox's own."""
    from detectron2.config import LazyConfig
    from mmengine.config import Config

    theirs = Config.fromfile(str(ROOT / f"mmdet/{stem}.py"))
    lazy = LazyConfig.load(str(ROOT / f"detectron2/{stem}.py"))
    backbone = theirs.model.backbone.backbone.to_dict()
    weights = Path(backbone.pop("checkpoint")).name  # Detectron2 loads it when it trains
    assert backbone == dict(lazy.model.backbone.bottom_up)
    assert lazy.train.init_checkpoint.endswith(weights)
    assert theirs.model.backbone.neck.type == lazy.model.backbone.neck.type
    assert theirs.model.data_preprocessor.mean == list(lazy.model.pixel_mean)
    assert theirs.optim_wrapper.optimizer.lr == lazy.optimizer.lr
    assert theirs.optim_wrapper.optimizer.weight_decay == lazy.optimizer.weight_decay
    recipe, groups = theirs.optim_wrapper.paramwise_cfg, lazy.optimizer.params
    assert set(recipe.custom_keys) == set(groups.overrides)
    assert {key["decay_mult"] for key in recipe.custom_keys.values()} == {recipe.norm_decay_mult} == {0.0}
    assert {key["weight_decay"] for key in groups.overrides.values()} == {groups.weight_decay_norm} == {0.0}
    assert theirs.train_cfg.max_iters == theirs.param_scheduler[1].end == lazy.train.max_iter
    assert theirs.param_scheduler[1].milestones == lazy.lr_multiplier.scheduler.milestones
    assert theirs.train_dataloader.batch_size * 16 == lazy.dataloader.train.total_batch_size
