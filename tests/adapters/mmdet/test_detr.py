"""DINO and Deformable DETR train on `fpn_plugins.ChannelMapper` over backbones of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.mmdet

WIDTH = 64
SWIN = {
    **{"type": "fpn_plugins.Swin", "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    **{"window_size": 4, "out_indices": (1, 2, 3)},
}
VIT = {
    **{"type": "fpn_plugins.ViT", "img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2},
    **{"window_size": 2, "global_block_indices": (1,)},
}
CASES = {
    "dino": ("dino/dino-4scale_r50_8xb2-12e_coco.py", SWIN, [32, 64, 128]),
    "deformable_detr": ("deformable_detr/deformable-detr_r50_16xb2-50e_coco.py", VIT, [32]),
}


def narrow(node: Any) -> None:
    """Reduce widths, layers and queries, in place."""
    if not isinstance(node, dict):
        return
    sizes = {"embed_dims": WIDTH, "feedforward_channels": WIDTH, "num_layers": 2, "num_feats": WIDTH // 2}
    node.update({key: value for key, value in {**sizes, "num_queries": 20}.items() if key in node})
    for value in node.values():
        narrow(value)


def model_of(name: str) -> Any:
    """mmdet's own config with another backbone and our neck, narrow enough for a CPU."""
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    file, backbone, channels = CASES[name]
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / file).model
    narrow(cfg)
    cfg.backbone = backbone
    cfg.neck.update(type="fpn_plugins.ChannelMapper", in_channels=channels, out_channels=WIDTH)
    cfg.bbox_head.embed_dims = WIDTH
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


@pytest.mark.parametrize("name", CASES)
def test_trains_and_detects(name: str) -> None:
    from mmdet.testing import demo_mm_inputs

    model = model_of(name)
    batch = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[3, 2], num_classes=80)
    before = {key: p.detach().clone() for key, p in model.neck.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0], losses
    assert all(not torch.equal(p, before[key]) for key, p in model.neck.named_parameters())
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, training=False), mode="predict")
    assert all(len(result.pred_instances.bboxes) for result in results)
