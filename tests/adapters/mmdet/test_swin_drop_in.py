"""`fpn_plugins.SwinTransformer` in the place of mmdet's: same arguments, weights, losses and detections."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from margins import record
from precision import assert_same_losses, assert_same_maps
from seeds import seed
from torch import Tensor

from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.maps import swin as tables

pytestmark = pytest.mark.mmdet

CONFIGS = ("mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py", "retinanet_swin-t-p4-w7_fpn_1x_coco.py")
NARROW = {"embed_dims": 16, "num_heads": [1, 2, 4, 8], "depths": [1, 1, 2, 1]}


def detector_config(name: str) -> Any:
    """A Swin config of mmdet, narrower so that it runs in seconds."""
    import mmdet
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / "swin" / name)).model
    cfg.backbone.update(**NARROW, drop_path_rate=0.0)
    cfg.neck.in_channels = [16 * 2**stage for stage in cfg.backbone.out_indices]
    if "rcnn" in (cfg.train_cfg or {}):
        cfg.train_cfg.rcnn.sampler.num = 32
        cfg.test_cfg.rcnn.score_thr = 0.0
    return cfg


def build(cfg: Any, ours: bool) -> Any:
    from mmdet.registry import MODELS

    cfg = copy.deepcopy(cfg)
    if ours:
        cfg.backbone.type = "fpn_plugins.SwinTransformer"
    seed(0)
    return MODELS.build(cfg)


def backbone(**arguments: Any) -> Any:
    from mmdet.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.SwinTransformer", **NARROW, **arguments})


def run(model: Any) -> tuple[dict[str, float], dict[str, Tensor], list[Any]]:
    """Losses, the gradients of shared parameters, and the detections of one batch."""
    from mmdet.testing import demo_mm_inputs

    inputs = demo_mm_inputs(2, [[3, 64, 80], [3, 75, 64]], num_items=[5, 4], num_classes=80, with_mask=True)
    seed(1)
    model.train()
    data = model.data_preprocessor(inputs, True)
    loss, logs = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if "backbone" not in key and p.grad is not None}
    model.eval()
    with torch.no_grad():
        results = model(**data, mode="predict")
    return {k: float(v) for k, v in logs.items()}, gradients, [result.pred_instances for result in results]


def share_proposals(stock: Any, ours: Any) -> None:
    """Give ours the proposals of ``stock``, which ran before: of equal scores, rounding may choose others."""
    proposals: list[Any] = []
    find = stock.rpn_head.predict_by_feat

    def record(*args: Any, **kwargs: Any) -> Any:
        found = find(*args, **kwargs)
        proposals.append(copy.deepcopy(found))  # the head renames the fields of what it gets
        return found

    stock.rpn_head.predict_by_feat = record
    ours.rpn_head.predict_by_feat = lambda *args, **kwargs: proposals.pop(0)


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_detections_of_mmdet_configs_stay_the_same(name: str) -> None:
    cfg = detector_config(name)
    stock, ours = build(cfg, ours=False), build(cfg, ours=True)
    ours.load_state_dict(stock.state_dict())
    assert type(ours.backbone).__module__.startswith("fpn_plugins.")
    if hasattr(stock, "rpn_head"):
        share_proposals(stock, ours)
    theirs, own = run(stock), run(ours)
    assert_same_losses(own[0], theirs[0])
    assert theirs[1].keys() == own[1].keys()
    for key, grad in theirs[1].items():
        # as a whole: a ReLU at its edge passes one cell's gradient on, or does not
        used = float((own[1][key] - grad).norm() / (0.01 * grad.norm() + 1e-6))
        record("float32", used)
        assert used <= 1, key
    for a, b in zip(own[2], theirs[2], strict=True):
        assert len(a) == len(b) > 0
        close = (a.bboxes[:, None] - b.bboxes).abs().amax(-1) < 0.05  # pixels
        close &= (a.scores[:, None] - b.scores).abs() < 1e-4
        found = (close & (a.labels[:, None] == b.labels)).any(1)
        assert found.float().mean() > 0.98  # of near-equal scores, another one may just be in


def test_has_every_argument_of_mmdet_with_its_default() -> None:
    from mmdet.models import SwinTransformer

    theirs = inspect.signature(SwinTransformer.__init__).parameters
    ours = dict(inspect.signature(type(backbone()).__init__).parameters)
    assert ours.pop("compile").default is False  # every backbone has it here
    assert {key: p.default for key, p in ours.items()} == {key: p.default for key, p in theirs.items()}


def official_file(folder: Path) -> Path:
    """What the authors release: a classifier under ``model``."""
    weights, _ = tables.official().inverse().apply(backbone().state_dict())
    weights |= {"norm.weight": torch.ones(128), "norm.bias": torch.ones(128)}
    path = folder / "swin_release.pth"
    torch.save({"model": {**weights, "head.weight": torch.ones(9, 128), "head.bias": torch.ones(9)}}, path)
    return path


@pytest.mark.parametrize("key", ["init_cfg", "pretrained"])
def test_official_releases_initialize_as_in_mmdet(key: str, tmp_path: Path) -> None:
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    file = str(official_file(tmp_path))
    init = ConfigDict(init_cfg={"type": "Pretrained", "checkpoint": file})
    stock = MODELS.build({"type": "SwinTransformer", **NARROW, **init, "convert_weights": True})
    ours = backbone(convert_weights=True, **(init if key == "init_cfg" else {key: file}))
    for module in (stock, ours):
        module.init_weights()
        module.double().eval()
    x = torch.randn(1, 3, 60, 75, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours(x), stock(x))
    ours.init_weights()  # a second time changes nothing


def test_a_detector_checkpoint_initializes_the_backbone(tmp_path: Path) -> None:
    cfg = detector_config(CONFIGS[1])
    detector = build(cfg, ours=False)
    file = write_checkpoint(detector.state_dict(), tmp_path / "detector.pth")
    again = build(cfg, ours=True).backbone
    again.init_cfg = {"type": "Pretrained", "checkpoint": str(file)}
    again.init_weights()
    assert again.layers[0].blocks[0].norm1.weight.equal(detector.backbone.stages[0].blocks[0].norm1.weight)
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(again.double().eval()(x), detector.double().eval().backbone(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": (2, 2, 2, 2)}, "strides.*set"),
        ({"patch_size": 2}, "patch_size"),
        ({"drop_rate": 0.1}, "drop_rate"),
        ({"attn_drop_rate": 0.1}, "attn_drop_rate"),
        ({"act_cfg": {"type": "ReLU"}}, "act_cfg"),
        ({"norm_cfg": {"type": "BN"}}, "norm_cfg"),
        ({"norm_cfg": {"type": "LN", "requires_grad": False}}, "norm_cfg"),
        ({"pretrain_img_size": (224, 256)}, "pretrain_img_size"),
        ({"pretrained": "a.pth", "init_cfg": {"type": "Pretrained"}}, "are mutually exclusive"),
        ({"num_heads": [3, 6, 12, 24]}, "num_heads"),
    ],
)
def test_what_is_not_implemented_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone(**arguments)


@pytest.mark.parametrize(
    ("arguments", "ours", "theirs"),
    [
        ({"pretrained": 123}, TypeError, TypeError),
        ({"pretrained": Path("a.pth")}, TypeError, TypeError),
        ({"pretrained": "a.pth", "init_cfg": {"type": "Pretrained"}}, ValueError, AssertionError),
        ({"pretrain_img_size": (224, 224, 224)}, ValueError, AssertionError),
        ({"pretrain_img_size": ()}, ValueError, AssertionError),
        ({"pretrain_img_size": "224", "use_abs_pos_embed": True}, (ValueError, TypeError), TypeError),
        ({"pretrain_img_size": (224.0,), "use_abs_pos_embed": True}, TypeError, TypeError),
        ({"strides": (2, 2, 2, 2)}, ValueError, AssertionError),
        ({"out_indices": (4,)}, ValueError, IndexError),
    ],
)
def test_what_mmdet_refuses_is_refused(arguments: dict[str, Any], ours: Any, theirs: type[Exception]) -> None:
    from mmdet.models import SwinTransformer

    with pytest.raises(theirs):
        SwinTransformer(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), **arguments)
    with pytest.raises(ours, match=next(iter(arguments))):
        backbone(**arguments)
    assert backbone(pretrain_img_size=(32,), use_abs_pos_embed=True).absolute_pos_embed.shape[-1] == 8


def test_norm_and_position_arguments_reach_the_core() -> None:
    module = backbone(norm_cfg={"type": "LN", "eps": 1e-3}, use_abs_pos_embed=True, pretrain_img_size=(32, 32))
    assert module.norm0.eps == module.layers[3].blocks[0].norm1.eps == 1e-3
    assert module.absolute_pos_embed.shape == (1, 16, 8, 8)


def test_addresses_are_downloaded_once_where_mmengine_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fpn_plugins.adapters.mmdet.init_cfg import local_file
    from fpn_plugins.weights import download

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    fetched: list[str] = []

    def chunks(url: str, *unused: Any) -> list[bytes]:
        fetched.append(url)
        return [official_file(tmp_path).read_bytes()]

    monkeypatch.setattr(download, "_chunks", chunks)
    for _ in range(2):
        module = backbone(init_cfg={"type": "Pretrained", "checkpoint": "https://example.org/v1/swin.pth?x=1"})
        module.init_weights()
    assert fetched == ["https://example.org/v1/swin.pth?x=1"]
    assert local_file("swin.pth") == "swin.pth"
    assert (tmp_path / "checkpoints" / "swin.pth").is_file()


def test_decay_is_off_where_the_recipe_says_so() -> None:
    """mmdet's own keys find our parameters: norms, and tables of relative positions."""
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper

    configs = Path(__file__).resolve().parents[3] / "configs" / "mmdet"
    for name in ("mask_rcnn_swin_t_fpn_12e", "cascade_mask_rcnn_swin_b_fpn_50e"):
        cfg = Config.fromfile(str(configs / f"{name}.py")).optim_wrapper
        cfg.type = "OptimWrapper"
        module = torch.nn.Module()
        module.backbone = backbone()
        wrapper = build_optim_wrapper(module, cfg)
        decay = {id(p): group["weight_decay"] for group in wrapper.optimizer.param_groups for p in group["params"]}
        for key, p in module.named_parameters():
            free = "norm" in key or key.endswith("relative_position_bias_table")
            assert decay[id(p)] == (0.0 if free else 0.05), key
