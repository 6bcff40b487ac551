"""Shared by the tests of `tools/`: import scripts, and train two iterations in each toolbox's own loop."""

from __future__ import annotations

import importlib
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, TOOLS = ROOT / "configs", ROOT / "tools"
sys.path.append(str(TOOLS / "studies" / "ablations"))


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """No test meets the handlers that a script run in this process has set."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports a script, given as `benchmarks/necks`, with its folder first on the path.

    Scripts import their siblings by bare names, so the modules of the folder are forgotten after the test.
    """
    known = dict(sys.modules)

    def load(name: str) -> ModuleType:
        path = TOOLS / name
        monkeypatch.syspath_prepend(str(path.parent))
        if path.stem in known and not is_tool(known[path.stem]):  # a test helper of the same name
            monkeypatch.delitem(sys.modules, path.stem)
        return importlib.import_module(path.stem)

    yield load
    for name in [name for name, module in sys.modules.items() if is_tool(module) and name not in known]:
        del sys.modules[name]


@pytest.fixture
def run_tool(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., CompletedProcess[str]]:
    """A function that runs a script, given as `benchmarks/necks`, as a command line does from the repository.

    It runs in this process, which has imported PyTorch and the toolboxes: a new one takes ten seconds to do so.
    """

    def run(name: str, *arguments: Any) -> CompletedProcess[str]:
        path, threads, code = TOOLS / f"{name}.py", torch.get_num_threads(), 0
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(ROOT)
            patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
            patch.setattr(sys, "path", [str(path.parent), *sys.path])
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                torch.set_num_threads(threads)
        out, err = capfd.readouterr()
        return CompletedProcess(sys.argv, code, out, err)

    return run


def is_tool(module: ModuleType) -> bool:
    """Whether a module is a file below `tools/`."""
    return str(getattr(module, "__file__", "")).startswith(str(TOOLS))


