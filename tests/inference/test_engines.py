"""Descriptions of exported files, what is loaded from programs, masks and segments as each toolbox makes them."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_stand_in import description
from PIL import Image

from fpn_plugins.inference import Detections, Padding, PanopticRule, ResizeRule, merge_segments
from fpn_plugins.inference.engines import EnginePredictor, InputFormat, Metadata, Session, StoredReader
from fpn_plugins.inference.engines.programs import check_program, is_arithmetic
from fpn_plugins.inference.pasting import paste_masks


@pytest.mark.parametrize(
    "metadata",
    [
        description(),
        description(ResizeRule(None, exact=(3, 4), padding=Padding(size=(8, 9), value=(1.0, 2.0, 3.0))), True),
        description(panoptic=PanopticRule(2, 1, 0.5, 64, 0.3), int8=True, detector="panoptic_fpn"),
        Metadata((), input=InputFormat(normalized=True, mean=(1.0, 2.0, 3.0), order="BGR")),
    ],
)
def test_a_description_is_read_as_it_was_written(metadata: Metadata) -> None:
    assert Metadata.from_json(metadata.to_json(), "a.onnx") == metadata
    assert json.loads(metadata.to_json())["input"]["resize"]["inside"] == metadata.input.inside


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no description"),
        (None, "has no description"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "its format is 2, this version reads 1"),
        ('{"format": 1}', "cannot be read"),
    ],
)
def test_a_description_that_cannot_be_read_is_an_error(text: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Metadata.from_json(text, "a.onnx")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classes", "abc", "classes='abc' must be of type list"),
        ("category_ids", [3, 3], "more than once"),
        ("category_ids", [3, None], r"category_ids\[1\]='None' must be of type str"),
        ("toolbox", "yolo", "toolbox='yolo'"),
        ("detector", {}, "must be of type str"),
        ("mask_threshold", "x", "must be of type float"),
        ("int8", 1, "must be of type bool"),
        ("future", 1, "unknown key 'future'"),
        ("panoptic", {"num_stuff": "x"}, "num_stuff='x' must be of type int"),
        ("panoptic", {}, "num_stuff"),
        ("input", [], "cannot be read"),
        ("input.mean", ["a", 0, 0], r"input.mean\[0\]='a' must be of type float"),
        ("input.std", [float("nan"), 1, 1], "must be of type float"),
        ("input.resize.inside", "x", "input.inside='x' must be of type bool"),
        ("input.resize.short", 96.5, "input.resize.short='96.5' must be of type int"),
        ("input.resize.exact", [96], "has 1 values, not 2"),
        ("input.resize.padding", {"divisor": 0}, "must be positive pixels"),
    ],
)
def test_values_of_wrong_types_in_a_description_are_errors(path: str, value: object, message: str) -> None:
    content = json.loads(description().to_json())
    *folders, key = path.split(".")
    part = content
    for folder in folders:
        part = part[folder]
    part[key] = value
    with pytest.raises(ValueError, match=message):
        Metadata.from_json(json.dumps(content), "a.onnx")


def test_a_description_may_be_deep_and_its_ids_texts() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Metadata.from_json("[" * 100_000, "a.onnx")
    with pytest.raises(ValueError, match="a.torchscript.* cannot be read"):
        Metadata.from_json(b"\xff\xfe{", "a.torchscript")
    texts = Metadata(("a", "b"), ("x1", "x2"))
    assert Metadata.from_json(texts.to_json(), "a.onnx") == texts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, "has no output scores"),
        ({"masks": None}, "has no output masks"),
        ({"labels": np.array([2])}, "found class 2, its description has 2 classes"),
    ],
)
def test_outputs_that_contradict_the_description_are_errors(change: dict[str, Any], message: str) -> None:
    outputs = {"boxes": np.zeros((1, 4)), "scores": np.ones(1), "labels": np.array([1]), "masks": np.ones((1, 7, 7))}
    outputs = {name: value for name, value in {**outputs, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        Session(description(), lambda images: outputs, "eager")(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("image", "dtype", "message"),
    [
        (np.zeros((8, 9), np.uint8), "uint8", "expected H W 3"),
        (np.zeros((8, 9, 4), np.uint8), "uint8", "expected H W 3"),
        (np.zeros((0, 9, 3), np.uint8), "uint8", "expected H W 3"),
        (np.full((8, 9, 3), 300, np.int32), "float32", "floats from 0 to 255"),
        (np.full((8, 9, 3), 0.5, np.float32), "uint8", "the exported graph takes uint8"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_arrays_that_are_no_images_are_errors(image: np.ndarray, dtype: str, message: str, inside: bool) -> None:
    metadata = description(inside=inside)
    session = Session(replace(metadata, input=replace(metadata.input, dtype=dtype)), lambda images: {}, "eager")
    with pytest.raises(ValueError, match=message):
        EnginePredictor(session)(image)


def test_contradictions_in_a_description_are_errors() -> None:
    with pytest.raises(ValueError, match="holds no normalized pixels"):
        InputFormat(dtype="uint8", normalized=True)
    with pytest.raises(ValueError, match="three numbers"):
        InputFormat(std=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="category_ids has 1 ids"):
        Metadata(("a", "b"), (1,))
    assert Metadata(("a", "b")).names == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Mul(Integer(2), FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-3)), Integer(4)))", True),
        ("L['x'].size()[2] >= 3", True),
        ("(max(1, 1 + (((-3) + L['images'].size()[3]) // 4))) != 1", True),
        ("s0*s1", True),
        ("__import__('os').system('true')", False),
        ("Symbol.__class__", False),
        ("[].append(1)", False),
        ("(lambda: 1)()", False),
        ("Symbol('a; b')", False),
        ("open('x')", False),
        ("exec", False),
        (3, False),
    ],
)
def test_only_arithmetic_of_sizes_is_evaluated(text: object, good: bool) -> None:
    assert is_arithmetic(text) == good


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": Exception}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m/models/model.json", {"nodes": [{"target": "torch.hub.load"}]}, "the function 'torch.hub.load'"),
        ("m/models/model.json", {"nodes": [{"target": "torch.ops.aten.from_file"}]}, "the function"),
        ("m/models/model.json", {"x": {"expr_str": "__import__('os').abort()"}}, "the expression"),
        ("m/models/model.json", {"guards_code": ["open('x')"]}, "the expression"),
        ("m/data/weights/model_weights_config.json", {"w": {"use_pickle": True}}, "pickled weights"),
        ("m/data/sample_inputs/model.pt", pickled(), "a pickled object"),
        ("m/data/constants/custom_obj_0", b"", "a custom object"),
        ("m/data/aotinductor/model/a.so", b"", "compiled code"),
        ("m/models/model.json", b"{", "damaged JSON"),
        # PyTorch's reader ignores case in names
        ("m/data/weights/MODEL.PT", pickled(), "a pickled object"),
        ("m/data/sample_inputs/MODEL.PT", pickled(), "an entry that"),
        ("m/data/constants/Custom_Obj_0", b"", "a custom object"),
        # and parses all of models/
        ("m/models/model.text", {"guards_code": ["open('x')"]}, "an entry that"),
        ("serialized_exported_program.json", {}, "an older format"),
    ],
)
def test_programs_with_more_than_operators_and_tensors_are_refused(
    name: str, content: Any, reason: str, tmp_path: Path
) -> None:
    path = archive_of(tmp_path, (name, content if isinstance(content, bytes) else json.dumps(content).encode()))
    with pytest.raises(ValueError, match=reason):
        check_program(path)


def archive_of(folder: Path, *entries: tuple[str, bytes]) -> Path:
    """An archive as `torch.export.save` writes it, with entries of one's own."""
    path = folder / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # double names
        for name, content in (("m/archive_format", b"pt2"), ("m/version", b"3"), *entries):
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("second", ["m/models/model.json", "m/models/Model.json"])
def test_programs_with_a_name_twice_are_refused(second: str, tmp_path: Path) -> None:
    code = json.dumps({"guards_code": ["open('x')"]}).encode()
    path = archive_of(tmp_path, ("m/models/model.json", code), (second, b"{}"))
    with pytest.raises(ValueError, match="more than once"):
        check_program(path)  # Python reads the second one, PyTorch the first one
    check_program(archive_of(tmp_path, ("m/models/model.json", b"{}")))


