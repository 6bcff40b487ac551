"""Statistics of pixels: exact, in one pass, for any number of channels; and the lines of configs."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpn_plugins.commands import check, pixels
from fpn_plugins.data import PixelReader, check_coco, pixel_statistics
from fpn_plugins.data.pixel_statistics import PixelSample, image_files


def write_set(folder: Path, channels: int = 4, number: int = 3) -> np.ndarray:
    """Write a COCO-format folder of arrays of 12 bits; return all pixels."""
    images = np.random.default_rng(0).integers(0, 4096, (number, 8, 9, channels)).astype(np.uint16)
    content = {"info": {}, "categories": [{"id": 1, "name": "a"}], "images": [], "annotations": []}
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for index, image in enumerate(images):
            np.save(folder / split / f"{index}.npy", image)
    for index in range(number):
        content["images"].append({"id": index, "file_name": f"{index}.npy", "width": 9, "height": 8})
        box = {"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "category_id": 1}
        content["annotations"].append({"id": index + 1, "image_id": index, **box})
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return images.reshape(-1, channels)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([0.0, 1e9]), st.integers(1, 5))
def test_statistics_equal_those_of_all_pixels_at_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], offset: float, channels: int
):
    """Also far from zero, where sums of squares would cancel."""
    folder, random = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0)
    images = [random.normal(offset, 3, (size, 2, channels)) for size in sizes]
    files = [folder / f"{index}.npy" for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        np.save(file, image)
    pixels_of_all = np.concatenate([image.reshape(-1, channels) for image in images])
    found = pixel_statistics(files)
    np.testing.assert_allclose(found.mean, pixels_of_all.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels_of_all.std(0), rtol=1e-6)
    np.testing.assert_allclose(found.percentiles[50], np.percentile(pixels_of_all, 50, axis=0))
    np.testing.assert_array_equal(
        [found.percentiles[0], found.percentiles[100]], [pixels_of_all.min(0), pixels_of_all.max(0)]
    )
    assert found.channels == channels and found.images == len(images) and found.max_value is None


def test_images_are_not_kept_in_memory(tmp_path: Path):
    for index in range(60):
        np.save(tmp_path / f"{index}.npy", np.full((512, 512, 4), index, np.uint8))  # 1 MB
    tracemalloc.start()
    found = pixel_statistics(sorted(tmp_path.iterdir()))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6  # an image in double precision has 8 MB
    assert found.percentiles[50] == [29.5] * 4


def test_of_many_images_a_few_pixels_of_each_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[PixelSample.__module__], "_MOST_PIXELS", 500)
    sample = PixelSample()
    for value in range(60):
        sample.add(np.full((100, 1), value))
    assert len(np.concatenate(sample.parts)) <= 500
    assert [int(part[0, 0]) for part in sample.parts] == list(range(60))
    lengths = {len(part) for part in sample.parts}
    assert len(lengths) == 1  # each image counts alike


def test_the_order_of_bytes_is_no_type_of_its_own(tmp_path: Path):
    for index, dtype in enumerate(("<u2", ">u2")):
        np.save(tmp_path / f"{index}.npy", np.full((4, 5), 256, dtype))
    found = pixel_statistics(sorted(tmp_path.iterdir()))
    assert (found.dtypes, found.max_value, found.mean) == ({"uint16": 2}, 65535.0, [256.0])


def test_command_prints_lines_that_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = write_set(tmp_path / "set")
    pixels.main([str(tmp_path / "set"), "--max-value", "4095", "--bands", "3", "0", "--json", str(tmp_path / "p.json")])
    text = capsys.readouterr().out
    assert "3 images of 2 channels: uint16 (3)" in text
    assert 'dict(type="fpn_plugins.LoadImage", in_chans=2, max_value=4095.0, bands=[3, 0])' in text
    assert "FPN_PLUGINS: {ENABLED: true, MAX_VALUE: 4095.0, BANDS: [3, 0]}" in text
    mean = [round(255 / 4095 * value, 3) for value in values[:, [3, 0]].mean(0).tolist()]
    assert f"PIXEL_MEAN: {mean}" in text and f"mean={mean}" in text
    assert "bgr_to_rgb=False" in text  # a base of mmdet has True
    stored = json.loads((tmp_path / "p.json").read_text())
    assert stored["reader"] == {"in_chans": 2, "max_value": 4095.0, "bands": [3, 0], "channels_first": False}
    np.testing.assert_allclose(stored["std"], values[:, [3, 0]].std(0))


def test_the_lines_hold_for_flat_channels_and_small_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Opaque alpha has no deviation, by which nobody can divide; reflectances are far below 1."""
    image = np.zeros((4, 5, 2), np.float32)
    image[0, :, 0], image[..., 1] = 0.0004, 255
    np.save(tmp_path / "a.npy", image)
    pixels.main([str(tmp_path)])
    text = capsys.readouterr().out
    assert "mean=[0.0001, 255.0], std=[0.0001732, 1.0]" in text
    assert "channel 1 is the same everywhere: leave it out by --bands" in text


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_flat_channels_of_floats_are_found(tmp_path: Path, dtype: Any):
    """The deviation of equal floats is hardly ever exactly 0, and would make each rounding error a huge value."""
    for index, size in enumerate([(20, 30), (21, 33)]):
        flat = np.stack([np.full(size, value) for value in (0.1234567, -7.3, 0.0)], 2)
        few = 1.3701 + 1e-3 * np.random.default_rng(index).standard_normal((*size, 1))
        np.save(tmp_path / f"{index}.npy", np.concatenate([flat, few], 2).astype(dtype))
    found = pixel_statistics(sorted(tmp_path.iterdir()))
    means, stds = found.normalization(None)
    assert found.flat == [0, 1, 2] and stds[:3] == [1.0, 1.0, 1.0]
    assert abs(means[3] - found.mean[3]) < 1e-3 * stds[3]  # rounded by what matters, the deviation
    assert means[2] == 0 and abs(means[0] - 0.1234567) < 1e-3


