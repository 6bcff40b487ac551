"""Exported files: every format and engine finds what the module finds, at other sizes and numbers of images."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from export_stand_in import StandIn, description

from fpn_plugins.export import check_target, export_detector, export_int8
from fpn_plugins.export.selection import positions
from fpn_plugins.inference import Detections, Padding, ResizeRule
from fpn_plugins.inference.engines import EnginePredictor, Session, is_exported, load_engine, open_session
from fpn_plugins.inference.engines.programs import moved_program

FORMATS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".pt2": ("torch",), ".torchscript": ("torch",)}


def photograph(height: int = 133, width: int = 201) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return np.asarray(ResizeRule(None, exact=(height, width)).resize(coarse))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stand-in in each format."""
    folder, model = tmp_path_factory.mktemp("files"), StandIn()
    return {suffix: export_detector(model, folder / f"detector{suffix}", description()) for suffix in FORMATS}


def eager() -> EnginePredictor:
    """The stand-in itself, with the resizing and pasting of exported files."""

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in StandIn()(torch.from_numpy(images)).items()}

    return EnginePredictor(Session(description(), run, "eager"))


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found.scores) == len(expected.scores) >= 10
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-2, rtol=0)
    assert found.masks is not None and expected.masks is not None and found.masks.shape == expected.masks.shape
    assert (found.masks != expected.masks).float().mean() < 1e-3


@pytest.mark.parametrize(("suffix", "engine"), [(suffix, name) for suffix, names in FORMATS.items() for name in names])
def test_each_engine_finds_the_same_objects(suffix: str, engine: str, files: dict[str, Path]) -> None:
    image = photograph()
    predict = load_engine(files[suffix], engine, threads=1)
    assert predict.metadata == description() and predict.session.engine == engine
    assert_same(predict(image), eager()(image))
    batch = np.stack([predict.batch(photograph(76, 112))[0]] * 3)
    outputs = predict.session(batch)
    numbers, counts = np.unique(outputs["image_indices"], return_counts=True)
    assert numbers.tolist() == [0, 1, 2] and len(set(counts.tolist())) == 1


def test_the_size_can_be_chosen_when_the_file_is_opened(files: dict[str, Path]) -> None:
    predict = load_engine(files[".onnx"], size=(64, 100))
    assert predict.batch(photograph()).shape == (1, 3, 64, 97)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_graph_that_resizes_finds_the_same_objects(suffix: str, tmp_path: Path) -> None:
    file = export_detector(StandIn(), tmp_path / f"detector{suffix}", description(inside=True))
    predict, image = load_engine(file), photograph()
    assert predict.batch(image).shape == (1, 3, 133, 201)
    found, expected = predict(image), eager()(image)
    assert abs(len(found.scores) - len(expected.scores)) <= 1 and len(found.scores) >= 10
    torch.testing.assert_close(found.scores[:5], expected.scores[:5], atol=0.02, rtol=0)  # pixels differ by one at most
    torch.testing.assert_close(found.boxes[:5], expected.boxes[:5], atol=0.2, rtol=0)
    with pytest.raises(ValueError, match="resizes images itself"):
        load_engine(file, size=(64, 100))


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_8_bit_integers_find_nearly_the_same(suffix: str, tmp_path: Path) -> None:
    image = photograph()
    images = [eager().batch(image), eager().batch(photograph(90, 90))]
    file = export_int8(StandIn(), tmp_path / f"detector{suffix}", description(), images)
    predict = load_engine(file)
    assert predict.metadata == replace(description(), int8=True)
    found, expected = predict(image), eager()(image)
    assert len(found.scores) >= 10
    assert abs(float(found.scores[:10].mean() - expected.scores[:10].mean())) < 0.05
    with pytest.raises(ValueError, match="images is empty"):
        export_int8(StandIn(), tmp_path / "other.xml", description(), [])


class MaskHead(StandIn):
    """Stand-in that finds nothing on a black image, and whose masks come from a layer that gets found objects alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(49, 49, bias=False)
        torch.nn.init.eye_(self.head.weight)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().forward(images)
        kept = torch.nonzero(found["scores"] * (images.float().mean() > 1) > 0.3)[:, 0]
        found = {name: value[kept] for name, value in found.items()}
        return found | {"masks": self.head(found["masks"].flatten(1)).reshape(-1, 7, 7)}


class LargeObjects(MaskHead):
    """Stand-in that drops narrow objects by reductions over the last axis, as toolboxes and their users do."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().forward(images)
        boxes = found["boxes"]
        kept = positions((boxes[:, 2:] - boxes[:, :2] > 2).all(-1) & (boxes.argmax(-1) > 1) & (boxes.sum(-1) > 0))
        return {name: value[kept] for name, value in found.items()}


