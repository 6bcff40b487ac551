"""The table of timm's families: known networks are described correctly, and no failure stops the search."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.timm

# network, sizes as it is, arguments, sizes with them
KNOWN: list[tuple[str, str, dict[str, Any], str]] = [
    ("resnet10t", "any", {}, ""),
    ("tf_efficientnet_lite0", "any", {}, ""),
    ("convnextv2_atto", "any", {}, ""),
    ("pvt_v2_b0", "any", {}, ""),
    ("hrnet_w18_small", "multiple of 32", {}, ""),
    ("swin_tiny_patch4_window7_224", "fixed 224x224", {"dynamic_img_size": True}, "multiple of 4"),
    ("vit_tiny_patch16_224", "fixed 224x224", {"dynamic_img_size": True, "dynamic_img_pad": True}, "any"),
    ("maxvit_nano_rw_256", "fixed 256x256", {"img_size": (256, 320)}, "chosen"),
    ("hiera_tiny_224", "fixed 224x224", {"img_size": (256, 320)}, "chosen"),
    ("mvitv2_tiny", "fixed 224x224", {}, ""),
]


@pytest.fixture
def families(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("docs/families")


@pytest.mark.parametrize(("name", "sizes", "model_args", "with_args"), KNOWN)
def test_known_networks(families: ModuleType, name: str, sizes: str, model_args: dict[str, Any], with_args: str):
    report = families.probe_model(name)
    assert (report.sizes, report.model_args, report.sizes_with_args, report.note) == (sizes, model_args, with_args, "")
    assert list(report.strides) == sorted(set(report.strides)) and len(report.channels) == len(report.strides)


def test_a_family_is_represented_by_a_small_network(families: ModuleType):
    (report,) = families.probe_families(["pvt_v2"], progress=False)
    assert report.model == "pvt_v2_b0"
    assert report.num_models == 7
    assert "| pvt_v2 (7) | `pvt_v2_b0` | 4: 32, 8: 64, 16: 160, 32: 256 | any |  |" in families.families_table([report])


def test_the_published_reports_are_those_of_the_known_networks(script: Callable[[str], ModuleType]):
    tool = script("docs/timm_families")
    reports = tool.read_reports(json.loads(tool.DATA.read_text(encoding="utf-8")))
    by_model = {report.model: report.sizes for report in reports}
    assert {name: sizes for name, sizes, _, _ in KNOWN if name in by_model} == {
        name: by_model[name] for name, *_ in KNOWN if name in by_model
    }


def test_an_unknown_family(families: ModuleType):
    with pytest.raises(ValueError, match=r"families \['resnets'\] are not modules of timm.models"):
        families.probe_families(["resnets"])


def test_failures_are_reported(families: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """A network that cannot be built, and one that never answers."""
    assert "NoSuch" not in families.probe_model("resnet10t").note
    assert "ValueError: name='no_such_network': timm has no model" in families.probe_model("no_such_network").note
    monkeypatch.setattr(families, "probe_family", lambda family: time.sleep(60))
    (report,) = families.probe_families(["resnet"], time_limit=0.5, progress=False)
    assert report == families.FamilyReport("resnet", 0, "", note="no answer within 0.5 s")
