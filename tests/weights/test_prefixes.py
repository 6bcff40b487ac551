"""Prefixes and copies that wrappers leave in checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN, Pyramid, ViT
from fpn_plugins.backbones.base import Backbone
from fpn_plugins.weights import read_checkpoint, strip_prefix, write_checkpoint
from fpn_plugins.weights.prefixes import restore_wrappers, strip_wrappers

DETECTOR = {f"{part}.weight": torch.full((2,), float(n)) for n, part in enumerate(("backbone.a", "neck.b", "head.c"))}


def read_with(keys: dict[str, Tensor], tmp_path: Path) -> dict[str, Tensor]:
    return read_checkpoint(write_checkpoint(keys, tmp_path / "x.pth"))


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "ema.module.", "module._orig_mod.", "model.module.model.", "student.", "ema."],
)
def test_prefixes_of_all_keys_are_stripped(prefix: str, tmp_path: Path):
    assert set(read_with({f"{prefix}{key}": value for key, value in DETECTOR.items()}, tmp_path)) == set(DETECTOR)


@pytest.mark.parametrize(
    "keys",
    [
        DETECTOR,
        {f"backbone.{key}": value for key, value in DETECTOR.items()},  # a common prefix that is no wrapper's
        {f"model.{key}": value for key, value in DETECTOR.items()} | {"norms.0.weight": torch.ones(2)},
        {f"{part}.{key}": value for part in ("teacher", "student") for key, value in DETECTOR.items()},
        {"model": torch.ones(2)},
        {"module": torch.ones(2), "module.weight": torch.ones(2)},
    ],
)
def test_other_keys_stay(keys: dict[str, Tensor], tmp_path: Path):
    assert set(read_with(keys, tmp_path)) == set(keys)


def test_private_names_are_stripped_inside_keys_too(tmp_path: Path):
    keys = {key.replace("backbone.", "backbone._orig_mod."): value for key, value in DETECTOR.items()}
    keys = {key.replace("neck.b", "neck._checkpoint_wrapped_module.b"): value for key, value in keys.items()}
    assert set(read_with(keys, tmp_path)) == set(DETECTOR)


def test_wrappers_of_pytorch_are_undone(tmp_path: Path):
    model = nn.Sequential(nn.Linear(2, 3))
    wrapped = torch.optim.swa_utils.AveragedModel(torch.compile(nn.DataParallel(model)))
    assert "n_averaged" in wrapped.state_dict()
    read = read_with(wrapped.state_dict(), tmp_path)
    assert set(read) == set(model.state_dict())
    model.load_state_dict(read)


def test_averaged_copies_of_mmdet_2_are_dropped_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    copies = {f"ema_{key.replace('.', '_')}": value + 9 for key, value in DETECTOR.items()}
    others = {"ema_decay": torch.ones(1), "ema_head.x": torch.ones(1)}
    with caplog.at_level(logging.INFO, logger="fpn_plugins"):
        read = read_with({**DETECTOR, **copies, **others}, tmp_path)
    assert set(read) == {*DETECTOR, *others} and torch.equal(read["neck.b.weight"], DETECTOR["neck.b.weight"])
    assert "dropped 3 averaged copies of mmdet 2.x: ema_backbone_a_weight" in caplog.text


def test_two_keys_that_become_one_are_an_error():
    with pytest.raises(ValueError, match=r"two keys of the state dict become 'a.b', the second is '_orig_mod.a.b'"):
        strip_wrappers({"a.b": torch.ones(1), "_orig_mod.a.b": torch.ones(1)})


def test_prefixes_of_wrappers_may_be_given_to_strip_prefix():
    assert set(strip_prefix(DETECTOR, "module.model.neck.")) == {"b.weight"}
    with pytest.raises(ValueError, match="no keys under prefix='nowhere.'"):
        strip_prefix(DETECTOR, "module.nowhere.")


def test_a_pyramid_and_a_vit_keep_their_keys(tmp_path: Path):
    vit = ViT(img_size=32, embed_dim=8, depth=1, num_heads=1, global_block_indices=(), pretrain_img_size=32)
    pyramid = Pyramid(vit, FPN([8], 4))
    assert set(read_with(pyramid.state_dict(), tmp_path)) == set(pyramid.state_dict())
    wrapped = {f"module.model.{key}": value for key, value in vit.state_dict().items()}
    vit.load_weights(write_checkpoint(wrapped, tmp_path / "vit.pth"))


class Wrapping(Backbone):
    """A user's backbone that keeps its network as ``model``."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2, 2))


def test_a_module_with_such_a_prefix_of_its_own_loads_its_file(tmp_path: Path):
    source, other = Wrapping(), Wrapping()
    other.load_weights(write_checkpoint(source.state_dict(), tmp_path / "x.pth"))
    assert torch.equal(other.model[0].weight, source.model[0].weight)
    assert set(restore_wrappers({"0.weight": torch.ones(1)}, source.state_dict())) == {"model.0.weight"}
    assert set(restore_wrappers({"other": torch.ones(1)}, source.state_dict())) == {"other"}
