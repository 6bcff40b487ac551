"""Finding and checking COCO annotations: every layout, and every problem a user can have with a file."""

import json
import os
from pathlib import Path

import pytest
from coco_files import good_content, write_image, write_images, write_json

from fpn_plugins.commands.check import main
from fpn_plugins.data import check_coco, find_split, read_categories

COCO_MINI = Path(os.environ.get("FPN_PLUGINS_COCO_MINI", Path(__file__).parents[3] / "shared" / "data" / "coco_mini"))


@pytest.fixture
def content():
    return good_content()


@pytest.fixture
def check(tmp_path):
    """Write the content and its images, and check it."""

    def run(content, **arguments):
        write_images(tmp_path, good_content())
        return check_coco(write_json(tmp_path / "good.json", content), tmp_path, **arguments)

    return run


def test_good_file_is_counted(check, content):
    report = check(content, classes=("cat", "dog"))
    assert (report.images, report.empty_images, report.annotations, report.crowd) == (3, 1, 4, 1)
    assert (report.small, report.medium, report.large) == (1, 1, 1)
    assert report.per_category == {"cat": 1, "dog": 2}
    assert (report.without_mask, report.boxes_outside, report.zero_size_boxes, report.id_zero) == (1, 1, 0, 0)
    table = str(report)
    assert all(
        row in table for row in ("3 (1 without annotations)", "4 (1 crowd regions)", " 1/1/1\n", " outside image ")
    )
    assert "zero size" not in table


def test_zero_size_and_id_zero_are_only_counted(check, content):
    content["annotations"][0].update(id=0, bbox=[10, 10, 5, 0], area=0)
    report = check(content)
    assert (report.zero_size_boxes, report.id_zero) == (1, 1)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"image_id": 9}, r"1 x annotation of an unknown image: annotation 1: image_id 9"),
        (0, {"image_id": None}, r"annotation of an unknown image: annotation 1: image_id None"),
        (0, {"category_id": 8}, r"1 x annotation of an unknown category: annotation 1: category_id 8"),
        (0, {"id": 2}, r"1 x annotation id used twice: 2 \(2 times\)"),
        (0, {"id": None}, r"annotation without id: annotation None: image_id 1"),
        (0, {"bbox": [1, 2, 3]}, r"bbox is not \[x, y, width, height\]: annotation 1: \[1, 2, 3\]"),
        (0, {"bbox": [1, 2, -3, 4]}, r"bbox is not .*annotation 1: \[1, 2, -3, 4\]"),
        (0, {"bbox": [1, 2, 3, -4]}, r"bbox is not .*annotation 1: \[1, 2, 3, -4\]"),
        (0, {"bbox": [1, 2, float("nan"), 4]}, r"bbox is not .*annotation 1: \[1, 2, nan, 4\]"),
        (0, {"bbox": None}, r"bbox is not .*annotation 1: None"),
        (0, {"area": None}, r"annotation without area"),
        (0, {"segmentation": [[1, 2, 3, 4]]}, r"malformed segmentation: annotation 1: a polygon of 4 numbers"),
        (0, {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, r"malformed segmentation: .*a polygon of 7 numbers"),
        (0, {"segmentation": [[[1, 2], [3, 4]]]}, r"malformed segmentation: .*not a flat list of numbers"),
        (0, {"segmentation": [1, 2, 3, 4, 5, 6]}, r"malformed segmentation: .*not a flat list of numbers"),
        (1, {"segmentation": {"size": [100, 80], "counts": [8000]}}, r"RLE size \[100, 80\], image is \[80, 100\]"),
        (1, {"segmentation": {"size": [80, 100], "counts": [0, 7]}}, r"RLE covers 7 of 8000 px"),
        (1, {"segmentation": {"size": [80, 100]}}, r"RLE counts are a NoneType"),
    ],
)
def test_bad_annotation_is_an_error(check, content, index, change, message):
    content["annotations"][index].update(change)
    with pytest.raises(ValueError, match=message):
        check(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 2}, r"1 x image id used twice: 2 \(2 times\)"),
        ({"width": 0}, r"1 x image without valid id, file_name, width and height: \{'id': 1, .*'width': 0"),
        ({"file_name": None}, r"image without valid id, file_name"),
    ],
)
def test_bad_image_is_an_error(check, content, change, message):
    content["images"][0].update(change)
    with pytest.raises(ValueError, match=message):
        check(content)