@pytest.fixture
def demo_folder(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that the demo's configs read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    return tiny_coco


@pytest.fixture
def train_in_mmdet(demo_folder: Path, tmp_path: Path) -> Callable[..., None]:
    """A function that trains the demo's Mask R-CNN with other features, in mmengine's loop."""

    def train(part: str, neck: Any, strides: Sequence[int], backbone: Mapping[str, Any] | None = None) -> None:
        """Train and evaluate; parameters whose name contains ``part`` must change.

        ``neck`` is the config of a neck or a list of them, ``strides`` those of its outputs, ``backbone`` the config of
        another backbone than the demo's, or arguments (without ``type``) that change the demo's.
        """
        from mmengine.runner import Runner

        runner = Runner.from_cfg(mmdet_config(neck, strides, backbone, tmp_path))
        before = parameters_of(runner.model, part)
        runner.train()
        scalars = runner.message_hub.log_scalars
        assert scalars["train/loss"].current() == scalars["train/loss"].current()  # not NaN
        assert runner.iter == 2 and "val/coco/segm_mAP" in scalars
        assert_moved(before, parameters_of(runner.model, part))

    return train


@pytest.fixture
def train_in_detectron2(demo_folder: Path, tmp_path: Path) -> Callable[..., None]:
    """A function that trains the demo's Mask R-CNN with other features, in Detectron2's loop."""

    def train(part: str, neck: Any, strides: Sequence[int], backbone: Mapping[str, Any] | None = None) -> None:
        """Train and evaluate as ``train_in_mmdet`` does."""
        import torch
        from detectron2.config import LazyConfig, instantiate
        from detectron2.engine import SimpleTrainer
        from detectron2.evaluation import inference_on_dataset

        cfg = LazyConfig.load(str(CONFIGS / "detectron2/demo_mask_rcnn.py"))
        adapt_detectron2(cfg.model, neck, strides, backbone)
        cfg.train.output_dir = str(tmp_path)
        cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
        model = instantiate(cfg.model).to("cpu")
        before = parameters_of(model, part)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        SimpleTrainer(model, instantiate(cfg.dataloader.train), optimizer).train(0, 2)  # raises at a NaN
        assert_moved(before, parameters_of(model, part))
        results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
        assert "bbox" in results

    return train


def parameters_of(model: Any, part: str) -> dict[str, Any]:
    """Copies of the parameters with ``part`` in their names."""
    return {key: p.detach().clone() for key, p in model.named_parameters() if part in key}


def assert_moved(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Check that at least one parameter has changed."""
    assert any(not after[key].equal(p) for key, p in before.items())


def channels_of(neck: Any) -> int:
    """Output channels of the first neck of a chain, which the later ones keep."""
    return (neck[0] if isinstance(neck, list) else neck)["out_channels"]


def backbone_config(demo: Mapping[str, Any], backbone: Mapping[str, Any] | None) -> dict[str, Any]:
    """Config of another backbone, or the demo's with changes and without the checkpoint that the demo writes."""
    if backbone and "type" in backbone:
        return dict(backbone)
    return {**demo, "checkpoint": None, **(backbone or {})}


def mmdet_config(neck: Any, strides: Sequence[int], backbone: Mapping[str, Any] | None, work_dir: Path) -> Any:
    """Build the demo's config with other features, heads that fit them, and two iterations."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(CONFIGS / "mmdet/demo_mask_rcnn.py"))
    adapt_mmdet(cfg.model, neck, strides, backbone)
    cfg.merge_from_dict(
        {
            "work_dir": str(work_dir),
            "experiment_name": work_dir.name,
            "train_cfg.max_iters": 2,
            "train_cfg.val_interval": 2,
            "param_scheduler": [],
            "default_hooks.checkpoint": {"type": "CheckpointHook", "interval": -1},
            "custom_hooks": [],
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    return cfg


def adapt_mmdet(model: Any, neck: Any, strides: Sequence[int], backbone: Mapping[str, Any] | None) -> None:
    """Replace the features of the demo's model, and fit its heads to the new levels."""
    channels = channels_of(neck)
    backbone = backbone_config(model.backbone.backbone, backbone)
    if isinstance(neck, list):  # the detector's neck, and not a part of the backbone
        model.backbone = {**backbone, "type": f"fpn_plugins.{backbone['type']}"}
        model.neck = neck
    else:
        model.backbone.backbone, model.backbone.neck = backbone, neck  # `update` would merge them
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    model.rpn_head.anchor_generator.strides = list(strides)
    model.test_cfg.rcnn.score_thr = 0.0  # scores are low after two iterations
    for part in ("bbox", "mask"):
        extractor = model.roi_head[f"{part}_roi_extractor"]
        extractor.update(out_channels=channels, featmap_strides=list(strides[:4]))
        model.roi_head[f"{part}_head"].in_channels = channels


def adapt_detectron2(model: Any, neck: Any, strides: Sequence[int], backbone: Mapping[str, Any] | None) -> None:
    """Do the same in the demo's LazyConfig."""
    from detectron2.layers import ShapeSpec

    channels = channels_of(neck)
    model.backbone.bottom_up = backbone_config(model.backbone.bottom_up, backbone)
    model.backbone.neck = neck
    levels = [f"p{stride.bit_length() - 1}" for stride in strides]
    rpn, roi = model.proposal_generator, model.roi_heads
    rpn.in_features, rpn.head.in_channels = levels, channels
    rpn.anchor_generator.strides = list(strides)
    rpn.anchor_generator.sizes = [[4 * stride] for stride in strides]
    roi.box_in_features = roi.mask_in_features = levels[:4]
    for pooler, head, side in ((roi.box_pooler, roi.box_head, 7), (roi.mask_pooler, roi.mask_head, 14)):
        pooler.scales = tuple(1 / stride for stride in strides[:4])
        head.input_shape = ShapeSpec(channels=channels, height=side, width=side)
