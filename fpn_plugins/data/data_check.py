"""Check everything that a training or an evaluation will read: annotation files, images, and the model's heads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from . import coco_rules as rules
from .coco_check import check_content
from .coco_folder import read_coco
from .coco_report import CocoReport, make_report
from .coco_set import CocoSet, coco_set
from .findings import GO_ON, Finding, Findings, Rule, describe, short
from .image_check import check_files, check_headers
from .image_headers import SAMPLE
from .panoptic_check import PanopticSet, check_panoptic
from .pixels import PixelReader


class Head(NamedTuple):
    """Number of classes that a head of a model predicts.

    Attributes:
        name: key of the number in the config.
        number: number of classes.
        of: which categories it has to equal: ``"things"`` (all of a file without stuff), ``"stuff"`` or ``"all"``.
        extra: classes beside these categories, such as Detectron2's one for all things.
    """

    name: str
    number: int
    of: str = "things"
    extra: int = 0


@dataclass(frozen=True)
class DataCheck:
    """Result of `check_data`.

    Attributes:
        reports: content of each annotation file of instances that has no errors.
        findings: faults, errors and warnings.
    """

    reports: list[CocoReport]
    findings: list[Finding]

    def describe(self, errors: bool) -> str:
        """Describe the errors or the warnings; empty if there are none."""
        title = "cannot be trained on; correct it:" if errors else "has warnings:"
        return describe((finding for finding in self.findings if finding.error == errors), title)

    def require(self) -> list[CocoReport]:
        """Return the reports; ``ValueError`` with every error if there are any."""
        errors = self.describe(errors=True)
        if errors:
            raise ValueError(f"{errors}\n{GO_ON}")
        return self.reports


def check_data(
    sets: Iterable[CocoSet | PanopticSet], heads: Sequence[Head] = (), limit: int | None = SAMPLE
) -> DataCheck:
    """Check the annotation files of one model, their images, and that files and heads agree on the classes.

    Args:
        sets: annotation files, and what reads each of them.
        heads: numbers of classes of the model's heads.
        limit: number of image files per set whose headers are read; ``None`` reads all.

    Raises:
        FileNotFoundError: an annotation file or images are missing.
        ValueError: a file is not a COCO file, or its categories are malformed.
    """
    findings: list[Finding] = []
    reports: list[CocoReport] = []
    labels: list[tuple[Findings, tuple[str, ...], tuple[str, ...]]] = []
    for source in _merged(sets):
        found = Findings(source.ann_file, source.toolbox)
        if isinstance(source, PanopticSet):
            names = check_panoptic(source, found, limit)
        else:
            names, report = _check_coco(source, found, limit)
            reports += [report] if report else []
        labels.append((found, *names))
    _compare_labels(labels)
    if labels and heads:
        _compare_heads(heads, *labels[0])
    for found, *_ in labels:
        findings += found
    return DataCheck(reports, findings)


def _merged(sets: Iterable[CocoSet | PanopticSet]) -> list[CocoSet | PanopticSet]:
    """Join sets of the same files, so that none is read twice."""
    merged: dict[Any, CocoSet | PanopticSet] = {}
    for source in sets:
        key = (type(source), source.ann_file, source.image_dir, source.classes, getattr(source, "reader", None))
        known = merged.get(key)
        merged[key] = source if known is None else known.joined(source)  # type: ignore[arg-type]
    return list(merged.values())


def _check_coco(
    source: CocoSet, findings: Findings, limit: int | None
) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], CocoReport | None]:
    """Check one file; return the names of its labels, no stuff, and the report if there is no error in it."""
    content = read_coco(source.ann_file, source.annotated)
    images = check_content(content, source, findings)
    sound = not findings.have_errors
    modes: dict[str, int] = {}
    if source.image_dir is not None and check_files(images, source.image_dir, findings):
        modes = check_headers(images, source.image_dir, findings, limit, source.reader)
    report = make_report(source.ann_file, content, modes) if sound else None
    return (source.label_names(content), ()), report


def _compare_labels(labels: Sequence[tuple[Findings, tuple[str, ...], tuple[str, ...]]]) -> None:
    """Compare the classes of every file with the first one's."""
    for found, things, stuff in labels[1:]:
        first, first_things, first_stuff = labels[0]
        both_have_stuff = bool(stuff and first_stuff)  # a file of instances lists none
        for ours, theirs in ((things, first_things), *([(stuff, first_stuff)] if both_have_stuff else [])):
            if ours != theirs:
                pairs = enumerate(zip(ours, theirs, strict=False))
                at = next((index for index, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
                detail = f"label {at} differs: it has {short(ours)}, {str(first.file)!r} has {short(theirs)}"
                found.add(rules.OTHER_CATEGORIES, detail)


def _compare_heads(heads: Sequence[Head], findings: Findings, things: tuple[str, ...], stuff: tuple[str, ...]) -> None:
    """Compare the number of classes of each head with the data set's."""
    names = {"things": things, "stuff": stuff, "all": (*things, *stuff)}
    for of, listed in names.items():
        expected = {head.name: len(listed) + head.extra for head in heads if head.of == of}
        wrong = {head.name: head.number for head in heads if head.of == of and head.number != expected[head.name]}
        if not wrong:
            continue
        what = "stuff classes" if of == "stuff" else "classes"
        numbers = ", ".join(f"{name.split('.')[-1]}={expected[name]}" for name in wrong)
        missing = [name for name in listed[min(wrong.values()) :]]
        rule = Rule(
            "model with heads for another number of classes",
            f"set the heads' {numbers}, or the data set's metainfo=dict(classes=(...)) to the model's classes",
            f"{short(missing)} have no class"
            if missing
            else "classes without data are trained, and evaluation may stop",
        )
        findings.add(rule, f"the data set has {len(listed)} {what} {short(listed)}, but {wrong} differ")


def check_coco(
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    check_images: bool = True,
    annotated: bool = True,
    use: str = "both",
    masks: bool = False,
    limit: int | None = SAMPLE,
    reader: PixelReader | None = None,
) -> CocoReport:
    """Check an annotation file and its images for both toolboxes, and count its content.

    Args:
        ann_file: COCO annotation file.
        image_dir: folder that the ``file_name`` of each image is relative to.
        classes: class names of the model in order; ``None`` skips the comparison.
        check_images: require that the image files exist and that their headers suit the annotation file.
        annotated: require annotations; COCO's files for test images have none.
        use: ``"train"``, ``"val"`` or ``"both"``; evaluation reads keys that training does not.
        masks: require that each object has a mask.
        limit: number of image files whose headers are read; ``None`` reads all.
        reader: reader of the images in place of the toolboxes' own.

    Raises:
        TypeError: ``classes`` is a single string.
        FileNotFoundError: the annotation file or an image is missing.
        ValueError: the file is not a COCO object-detection file, or holds data that cannot be trained on; one message
            lists the number and up to five examples of each problem. Another ``use``.
    """
    source = coco_set(ann_file, image_dir if check_images else None, classes, use, masks, reader)
    if not annotated:
        source = replace(source, annotated=False, trained=False, evaluated=frozenset())
    return check_data([source], limit=limit).require()[0]


def read_checked(ann_file: Path, masks: bool = True) -> dict[str, Any]:
    """Read an annotation file and check its content, whatever it is for; its images are not looked for.

    Args:
        ann_file: COCO annotation file.
        masks: whether masks may be read, so that a malformed one is an error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an error that `check_coco` finds in training and evaluation alike.
    """
    content, findings = read_coco(ann_file), Findings(ann_file)
    check_content(content, CocoSet(ann_file, trained=False, evaluated=frozenset(), annotated=False), findings)
    DataCheck([], [finding for finding in findings if masks or finding.rule != rules.MASK]).require()
    return content
