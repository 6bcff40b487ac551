"""The measured peak is that of the pass, and holds at least what was counted to be kept."""

from __future__ import annotations

import sys

import pytest

from fpn_plugins.analysis import build_pyramid, peak_memory, pyramid_cost
from fpn_plugins.analysis.peak_memory import hardware, thread_count

NETWORK = ("resnet10t", "FPN")
SIZE = (256, 256)


@pytest.mark.timm
@pytest.mark.skipif(sys.platform != "linux", reason="the CPU's peak is read from /proc, which only Linux has")
def test_training_needs_what_it_keeps_and_inference_less() -> None:
    training, inference = (
        peak_memory(build_pyramid, NETWORK, SIZE, mode, batch_size=2, device="cpu")
        for mode in ("training", "inference")
    )
    kept = pyramid_cost(*NETWORK, SIZE, batch_size=2).total().activation_bytes
    assert training["peak_bytes"] > 0.9 * kept
    assert 0 < inference["peak_bytes"] < training["peak_bytes"]
    assert training["seconds"] > inference["seconds"] > 0
    assert training["device"] == "cpu" and "thread" in training["hardware"]


@pytest.mark.parametrize("wrong", [{"mode": "sleeping"}, {"device": "abacus"}])
def test_unknown_modes_and_devices_are_errors(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        peak_memory(build_pyramid, NETWORK, SIZE, **wrong)


def test_one_thread_is_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [thread_count(number) for number in (1, "1", 2, "1 and 2")] == [
        "1 thread", "1 thread", "2 threads", "1 and 2 threads",
    ]  # fmt: skip
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert hardware("cpu").endswith(", 1 thread")
