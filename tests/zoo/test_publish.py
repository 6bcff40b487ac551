"""Cleaning of training checkpoints, and the files that are published."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from fpn_plugins.weights import read_checkpoint
from fpn_plugins.zoo.publish import Trained, clean_checkpoint, read_results, write_published

MMDET = {"neck.w": torch.arange(6.0).reshape(2, 3), "rpn_head.n": torch.tensor(7)}
DETECTRON2 = {"backbone.bottom_up.w": torch.arange(6.0), "proposal_generator.b": torch.zeros(2)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


# ------------------------------------------------------------------------------------------------------------ cleaning


def test_an_mmdet_training_is_cleaned(tmp_path: Path) -> None:
    content = {
        "state_dict": MMDET,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(6)}}, "param_groups": [{"lr": 0.1}]},
        "param_schedulers": [{"last_step": 3}],
        "message_hub": {"log_scalars": {}},
        "meta": {"epoch": 3, "dataset_meta": {"classes": ("cat", "dog"), "palette": [(1, 2, 3)]}},
    }
    found = clean_checkpoint(saved(content, tmp_path / "x.pth"))
    assert same(found.weights, MMDET) and found.toolbox == "mmdet" and found.classes == ("cat", "dog")
    assert found.dropped == ("optimizer", "param_schedulers", "message_hub") and found.average is None


def test_a_detectron2_training_is_cleaned(tmp_path: Path) -> None:
    content = {"model": DETECTRON2, "optimizer": {"state": {}}, "scheduler": {"last_epoch": 3}, "iteration": 3}
    found = clean_checkpoint(saved(content, tmp_path / "x.pth"))
    assert same(found.weights, DETECTRON2) and found.toolbox == "detectron2" and found.classes == ()
    assert found.dropped == ("optimizer", "scheduler", "iteration")


def test_a_bare_state_dict_has_nothing_to_drop(tmp_path: Path) -> None:
    found = clean_checkpoint(saved(MMDET, tmp_path / "x.pth"))
    assert same(found.weights, MMDET) and found.dropped == ()


def test_the_prefix_of_distributed_training_is_taken_off(tmp_path: Path) -> None:
    content = {"model": {f"module.{key}": value for key, value in DETECTRON2.items()}}
    assert same(clean_checkpoint(saved(content, tmp_path / "x.pth")).weights, DETECTRON2)


@pytest.mark.mmdet
def test_averaged_weights_of_mmengine_are_published(tmp_path: Path) -> None:
    """Uses mmengine's hook: it writes the averages into the state dict, and the last weights beside it."""
    from mmengine.hooks import EMAHook
    from mmengine.logging import MessageHub

    model = nn.ModuleDict({"rpn_head": nn.Linear(2, 2)})
    hook = EMAHook(momentum=0.25)
    runner = SimpleNamespace(model=model, iter=5, epoch=0)
    hook.before_run(runner)
    start = model["rpn_head"].weight.detach().clone()
    with torch.no_grad():
        model["rpn_head"].weight += 8
    hook.after_train_iter(runner, 0)  # copies, as the average begins
    with torch.no_grad():
        model["rpn_head"].weight += 8
    hook.after_train_iter(runner, 1)
    hub = MessageHub.get_instance("test_publish")
    hub.update_scalar("train/loss", 1.0)
    checkpoint = {"state_dict": dict(model.state_dict()), "message_hub": hub.state_dict(), "meta": {"iter": 5}}
    hook.before_save_checkpoint(runner, checkpoint)
    found = clean_checkpoint(saved(checkpoint, tmp_path / "x.pth"))
    average = hook.ema_model.module.state_dict()["rpn_head.weight"]
    assert found.average == "ema_state_dict" and set(found.weights) == {"rpn_head.weight", "rpn_head.bias"}
    assert torch.equal(found.weights["rpn_head.weight"], average)
    assert not torch.equal(average, start + 16) and not torch.equal(average, start)


def test_averages_beside_a_detectron2_model_are_published(tmp_path: Path) -> None:
    average = {"backbone.bottom_up.w": torch.full((6,), 0.5)}
    content = {"model": DETECTRON2, "ema_state": average, "iteration": 3}
    found = clean_checkpoint(saved(content, tmp_path / "x.pth"))
    assert same(found.weights, {**DETECTRON2, **average}) and found.average == "ema_state"


@pytest.mark.parametrize("average", [{"backbone.other": torch.ones(1)}, {"decay": 0.9}])
def test_averages_of_something_else_are_an_error(tmp_path: Path, average: Any) -> None:
    path = saved({"model": DETECTRON2, "ema_state": average}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="'ema_state' should hold averages"):
        clean_checkpoint(path)


