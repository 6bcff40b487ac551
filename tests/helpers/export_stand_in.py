"""A detector of one convolution with the outputs of an `ExportableDetector`, for tests of files and engines."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from fpn_plugins.inference import ResizeRule
from fpn_plugins.inference.engines import InputFormat, Metadata


class StandIn(nn.Module):
    """Boxes around the cells of a coarse map, with 7 x 7 masks of their own values."""

    output_names = ("boxes", "scores", "labels", "image_indices", "masks")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=8)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nn.init.normal_(self.conv.weight, std=0.05)
            nn.init.uniform_(self.conv.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a detector."""
        maps = self.conv(images.float() / 64)
        batch, _, height, width = maps.shape
        rows = maps.permute(0, 2, 3, 1).reshape(-1, 8)
        indices = torch.arange(batch)[:, None].expand(batch, height * width).reshape(-1)
        x = (torch.arange(width) * 8.0).expand(batch, height, width).reshape(-1)
        y = (torch.arange(height) * 8.0)[None, :, None].expand(batch, height, width).reshape(-1)
        corner = torch.stack([x, y], 1)
        boxes = torch.cat([corner, corner + 6 + 12 * rows[:, :2].sigmoid()], 1)
        scores = rows[:, 2].sigmoid()
        kept = torchvision.ops.nms(boxes + indices[:, None] * 4096.0, scores, 0.2)
        rank = torch.arange(kept.shape[0]) + indices[kept] * 100000  # image by image, in the order of scores
        kept = kept[torch.sort(rank)[1]]
        masks = (rows[kept, 3:, None] * torch.linspace(-2, 2, 49)).mean(1).sigmoid().reshape(-1, 7, 7)
        return {
            "boxes": boxes[kept],
            "scores": scores[kept],
            "labels": (rows[kept, 3] > 0).long(),
            "image_indices": indices[kept],
            "masks": masks,
        }


def description(rule: ResizeRule | None = None, inside: bool = False, **changes: object) -> Metadata:
    """Description of the stand-in."""
    given = InputFormat(resize=rule or ResizeRule(96, 160, library="opencv"), inside=inside)
    settings = {"input": given, "toolbox": "mmdet", "masks": "probabilities", **changes}
    return Metadata(("disk", "square"), (3, 7), **settings)  # type: ignore[arg-type]
