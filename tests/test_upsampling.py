"""Upsampling matches mmcv's layers and the papers' formulas, and reaches any size to which a backbone may round."""

from __future__ import annotations

import copy
import importlib
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_near_maps, assert_same_gradients, assert_same_maps
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins.upsampling import (
    CARAFE,
    UPSAMPLE_MODES,
    DeconvUpsample,
    PixelShuffleUpsample,
    fit,
    make_upsample,
    reassemble,
)

LEARNED = ("deconv", "pixel_shuffle", "carafe", "dysample")


def randomized(module: nn.Module) -> nn.Module:
    """Draw parameters far from the initialization, under which CARAFE's weights are nearly uniform."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


# ------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(6, 10), (5, 9), (7, 11), (5, 11), (7, 9), (6, 9), (7, 10)])
@pytest.mark.parametrize("mode", UPSAMPLE_MODES)
def test_every_upsampling_reaches_the_target_size(mode: str, size: tuple[int, int]):
    x = torch.randn(2, 4, 3, 5)
    assert make_upsample(mode, 4)(x, size).shape == (2, 4, *size)


def test_fit_crops_where_the_finer_stage_rounded_up_and_repeats_where_it_rounded_down():
    """A coarse map of 3 cells comes from 6, from 5 (rounded up) or from 7 (rounded down)."""
    full = torch.randn(2, 4, 6, 6)
    assert torch.equal(fit(full, (6, 6)), full)
    assert torch.equal(fit(full, (5, 6)), full[..., :5, :])
    assert torch.equal(fit(full, (6, 5)), full[..., :5])
    assert torch.equal(fit(full, (7, 6)), torch.cat([full, full[..., -1:, :]], dim=2))
    assert torch.equal(fit(full, (5, 7)), torch.cat([full, full[..., -1:]], dim=3)[..., :5, :])


@pytest.mark.parametrize("mode", LEARNED)
@pytest.mark.parametrize("size", [(8, 6), (6, 8), (3, 3), (6, 4)])
def test_a_map_of_another_than_twice_the_size_is_an_error(mode: str, size: tuple[int, int]):
    """A dilated stage is as large as the one before it; cropping would keep its upper left quarter."""
    relation = "small" if max(size) > 6 else "large"
    with pytest.raises(ValueError, match=re.escape(f"6 x 6, which is too {relation} for {size[0]} x {size[1]}")):
        make_upsample(mode, 4)(torch.randn(1, 4, 3, 3), size)


# ------------------------------------------------------------------------------------------------- by name or by hand


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_named_upsampling_equals_interpolate(mode: str):
    x = torch.randn(2, 4, 3, 5)
    assert torch.equal(make_upsample(mode, 4)(x, (7, 9)), F.interpolate(x, size=(7, 9), mode=mode))


def test_upsampling_by_a_function():
    module = make_upsample(lambda x, size: x.new_full((*x.shape[:2], *size), 3.0), 4)
    assert torch.equal(module(torch.randn(1, 4, 2, 2), (5, 3)), torch.full((1, 4, 5, 3), 3.0))


def test_upsampling_with_arguments():
    module = make_upsample({"type": "carafe", "kernel_size": 3, "groups": 2, "compressed_channels": 5}, 4)
    assert isinstance(module, CARAFE)
    assert module.channel_compressor.weight.shape[:2] == (5, 4)
    assert module.content_encoder.weight.shape[:2] == (4 * 2 * 9, 5)
    assert make_upsample({"type": "deconv", "kernel_size": 4}, 8).deconv.kernel_size == (4, 4)


@pytest.mark.parametrize("mode", ["bicubic", {"type": "bicubic"}])
def test_an_unknown_name_lists_the_choices(mode: Any):
    message = f"upsample_mode='bicubic' is unknown; choose one of {sorted(UPSAMPLE_MODES)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        make_upsample(mode, 8)


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ({"type": "nearest", "kernel_size": 3}, TypeError, "kernel_size"),
        ({"type": "carafe", "up_kernel": 3}, TypeError, "up_kernel"),
        ({"type": "carafe", "kernel_size": 4}, ValueError, "kernel_size=4 must be odd"),
        ({"type": "carafe", "groups": 3}, ValueError, "groups=3 must divide the 8 channels"),
        ({"type": "carafe", "groups": 0}, ValueError, "groups=0 must divide the 8 channels"),
        ({"type": "carafe", "encoder_kernel_size": 2}, ValueError, "encoder_kernel_size=2 must be odd"),
        ({"type": "dysample", "style": "pp"}, ValueError, "style='pp' is unknown; choose one of ['lp', 'pl']"),
        ({"type": "dysample", "groups": 3}, ValueError, "groups=3 must divide the 8 channels"),
        ({"type": "pixel_shuffle", "kernel_size": 2}, ValueError, "kernel_size=2 must be odd"),
        ({"kernel_size": 3}, ValueError, "upsample_mode=None is unknown"),
    ],
)
def test_bad_arguments_say_what_is_wrong(mode: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=re.escape(message)):
        make_upsample(mode, 8)


# -------------------------------------------------------------------------------------------------------- the formulas


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
def test_deconv_doubles_with_any_kernel(kernel_size: int):
    upsample = DeconvUpsample(3, kernel_size).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.double)
    spread = F.conv_transpose2d(x, upsample.deconv.weight, stride=2)  # with all its margins
    first = (kernel_size - 1) // 2
    expected = F.pad(spread, (0, 1, 0, 1))[..., first : first + 8, first : first + 10]
    assert_same_maps(upsample(x, (8, 10)), expected + upsample.deconv.bias[:, None, None])


@pytest.mark.mmdet
@given(height=st.integers(1, 6), width=st.integers(1, 6), kernel_size=st.sampled_from([1, 3, 5]))
def test_pixel_shuffle_matches_mmcv(height: int, width: int, kernel_size: int):
    from mmcv.cnn.bricks.upsample import PixelShufflePack

    theirs = randomized(PixelShufflePack(3, 3, 2, kernel_size)).double()
    ours = PixelShuffleUpsample(3, kernel_size).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, height, width, dtype=torch.double)
    assert_same_maps(ours(x, (2 * height, 2 * width)), theirs(x))


def naive_reassembly(x: Tensor, masks: Tensor, kernel_size: int) -> Tensor:
    """Compute equation 4 cell by cell; ``masks`` are ``B G*K*K 2h 2w``, as for mmcv's operator."""
    batch, channels, height, width = x.shape
    groups, margin = masks.shape[1] // kernel_size**2, kernel_size // 2
    result = x.new_zeros(batch, channels, 2 * height, 2 * width)
    for c, row, column in itertools.product(range(channels), range(2 * height), range(2 * width)):
        for n, m in itertools.product(range(-margin, margin + 1), repeat=2):
            source = (row // 2 + n, column // 2 + m)
            if 0 <= source[0] < height and 0 <= source[1] < width:
                group = c // (channels // groups)
                tap = (group * kernel_size + n + margin) * kernel_size + m + margin
                result[:, c, row, column] += masks[:, tap, row, column] * x[:, c, source[0], source[1]]
    return result


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    kernel_size=st.sampled_from([1, 3, 5]),
    groups=st.sampled_from([1, 2]),
)
def test_carafe_matches_the_formula_of_the_paper(height: int, width: int, kernel_size: int, groups: int):
    """Compute as mmcv does: the mask is shuffled to the finer map's size, then each kernel is normalized."""
    ours = randomized(CARAFE(4, kernel_size, groups, compressed_channels=3)).double()
    x = torch.randn(2, 4, height, width, dtype=torch.double, requires_grad=True)
    mask = F.pixel_shuffle(ours.content_encoder(ours.channel_compressor(x)), 2)
    mask = mask.unflatten(1, (groups, -1)).softmax(2).flatten(1, 2)
    expected = naive_reassembly(x, mask, kernel_size)
    got = ours(x, (2 * height, 2 * width))
    assert_same_maps(got, expected)

    leaves = [x, *ours.parameters()]
    cotangent = torch.randn_like(got)
    assert_same_gradients(*(torch.autograd.grad(out, leaves, cotangent) for out in (got, expected)))


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"up_kernel": 3, "up_group": 2}, {"kernel_size": 3, "groups": 2}),
        (
            {"encoder_kernel": 5, "encoder_dilation": 2, "compressed_channels": 6},
            {"encoder_kernel_size": 5, "encoder_dilation": 2, "compressed_channels": 6},
        ),
    ],
)
def test_carafe_has_layers_and_weights_of_mmcv(
    theirs: dict[str, Any], ours: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """mmcv's operator needs a GPU, so the formula stands in for it; everything before it is mmcv's own."""
    carafe = importlib.import_module("mmcv.ops.carafe")  # the package has a function of that name
    monkeypatch.setattr(carafe, "carafe", lambda x, mask, kernel, *unused: naive_reassembly(x, mask, kernel))
    pack = randomized(carafe.CARAFEPack(4, 2, **theirs)).double()
    layer = CARAFE(4, **ours).double()
    layer.load_state_dict(pack.state_dict())
    x = torch.randn(2, 4, 4, 3, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(layer(x, (8, 6)), pack(x))


def test_reassembling_with_a_kernel_of_one_tap_repeats_the_map():
    """One-hot kernels select a neighbor; cells beyond the border are zero."""
    x = torch.arange(12.0).view(1, 1, 3, 4)
    for tap, (down, right) in {4: (0, 0), 5: (0, 1), 0: (-1, -1)}.items():
        weights = torch.zeros(1, 1, 9, 4, 3, 4)
        weights[:, :, tap] = 1
        expected = F.pad(x, (1, 1, 1, 1))[..., 1 + down : 4 + down, 1 + right : 5 + right]
        assert torch.equal(reassemble(x, weights, 3), expected.expand(1, 4, 3, 4))


def test_carafe_of_a_constant_map_is_constant_away_from_the_border():
    x = torch.full((1, 4, 9, 9), 2.0, dtype=torch.double)
    got = randomized(CARAFE(4)).double()(x, (18, 18))
    assert_same_maps(got[..., 4:-4, 4:-4], torch.full((1, 4, 10, 10), 2.0, dtype=torch.double))
    assert (got[..., 0, 0] < 2).all()


# ------------------------------------------------------------------------------------------------------- initialization


@pytest.mark.mmdet
def test_initial_weights_are_distributed_as_in_mmcv():
    from mmcv.cnn.bricks.upsample import PixelShufflePack
    from mmcv.ops.carafe import CARAFEPack

    for ours, theirs in ((CARAFE(64), CARAFEPack(64, 2)), (PixelShuffleUpsample(64), PixelShufflePack(64, 64, 2, 3))):
        for key, value in theirs.state_dict().items():
            own = ours.state_dict()[key]
            assert own.std().item() == pytest.approx(value.std().item(), rel=0.05, abs=0)
            assert own.abs().max().item() == pytest.approx(value.abs().max().item(), rel=0.2, abs=0)


def test_init_of_a_neck_leaves_learned_upsampling_alone():
    from fpn_plugins import CSPPAFPN, FPN

    for kind in (FPN, CSPPAFPN):
        neck = kind([8, 8], 8, upsample_mode="carafe", init="kaiming_normal")
        assert neck.upsamples[0].content_encoder.weight.std() < 0.002


# ---------------------------------------------------------------------------------------------------------- in practice


def test_carafe_never_materializes_the_unfolded_neighborhood():
    """Autograd keeps less than three maps of the output's size, not 25 of the input's."""
    layer = CARAFE(256)
    x = torch.randn(1, 256, 16, 16, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        out = layer(x, (32, 32))
    weights = sum(p.untyped_storage().nbytes() for p in layer.parameters())
    assert sum(kept.values()) - weights < 3 * out.untyped_storage().nbytes()


@pytest.mark.parametrize("mode", LEARNED)
def test_learned_upsampling_keeps_channels_last_and_works_in_bfloat16(mode: str):
    layer = randomized(make_upsample(mode, 8)).double()
    x = torch.randn(2, 8, 5, 6, dtype=torch.double)
    expected = layer(x, (9, 12))
    last = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last), (10, 12))
    assert_same_maps(last[..., :9, :], expected)
    assert last.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer.float()(x.bfloat16(), (9, 12))
    assert got.dtype == torch.bfloat16
    assert_near_maps(got, expected, tolerance=0.1)


@pytest.mark.parametrize("mode", LEARNED)
@EXPORTS
def test_learned_upsampling_compiles_scripts_and_exports(mode: str, tmp_path: Path):
    import onnxruntime

    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.upsample = randomized(make_upsample(mode, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.upsample(x, (2 * x.shape[-2], 2 * x.shape[-1]))

    module = Doubling().eval()
    double = copy.deepcopy(module).double()
    sides = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    file = tmp_path / "upsample.onnx"
    torch.onnx.export(module, (torch.randn(1, 4, 5, 6),), file, dynamo=True, dynamic_shapes=(sides,), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    runs: list[Callable[[Tensor], Tensor]] = [
        torch.compile(double, fullgraph=True, backend="aot_eager"),
        torch.jit.script(double),
        torch.export.export(double, (torch.randn(1, 4, 5, 6).double(),), dynamic_shapes=(sides,)).module(),
    ]
    for size in ((5, 6), (7, 3)):
        x = torch.randn(1, 4, *size)
        with torch.no_grad():
            for run in runs:
                assert_same_maps(run(x.double()), double(x.double()))
            (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            assert_same_maps(torch.from_numpy(got), module(x))
