"""Whole detectors whose pyramid is compiled in place: the same losses, objects and names, through every config."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.pictures import draw_pictures
from compiled_cases import RECORDED, SWIN, config_of
from mmdet_arguments import NO_NETWORKS

from fpn_plugins.ops.compilation import CompiledInPlace

CASES = [
    pytest.param("mmdet", "one", marks=pytest.mark.mmdet),
    pytest.param("mmdet", "two", marks=pytest.mark.mmdet),
    pytest.param("detectron2", "one", marks=pytest.mark.detectron2),
]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def compiled_parts(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, CompiledInPlace) and m.compile_options is not None]


@pytest.mark.parametrize(("toolbox", "parts"), CASES)
def test_detectors_train_and_detect_as_without(toolbox: str, parts: str, tmp_path: Path) -> None:
    """Also averages of the weights, which are copies, and weights of the one in the other."""
    from fpn_plugins.adapters.hosts import build_detector, host_of

    configs = [config_of(tmp_path, toolbox, parts, compiled) for compiled in (False, True)]
    host = host_of(configs[0])
    eager, compiled = (build_detector(config) for config in configs)
    assert compiled_parts(eager) == [] and len(compiled_parts(compiled)) == (2 if parts == "two" else 1)
    compiled.load_state_dict(eager.state_dict())
    average = copy.deepcopy(compiled)
    pictures, results = draw_pictures(1, (96, 128)), []
    for model in (eager, compiled, average):
        total, named = host.losses(model.train(), pictures)
        total.backward()
        with torch.no_grad():
            (found,) = host.detect(model.eval(), pictures)
        results.append((named, [p.grad for p in model.parameters()], found))
    (losses, grads, found), *others = results
    for other_losses, other_grads, other in others:
        assert other_losses == pytest.approx(losses, rel=1e-4)
        for a, b in zip(grads, other_grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(other.boxes, found.boxes, rtol=1e-3, atol=1e-2)
    for model in (compiled, average):
        assert [part._compiled_call_impl.graphs for part in compiled_parts(model)] == [2] * len(compiled_parts(model))


@pytest.mark.mmdet
def test_mmengines_own_compile_meets_the_module_itself(tmp_path: Path) -> None:
    """The runner's `compile=True` compiles `train_step`, with the graphs of the pyramid inside."""
    from fpn_plugins.adapters.hosts import build_detector, host_of

    config = config_of(tmp_path, "mmdet", "one", True)
    model, host = build_detector(config), host_of(config)
    pictures = draw_pictures(1, (96, 128))
    total, _ = host.losses(model.train(), pictures)
    compiled = torch.compile(lambda x: model.extract_feat(x), backend="eager", fullgraph=True)
    maps = compiled(torch.rand(1, 3, 96, 128))
    assert len(maps) == 2 and compiled_parts(model)[0]._compiled_call_impl.graphs == 1 and bool(total > 0)


@pytest.mark.mmdet
def test_every_module_of_mmdets_scope_compiles_in_place() -> None:
    from wrong_cases import mmdet_subjects

    found = {}
    for subject in mmdet_subjects():
        if issubclass(subject.kind, CompiledInPlace):
            module = subject.kind(**subject.arguments, compile={"backend": "eager"})
            found[subject.name] = module.compile_options
    assert len(found) > 35 and set(map(str, found.values())) == {"{'backend': 'eager'}"}


@pytest.mark.mmdet
def test_every_neck_and_backbone_of_mmdets_scope_can_be_compiled() -> None:
    import fpn_plugins.adapters.mmdet  # noqa: F401
    from fpn_plugins.keywords import accepted_keywords
    from fpn_plugins.registry import MODELS

    without = [
        name for name, kind in MODELS.module_dict.items() if "compile" not in (accepted_keywords(kind) or "compile")
    ]
    assert set(without) <= NO_NETWORKS


@pytest.mark.mmdet
def test_mmengines_log_states_the_time(tmp_path: Path) -> None:
    from mmengine.logging import MMLogger

    from fpn_plugins.adapters.hosts import build_detector, host_of

    config = config_of(tmp_path, "mmdet", "one", True)
    model = build_detector(config)
    MMLogger.get_instance("compiled", log_file=str(tmp_path / "run.log"), log_level="INFO")
    with torch.no_grad():
        host_of(config).detect(model.eval(), draw_pictures(1, (96, 128)))
    text = (tmp_path / "run.log").read_text()
    assert "PyramidBackbone compiled for evaluation at 1x3x96x128 in " in text


@pytest.mark.detectron2
def test_lazy_configs_of_detectron2(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectron2.config import LazyCall, instantiate

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)  # its `setup_logger` turns it off
    caplog.set_level(logging.INFO, "detectron2.fpn_plugins")
    neck = {"type": "FPN", "out_channels": 4}
    for given, options in ((True, {}), (False, None), (RECORDED, RECORDED)):
        call = LazyCall(PyramidBackbone)(bottom_up={"type": "Swin", **SWIN}, neck=neck, compile=given)
        pyramid = instantiate(call)
        assert pyramid.compile_options == options
    assert list(pyramid(torch.rand(1, 3, 64, 64))) == ["p2", "p3", "p4", "p5"]
    assert any("PyramidBackbone compiled for training" in record.message for record in caplog.records)


@pytest.mark.torchvision
def test_torchvisions_detectors() -> None:
    from torchvision.models.detection import RetinaNet

    from fpn_plugins.adapters.torchvision import PyramidBackbone

    neck = {"type": "FPN", "out_channels": 4, "in_indices": [2, 3]}
    detectors = []
    for options in (RECORDED, False):
        body = PyramidBackbone({"type": "Swin", **SWIN}, neck, compile=options)
        detectors.append(
            RetinaNet(body, 4, anchor_generator=body.retinanet_anchors(), min_size=96, max_size=128).eval()
        )
    compiled, eager = detectors
    eager.load_state_dict(compiled.state_dict())
    image = torch.rand(3, 90, 120)
    with torch.no_grad():
        (found,), (expected,) = compiled([image]), eager([image])
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-3, atol=1e-2)
    assert compiled.backbone._compiled_call_impl.graphs == 1
