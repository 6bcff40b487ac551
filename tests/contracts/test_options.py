"""Command lines have one spelling per concept, and write into the repository's tracked folders only when asked."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# spelling -> concept, in all commands and tools; a new concept gets a line here, an old one keeps its spelling
OPTIONS = {
    # data
    "--root": "folder of a COCO-format data set",
    "--annotations": "COCO annotation file",
    "--split": "split of a data set",
    "--classes": "class names",
    "--num-images": "number of images",
    "--num-train": "number of training images",
    "--num-val": "number of validation images",
    "--masks": "masks are needed",
    "--panoptic": "panoptic annotations",
    "--use": "use of an annotation file",
    "--every": "every Nth frame",
    "--channels": "number of channels of images",
    "--channels-first": "arrays hold C H W",
    "--bands": "channels to read",
    "--max-value": "value of a full pixel",
    "--infrared": "images of four channels",
    "--val-part": "part of the training images for validation",
    # where results go
    "--out": "main output: a file, a folder, or a path without suffix",
    "--json": "results as JSON",
    "--plot": "results as a picture",
    "--markdown": "results as Markdown",
    "--page": "results as a page with its pictures and data",
    "--ranking": "results as a page that ranks them",
    "--work-dir": "folder of a training",
    "--write": "write generated files",
    "--check": "compare generated files",
    "--repository": "folder of the source tree",
    # models
    "--config": "config of a detector",
    "--source-config": "config of the detector that a checkpoint comes from",
    "--options": "overrides of a config",
    "--checkpoint": "file of weights",
    "--backbone": "backbone, by name",
    "--backbone-args": "arguments of the backbone",
    "--neck": "neck, by name",
    "--neck-args": "arguments of the neck",
    "--model": "model of a benchmark",
    "--module": "module of a benchmark",
    "--depth": "number of layers of a ResNet",
    "--mode": "training or inference",
    "--detector": "detector",
    "--toolbox": "toolbox",
    "--mmdet": "config and checkpoint in MMDetection",
    "--detectron2": "config and checkpoint in Detectron2",
    "--recipe": "recipe of a training",
    "--finest": "stride of the finest map",
    "--way": "way to train for small objects",
    "--weights": "file of a backbone's weights",
    # how it runs
    "--device": "device",
    "--threads": "number of threads",
    "--workers": "number of workers",
    "--gpus": "number of GPUs",
    "--size": "size of images, in pixels: height and width, or the shorter and the longer side",
    "--no-resize": "images keep their size",
    "--batch-size": "images per batch",
    "--iterations": "length of a training",
    "--epochs": "length of a training in passes over its images",
    "--minutes": "length of a training in minutes",
    "--flips": "flips of training images",
    "--seed": "seed",
    "--seeds": "number of seeds",
    "--first-seed": "first seed",
    "--score": "lowest score of a detection",
    "--engine": "engine of an exported detector",
    "--dtype": "type of pixels",
    "--normalized": "pixels come normalized",
    "--resize": "an exported graph resizes images",
    "--mask-form": "form of exported masks",
    "--opset": "version of ONNX's operators",
    "--int8": "folder of images to calibrate 8-bit integers",
    "--trained": "way for which a detector was trained",
    "--tta": "sizes of test-time augmentation",
    "--slice": "side of slices, in pixels",
    "--overlap": "overlap of slices",
    "--merge": "how detections on slices are merged",
    "--draw-score": "lowest score of a drawn detection",
    "--codec": "codec of a video",
    "--no-pictures": "write no pictures",
    "--force": "do it in spite of differences",
    "--config-only": "only write the config",
    "--dry-run": "only print",
    "--prepare-only": "only prepare",
    "--skip-checks": "leave the checks out",
    # what is measured
    "--measure": "measure, not only count",
    "--repeats": "number of repetitions",
    "--budget": "time of a job",
    "--time-limit": "time limit",
    "--no-memory": "times only",
    "--no-compile": "eager only",
    "--no-control": "without the control",
    "--together": "engines in memory at a time",
    "--compile": "through torch.compile",
    "--bf16": "bfloat16",
    "--precision": "precision",
    "--form": "form of a model or operation",
    "--case": "case of a benchmark",
    "--family": "family of networks",
    "--modes": "inference, training",
    "--sources": "folder of other code bases",
    "--half": "trainings of half the length",
    "--peer": "other package",
    "--instruction": "instruction set",
    "--slopes": "growth with the image",
    "--tokens": "sides of token grids",
    "--images": "sides of images",
    "--stock": "the toolbox's own settings",
    "--second": "second data set",
    "--larger-weights": "file of a larger network's weights",
    "--tiny": "small models, to try the program",
    "--quick": "fewer cases",
    "--only": "patterns of the cases to run",
    "--all": "all files, not a sample",
    "--full": "all cases, not the selection of the default run",
    "--list": "list, and stop",
    "--summary": "print tables, and stop",
    "--verify": "repeat and compare",
    "--adopt": "results of another machine",
    "--baseline": "what to compare with",
    "--before": "older revision",
    "--kills": "number of interruptions",
    "--least": "smallest margin",
    "--strict": "fail unless everything is clear",
    # levels
    "--strides": "strides of levels",
    "--octave-base-scale": "smallest anchor",
    "--scales-per-octave": "anchors per level",
    "--exponent": "exponent of frequencies",
    "--smoothing": "share of a uniform distribution",
    "--mask-stage": "stage of a cascade",
    # publishing
    "--name": "name of a model",
    "--data": "data that a model was trained on, or is to be trained on: a description, or its folder",
    "--schedule": "description of the schedule",
    "--hardware": "description of the hardware",
    "--license": "license",
    "--results": "file of measured results",
    "--count": "count the cost at this size",
    "--convert": "for the other toolbox too",
    "--format": "file format",
    "--zoo": "file of the model zoo",
    "--url": "future address",
    "--push-to-hub": "repository of the hub",
    # installation
    "--row": "row of the matrix of versions",
    "--again": "repeat what has a result",
    "--add": "keep the other rows of an earlier result",
    "--keep": "keep environments",
    "--dev": "what tests, lint and the docs need, too",
    "--mmcv": "operators of mmcv",
}
CALLS = ("add_argument", "add_size", "add_pairs")
TRACKED = ("docs", "configs", "fpn_plugins", "tests", "tools")


def sources() -> list[Path]:
    return sorted([*(ROOT / "fpn_plugins" / "commands").glob("*.py"), *(ROOT / "tools").rglob("*.py")])


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and str(getattr(node.func, "attr", getattr(node.func, "id", ""))) in CALLS:
            yield node


def spellings(call: ast.Call) -> list[str]:
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "option")]
    texts = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text.startswith("-")]


def test_each_option_is_in_the_vocabulary() -> None:
    found: dict[str, list[str]] = {}
    for path in sources():
        for call in calls(path):
            for spelling in spellings(call):
                found.setdefault(spelling, []).append(f"{path.relative_to(ROOT)}:{call.lineno}")
    unknown = {spelling: places for spelling, places in found.items() if spelling not in OPTIONS}
    assert unknown == {}, "use the spelling that OPTIONS has for the concept, or enter a new concept"


def test_no_option_has_two_spellings() -> None:
    assert [spellings(call) for path in sources() for call in calls(path) if len(spellings(call)) > 1] == []


def test_each_concept_has_one_spelling() -> None:
    assert len(set(OPTIONS.values())) == len(OPTIONS)


def test_sizes_are_two_numbers() -> None:
    for path in sources():
        for call in calls(path):
            if "--size" in spellings(call) and getattr(call.func, "attr", "") == "add_argument":
                (number,) = [keyword.value for keyword in call.keywords if keyword.arg == "nargs"]
                assert ast.literal_eval(number) == 2, f"{path}:{call.lineno}"


def test_no_option_has_a_default_in_a_tracked_folder() -> None:
    """A default that is read, such as the repository's own configs, is named in ``read``."""
    read = {"--repository"}
    for path in sources():
        for call in calls(path):
            if read.isdisjoint(spellings(call)):
                defaults = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
                for text in (ast.unparse(default) for default in defaults):
                    parts = text.replace('"', "'").replace("/", "'").split("'")
                    wrong = {"DOCS", "ROOT", "SOURCE_FILE"} & set(parts) or {*TRACKED} & set(parts)
                    assert not wrong or "work_dirs" in text or "data" in parts, f"{path}:{call.lineno}: {text}"


@pytest.mark.parametrize(
    "tool", ["docs/necks", "docs/model_zoo", "docs/readme_pictures", "benchmarks/published", "studies/claims/check"]
)
def test_generators_of_tracked_files_have_to_be_told_so(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import runpy

    path = ROOT / "tools" / f"{tool}.py"
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and ("--out" in error or "--write" in error)
