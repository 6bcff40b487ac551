"""Reading images of any number of channels and bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpn_plugins.data import PixelReader, read_pixels, to_picture
from fpn_plugins.data.pixels import stored_shape

DTYPES = (np.uint8, np.uint16, np.int32, np.float32)


def image_of(channels: int, dtype: Any = np.uint16, size: tuple[int, int] = (5, 7)) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.random((*size, channels)) * min(200, channels * 100)).astype(dtype)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.sampled_from(DTYPES), st.sampled_from(["contig", "separate", "pages"]))
def test_tiff_keeps_values_types_and_order(
    tmp_path_factory: pytest.TempPathFactory, channels: int, dtype: Any, kind: str
):
    import tifffile

    image, file = image_of(channels, dtype), tmp_path_factory.mktemp("tiff") / "image.tif"
    if channels == 1:
        tifffile.imwrite(file, image[..., 0])
    elif kind == "contig":
        tifffile.imwrite(file, image, photometric="minisblack", planarconfig="contig")
    elif kind == "separate":
        tifffile.imwrite(file, image.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    else:
        tifffile.imwrite(file, image.transpose(2, 0, 1), photometric="minisblack")
    read = read_pixels(file)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)
    assert stored_shape(file) == (*image.shape, np.dtype(dtype).name)
    if kind != "pages":  # a file that ends between two pages looks like one with fewer of them
        file.write_bytes(file.read_bytes()[:-2])
        with pytest.raises(ValueError, match=r"image.tif' cannot be read: its end is missing"):
            stored_shape(file)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_values_types_and_order(dtype: Any, tmp_path: Path):
    image = image_of(6, dtype)
    np.save(tmp_path / "last.npy", image)
    np.save(tmp_path / "first.npy", image.transpose(2, 0, 1))
    np.save(tmp_path / "gray.npy", image[..., 0])
    np.testing.assert_array_equal(read_pixels(tmp_path / "last.npy"), image)
    np.testing.assert_array_equal(read_pixels(tmp_path / "first.npy", channels_first=True), image)
    np.testing.assert_array_equal(read_pixels(tmp_path / "gray.npy"), image[..., :1])
    assert read_pixels(tmp_path / "last.npy").dtype == dtype
    shape = (*image.shape, np.dtype(dtype).name)
    assert stored_shape(tmp_path / "last.npy") == stored_shape(tmp_path / "first.npy", True) == shape


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (1, np.uint16), (3, np.uint8), (3, np.uint16), (4, np.uint8), (4, np.uint16)]
)
def test_png_keeps_values_types_and_order(channels: int, dtype: Any, tmp_path: Path):
    """Red first, although OpenCV writes blue first."""
    import cv2

    image = image_of(channels, dtype)
    if dtype == np.uint16:
        image = image * 300
    stored = image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image
    assert cv2.imwrite(str(tmp_path / "image.png"), stored)
    read = read_pixels(tmp_path / "image.png")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


def test_modes_that_store_no_channels_become_colors(tmp_path: Path):
    from PIL import Image

    colors = Image.fromarray(image_of(3, np.uint8))
    colors.quantize(8).save(tmp_path / "palette.png")
    colors.convert("1").save(tmp_path / "binary.png")
    colors.convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert [read_pixels(tmp_path / name).shape[2] for name in ("palette.png", "binary.png", "cmyk.jpg")] == [3, 1, 3]


def test_orientation_is_applied_as_in_the_toolboxes(tmp_path: Path):
    from PIL import Image

    from fpn_plugins.inference import read_image

    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image_of(3, np.uint8)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_pixels(tmp_path / "turned.png"), read_image(tmp_path / "turned.png"))


def write_pickle(file: Path) -> None:
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npy", write_pickle, "allow_pickle=False"),
        ("a.npy", lambda file: np.save(file, np.zeros((2, 2), bool)), "it holds bool of the shape"),
        ("a.npy", lambda file: np.save(file, np.zeros((2, 2), complex)), "it holds complex128"),
        ("a.npy", lambda file: np.save(file, np.zeros((0, 2, 3))), "expected real numbers H W, or H W C"),
        ("a.npy", lambda file: np.save(file, np.zeros((2, 2, 3, 4))), r"the shape \(2, 2, 3, 4\)"),
        ("a.npy", lambda file: np.savez(file.open("wb"), a=np.zeros(2)), "an archive of arrays"),
        ("a.npy", lambda file: file.write_bytes(b"\x93NUMPY"), "cannot be read"),
        ("a.tif", lambda file: file.write_bytes(b"II*\0"), "cannot be read"),
        ("a.png", lambda file: file.write_bytes(b"no image"), "cannot be read"),
    ],
)
def test_other_files_are_refused(name: str, write: Any, message: str, tmp_path: Path):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=f"image '.*{name}' cannot be read: .*{message}|{message}"):
        read_pixels(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_pixels(tmp_path / f"missing_{name}")


def test_turned_or_stacked_tiffs_are_refused(tmp_path: Path):
    import tifffile

    tifffile.imwrite(tmp_path / "t.tif", image_of(3), photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    with pytest.raises(ValueError, match="orientation tag is 6; save it upright"):
        read_pixels(tmp_path / "t.tif")
    tifffile.imwrite(
        tmp_path / "s.tif", np.zeros((2, 3, 5, 7), np.uint8), photometric="minisblack", metadata={"axes": "TCYX"}
    )
    with pytest.raises(ValueError, match="axes TCYX .*one axis of bands"):
        read_pixels(tmp_path / "s.tif")


def test_reader_chooses_and_scales(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.full((2, 2, 5), 65535, np.uint16) * np.array([0, 1, 0, 1, 1], np.uint16))
    read = PixelReader(2, 65535, (1, 0))(tmp_path / "a.npy")
    assert read.dtype == np.float32 and read[0, 0].tolist() == [255.0, 0.0]
    assert PixelReader(5)(tmp_path / "a.npy")[0, 0].tolist() == [0, 65535, 0, 65535, 65535]


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ({"in_chans": 4}, r"has 5 channels, in_chans=4; set in_chans=5, or choose channels by bands"),
        ({"in_chans": 1, "bands": [5]}, r"has 5 channels, but bands=\[5\] .*among 0..4"),
    ],
)
def test_other_channels_are_refused(reader: dict[str, Any], message: str, tmp_path: Path):
    np.save(tmp_path / "a.npy", image_of(5))
    with pytest.raises(ValueError, match=message):
        PixelReader(**reader)(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ({"in_chans": 0}, "in_chans=0"),
        ({"in_chans": 2, "bands": [1]}, r"bands=\[1\] must be as many as in_chans=2"),
        ({"max_value": 0}, "max_value=0 must be positive, such as 65535"),
        ({"max_value": float("nan")}, "max_value"),
        ({"bands": [0, -1, 2]}, "bands"),
    ],
)
def test_wrong_arguments_are_refused(reader: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PixelReader(**reader)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_picture_shows_the_first_channels(channels: int):
    pixels = image_of(channels, np.float32)
    picture = to_picture(pixels)
    assert picture.shape == (5, 7, 3) and picture.dtype == np.uint8 and picture.max() == 255 and picture.min() == 0
    assert channels >= 3 or (picture == picture[..., :1]).all()
    colors = image_of(3, np.uint8)
    np.testing.assert_array_equal(to_picture(colors), colors)
