"""Predict: hurried arguments, unusual names of files and images, and runs that end early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_pair import write_pair

from fpn_plugins.adapters.detectors import LoadedDetector, load_detector
from fpn_plugins.commands import predict
from fpn_plugins.commands.detector_options import class_list
from fpn_plugins.inference import write_video

pytestmark = pytest.mark.mmdet
NAMES = [f"class number {index}" for index in range(80)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_pair(tmp_path_factory.mktemp("pair"), "mmdet")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with an image, to work in."""
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "set").mkdir()
    Image.fromarray(image).save(tmp_path / "set/a.png")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the command, which must end with a message, and return the message."""
    with pytest.raises(SystemExit) as stop:
        predict.main(argv)
    assert stop.value.code in (1, 2)
    return capsys.readouterr().err


def test_many_class_names_and_files_of_them(folder: Path) -> None:
    assert class_list(",".join(NAMES)) == tuple(NAMES)
    (folder / "names.txt").write_text("one\ntwo\n", encoding="utf-8-sig")
    assert class_list("names.txt") == ("one", "two")


def test_hidden_files_are_left_out_and_the_output_is_no_input(folder: Path) -> None:
    for name in ("set/._a.png", "set/.cache/b.png", "set/out/drawn.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert (
        predict.files_of(["set"], Path("set/out")) == predict.files_of(["s*"], Path("set/out")) == [Path("set/a.png")]
    )
    for output in ("set", "."):
        with pytest.raises(ValueError, match="input 'set' is the output, or in it; choose another folder by --out"):
            predict.files_of(["set"], Path(output))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "set/a.png"], "error: 'set/a.png': is a file"),
        (["--codec", "h264x"], "'h264x' must be four letters"),
        (["--device", "meta"], "error: device='meta' does not exist here"),
        (["--classes", "a,b,c", "--annotations", "no.json"], "not allowed with"),
        (["--classes", "missing.txt"], "classes has 1 categories, the detector 3; found ('missing.txt')"),
    ],
)
def test_mistakes_are_named_before_anything_is_done(
    pair: tuple[str, str], capsys: Any, options: list[str], message: str
) -> None:
    assert message in refused(capsys, *pair, "set", *options)
    assert not list(Path().glob("work_dirs/*/*"))


def test_categories_with_one_id_are_named(pair: tuple[str, str], folder: Path) -> None:
    entries = [{"id": 1, "name": name} for name in ("a", "b", "c")]
    (folder / "ann.json").write_text(json.dumps({"categories": entries}))
    with pytest.raises(ValueError, match="has category ids more than once"):
        load_detector(*pair, annotations=folder / "ann.json")


def test_any_id_and_any_length_of_a_name(pair: tuple[str, str], folder: Path) -> None:
    (folder / "set/a.png").rename(folder / "set" / f"{'ü' * 120}.png")
    Image.new("RGB", (80, 60)).save("b.png")
    images = [{"id": "first/1", "file_name": f"{'ü' * 120}.png"}, {"id": 4.0, "file_name": "b.png"}, {"file_name": "c"}]
    categories = [{"id": index, "name": f"c{index}"} for index in range(3)]
    (folder / "ann.json").write_text(json.dumps({"images": images, "categories": categories}))
    predict.main([*pair, "set", "b.png", "--annotations", "ann.json", "--out", "out"])
    assert [entry["id"] for entry in json.loads(Path("out/images.json").read_text())["images"]] == ["first/1", 4.0]
    assert sorted(path.name for path in Path("out").glob("*.png")) == [f"00001_{'ü' * 100}.png", "00004_b.png"]


def test_rare_frames_become_a_slow_video(pair: tuple[str, str]) -> None:
    with write_video("v.mp4", 25) as video:
        video.write(np.zeros((60, 80, 3), np.uint8))
    predict.main([*pair, "v.mp4", "--every", "100000", "--out", "out"])
    assert Path("out/00000_v.mp4").is_file()


def test_images_that_the_detector_does_not_take_are_named_at_the_end(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    Image.new("RGB", (80, 1)).save("set/0.png")
    find = LoadedDetector.find

    def choosy(self: LoadedDetector, image: np.ndarray, *given: Any) -> list[dict[str, Any]]:
        if len(image) == 1:
            raise ValueError("a map has a single cell")
        return find(self, image, *given)

    monkeypatch.setattr(LoadedDetector, "find", choosy)
    error = refused(capsys, *pair, "set", "--out", "out")
    assert "error: 1 of 2 files: 'set/0.png': a map has a single cell" in error
    assert [Path(entry["file_name"]).name for entry in json.loads(Path("out/images.json").read_text())["images"]] == [
        "a.png"
    ]


def test_of_many_failures_the_first_are_listed() -> None:
    assert predict.failed(["x"], 9) == "1 of 9 files: x"
    lines = predict.failed([f"file {index}" for index in range(12)], 20).splitlines()
    assert lines[:2] == ["12 of 20 files:", "  file 0"] and lines[10:] == ["  file 9", "  and 2 more"]


def test_what_is_done_is_kept_when_the_command_ends_early(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (80, 60)).save("set/b.png")
    add = predict.Predictions.add

    def interrupted(self: predict.Predictions, file: Path) -> None:
        if file.name == "b.png":
            raise KeyboardInterrupt
        add(self, file)

    monkeypatch.setattr(predict.Predictions, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict.main([*pair, "set", "--out", "out"])
    assert len(json.loads(Path("out/images.json").read_text())["images"]) == 1
