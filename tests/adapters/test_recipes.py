"""Configs of a recipe in both toolboxes build, with the same anchors, rates, decays and sizes of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fpn_plugins.recipes import Machine, Recipe, plan_recipe, read_folder
from fpn_plugins.recipes.settings import DETECTORS

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]


def make(root: Path, **options: Any) -> Recipe:
    chosen = {"backbone": "mobilenetv3_small_050", "machine": Machine("cpu", 2), "size": (160, 120), **options}
    return plan_recipe(read_folder(root), "few", epochs=20, flips="all", **chosen)


def configs(plan: Recipe, folder: Path) -> tuple[Any, Any]:
    """Configs of both toolboxes, without the download of weights."""
    from detectron2.config import LazyConfig
    from mmengine.config import Config

    from fpn_plugins.adapters.detectron2.recipe import write_detectron2
    from fpn_plugins.adapters.mmdet.recipe import write_mmdet

    plan.backbone.pop("pretrained", None)
    found = []
    for name, write, read in (("m", write_mmdet, Config.fromfile), ("d", write_detectron2, LazyConfig.load)):
        path = folder / f"{name}.py"
        path.write_text(write(plan, str(path), str(folder / name)))
        compile(path.read_text(), str(path), "exec")
        found.append(read(str(path)))
    return found[0], found[1]


def build_both(cfg: Any, lazy: Any) -> tuple[Any, Any]:
    from detectron2.config import instantiate

    from fpn_plugins.adapters.mmdet.detector import register_all_modules
    from fpn_plugins.registry import MODELS

    register_all_modules()
    return MODELS.build(cfg.model), instantiate(lazy.model)


def sides(anchors: Any) -> list[list[tuple[float, ...]]]:
    """Base anchors of each level, in any order."""
    return [sorted(map(tuple, level.tolist())) for level in anchors]


@pytest.mark.parametrize("detector", DETECTORS)
def test_both_configs_build_the_same_detector(tiny_coco: Path, tmp_path: Path, detector: str):
    plan = make(tiny_coco, detector=detector)
    ours, theirs = build_both(*configs(plan, tmp_path))
    first = (ours.bbox_head if detector == "retinanet" else ours.rpn_head).prior_generator
    second = (theirs if detector == "retinanet" else theirs.proposal_generator).anchor_generator
    assert sides(first.base_anchors) == sides(second.cell_anchors)  # to the last bit
    assert [stride[0] for stride in first.strides] == list(second.strides) == list(plan.anchors.strides)
    # Detectron2's RetinaNet has biases before its norms
    biases = 2 * plan.stacked_convs * plan.channels if detector == "retinanet" else 0
    count = [sum(value.numel() for value in model.parameters()) for model in (ours, theirs)]
    assert count[1] - count[0] == biases
    assert {name.split(".", 2)[2] for name in ours.state_dict() if name.startswith("backbone.neck.")} == {
        name.split(".", 2)[2] for name in theirs.state_dict() if name.startswith("backbone.neck.")
    }


def mmdet_rates(cfg: Any, model: Any) -> tuple[list[tuple[Any, ...]], list[float]]:
    """Rate and decay of each parameter, and the rate of every iteration relative to the highest."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = [
        (group["lr"], group["weight_decay"], group["params"][0].shape) for group in wrapper.optimizer.param_groups
    ]
    schedulers = [
        PARAM_SCHEDULERS.build(dict(part), default_args={"optimizer": wrapper}) for part in cfg.param_scheduler
    ]
    rates = []
    for _ in range(cfg.max_iters):
        rates.append(wrapper.param_groups[0]["lr"] / groups[0][0])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return sorted(groups), rates


def detectron2_rates(lazy: Any, model: Any) -> tuple[list[tuple[Any, ...]], list[float]]:
    from detectron2.config import instantiate

    lazy.optimizer.params.model = model
    optimizer = instantiate(lazy.optimizer)
    groups = [(g["lr"], g["weight_decay"], value.shape) for g in optimizer.param_groups for value in g["params"]]
    multiplier = instantiate(lazy.lr_multiplier)
    return sorted(groups), [multiplier(k / lazy.train.max_iter) for k in range(lazy.train.max_iter)]


