"""What there is to know of each neck besides its code: the paper, when to use it, what others have published for it.

One entry per class of ``NECKS``. Numbers of parameters and MACs are not here: they are counted
(`fpn_plugins.analysis.neck_cost`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..features import FeatureSpec

# width and stride of the one map of a plain ViT-B
VIT_B = (FeatureSpec(768, 16),)


@dataclass(frozen=True)
class Paper:
    """A publication: ``arxiv`` is its number there."""

    title: str
    authors: str
    venue: str
    arxiv: str


@dataclass(frozen=True)
class Result:
    """A published result on COCO val2017, times 100, that was not measured here.

    Attributes:
        model: detector, backbone and schedule.
        score: with the name of the metric.
        publisher: who published it, and where.
    """

    model: str
    score: str
    publisher: str


@dataclass(frozen=True)
class NeckFacts:
    """Facts of one neck.

    Attributes:
        paper: where it comes from.
        idea: what it does, in a sentence.
        use_when: when to choose it.
        think_twice: what speaks against it.
        results: published ones.
        arguments: of the class, in its usual configuration; the numbers are counted with them.
        in_indices: which of C2..C5 it usually stands on, 0 for C2; ``None`` for a plain ViT's map.
        behind: the neck that it stands behind, as ``build_neck`` takes it.
    """

    paper: Paper
    idea: str
    use_when: str
    think_twice: str
    results: tuple[Result, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    in_indices: tuple[int, ...] | None = (0, 1, 2, 3)
    behind: Mapping[str, Any] | None = None


FPN_PAPER = Paper(
    "Feature Pyramid Networks for Object Detection",
    "Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan, Serge Belongie",
    "CVPR 2017",
    "1612.03144",
)
MMDET, DETECTRON2 = "mmdet model zoo", "Detectron2 model zoo"
P6 = {"extra_levels": {"num_levels": 1, "op": "max_pool"}}
FPN_BASELINE = Result("Faster R-CNN R50, 12 epochs, with FPN", "box AP 37.4", MMDET)

NECK_FACTS: dict[str, NeckFacts] = {
    "FPN": NeckFacts(
        FPN_PAPER,
        "A top-down path brings the semantics of coarse maps to fine ones; each level adds its own backbone map.",
        "First, always: every other neck is compared with it, and every toolbox has pre-trained detectors with it.",
        "Most of its cost is P2's 3x3 convolution: without small objects, start at P3 (`in_indices=(1, 2, 3)`).",
        (
            FPN_BASELINE,
            Result("Faster R-CNN R50, 1x, with multi-scale training", "box AP 37.9", DETECTRON2),
            Result("RetinaNet R50, 12 epochs", "box AP 36.5", MMDET),
        ),
        P6,
    ),
    "PAFPN": NeckFacts(
        Paper(
            "Path Aggregation Network for Instance Segmentation",
            "Shu Liu, Lu Qi, Haifang Qin, Jianping Shi, Jiaya Jia",
            "CVPR 2018",
            "1803.01534",
        ),
        "FPN, then a second, bottom-up path, which carries the localisation of fine maps to coarse ones.",
        "When large objects are found but their boxes are loose, and the time is there.",
        "In mmdet's comparison it gains 0.1 AP over FPN, about what two runs of one config differ by. PANet's "
        "published gain includes adaptive pooling and other heads.",
        (Result("Faster R-CNN R50, 12 epochs", "box AP 37.5", MMDET), FPN_BASELINE),
        P6,
    ),
    "BiFPN": NeckFacts(
        Paper(
            "EfficientDet: Scalable and Efficient Object Detection",
            "Mingxing Tan, Ruoming Pang, Quoc V. Le",
            "CVPR 2020",
            "1911.09070",
        ),
        "Top-down and bottom-up in one cell with learned weights of the edges and separable convolutions, repeated.",
        "When MACs and parameters are what is short: mobile and edge devices, large images.",
        "Few MACs are not few milliseconds: depthwise convolutions and many small maps leave a GPU idle. Its "
        "results come from 300 epochs with EfficientNets; do not expect them from 12 epochs with a ResNet.",
        (
            Result("EfficientDet-D0, 300 epochs", "box AP 34.3", "the paper, as cited by mmdet's EfficientDet project"),
            Result("EfficientDet-D0, Google's weights", "box AP 34.2", "effdet"),
            Result("EfficientDet-D0, trained in PyTorch", "box AP 33.6", "effdet"),
            Result("EfficientDet-D0", "box AP 34.4", "mmdet's EfficientDet project"),
        ),
        {},
        (1, 2, 3),
    ),
    "NASFPN": NeckFacts(
        Paper(
            "NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection",
            "Golnaz Ghiasi, Tsung-Yi Lin, Ruoming Pang, Quoc V. Le",
            "CVPR 2019",
            "1904.07392",
        ),
        "A graph of merges over P3..P7 found by search, repeated seven times.",
        "When accuracy counts, training is long and batch norm works: the gain over FPN was published for 50 epochs of "
        "large crops.",
        "Many maps are alive at once (see the bytes kept for the backward pass), and a searched graph offers no "
        "reasons to tune by. Exactly five levels.",
        (
            Result("RetinaNet R50, 640 crops, 50 epochs", "box AP 40.5", MMDET),
            Result("the same with FPN", "box AP 37.9", MMDET),
        ),
        {"norm": "BN"},
        (1, 2, 3),
    ),
    "CSPPAFPN": NeckFacts(
        Paper(
            "YOLOX: Exceeding YOLO Series in 2021",
            "Zheng Ge, Songtao Liu, Feng Wang, Zeming Li, Jian Sun",
            "arXiv 2021",
            "2107.08430",
        ),
        "PAFPN with concatenations instead of sums, and CSP layers instead of single convolutions.",
        "With YOLOX heads and narrow backbones (CSPDarknet), where it keeps each level at the backbone's width.",
        "It works at the backbone's channels: on a ResNet's 512 to 2048 it is the largest neck here. No P6, P7.",
        (Result("YOLOX-s, CSPDarknet, 300 epochs", "box AP 40.5", MMDET),),
        {},
        (1, 2, 3),
    ),
    "BFP": NeckFacts(
        Paper(
            "Libra R-CNN: Towards Balanced Learning for Object Detection",
            "Jiangmiao Pang, Kai Chen, Jianping Shi, Huajun Feng, Wanli Ouyang, Dahua Lin",
            "CVPR 2019",
            "1904.02701",
        ),
        "Behind another neck: all levels are averaged at one size, refined, and given back to each.",
        "As a cheap addition to an FPN that is already trained with, when levels should see each other.",
        "The published gain is that of Libra R-CNN as a whole, with balanced sampling and a balanced loss. The "
        "non-local block's cost grows with the square of the image's area.",
        (Result("Libra Faster R-CNN R50, 12 epochs", "box AP 38.3", MMDET), FPN_BASELINE),
        {},
        behind={"type": "FPN", **P6},
    ),
    "SSDPyramid": NeckFacts(
        FPN_PAPER,
        "FPN without its top-down path, as SSD (arXiv:1512.02325) uses its maps: each level on its own.",
        "To measure what the top-down path is worth on your data: everything else is equal.",
        "As a detector's neck: fine levels lack semantics. The FPN paper's table 1 (d) finds it far behind FPN in the "
        "recall of proposals.",
        (),
        P6,
    ),
    "TopDownPyramid": NeckFacts(
        FPN_PAPER,
        "FPN without laterals: the coarsest map alone, upsampled from level to level.",
        "To measure what the laterals are worth on your data: everything else is equal.",
        "As a detector's neck: fine levels have the semantics and not the places, which subsampling has lost. The FPN "
        "paper's table 1 (e) finds it far behind FPN in the recall of proposals.",
        (),
        P6,
    ),
    "SingleScale": NeckFacts(
        FPN_PAPER,
        "One map of the backbone, with FPN's convolutions.",
        "As the single-scale baseline, and where all objects have one size.",
        "Anchors of all sizes on one map; small objects are lost at stride 32. Not the C4 detector of the literature, "
        "whose head runs the backbone's last stage on each region.",
        (
            Result("another architecture: Faster R-CNN R50-C4, 1x", "box AP 35.7", DETECTRON2),
            Result("another architecture: Faster R-CNN R50-DC5, 1x", "box AP 37.3", DETECTRON2),
        ),
    ),
    "SimpleFeaturePyramid": NeckFacts(
        Paper(
            "Exploring Plain Vision Transformer Backbones for Object Detection",
            "Yanghao Li, Hanzi Mao, Ross Girshick, Kaiming He",
            "ECCV 2022",
            "2203.16527",
        ),
        "Every level is resampled on its own from the one map of a plain ViT.",
        "Behind a plain ViT: there is one map, so there is nothing to merge.",
        "Not for backbones with a hierarchy, whose fine maps it would ignore.",
        (
            Result(
                "Mask R-CNN ViT-B, MAE weights, 100 epochs, 1024 px", "box AP 51.6, mask AP 45.9", "Detectron2's ViTDet"
            ),
        ),
        P6,
        None,
    ),
    "PanopticFPN": NeckFacts(
        Paper(
            "Panoptic Feature Pyramid Networks",
            "Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollár",
            "CVPR 2019",
            "1901.02446",
        ),
        "FPN, whose levels are also brought to stride 4 and added, for a dense prediction.",
        "When things and stuff are wanted from one network, or a cheap semantic branch beside a detector.",
        "The semantic branch works at stride 4, where convolutions are dear; without stuff, FPN alone does.",
        (
            Result("Panoptic FPN R50, 12 epochs", "PQ 40.2", MMDET),
            Result("Panoptic FPN R50, 1x", "PQ 39.4, box AP 37.6, mask AP 34.7", DETECTRON2),
        ),
        P6,
    ),
}


@dataclass(frozen=True)
class UpsampleFacts:
    """Facts of one of FPN's ways to upsample."""

    idea: str
    use_when: str
    results: tuple[Result, ...] = ()


UPSAMPLE_FACTS: dict[str, UpsampleFacts] = {
    "nearest": UpsampleFacts("Each cell is copied into four.", "The paper's, and that of all pre-trained detectors."),
    "bilinear": UpsampleFacts(
        "Linear interpolation of the four nearest cells.", "Smoother maps for dense prediction; little else changes."
    ),
    "deconv": UpsampleFacts(
        "A learned 2x2 transposed convolution of stride 2.", "When training is long enough to learn it from scratch."
    ),
    "pixel_shuffle": UpsampleFacts(
        "A convolution to four times the channels, which are then laid out as 2x2 cells (arXiv:1609.05158).",
        "As a learned upsampling without the checkerboard of transposed convolutions; the costliest of them.",
    ),
    "carafe": UpsampleFacts(
        "Each new cell is a weighted mean of 5x5 old ones, with weights predicted from the content (arXiv:1905.02188).",
        "For about one AP on top of FPN where a gather of 25 cells per pixel is affordable.",
        (Result("Faster R-CNN R50, 12 epochs, FPN with CARAFE", "box AP 38.6", MMDET), FPN_BASELINE),
    ),
}
