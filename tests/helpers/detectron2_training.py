"""Seeded training of Detectron2's detectors on pictures of random values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from seeds import seed

Batch = list[dict[str, Any]]


def draw_batch(num_classes: int = 80, num_labels: int = 0, widest: int = 129) -> Batch:
    """Two pictures of odd sizes with boxes and polygons, and semantic labels if there are any."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    samples = []
    for height, width in ((97, widest), (128, 101)):
        boxes = torch.rand(4, 4) * 40
        boxes[:, 2:] += boxes[:, :2] + 20
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(0, num_classes, (4,))
        instances.gt_masks = PolygonMasks([[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()])
        image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
        samples.append({"image": image, "instances": instances, "height": height, "width": width})
        if num_labels:
            samples[-1]["sem_seg"] = torch.randint(0, num_labels, (height, width))
    return samples


def losses_of(
    cfg: Any, weights: dict[str, Any] | None, draw: Callable[[], Batch] = draw_batch
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Losses of two SGD iterations, and the weights before them."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    seed(0)
    model = build_model(cfg).train()
    if weights is not None:
        model.load_state_dict(weights)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    history = []
    with EventStorage():
        for number in (1, 2):
            seed(number)
            losses = model(draw())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({name: float(value) for name, value in losses.items()})
    return history, before
