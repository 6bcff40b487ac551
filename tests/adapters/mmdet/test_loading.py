"""mmengine's runner reads checkpoints through this package's reader: nothing is executed, nothing outside deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import FILES
from payload import Payload

pytestmark = pytest.mark.mmdet
pytest.importorskip("mmdet")

from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.model import PretrainedInit  # noqa: E402
from mmengine.runner import CheckpointLoader  # noqa: E402

from fpn_plugins.adapters.mmdet.loading import AtomicBackend, load_safely, read_for_runner  # noqa: E402
from fpn_plugins.weights.training_state import UnusableCheckpointError  # noqa: E402


@pytest.fixture(autouse=True)
def safe_loaders() -> Iterator[None]:
    """Replace mmengine's readers during a test only."""
    before = CheckpointLoader._schemes
    CheckpointLoader._schemes = dict(before)
    load_safely()
    yield
    CheckpointLoader._schemes = before


def checkpoint(**more: Any) -> dict[str, Any]:
    """Return what mmengine's runner saves."""
    info = {"epoch": 1, "keep_ckpt_ids": [3, "../x"], **more.pop("info", {})}
    hub = {"log_scalars": {"loss": HistoryBuffer([1.0], [1])}, "runtime_info": info, "resumed_keys": {"loss": True}}
    meta = {"epoch": 1, "iter": 5, "dataset_meta": {"palette": [(1, 2, 3)]}, **more.pop("meta", {})}
    return {"state_dict": {"w": torch.ones(2)}, "message_hub": hub, "meta": meta, "optimizer": {}, **more}


def saved(path: Path, **more: Any) -> str:
    torch.save(checkpoint(**more), path)
    return str(path)


@pytest.mark.parametrize("name", ["payload_meta.pth", "payload_weights_old.pth", "payload_top.pth", "global.bin"])
def test_hostile_files_are_refused_wherever_mmengine_reads(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name, tmp_path / "trace")
    for read in (CheckpointLoader.load_checkpoint, lambda file: PretrainedInit(file)(torch.nn.Linear(2, 2))):
        with pytest.raises(UnusableCheckpointError, match=rf"{name}.*refused"):
            read(str(tmp_path / name))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("address", ["s3://x/a.pth", "open-mmlab:s3://x/a.pth", "pavi://a", "torchvision://none"])
def test_other_addresses_are_errors(address: str) -> None:
    with pytest.raises(UnusableCheckpointError, match=r"copy it to a local file|there is no model"):
        CheckpointLoader.load_checkpoint(address)


def test_all_of_a_training_is_read(tmp_path: Path) -> None:
    content = CheckpointLoader.load_checkpoint(saved(tmp_path / "a.pth", info={"score": np.float64(0.5)}))
    log = content["message_hub"]["log_scalars"]["loss"]
    assert isinstance(log, HistoryBuffer) and log.current() == 1.0
    log.update(2.0)
    assert log.mean() == 1.5 and content["message_hub"]["runtime_info"]["score"] == 0.5
    assert content["meta"]["iter"] == 5 and content["state_dict"]["w"].equal(torch.ones(2))


def test_the_text_of_a_config_is_not_executed(tmp_path: Path) -> None:
    """mmengine's ``resume`` would execute it."""
    text = f"import os\nos.mkdir({str(tmp_path / 'trace')!r})"
    assert "config" not in read_for_runner(saved(tmp_path / "a.pth", meta={"config": text}))["meta"]


def test_paths_that_mmengine_deletes_stay_in_the_folder(tmp_path: Path) -> None:
    info = {"best_ckpt": str(tmp_path.parent / "other.pth"), "best_ckpt_coco/bbox_mAP": str(tmp_path / "best.pth")}
    found = read_for_runner(saved(tmp_path / "a.pth", info=info))["message_hub"]["runtime_info"]
    assert "best_ckpt" not in found and "best_ckpt_coco/bbox_mAP" in found
    assert found["keep_ckpt_ids"] == [3]


def test_a_file_of_the_other_toolbox_is_read_as_its_state_dict(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "a.pth")
    assert set(read_for_runner(str(tmp_path / "a.pth"))) == {"state_dict"}


def test_checkpoints_are_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "a.pth"
    AtomicBackend().put(b"old", str(path))

    def interrupted(self: Path, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AtomicBackend().put(b"new", str(path))
    assert path.read_bytes() == b"old"


def test_a_payload_in_the_log_is_refused(tmp_path: Path) -> None:
    content = checkpoint()
    content["message_hub"]["log_scalars"]["loss"] = Payload(tmp_path / "trace")
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UnusableCheckpointError, match="mkdir"):
        read_for_runner(str(tmp_path / "a.pth"))
