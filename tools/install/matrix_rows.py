"""The combinations of versions that `make test-matrix` installs and tests."""

from __future__ import annotations

from dataclasses import dataclass

CORE_TESTS = (
    "tests/test_compat.py",
    "tests/test_features.py",
    "tests/test_layers.py",
    "tests/test_pyramid.py",
    "tests/ops/test_pooling.py",
    "tests/necks/test_build.py",
    "tests/necks/test_fpn.py",
    "tests/necks/test_scripting.py",
    "tests/weights/test_checkpoint.py",
    "tests/weights/test_key_map.py",
    "tests/weights/test_training_state.py",
    "tests/contracts/test_maps.py",
    "tests/contracts/test_state_dict.py",
    "tests/adapters/torchvision",
)
MMDET_TESTS = (
    "tests/adapters/mmcv/test_definitions.py",
    "tests/adapters/mmdet/test_core_pyramid.py",
    "tests/adapters/mmdet/test_training_step.py",
)
DETECTRON2_TESTS = (
    "tests/adapters/detectron2/test_pyramid_backbone.py",
    "tests/adapters/detectron2/test_training_step.py",
    "tests/adapters/detectron2/test_yaml.py",
)
TEST_TOOLS = ("pytest==9.2.0", "pytest-timeout==2.4.0", "hypothesis", "pyyaml", "rich", "safetensors", "timm==1.0.31")
MMDET_LIBRARIES = (
    "opencv-python<4.12",
    "matplotlib",
    "pycocotools",
    "scipy",
    "shapely",
    "six",
    "terminaltables",
    "tqdm",
)
DETECTRON2_LIBRARIES = (
    *("cloudpickle", "fvcore", "hydra-core", "iopath", "omegaconf", "packaging", "tabulate"),
    *("tensorboard", "termcolor", "yacs"),
)
# the rebuild of Detectron2 0.7, whose files are Python but for an optional one
DETECTRON2 = ("--no-deps", "--only-binary=:all:", "--python-version=3.10", "--target={site}", "sal-detectron2==0.7.2")


@dataclass(frozen=True)
class Row:
    """One combination.

    Attributes:
        name: name of its folder below ``build/matrix``.
        title: what it is an example of.
        python: version of Python, ``"3.11"``.
        pip: arguments of the calls of ``pip install`` that make it, with ``{site}`` for the folder of packages; empty
            for what `make install` installs, with the versions of ``constraints.txt``.
        tests: files and folders to test.
        hosts: libraries that the tests have to find.
    """

    name: str
    title: str
    python: str
    pip: tuple[tuple[str, ...], ...] = ()
    tests: tuple[str, ...] = (*CORE_TESTS, *MMDET_TESTS, *DETECTRON2_TESTS)
    hosts: tuple[str, ...] = ("mmdet", "detectron2", "timm", "torchvision")


OLD_TORCH = ("setuptools<81", "wheel", "torch==2.1.2", "torchvision==0.16.2", "numpy<2")
ROWS = (
    Row(
        "torch-2.1",
        "the last release of mmdet by OpenMMLab",
        "3.10",
        (
            OLD_TORCH,
            ("numpy<2", "mmengine==0.10.7", *MMDET_LIBRARIES, *DETECTRON2_LIBRARIES, *TEST_TOOLS),
            # the index has no wheel of mmcv 2.1.0; mmcv-lite is its Python files, the operators are ours
            ("--no-deps", "mmdet==3.3.0", "mmcv-lite==2.1.0"),
            DETECTRON2,
        ),
    ),
    Row(
        "detectron2-0.6",
        "Detectron2 0.6",
        "3.10",
        (
            OLD_TORCH,
            ("--no-deps", "--no-build-isolation", "pb1-detectron2==0.6"),
            ("numpy<1.24", "pillow<10", *DETECTRON2_LIBRARIES, *TEST_TOOLS),
        ),
        (*CORE_TESTS, *DETECTRON2_TESTS),
        ("detectron2", "timm", "torchvision"),
    ),
    Row(
        "torch-2.4",
        "PyTorch of 2024",
        "3.11",
        (
            ("setuptools<81", "wheel", "torch==2.4.1", "torchvision==0.19.1", "numpy<2"),
            ("numpy<2", "onedl-mmengine==0.10.12", *MMDET_LIBRARIES, "imaug", *DETECTRON2_LIBRARIES, *TEST_TOOLS),
            ("--no-deps", "--use-pep517", "--no-cache-dir", "onedl-mmdetection==3.5.1", "onedl-mmcv==2.3.6"),
            DETECTRON2,
        ),
    ),
    Row("python-3.10", "`make install`", "3.10"),
    Row("python-3.11", "`make install`", "3.11"),
    Row("python-3.12", "`make install`", "3.12"),
    Row("python-3.13", "`make install`", "3.13"),
)