@pytest.mark.parametrize("command", [[], ["--bands", "7"]])
def test_images_of_other_channels_are_an_error(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 2, 4)))
    with pytest.raises(SystemExit):
        pixels.main([str(tmp_path), *command])
    assert "b.npy' has 4 channels, those before it 3" in (error := capsys.readouterr().err) or "bands=[7]" in error


def test_values_that_are_not_finite_are_an_error(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([[np.nan]]))
    with pytest.raises(ValueError, match=r"a.npy' has values that are not finite; replace them"):
        pixel_statistics([tmp_path / "a.npy"])
    with pytest.raises(ValueError, match="no image files"):
        pixel_statistics([])


def test_check_takes_the_reader(tmp_path: Path):
    """Without it, arrays are refused with the remedy, and with it, images of other channels."""
    write_set(tmp_path)
    files = tmp_path / "annotations/instances_val.json", tmp_path / "val"
    assert check_coco(*files, reader=PixelReader(4)).images == 3
    assert check_coco(*files, reader=PixelReader(2, None, (3, 0))).images == 3
    with pytest.raises(
        ValueError, match=r"3 x image that the toolboxes' own readers do not read.*LoadImage.*--channels"
    ):
        check_coco(*files)
    with pytest.raises(ValueError, match=r"image of other channels than the reader takes.*4 channels, in_chans=3"):
        check_coco(*files, reader=PixelReader(3))


def test_images_of_other_splits_are_not_read(tmp_path: Path):
    """In the layout with one folder for all images, those of the training alone are read."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("train", "val", "other"):
        np.save(tmp_path / f"images/{name}.npy", np.zeros((2, 3)))
    entry = {"id": 1, "file_name": "train.npy", "width": 3, "height": 2}
    content = {"images": [entry], "annotations": [], "categories": []}
    (tmp_path / "annotations/train.json").write_text(json.dumps(content))
    assert image_files(tmp_path) == [tmp_path / "images/train.npy"]
    (tmp_path / "images/._val.npy").write_bytes(b"of macOS")
    assert len(image_files(tmp_path / "images")) == 3


def test_check_takes_arrays_with_channels_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_set(tmp_path)
    for path in (tmp_path / "val").glob("*.npy"):
        np.save(path, np.load(path).transpose(2, 0, 1))
    files = [str(tmp_path / "annotations/instances_val.json"), str(tmp_path / "val"), "--channels", "4"]
    check.main([*files, "--channels-first"])
    assert "images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        check.main(files)
    error = capsys.readouterr().err
    assert "of another size" in error and "an array C H W, for --channels-first" in error
    with pytest.raises(SystemExit):
        check.main([*files[:2], "--channels-first"])
    assert "--channels" in capsys.readouterr().err


def test_check_of_deep_and_stacked_tiffs(tmp_path: Path):
    """A gray TIFF of 16 bits is misread by the toolboxes and right for the reader; bands need the reader."""
    import tifffile

    write_set(tmp_path, number=2)
    tifffile.imwrite(tmp_path / "val/0.tif", np.zeros((8, 9), np.uint16))
    tifffile.imwrite(
        tmp_path / "val/1.tif", np.zeros((8, 9, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    file = tmp_path / "annotations/instances_val.json"
    file.write_text(file.read_text().replace(".npy", ".tif"))
    with pytest.raises(
        ValueError, match="(?s)gray image of 16 bits.*bands that are no colors|bands that are no colors.*16 bits"
    ):
        check_coco(file, tmp_path / "val")
    with pytest.raises(ValueError, match="5 channels, in_chans=1") as error:
        check_coco(file, tmp_path / "val", reader=PixelReader(1))
    assert "16 bits" not in str(error.value)