def test_what_is_no_detector_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the state dict of one toolbox's detector"):
        clean_checkpoint(saved({"model": {"layer1.w": torch.ones(1)}}, tmp_path / "x.pth"))


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_name_has_the_hash_of_the_content(tmp_path: Path, suffix: str) -> None:
    trained = Trained(MMDET, "mmdet", ("cat",))
    path = write_published(trained, tmp_path / "a", "net", suffix)
    assert path.name == f"net-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}{suffix}"
    assert same(read_checkpoint(path), MMDET)
    again = write_published(trained, tmp_path / "b", "net", suffix)
    assert again.name == path.name and again.read_bytes() == path.read_bytes()
    other = write_published(Trained({**MMDET, "rpn_head.n": torch.tensor(8)}, "mmdet"), tmp_path, "net", suffix)
    assert other.name != path.name
    assert os.listdir(tmp_path / "a") == [path.name]


@pytest.mark.parametrize(("toolbox", "container"), [("mmdet", "state_dict"), ("detectron2", "model")])
def test_a_published_pth_holds_weights_and_classes_only(tmp_path: Path, toolbox: str, container: str) -> None:
    content = torch.load(write_published(Trained(MMDET, toolbox, ("cat",)), tmp_path, "net"), weights_only=True)
    assert set(content) == {container, "meta"} and content["meta"] == {"dataset_meta": {"classes": ("cat",)}}


def test_a_published_safetensors_says_its_classes(tmp_path: Path) -> None:
    path = write_published(Trained(MMDET, "mmdet", ("cat",)), tmp_path, "net", ".safetensors")
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"detector": '{"toolbox": "mmdet", "classes": ["cat"]}'}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_parts_of_larger_tensors_do_not_take_them_along(tmp_path: Path, suffix: str) -> None:
    shared = torch.randn(100_000)
    content = {
        "state_dict": {"neck.a": shared[:5], "neck.b": shared[:5], "rpn_head.c": shared[10:14].reshape(2, 2).t()}
    }
    path = write_published(clean_checkpoint(saved(content, tmp_path / "x.pth")), tmp_path, "net", suffix)
    assert path.stat().st_size < 10_000
    assert same(read_checkpoint(path), content["state_dict"])


def test_another_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix='.onnx'"):
        write_published(Trained(MMDET, "mmdet"), tmp_path / "new", "net", ".onnx")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    "content",
    [
        {"mmdet": {"bbox": {"AP": 0.57921}, "segm": {"AP": 0.5412}, "seconds": 3}, "detectron2": {"bbox": {"AP": 0.1}}},
        {"scores": {"mmdet": {"bbox": {"AP": 0.57921}, "segm": {"AP": 0.5412}}}, "agreement": {}},
        {"bbox": {"AP": 0.57921}, "segm": {"AP": 0.5412}},
        {"coco/bbox_mAP": 0.57921, "coco/segm_mAP": 0.5412, "coco/bbox_mAP_50": 0.8},
    ],
)
def test_results_are_read(tmp_path: Path, content: dict) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert read_results(tmp_path / "results.json", "mmdet") == {"box AP": 57.9, "mask AP": 54.1}


def test_the_last_results_in_a_log_of_detectron2_are_read(tmp_path: Path) -> None:
    lines = [{"bbox/AP": 1.0, "iteration": 1}, {"bbox/AP": 40.14, "panoptic_seg/PQ": 39.4}, {"total_loss": 0.3}]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    assert read_results(tmp_path / "metrics.json", "detectron2") == {"box AP": 40.1, "PQ": 39.4}


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "no results of mmdet"), ('{"loss": 1}', "no results of mmdet")]
)
def test_a_file_without_results_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "results.json", "mmdet")


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "-0.1", "true", "1.5", '"0.3"', "[0.3]", "{}", "9" * 5000]
)
@pytest.mark.parametrize("key", ["coco/bbox_mAP", "bbox/AP", "bbox"])
def test_results_that_are_no_percentage_are_refused(tmp_path: Path, key: str, value: str) -> None:
    scale = "150" if value == "1.5" and key == "bbox/AP" else value
    text = f'{{"bbox": {{"AP": {scale}}}}}' if key == "bbox" else f'{{"{key}": {scale}}}'
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json: bbox/AP|r\.json: coco/bbox_mAP") as found:
        read_results(tmp_path / "r.json", "mmdet")
    assert "must be a number" in str(found.value) and len(str(found.value)) < 400


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"bbox":' * 100_000, "{} x", '{"bbox": ', "3", "[1]", '{"mmdet": [1]}']
)
def test_damaged_results_are_errors_that_name_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json (is not JSON|has no results)"):
        read_results(tmp_path / "r.json", "mmdet")


@pytest.mark.parametrize("classes", [3, "cat", [1, 2], {"cat": 1}, None])
def test_strange_content_beside_the_weights_is_dropped(tmp_path: Path, classes: Any) -> None:
    content = {"state_dict": MMDET, "meta": {"dataset_meta": {"classes": classes}}, 3: "three"}
    found = clean_checkpoint(saved(content, tmp_path / "x.pth"))
    assert found.classes == () and found.dropped == ("3",)
    with pytest.raises(ValueError, match="holds no tensors"):
        clean_checkpoint(saved({"model": DETECTRON2, "ema_state": {1: torch.ones(1)}}, tmp_path / "x.pth"))