@pytest.mark.parametrize("epochs", [2, 20])  # without a warm-up, and with one
def test_rates_and_decays_agree_at_every_iteration(tiny_coco: Path, tmp_path: Path, epochs: int):
    plan = plan_recipe(
        read_folder(tiny_coco), "small", epochs=epochs, machine=Machine("cpu", 2), backbone="mobilenetv3_small_050"
    )
    cfg, lazy = configs(plan, tmp_path)
    ours, theirs = build_both(cfg, lazy)
    groups, rates = mmdet_rates(cfg, ours)
    others, factors = detectron2_rates(lazy, theirs)
    # Detectron2 has biases before the norms of its head, which are like others
    kinds = [{(float(f"{rate:.9g}"), *rest) for rate, *rest in listed} for listed in (groups, others)]
    assert kinds[0] == kinds[1]
    assert {group[1] for group in groups} == {0.0, plan.weight_decay} and len({group[0] for group in groups}) == 2
    assert len(rates) == plan.iterations == 2 * epochs
    np.testing.assert_allclose(rates, factors, rtol=1e-6, atol=1e-9)
    assert max(rates) == pytest.approx(1) and rates[-1] < 0.6


def test_sizes_of_images_agree(tiny_coco: Path, tmp_path: Path):
    cfg, lazy = configs(make(tiny_coco), tmp_path)
    resize = next(step for step in cfg.train_pipeline if step["type"] == "RandomChoiceResize")
    augmentation = lazy.dataloader.train.mapper.augmentations[0]
    assert [scale[1] for scale in resize["scales"]] == list(augmentation.short_edge_length)
    assert {scale[0] for scale in resize["scales"]} == {augmentation.max_size}
    tested = lazy.dataloader.test.mapper.augmentations[0]
    assert cfg.test_pipeline[1]["scale"] == (tested.max_size, tested.short_edge_length) == (160, 120)
    assert cfg.train_dataloader.batch_size == lazy.dataloader.train.total_batch_size
    assert cfg.train_cfg.val_interval == lazy.train.eval_period
    hooks = {hook["type"]: hook for hook in cfg.custom_hooks}
    assert {key: hooks["EMAHook"][key] for key in ("momentum", "gamma")} == dict(lazy.train.ema)
    stopping = lazy.train.early_stopping
    assert hooks["fpn_plugins.EarlyStoppingHook"]["patience"] == stopping.patience
    assert hooks["fpn_plugins.EarlyStoppingHook"]["min_delta"] == pytest.approx(stopping.min_delta / 100)


@pytest.mark.parametrize("flips", ["none", "horizontal"])
@pytest.mark.parametrize("recipe", ["few", "small"])
def test_configs_are_clean(tiny_coco: Path, tmp_path: Path, recipe: str, flips: str):
    plan = plan_recipe(read_folder(tiny_coco), recipe, machine=Machine("cpu", 2), size=(160, 120), flips=flips)
    cfg, _ = configs(plan, tmp_path)
    for name in "md":
        assert all(line == line.rstrip() for line in (tmp_path / f"{name}.py").read_text().splitlines())
    kinds = [step["type"] for step in cfg.train_pipeline]
    assert ("RandomFlip" in kinds) == (flips != "none") and ("Color" in kinds) == (recipe == "few")