def objects() -> tuple[torch.Tensor, torch.Tensor]:
    """Masks and boxes, some beyond the image of 40 x 60."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(12, 2, generator=generator) * torch.tensor([60.0, 40.0]) - 6
    boxes = torch.cat([corners, corners + 1 + 30 * torch.rand(12, 2, generator=generator)], 1)
    return torch.rand(12, 28, 28, generator=generator), boxes


@pytest.mark.detectron2
def test_masks_are_pasted_as_in_detectron2() -> None:
    from detectron2.layers import paste_masks_in_image

    masks, boxes = objects()
    assert torch.equal(paste_masks(masks, boxes, (40, 60)), paste_masks_in_image(masks, boxes, (40, 60)))


@pytest.mark.mmdet
def test_masks_are_pasted_as_in_mmdet() -> None:
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    masks, boxes = objects()
    expected = _do_paste_mask(masks[:, None], boxes, 40, 60, skip_empty=False)[0] >= 0.4
    assert torch.equal(paste_masks(masks, boxes, (40, 60), 0.4), expected)


def panoptic_case() -> tuple[Detections, torch.Tensor]:
    masks, boxes = objects()
    scores = torch.linspace(0.9, 0.2, len(boxes))
    labels = torch.arange(len(boxes)) % 3
    logits = torch.rand(4, 40, 60, generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.avg_pool2d(logits[None], 9, 1, 4)[0]
    return Detections(boxes, scores, labels, paste_masks(masks, boxes, (40, 60), 0.3)), logits


@pytest.mark.detectron2
def test_segments_are_merged_as_in_detectron2() -> None:
    from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
    from detectron2.structures import Boxes, Instances

    found, logits = panoptic_case()
    instances = Instances((40, 60), pred_boxes=Boxes(found.boxes), scores=found.scores, pred_classes=found.labels)
    instances.pred_masks = found.masks
    ids, segments = combine_semantic_and_instance_outputs(instances, logits.argmax(0), 0.5, 40, 0.3)
    merged = merge_segments(found, logits, PanopticRule(3, 1, 0.5, 40, 0.3))
    assert torch.equal(merged.ids, ids.long()) and len(segments) > 3
    expected = [(s["id"], s["category_id"] - (not s["isthing"]), s["isthing"]) for s in segments]
    assert merged.segments == expected


@pytest.mark.mmdet
def test_segments_are_merged_as_in_mmdet() -> None:
    from mmdet.evaluation.functional import INSTANCE_OFFSET
    from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    found, logits = panoptic_case()
    head = HeuristicFusionHead(3, 3, test_cfg=ConfigDict(mask_overlap=0.5, stuff_area_limit=40))
    instances = InstanceData(bboxes=found.boxes, scores=found.scores, labels=found.labels, masks=found.masks)
    expected = head._predict_single(instances, logits).sem_seg[0].long()
    merged = merge_segments(found, logits, PanopticRule(3, 0, 0.5, 40, 0.0, 1e-5))
    values = torch.full((len(merged.segments) + 1,), head.num_classes)
    for number, segment in enumerate(merged.segments, 1):
        instance = number * INSTANCE_OFFSET if segment.is_thing else head.num_things_classes
        values[segment.id] = segment.label + instance
    assert torch.equal(values[merged.ids], expected) and len(merged.segments) > 3


def test_images_of_other_channels_pass_and_need_their_reader() -> None:
    stored = StoredReader(in_chans=4, max_value=4095)
    given = InputFormat(mean=(0.0,) * 4, std=(1.0,) * 4, reader=stored, resize=ResizeRule(8, 16, library="opencv"))
    predict = EnginePredictor(Session(Metadata(("a",), input=given), lambda images: {}, ""))
    assert predict.batch(np.zeros((16, 24, 4), np.float32)).shape == (1, 4, 8, 12)
    with pytest.raises(ValueError, match=r"shape \(16, 24, 3\): expected H W 4"):
        predict.batch(np.zeros((16, 24, 3), np.float32))
    with pytest.raises(ValueError, match=r"its reader to fpn_plugins.data.PixelReader\(in_chans=4, max_value=4095"):
        predict.read("photo.tif")


@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
def test_files_are_read_as_the_toolbox_reads_them(toolbox: str, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[100, 40000]], np.uint16)).save(deep)
    predict = EnginePredictor(Session(Metadata(("a",), toolbox=toolbox), lambda images: {}, ""))
    assert predict.read(deep)[0, :, 0].tolist() == ([0, 156] if toolbox == "mmdet" else [100, 255])
