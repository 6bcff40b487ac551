"""COCO-format folders in Detectron2's catalogs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coco_files import write_image

pytestmark = pytest.mark.detectron2


def test_a_folder_registered_again_is_read_again(tiny_coco: Path, tmp_path: Path) -> None:
    from detectron2.data import MetadataCatalog

    from fpn_plugins.adapters.detectron2 import register_coco_folder
    from fpn_plugins.data import make_coco_subset

    other = make_coco_subset(tiny_coco, tmp_path / "other", num_images=2)
    names = register_coco_folder(tiny_coco, "again")
    assert register_coco_folder(tiny_coco, "again") == names == ("again_train", "again_val")
    register_coco_folder(other, "again")
    assert MetadataCatalog.get("again_train").json_file.startswith(str(other))


@pytest.mark.parametrize(("name", "refused"), [("latest_of_it", True), ("it_test", False), ("it_test-dev", False)])
def test_sets_for_testing_alone_may_lack_annotations(name: str, refused: bool, tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances

    from fpn_plugins.adapters.detectron2.data_check import check_datasets

    image = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}
    write_image(tmp_path / "a.jpg", (8, 8))
    (tmp_path / "set.json").write_text(json.dumps({"images": [image], "categories": [{"id": 1, "name": "cat"}]}))
    register_coco_instances(name, {}, str(tmp_path / "set.json"), str(tmp_path))
    try:
        if refused:
            with pytest.raises(ValueError, match="annotations"):
                check_datasets([name])
        else:
            assert len(check_datasets([name])) == 1
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