def test_images_without_objects_pass_each_engine(tmp_path: Path) -> None:
    file = export_detector(LargeObjects(), tmp_path / "detector.onnx", description())
    batch = eager().batch(photograph())
    for engine in FORMATS[".onnx"]:
        detect = open_session(file, engine)
        assert len(detect(batch)["scores"]) >= 10
        assert [len(value) for value in detect(np.zeros_like(batch)).values()] == [0] * 5


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_images_without_objects_leave_masks_alone(suffix: str, tmp_path: Path) -> None:
    image = photograph()
    batch = eager().batch(image)
    black = np.zeros_like(batch)
    file = export_int8(MaskHead(), tmp_path / f"detector{suffix}", description(), [black, batch, black])
    with torch.no_grad():
        expected = MaskHead()(torch.from_numpy(batch))["masks"].mean((1, 2))
    found = torch.from_numpy(load_engine(file).session(batch)["masks"]).mean((1, 2))
    assert len(found) >= 10 and 0.3 < float(expected.mean()) < 0.7
    assert abs(float(found.mean() - expected.mean())) < 0.05
    with pytest.raises(ValueError, match="finds no objects on any of the 1 images"):
        export_int8(MaskHead(), tmp_path / f"other{suffix}", description(), [black])


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    class Broken(StandIn):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            if float(images.sum()) > 0:  # depends on values
                return super().forward(images)
            return {}

    for suffix in (".onnx", ".xml", ".pt2"):
        with pytest.raises(ValueError, match="cannot be exported"):
            export_detector(Broken(), tmp_path / f"a{suffix}", description())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("a.engine", description(), r"must be a file \.onnx"),
        ("a.pt2", description(inside=True), r"only graphs in \.onnx and \.xml resize"),
        ("a.xml", description(ResizeRule(96, 160), inside=True), "as Pillow does"),
        ("a.onnx", description(inside=True, masks="pasted"), "masks as probabilities"),
        (
            "a.onnx",
            description(ResizeRule(96, 160, library="opencv", padding=Padding(divisor=32)), inside=True),
            "leave resizing outside",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_an_error(name: str, metadata: object, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        export_detector(StandIn(), tmp_path / name, metadata)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_files_for_8_bit_integers_have_the_same_limits(tmp_path: Path) -> None:
    images = [eager().batch(photograph())]
    for metadata, options, message in (
        (description(inside=True, masks="pasted"), {}, "masks as probabilities"),
        (description(ResizeRule(96, 160), inside=True), {}, "as Pillow does"),
        (description(), {"opset": 11}, "opset=11"),
        (description(), {"batch_size": 4}, "single images"),
    ):
        with pytest.raises(ValueError, match=message):
            export_int8(StandIn(), tmp_path / "a.xml", metadata, images, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_opset_that_is_not_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="opset=30: PyTorch and onnxscript write opset"):
        export_detector(StandIn(), tmp_path / "a.onnx", description(), opset=30)
    for suffix in (".pt2", ".torchscript"):
        with pytest.raises(ValueError, match=f"opset=20 is of ONNX's operators, which .*a{suffix}' does not have"):
            export_detector(StandIn(), tmp_path / f"a{suffix}", description(), opset=20)
    assert list(tmp_path.iterdir()) == []


class Gate(torch.nn.Module):
    """Module that no exporter can record."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Make dark images black."""
        return images * 0 if images.float().sum() < 5 else images


class BranchesOnValues(StandIn):
    """Detector with a part that no exporter can record."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Sequential(Gate())

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Detect nothing on dark images."""
        return super().forward(self.gate(images))


def test_a_failed_export_names_the_module_and_leaves_no_hook_in_the_process(tmp_path: Path) -> None:
    hooks = torch.nn.modules.module._global_buffer_registration_hooks
    before = dict(hooks)
    with pytest.raises(ValueError, match=r"cannot be exported to '.*x\.pt2': gate\.0 \(Gate\): "):
        export_detector(BranchesOnValues(), tmp_path / "x.pt2", description())
    assert dict(hooks) == before


def test_suffixes_in_capitals_are_the_same_formats(files: dict[str, Path], tmp_path: Path) -> None:
    capitals = [export_detector(StandIn(), tmp_path / "WRITTEN.TORCHSCRIPT", description())]
    for suffix, path in files.items():
        capitals.append(tmp_path / f"DETECTOR{suffix.upper()}")
        shutil.copy(path, capitals[-1])
    shutil.copy(files[".xml"].with_suffix(".bin"), tmp_path / "DETECTOR.BIN")
    for path in capitals:
        assert is_exported(path)
        assert_same(load_engine(path)(photograph()), eager()(photograph()))


def test_an_openvino_graph_runs_with_its_own_weights_alone(files: dict[str, Path], tmp_path: Path) -> None:
    graph = Path(shutil.copy(files[".xml"], tmp_path / "other.xml"))
    with pytest.raises(ValueError, match=r"weights in 'other\.bin' beside it, which does not exist; move, copy and"):
        open_session(graph)
    weights = files[".xml"].with_suffix(".bin").read_bytes()
    graph.with_suffix(".bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"other\.bin' holds other weights than '.*other\.xml' was written with"):
        open_session(graph)
    graph.with_suffix(".bin").write_bytes(weights)
    assert open_session(graph).metadata == description()


@pytest.mark.parametrize("suffix", [".torchscript", ".pt2"])
def test_a_module_compiled_in_place_is_written_uncompiled(suffix: str, tmp_path: Path) -> None:
    def backend(graph: object, inputs: object) -> None:
        raise AssertionError("compiled")

    model = StandIn()
    model.conv.compile(backend=backend)
    call = model.conv._compiled_call_impl
    export_detector(model, tmp_path / f"a{suffix}", description())
    assert model.conv._compiled_call_impl is call


def test_single_cells_run_in_all_formats_but_programs(files: dict[str, Path]) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, 8, 96)).astype(np.float32)
    with torch.no_grad():
        expected = StandIn()(torch.from_numpy(images))
    for suffix, path in files.items():
        if suffix == ".pt2":
            with pytest.raises(ValueError, match="a map has a single cell"):
                open_session(path)(images)
            continue
        found = open_session(path)(images)
        for name, value in expected.items():
            torch.testing.assert_close(torch.from_numpy(found[name]), value, atol=1e-3, rtol=0)


def test_onnxruntime_takes_the_gpu_that_is_named_or_none(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    real, given = onnxruntime.InferenceSession, []

    def session(path: str, options: object, providers: list[object]) -> object:
        given.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=f"device='{device}': onnxruntime's CUDAExecutionProvider finds no"):
            open_session(files[".onnx"], device=device)
    assert given == [[("CUDAExecutionProvider", {"device_id": number})] for number in "01"]


def test_a_program_makes_its_tensors_on_the_device_it_is_moved_to(files: dict[str, Path]) -> None:
    program = moved_program(torch.export.load(files[".pt2"]), "meta")
    made = [node.kwargs["device"] for node in program.graph.nodes if node.kwargs.get("device") is not None]
    assert made and {str(device) for device in made} == {"meta"}
    assert {value.device.type for value in program.state_dict.values()} == {"meta"}


def test_a_trace_runs_on_the_cpu_alone(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpn_plugins.inference.engines.sessions.existing_device", lambda device: device)
    with pytest.raises(
        ValueError, match=r"device='cuda': the trace '.*detector\.torchscript' makes its tensors on the"
    ):
        open_session(files[".torchscript"], device="cuda")


def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="name a file"):
        check_target(tmp_path / "a.onnx")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: os.open(dir / "none/none", os.O_WRONLY))
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_target(tmp_path / "b.onnx")
    monkeypatch.undo()
    check_target(tmp_path / "b.onnx")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_target(tmp_path / "b.onnx")