def test_bad_categories_are_errors(check, content):
    content["categories"] = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    with pytest.raises(ValueError, match=r"not in ascending order of id.*\[7, 3\]"):
        check(content)
    content["categories"] = [{"id": 3, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    with pytest.raises(ValueError, match=r"category id used twice: 3 .*\n.*category name used twice: 'cat'"):
        check(content)
    content["categories"] = [{"id": 3}]
    with pytest.raises(ValueError, match=r"category \{'id': 3\} is malformed"):
        check(content)


def test_categories_are_compared_with_the_classes_of_the_model(check, content):
    assert check(content, classes=("cat", "dog", "horse")).images == 3
    with pytest.raises(ValueError, match=r"does not have: 'dog': the file has \['cat', 'dog'\], the model \['cat'\]"):
        check(content, classes=["cat"])
    with pytest.raises(ValueError, match=r"order of categories differs .*the model \['dog', 'cat'\]"):
        check(content, classes=["dog", "cat"])
    with pytest.raises(TypeError, match="classes='cat' is a single string"):
        check(content, classes="cat")


def test_all_problems_come_in_one_message_with_five_examples_each(check, content):
    for number in range(10, 18):
        content["annotations"].append({**good_content()["annotations"][0], "id": number, "image_id": 99})
    content["annotations"][0]["bbox"] = "nowhere"
    with pytest.raises(ValueError) as caught:
        check(content)
    message = str(caught.value)
    assert "8 x annotation of an unknown image" in message and "1 x annotation whose bbox" in message
    assert "annotation 14: image_id 99; ..." in message and "annotation 15" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("[1, 2]", "it is a list of 2; expected an object with the lists of objects 'images', 'annotations'"),
        ('{"images": [], "results": {}}', r"it is an object with 'images' \(list\), 'results' \(dict\)"),
        ('{"images": [1], "annotations": [], "categories": []}', r"wrong or absent: images\)"),
    ],
)
def test_other_files_are_recognized_as_such(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        check_coco(tmp_path / "x.json", tmp_path)


def test_binary_file_is_not_json(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="is not JSON"):
        read_categories(tmp_path / "x.json")


def test_missing_files_are_counted_and_named(tmp_path, content):
    path = write_json(tmp_path / "good.json", content)
    write_image(tmp_path / "b.jpg")
    with pytest.raises(FileNotFoundError, match=r"2 of 3 images are not in image_dir=.*: a\.jpg, c\.jpg; give"):
        check_coco(path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"3 of 3 images .*nowhere' \(which is not a folder\)"):
        check_coco(path, tmp_path / "nowhere")
    assert check_coco(path, tmp_path / "nowhere", check_images=False).images == 3
    with pytest.raises(FileNotFoundError, match=r"ann_file=.*absent\.json' does not exist"):
        check_coco(tmp_path / "absent.json", tmp_path)


def test_images_may_be_in_subfolders(tmp_path, content):
    content["images"] = [{**content["images"][0], "file_name": "sub/a.jpg"}]
    content["annotations"] = content["annotations"][:1]
    write_image(tmp_path / "sub" / "a.jpg")
    assert check_coco(write_json(tmp_path / "x.json", content), tmp_path).images == 1


@pytest.mark.parametrize(
    ("split", "ann_file", "image_dir"),
    [
        ("train", "annotations/instances_train2017.json", "train2017"),
        ("val", "annotations/instances_val2017.json", "val2017"),
        ("train", "annotations/instances_train.json", "train"),
        ("val", "annotations/instances_val.json", "images/val"),
        ("val", "annotations/instances_val.json", "images"),
        ("train", "annotations/train.json", "images"),
        ("val", "annotations/val.json", "images"),
        ("train", "annotations/train.json", "images/train"),
        ("train", "annotations/train.json", "train"),
        ("train", "train/_annotations.coco.json", "train"),
        ("val", "valid/_annotations.coco.json", "valid"),
        ("val", "val/_annotations.coco.json", "val"),
    ],
)
def test_layouts_are_found(tmp_path, content, split, ann_file, image_dir):
    # In the wrong order on purpose: the names have to come in order of id.
    content["categories"].reverse()
    write_json(tmp_path / ann_file, content)
    (tmp_path / image_dir).mkdir(parents=True, exist_ok=True)
    found = find_split(tmp_path, split)
    assert (found.ann_file, found.image_dir) == (tmp_path / ann_file, tmp_path / image_dir)
    assert found.categories == read_categories(found.ann_file) == ("cat", "dog")


def test_first_layout_wins(tmp_path, content):
    for name in ("instances_train.json", "instances_train2017.json"):
        write_json(tmp_path / "annotations" / name, content)
    for name in ("train", "train2017"):
        (tmp_path / name).mkdir()
    assert find_split(tmp_path, "train").image_dir == tmp_path / "train2017"


def test_unknown_layout_names_what_was_looked_for_and_what_is_there(tmp_path, content):
    write_json(tmp_path / "annotations" / "labels.json", content)
    with pytest.raises(FileNotFoundError) as caught:
        find_split(tmp_path, "val")
    for part in ("instances_val2017.json with val2017/", "valid/_annotations.coco.json", "annotations/labels.json"):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_split(tmp_path / "nowhere", "val")
    with pytest.raises(ValueError, match="split='test' is unknown"):
        find_split(tmp_path, "test")


@pytest.fixture
def run_tool(capsys):
    """The command's exit code, output and errors. In this process: a new one would spend seconds on imports."""

    def run(*arguments):
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_command_line(run_tool, tmp_path, content):
    write_images(tmp_path, content)
    path = write_json(tmp_path / "good.json", content)
    code, output, errors = run_tool(path, tmp_path, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.png")
    assert code == 0 and "4 (1 crowd regions)" in output, errors
    assert json.loads((tmp_path / "s.json").read_text())["objects"] == 3
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert run_tool(path, tmp_path, "--json", tmp_path / "s.json", "--size", "160", "200")[0] == 0
    code, _, errors = run_tool(path, tmp_path, "--size", "160", "200")
    assert code == 2 and "--size affects only the statistics" in errors
    assert json.loads((tmp_path / "s.json").read_text())["resize"] == [160, 200]


def test_command_line_reports_what_the_user_can_correct(run_tool, tmp_path, content):
    path = write_json(tmp_path / "good.json", content)
    code, output, errors = run_tool(path, tmp_path, "--classes", "cat")
    assert code == 1 and errors.startswith("error: ann_file=") and not output
    code, _, errors = run_tool("--root", tmp_path)
    assert code == 1 and errors.startswith("error: root=") and "looked for" in errors
    for wrong in ([path], ["--root", tmp_path, path, tmp_path], [], ["--root", tmp_path, "--plot", "x.png"]):
        assert run_tool(*wrong)[0] == 2, wrong


@pytest.mark.parametrize(
    ("file", "named"), [("data.yaml", "YOLO"), ("labels/1.txt", "YOLO"), ("Annotations/1.xml", "VOC"), ("a", "Rename")]
)
def test_labels_in_another_format_are_named(tmp_path: Path, file: str, named: str):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=f"(?s)no split 'train'.*{named}"):
        find_split(tmp_path, "train")


def test_command_line_checks_both_splits_of_a_folder(run_tool, tmp_path, content):
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    for split in ("train", "val"):
        write_json(tmp_path / "annotations" / f"instances_{split}.json", content)
        write_image(tmp_path / split / "a.jpg")
    code, output, errors = run_tool("--root", tmp_path)
    assert code == 0 and "instances_train.json" in output and "instances_val.json" in output, errors
    (tmp_path / "annotations" / "instances_val.json").unlink()  # a recipe sets training images aside
    code, output, errors = run_tool("--root", tmp_path)
    assert code == 0 and "instances_train.json" in output and "no split 'val'" in errors and "--val-part" in errors


@pytest.mark.skipif(not COCO_MINI.is_dir(), reason=f"no COCO photographs at {COCO_MINI}; set FPN_PLUGINS_COCO_MINI")
@pytest.mark.parametrize(
    ("name", "counts"),
    [("train", (59, 0, 583, 6, 289, 189, 99)), ("val", (66, 2, 560, 8, 256, 171, 125))],
)
def test_real_coco_is_accepted(name, counts):
    split = find_split(COCO_MINI, name)
    report = check_coco(split.ann_file, split.image_dir, split.categories)
    assert len(split.categories) == 80 and split.categories[:2] == ("person", "bicycle")
    found = (report.images, report.empty_images, report.annotations, report.crowd)
    assert (*found, report.small, report.medium, report.large) == counts
