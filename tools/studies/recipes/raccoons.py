"""Convert the raccoon data set (github.com/datitran/raccoon_dataset, MIT license) to a COCO-format folder.

    git clone https://github.com/datitran/raccoon_dataset
    python tools/studies/recipes/raccoons.py raccoon_dataset data/raccoons

The split is its authors': `data/train_labels.csv` and `data/test_labels.csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors
from fpn_plugins.files import write_atomically

SPLITS = {"train": "train_labels.csv", "val": "test_labels.csv"}


def read_split(file: Path) -> dict[str, Any]:
    """Read the boxes of a split in COCO's format; corners, which count pixels from 1, become edges."""
    images: dict[str, dict[str, Any]] = {}
    annotations = []
    with file.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.DictReader(lines), 1):
            left, top, right, bottom = (int(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
            size = {"width": int(row["width"]), "height": int(row["height"])}
            image = images.setdefault(
                row["filename"], {"id": len(images) + 1, "file_name": row["filename"], **size, "license": 1}
            )
            x, y = max(left - 1, 0), max(top - 1, 0)
            box = [x, y, min(right, size["width"]) - x, min(bottom, size["height"]) - y]
            about = {"id": number, "image_id": image["id"], "category_id": 1, "iscrowd": 0}
            annotations.append({**about, "bbox": box, "area": box[2] * box[3]})
    license_entry = {"id": 1, "name": "MIT", "url": "https://github.com/datitran/raccoon_dataset/blob/master/LICENSE"}
    categories = [{"id": 1, "name": "raccoon"}]
    return {
        "licenses": [license_entry],
        "images": list(images.values()),
        "annotations": annotations,
        "categories": categories,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Convert the raccoon data set to a COCO-format folder")
    parser.add_argument("source", type=Path, help="clone of the repository")
    parser.add_argument("out", type=Path, help="folder to write")
    args = parser.parse_args()
    with user_errors():
        (args.out / "annotations").mkdir(parents=True, exist_ok=True)
        for split, name in SPLITS.items():
            file = args.source / "data" / name
            if not file.is_file():
                raise ValueError(f"{str(args.source)!r} is no clone of the raccoon data set: it has no data/{name}")
            with write_atomically(args.out / "annotations" / f"{split}.json") as temporary:
                temporary.write_text(json.dumps(read_split(file)), encoding="utf-8")
        shutil.copytree(args.source / "images", args.out / "images", dirs_exist_ok=True)
        shutil.copy(args.source / "LICENSE", args.out)
        print(args.out)


if __name__ == "__main__":
    main()