def test_images_that_a_graph_does_not_take_are_errors(files: dict[str, Path]) -> None:
    for suffix, engine in ((".onnx", "onnxruntime"), (".xml", "openvino"), (".pt2", "torch")):
        with pytest.raises(ValueError, match=rf"does not run in {engine} on images of shape \(1, 4, 96, 96\)"):
            open_session(files[suffix])(np.zeros((1, 4, 96, 96), np.float32))


def test_damaged_files_and_wrong_engines_are_errors(files: dict[str, Path], tmp_path: Path) -> None:
    for suffix, path in files.items():
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(ValueError, match="damaged"):
            open_session(damaged)
    with pytest.raises(ValueError, match=r"runs files \.pt2"):
        open_session(files[".onnx"], "torch")
    with pytest.raises(ValueError, match="is OpenVINO's"):
        open_session(files[".onnx"], precision="bfloat16")
    for suffix in (".onnx", ".pt2"):
        with pytest.raises(ValueError, match="device='nowhere'"):
            open_session(files[suffix], device="nowhere")
    with pytest.raises(FileNotFoundError, match="fpn-plugins export"):
        open_session(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="no exported detector"):
        open_session(tmp_path / "a.pth")


def test_an_onnx_file_is_no_openvino_graph(files: dict[str, Path], tmp_path: Path) -> None:
    renamed = Path(shutil.copy(files[".onnx"], tmp_path / "renamed.xml"))
    shutil.copy(files[".xml"].with_suffix(".bin"), renamed.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"renamed\.xml' is not an OpenVINO graph, .* suffix \.onnx"):
        open_session(renamed)
