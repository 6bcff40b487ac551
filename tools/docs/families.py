"""Find which timm families work as a detection backbone, and at which image sizes.

One small network of each family (a module of ``timm.models``) is built without weights and run on PyTorch's meta
device, which computes only shapes. That takes seconds, and finds assertions on sizes and maps whose size does not match
their stride. An image in memory then finds failures that depend on values, such as an index outside a table.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from fpn_plugins.analysis import on_meta
from fpn_plugins.backbones import TimmBackbone
from fpn_plugins.features import check_pyramid

# arguments of timm's constructors with which a network takes more sizes, in order of trial
OPTIONS: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)
ODD_SIZES = ((225, 319), (254, 193))
STEPS = (1, 2, 4, 8, 14, 16, 32, 64, 128, 224)
TYPICAL_SIDE = 256
CHOSEN_SIZE = (256, 320)
# networks of a family that are compared to find a small one; some families have hundreds
SAMPLE = 8

ANY, FIXED, NONE = "any", "fixed", "none"


@dataclass(frozen=True)
class FamilyReport:
    """Image sizes of a family.

    Attributes:
        family: name of the module in ``timm.models``.
        num_models: number of its networks.
        model: network that was tried, the smallest of a sample.
        channels: channels of its default maps, one for each stride from 4 on.
        strides: strides of these maps in input pixels.
        sizes: image sizes that it takes by default: ``"any"``, ``"multiple of N"``, ``"fixed HxW"``, or ``"none"``.
        model_args: arguments with which it takes more sizes.
        sizes_with_args: sizes that it takes with these arguments; ``"chosen"`` is one size, set by ``img_size``.
        note: why it does not work, or an irregularity.
    """

    family: str
    num_models: int
    model: str
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    sizes: str = NONE
    model_args: Mapping[str, Any] = field(default_factory=dict)
    sizes_with_args: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return asdict(self)


def probe_families(
    families: Iterable[str] | None = None, time_limit: float = 60.0, progress: bool = True
) -> list[FamilyReport]:
    """Try one small network of each family.

    Args:
        families: names of modules of ``timm.models``; ``None`` is all.
        time_limit: seconds per family, after which its process is ended.
        progress: whether to show a progress bar.

    Raises:
        ValueError: unknown family.
    """
    import timm
    from tqdm import tqdm

    known = timm.list_modules()
    wanted = known if families is None else list(families)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"families {unknown} are not modules of timm.models; known are {known}")
    with tqdm(wanted, desc="families", disable=not progress) as bar:
        return [_limited(family, time_limit) for family in bar]


def _limited(family: str, time_limit: float) -> FamilyReport:
    """Run `probe_family` in a process of its own, which can be ended."""
    context = multiprocessing.get_context("fork")  # timm is imported already
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_report, args=(sender, family))
    process.start()
    sender.close()
    try:
        if receiver.poll(time_limit):
            return receiver.recv()
        return FamilyReport(family, 0, "", note=f"no answer within {time_limit:g} s")
    except EOFError:
        return FamilyReport(family, 0, "", note="the process died")
    finally:
        process.kill()
        process.join()


def _send_report(sender: Connection, family: str) -> None:
    torch.set_num_threads(1)  # a forked process must not use its parent's threads
    sender.send(probe_family(family))


def probe_family(family: str) -> FamilyReport:
    """Try a small network of a family.

    Args:
        family: name of a module of ``timm.models``.
    """
    import timm

    models = timm.list_models(module=family)
    name = min(_parameters(models))[1]
    report = probe_model(name)
    return FamilyReport(**{**report.as_dict(), "family": family, "num_models": len(models)})


def probe_model(name: str) -> FamilyReport:
    """Try one network.

    Args:
        name: timm model name.

    Returns:
        The report, with an empty ``family``.
    """
    try:
        backbone = on_meta(partial(TimmBackbone, name))
    except Exception as error:  # any error of timm is a result
        return FamilyReport("", 1, name, note=_first_line(error))
    sizes, note = _sizes(backbone, name, {})
    if "meta tensors" in note:  # its forward pass reads values
        sizes, note = _sizes(TimmBackbone(name).eval(), name, {})
    arguments: Mapping[str, Any] = {}
    with_arguments = ""
    if sizes != ANY and not sizes.startswith("multiple"):
        arguments, with_arguments = _with_options(name)
    return FamilyReport(
        "",
        1,
        name,
        tuple(spec.channels for spec in backbone.feature_specs),
        tuple(spec.stride for spec in backbone.feature_specs),
        sizes,
        arguments,
        with_arguments,
        note if sizes == NONE and not arguments else "",
    )


def _parameters(models: list[str]) -> list[tuple[int, str]]:
    """Count parameters of a sample of networks, which is the same in every run; return counts and names."""
    import timm

    rows: list[tuple[int, str]] = []
    for name in random.Random(0).sample(models, min(SAMPLE, len(models))):
        try:
            network = on_meta(partial(timm.create_model, name))
        except Exception:  # for example, a missing dependency; reported if no other network can be built
            rows.append((sys.maxsize, name))
        else:
            rows.append((sum(p.numel() for p in network.parameters()), name))
    return rows


def _with_options(name: str) -> tuple[Mapping[str, Any], str]:
    """Find the first arguments with which the network takes more than one size; return them and the sizes."""
    for option in OPTIONS:
        try:
            backbone = on_meta(partial(TimmBackbone, name, model_args=option))
        except Exception:  # most networks lack the argument, and raise various errors
            continue
        sizes, _ = _sizes(backbone, name, option)
        if sizes == ANY or sizes.startswith("multiple"):
            return option, sizes
    chosen = {"img_size": CHOSEN_SIZE}
    try:
        backbone = TimmBackbone(name, model_args=chosen).eval()
    except Exception:  # its size cannot be chosen either
        return {}, ""
    return (chosen, "chosen") if _failure(backbone, CHOSEN_SIZE) is None else ({}, "")


def _sizes(backbone: TimmBackbone, name: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Find the sizes that a network takes, and the reason if it takes none."""
    import timm

    for step in STEPS:
        odd = TYPICAL_SIDE // step | 1  # odd multiples, so that they are not multiples of twice the step
        sizes = ((odd * step, (odd + 2) * step), (3 * step, odd * step)) if step > 1 else ODD_SIZES
        if all(_failure(backbone, size) is None for size in sizes):
            if _failure(TimmBackbone(name, model_args=arguments).eval(), sizes[0]) is not None:
                break
            return ANY if step == 1 else f"multiple of {step}", ""
    config = timm.get_pretrained_cfg(name)
    height, width = config.input_size[-2:] if config else (224, 224)
    failure = _failure(backbone, (height, width))
    return (f"{FIXED} {height}x{width}", "") if failure is None else (NONE, failure)


def _failure(backbone: TimmBackbone, size: tuple[int, int]) -> str | None:
    """Reason why the network does not take images of a size; ``None`` if it does."""
    try:
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, *size, device=next(backbone.parameters()).device))
        check_pyramid(maps, backbone.feature_specs, size)
    except Exception as error:  # any error of timm is a result
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def families_table(reports: Iterable[FamilyReport]) -> str:
    """Render the reports as a Markdown table."""
    lines = ["| family | tried | strides: channels | sizes | with `model_args` |", "|---|---|---|---|---|"]
    for report in reports:
        pairs = zip(report.strides, report.channels, strict=True)
        options = ", ".join(f"{key}={value!r}" for key, value in report.model_args.items())
        cells = (
            f"{report.family} ({report.num_models})",
            f"`{report.model}`" if report.model else "",
            ", ".join(f"{stride}: {channels}" for stride, channels in pairs),
            report.sizes + (f" ({report.note.replace('|', '/')})" if report.note else ""),
            f"{report.sizes_with_args}: `{options}`" if options else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
