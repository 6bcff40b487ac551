"""Image files against the annotation file: size, orientation, depth, color, completeness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coco_files import HEIGHT, WIDTH, good_content, write_image, write_images, write_json
from PIL import Image

from fpn_plugins.data import DataCheck, check_data, coco_set
from fpn_plugins.data.image_headers import read_headers

SIZE = (WIDTH, HEIGHT)
TURNED = (HEIGHT, WIDTH)


def oriented(path: Path, orientation: int, size: tuple[int, int] = SIZE, **options: object) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    write_image(path, size, exif=exif, **options)


def deep(path: Path, dtype: str, format: str) -> None:
    pixels = np.arange(WIDTH * HEIGHT, dtype=dtype).reshape(HEIGHT, WIDTH)
    Image.fromarray(pixels).save(path, format=format)


def cut(path: Path, share: float = 0.7, **options: object) -> None:
    write_image(path, SIZE, **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., DataCheck]:
    """Replace the first image by another file, and check the set for a toolbox, or both."""
    content = good_content()
    write_images(tmp_path, content)
    path = write_json(tmp_path / "a.json", content)

    def run(write: Callable[[Path], object], toolbox: str | None = None) -> DataCheck:
        write(tmp_path / "a.jpg")
        source = coco_set(path, tmp_path)
        return check_data([type(source)(**{**vars(source), "toolbox": toolbox})])

    return run


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_image(path, (WIDTH, HEIGHT + 1)), r"image 1 \(a.jpg\): 100 x 80 in .* 100 x 81 px"),
        (lambda path: write_image(path, TURNED), r"another size.*100 x 80 in the annotation file, 80 x 100 px"),
        (lambda path: oriented(path, 6), r"EXIF orientation turns, with the size from before.*orientation 6.*exif_tr"),
        (lambda path: oriented(path, 8, format="PNG"), "EXIF orientation turns, with the size from before"),
        (lambda path: oriented(path, 6, format="WEBP"), "TIFF or WebP.*only one of the toolboxes applies"),
        (lambda path: oriented(path, 3, format="TIFF"), "TIFF or WebP.*only one of the toolboxes applies"),
        (lambda path: deep(path, "uint16", "PNG"), "gray image of 16 bits.*divides by 256.*mode I;16"),
        (lambda path: deep(path, "uint16", "TIFF"), "gray image of 16 bits.*divides by 256.*mode I;16"),
        (lambda path: deep(path, "int32", "TIFF"), "gray image of 32 bits.*MMDetection cannot read it"),
        (lambda path: deep(path, "float32", "TIFF"), "gray image of 32 bits.*MMDetection cannot read it"),
        (cut, r"1 x image file that is damaged or cut off: image 1 \(a.jpg\): .*truncated.*download it again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "cut off: image 1"),
        (lambda path: cut(path, format="PNG"), "cut off: image 1"),
        (lambda path: cut(path, format="BMP"), "cut off: image 1"),
        (lambda path: cut(path, format="WEBP", lossless=True), "cut off: image 1"),
        (lambda path: cut(path, format="TIFF"), "cut off: image 1"),
        (lambda path: cut(path, 0.01), "cut off: image 1"),
        (lambda path: path.write_bytes(b""), "cut off: image 1 .*: the file is empty"),
        (lambda path: path.write_text("<html>not found</html>"), "cut off: image 1 .*UnidentifiedImageError"),
    ],
    ids=range(19),
)
def test_faults_of_image_files(check: Callable[..., DataCheck], write: Callable[[Path], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(write).require()


@pytest.mark.parametrize(
    ("dtype", "bands", "kind"),
    [
        ("uint8", 4, "unspecified"),
        ("uint8", 4, "unassalpha"),
        ("uint8", 5, "unspecified"),
        ("uint16", 4, "unspecified"),
    ],
)
def test_bands_that_the_toolboxes_drop_are_a_warning(
    check: Callable[..., DataCheck], dtype: str, bands: int, kind: str
) -> None:
    import tifffile

    def write(path: Path) -> None:
        extra = [kind] * (bands - 3)
        tifffile.imwrite(
            *(path, np.zeros((HEIGHT, WIDTH, bands), dtype)),
            photometric="rgb",
            planarconfig="contig",
            extrasamples=extra,
        )

    found = check(write)
    found.require()
    assert f"(a.jpg): {bands} bands" in found.describe(errors=False)
    assert ("color image of 16 bits" in found.describe(errors=False)) == (dtype == "uint16")


def test_pages_that_the_toolboxes_drop_are_a_warning(check: Callable[..., DataCheck]) -> None:
    import tifffile

    found = check(lambda path: tifffile.imwrite(path, np.zeros((4, HEIGHT, WIDTH), "uint8"), photometric="minisblack"))
    found.require()
    assert "(a.jpg): 4 bands" in found.describe(errors=False)


def test_colors_of_16_bits_are_a_warning(check: Callable[..., DataCheck]) -> None:
    import cv2

    def write(path: Path) -> None:
        path.write_bytes(cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint16))[1].tobytes())

    found = check(write)
    assert found.require() and "color image of 16 bits" in found.describe(errors=False)


def test_an_image_may_be_too_large_for_pillow(check: Callable[..., DataCheck], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT // 3)
    with pytest.raises(ValueError, match=r"3 x image of more pixels than Pillow opens.*cut it into parts"):
        check(lambda path: None).require()
    assert "more pixels" in check(lambda path: None, toolbox="mmdet").describe(errors=False)


@pytest.mark.parametrize(
    ("write", "modes"),
    [
        (lambda path: write_image(path, mode="L"), {"RGB": 2, "L": 1}),
        (lambda path: write_image(path, mode="P", format="PNG"), {"RGB": 2, "P": 1}),
        (lambda path: write_image(path, mode="RGBA", format="PNG"), {"RGB": 2, "RGBA": 1}),
        (lambda path: write_image(path, format="TIFF"), {"RGB": 3}),
        (lambda path: oriented(path, 6, TURNED), {"RGB": 3}),
        (lambda path: path.write_bytes(path.read_bytes() + b"trailing data"), {"RGB": 3}),
    ],
    ids=range(6),
)
def test_both_toolboxes_read_these_alike(
    check: Callable[..., DataCheck], write: Callable[[Path], object], modes: dict[str, int]
) -> None:
    result = check(write)
    (report,) = result.require()
    assert report.modes == modes and not result.findings
    assert ("color modes" in str(report)) == (set(modes) != {"RGB"})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_image(path, mode="CMYK"), "1 x CMYK image.*image 1"),
        (lambda path: oriented(path, 3), "turns without a change of size.*image 1 .*orientation 3.*upside down"),
    ],
    ids=["cmyk", "upside down"],
)
def test_warnings_do_not_stop(check: Callable[..., DataCheck], write: Callable[[Path], object], message: str) -> None:
    import re

    result = check(write)
    assert result.require() and re.search(message, result.describe(errors=False))


@pytest.mark.parametrize(("toolbox", "stops"), [("mmdet", False), ("detectron2", True)])
def test_gray_of_16_bits_is_an_error_where_it_becomes_white(
    check: Callable[..., DataCheck], toolbox: str, stops: bool
) -> None:
    result = check(lambda path: deep(path, "uint16", "PNG"), toolbox)
    assert [finding.error for finding in result.findings] == [stops]


def test_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    paths = [write_image(tmp_path / f"a.{suffix}") for suffix in ("jpg", "png", "webp", "bmp", "tif", "gif")]

    def refuse(self: object) -> None:
        raise AssertionError("decodes pixels")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert [header[:2] for header in read_headers(paths)] == [SIZE] * 6