@pytest.fixture(scope="module")
def infrared(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with a fourth channel and 12 bits."""
    import tifffile
    from PIL import Image

    root = shutil.copytree(tiny_coco, tmp_path_factory.mktemp("infrared") / "set")
    for split in ("train", "val"):
        path = root / f"annotations/instances_{split}2017.json"
        content = json.loads(path.read_text())
        for entry in content["images"]:
            image = root / f"{split}2017" / entry["file_name"]
            colors = np.asarray(Image.open(image).convert("RGB")).astype(np.uint16)
            entry["file_name"] = f"{image.stem}.tif"
            pixels = 16 * np.dstack([colors, colors[..., 1]])
            tifffile.imwrite(image.with_suffix(".tif"), pixels, photometric="minisblack", planarconfig="contig")
            image.unlink()
        path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("detector", ["retinanet", "mask_rcnn"])
def test_both_configs_read_the_channels_of_other_cameras(infrared: Path, tmp_path: Path, detector: str):
    from detectron2.config import instantiate
    from mmdet.registry import DATASETS
    from mmengine.dataset import pseudo_collate

    plan = make(infrared, detector=detector, max_value=4095)
    assert plan.camera is not None and not plan.photometric
    assert (plan.backbone["in_chans"], plan.backbone["frozen_stages"]) == (4, -1)
    cfg, lazy = configs(plan, tmp_path)
    ours, theirs = build_both(cfg, lazy)
    for split in ("train", "test"):
        dataset = DATASETS.build(cfg[f"{split}_dataloader"].dataset)
        sample = dataset[0]
        inputs = ours.data_preprocessor(pseudo_collate([sample]), training=False)["inputs"]
        assert inputs.shape[1] == 4 and len(cfg.model.data_preprocessor.mean) == 4
        mapper = instantiate(lazy.dataloader[split].mapper)
        record = next(
            entry
            for entry in instantiate(lazy.dataloader[split].dataset)
            if entry["file_name"] == sample["data_samples"].img_path
        )
        batch = theirs.preprocess_image([mapper(record)]).tensor
        if split == "test":  # without random sizes; OpenCV and PyTorch resize differently
            assert inputs.shape == batch.shape
            assert (inputs - batch).abs().mean() < 0.05 * inputs.abs().mean()
        assert abs(float(batch.mean())) < 0.5 and 0.5 < float(batch.std()) < 2
    with torch.no_grad():
        maps = ours.backbone(inputs)
    assert all(level.isfinite().all() for level in maps)


ODD = 'x \'y\' "z" """ \\N{a} {{_base_.b}} {{$HOME:c}} ${d.e} \\${f} %s é'


def test_paths_and_names_are_read_as_they_are(tiny_coco: Path, tmp_path: Path):
    folder = tmp_path / ODD
    root = shutil.copytree(tiny_coco, folder / "set")
    names = ["a, b", 'it\'s "q" {0}', "é ${x}\n"]
    for split in ("train", "val"):
        path = root / f"annotations/instances_{split}2017.json"
        content = json.loads(path.read_text())
        for entry, name in zip(content["categories"], names, strict=False):
            entry["name"] = name
        path.write_text(json.dumps(content))
    weights = folder / "backbone.pth"
    weights.touch()
    plan = make(root, weights=weights)
    cfg, lazy = configs(plan, folder)
    images = root.resolve() / "train2017"
    assert cfg.classes[: len(names)] == tuple(names)[: len(cfg.classes)] and cfg.work_dir == str(folder / "m")
    assert cfg.train_dataloader.dataset.ann_file == str(root / "annotations/instances_train2017.json")
    assert cfg.train_dataloader.dataset.data_prefix.img == f"{images}/"
    assert cfg.val_evaluator.ann_file == str(root / "annotations/instances_val2017.json")
    assert cfg.model.backbone.backbone.checkpoint == lazy.model.backbone.bottom_up.checkpoint == str(weights)
    assert lazy.train.output_dir == lazy.dataloader.evaluator.output_dir == str(folder / "d")

    from detectron2.data import MetadataCatalog

    assert MetadataCatalog.get("recipe_train").image_root == str(images)


def test_a_detector_that_finds_nothing_has_an_ap_of_zero(tiny_coco: Path, tmp_path: Path):
    """mmdet's metric has none then, and ``save_best`` stops the training."""
    from mmengine.evaluator import Evaluator

    from fpn_plugins.adapters.mmdet.detector import register_all_modules

    register_all_modules()
    cfg, _ = configs(make(tiny_coco), tmp_path)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = {"classes": cfg.classes}
    nothing = {"bboxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    sample = {"img_id": 1, "ori_shape": (60, 80), "pred_instances": nothing}
    evaluator.process([sample], {})
    assert evaluator.evaluate(1) == {"coco/bbox_mAP": 0.0}


@pytest.mark.parametrize("steps", [7])
def test_the_running_means_agree(steps: int):
    from mmdet.models.layers import ExpMomentumEMA

    from fpn_plugins.adapters.detectron2.averaging import WeightAverage

    model = torch.nn.Linear(3, 2)
    theirs = ExpMomentumEMA(model, momentum=0.1, gamma=3)
    ours = WeightAverage(model, momentum=0.1, gamma=3)
    ours.before_train()
    for _ in range(steps):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        theirs.update_parameters(model)
        ours.after_step()
    last = model.weight.detach().clone()
    with ours.apply():
        assert torch.allclose(model.weight, theirs.module.weight, rtol=1e-6)
        saved = ours.state_dict()
    assert torch.equal(model.weight, last)
    assert torch.equal(saved["weights"]["weight"], last) and saved["steps"] == steps
