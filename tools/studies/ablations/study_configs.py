"""Config files of a study's cells: a base config with another pyramid, and a head that fits its levels.

The files name absolute paths of the base configs; a training needs nothing else but the data.
"""

from __future__ import annotations

from pathlib import Path

from study_design import Study, StudyCell
from study_detectron2 import detectron2_mask_rcnn, detectron2_retinanet
from study_levels import head_levels
from study_mmdet import mmdet_mask_rcnn, mmdet_retinanet


def config_file(study: Study, cell: StudyCell, work_dir: Path) -> str:
    """Write the config file of a cell; the toolbox writes its output into ``work_dir``."""
    writer = {
        ("retinanet", "mmdet"): mmdet_retinanet,
        ("mask_rcnn", "mmdet"): mmdet_mask_rcnn,
        ("retinanet", "detectron2"): detectron2_retinanet,
        ("mask_rcnn", "detectron2"): detectron2_mask_rcnn,
    }[cell.head, cell.toolbox]
    return writer(study, cell, head_levels(cell.variant), work_dir)
