"""Train torchvision's RetinaNet in a plain loop: AdamW with one cycle, clipped gradients, and horizontal flips.

    python tools/studies/recipes/recipe_reference.py --root FOLDER --weights FILE --out work_dirs/reference

The network has a MobileNetV2 and 64 channels, as in the recipes; anchors and head are torchvision's own.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch

from fpn_plugins.analysis import evaluate_predictions
from fpn_plugins.commands.common import COUNT, INDEX
from fpn_plugins.data import find_split
from fpn_plugins.data.coco_folder import read_coco

SIZE = (240, 320)
BATCH, RATE, EVALUATIONS = 4, 1e-3, 4
MOST_NORM = 1.0  # of the gradients: without a limit, this rate reaches half of the AP


class Pictures:
    """Images of a split, resized and in memory, with torchvision's targets.

    Args:
        root: COCO-format folder.
        split: ``"train"`` or ``"val"``.
    """

    def __init__(self, root: Path, split: str) -> None:
        from PIL import Image
        from torchvision.transforms.functional import to_tensor

        found = find_split(root, split)
        content = read_coco(found.ann_file)
        self.ann_file, self.classes = found.ann_file, sorted(entry["id"] for entry in content["categories"])
        objects: dict[Any, list[Any]] = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            objects[entry["image_id"]].append(entry)
        self.items = []
        for image in content["images"]:
            factor = min(SIZE[0] / min(image["width"], image["height"]), SIZE[1] / max(image["width"], image["height"]))
            sides = round(image["width"] * factor), round(image["height"] * factor)
            with Image.open(found.image_dir / image["file_name"]) as picture:
                pixels = to_tensor(picture.convert("RGB").resize(sides, Image.Resampling.BILINEAR))
            self.items.append((image["id"], factor, pixels, self._target(objects[image["id"]], factor)))

    def _target(self, objects: list[Any], factor: float) -> dict[str, torch.Tensor]:
        boxes = torch.tensor([entry["bbox"] for entry in objects], dtype=torch.float32).reshape(-1, 4) * factor
        boxes[:, 2:] += boxes[:, :2]
        return {"boxes": boxes, "labels": torch.tensor([self.classes.index(e["category_id"]) for e in objects])}


def flipped(pixels: torch.Tensor, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Flip an image and its boxes from left to right."""
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = pixels.shape[-1] - boxes[:, [2, 0]]
    return pixels.flip(-1), {**target, "boxes": boxes}


@torch.no_grad()
def evaluate(model: Any, pictures: Pictures, file: Path) -> dict[str, float]:
    """Write the detections, and return AP and AP50."""
    model.eval()
    rows = []
    for number, factor, pixels, _ in pictures.items:
        found = model([pixels])[0]
        boxes = found["boxes"] / factor
        boxes[:, 2:] -= boxes[:, :2]
        for box, label, score in zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True):
            rows.append({"image_id": number, "category_id": pictures.classes[label], "bbox": box, "score": score})
    file.write_text(json.dumps(rows))
    scores = evaluate_predictions(pictures.ann_file, file)
    model.train()
    return {key: scores[key] for key in ("AP", "AP50")}


def build(backbone: str, weights: Path | None, classes: int) -> Any:
    """Build torchvision's RetinaNet on a pyramid of 64 channels."""
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    from fpn_plugins.adapters.torchvision import PyramidBackbone

    origin = {"pretrained": True} if weights is None else {"checkpoint": str(weights)}
    network = {"type": "TimmBackbone", "name": backbone, "out_indices": (2, 3, 4)}
    levels = {"num_levels": 2, "op": "conv", "source": "input"}
    pyramid = PyramidBackbone({**network, **origin}, {"type": "FPN", "out_channels": 64, "extra_levels": levels})
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (16, 32, 64, 128, 256))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return RetinaNet(pyramid, classes, anchor_generator=anchors, min_size=SIZE[0], max_size=SIZE[1])


def main() -> None:
    """Train, and write ``metrics.json``."""
    parser = argparse.ArgumentParser(description="Train torchvision's RetinaNet in a plain loop")
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="timm name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the backbone")
    parser.add_argument("--iterations", type=COUNT, default=410, help="batches of four images (default 410)")
    parser.add_argument("--seed", type=INDEX, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    train, val = Pictures(args.root, "train"), Pictures(args.root, "val")
    model = build(args.backbone, args.weights, len(train.classes)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=args.iterations)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "metrics.json").open("w") as log:
        for step in range(1, args.iterations + 1):
            chosen = random.sample(train.items, min(BATCH, len(train.items)))
            pairs = [flipped(*item[2:]) if random.random() < 0.5 else item[2:] for item in chosen]
            images, targets = zip(*pairs, strict=True)
            loss = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MOST_NORM)
            optimizer.step()
            schedule.step()
            if step % -(-args.iterations // EVALUATIONS) == 0 or step == args.iterations:
                scores = evaluate(model, val, args.out / "detections.json")
                log.write(json.dumps({"iteration": step, **scores}) + "\n")
                log.flush()


if __name__ == "__main__":
    main()
