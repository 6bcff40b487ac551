"""Fine-tune torchvision's Faster R-CNN with a backbone and a neck of this package on a COCO-format folder.

    python tools/finetune_torchvision.py FOLDER [--backbone resnet50] [--neck FPN] [--iterations 1000]

An example to copy: the model takes two calls, the rest is a plain PyTorch loop.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fpn_plugins.adapters.config_errors import trying
from fpn_plugins.commands.common import COUNT, user_errors
from fpn_plugins.data import find_split
from fpn_plugins.data.coco_folder import read_coco
from fpn_plugins.weights import write_checkpoint


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description="Fine-tune torchvision's Faster R-CNN with our backbone and neck")
    parser.add_argument("root", type=Path, help="COCO-format folder")
    parser.add_argument("--backbone", default="resnet50", help="timm name (default resnet50)")
    parser.add_argument("--checkpoint", type=Path, help="weights of the backbone (default: timm downloads its own)")
    parser.add_argument("--neck", default="FPN", help="neck of this package (default FPN)")
    parser.add_argument("--iterations", type=COUNT, default=1000, help="images to train on (default 1000)")
    out = Path("work_dirs/torchvision/model.safetensors")
    parser.add_argument("--out", type=Path, default=out, help=f"file to write (default {out})")
    args = parser.parse_args()
    with user_errors():
        from torchvision.datasets import CocoDetection
        from torchvision.models.detection import FasterRCNN
        from torchvision.transforms.functional import to_tensor
        from tqdm import trange

        from fpn_plugins.adapters.torchvision import PyramidBackbone

        device = "cuda" if torch.cuda.is_available() else "cpu"
        split = find_split(args.root, "train")
        ids = [entry["id"] for entry in read_coco(split.ann_file)["categories"]]
        weights = {"checkpoint": args.checkpoint} if args.checkpoint else {"pretrained": True}
        network = {"type": "TimmBackbone", "name": args.backbone, "frozen_stages": 1, "norm_eval": True, **weights}
        with trying(f"--backbone {args.backbone} with --neck {args.neck}", RuntimeError):
            backbone = PyramidBackbone(network, {"type": args.neck})
        model = FasterRCNN(backbone, len(ids) + 1, rpn_anchor_generator=backbone.rpn_anchors()).train().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0025, momentum=0.9, weight_decay=1e-4)
        images = CocoDetection(split.image_dir, split.ann_file)
        for step in (progress := trange(args.iterations)):
            image, objects = images[int(torch.randint(len(images), ()))]
            target = {key: value.to(device) for key, value in target_of(objects, ids).items()}
            losses = model([to_tensor(image).to(device)], [target])
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            progress.set_postfix(step=step, loss=f"{float(loss):.3f}")
        print(f"wrote {write_checkpoint(model.state_dict(), args.out)}")


def target_of(objects: list[dict], ids: list[int]) -> dict[str, torch.Tensor]:
    """Make torchvision's target: corners of boxes, and labels from 1."""
    boxes = [entry for entry in objects if not entry.get("iscrowd") and min(entry["bbox"][2:]) > 0]
    corners = torch.tensor([entry["bbox"] for entry in boxes]).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    labels = torch.tensor([ids.index(entry["category_id"]) + 1 for entry in boxes], dtype=torch.int64)
    return {"boxes": corners, "labels": labels}


if __name__ == "__main__":
    main()
