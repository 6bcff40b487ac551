"""Downloads come completely or not at all, and each way of fetching weights names the address and the remedy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from fpn_plugins.weights.download import DownloadError, download, fetching

CONTENT = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT, half of it under /half, nothing else."""

    def do_GET(self) -> None:
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "half" in self.path else CONTENT)

    def log_message(self, *unused: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed() -> str:
    """An address at which nobody answers."""
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        return f"http://127.0.0.1:{server.server_port}/x.pth"


def test_a_file_comes_once(address: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.pth"
    assert download(f"{address}/x.pth", path, "", hashlib.sha256(CONTENT).hexdigest()) == path
    assert path.read_bytes() == CONTENT
    download("http://127.0.0.1:1/nobody", path, "")  # the file is there
    assert [file.name for file in path.parent.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("place", ["half.pth", "missing.pth"])
def test_a_part_of_a_file_is_no_file(address: str, tmp_path: Path, place: str) -> None:
    with pytest.raises(DownloadError) as error:
        download(f"{address}/{place}", tmp_path / "x.pth", ", or name a local one: --option FILE")
    reason = "broke after 512000 of 1024000 bytes" if "half" in place else "404"
    for words in (f"cannot download '{address}/{place}'", reason, "try again", f"'{tmp_path}'", "--option FILE"):
        assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_another_digest_is_an_error(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.pth' is damaged or was replaced: sha256 "):
        download(f"{address}/x.pth", tmp_path / "x.pth", "", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), fetching("x", "y"):
        raise KeyError("bug")


@pytest.mark.mmdet
@pytest.mark.parametrize("scheme", ["address", "torchvision", "open-mmlab"])
@pytest.mark.parametrize("place", ["half", "closed"])
def test_mmdet(
    scheme: str, place: str, address: str, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.runner import CheckpointLoader
    from mmengine.runner import checkpoint as names

    from fpn_plugins.adapters.mmdet.loading import load_safely

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    given = f"{address}/half.pth" if place == "half" else closed
    for function in ("get_torchvision_models", "get_external_models"):
        monkeypatch.setattr(names, function, lambda: {"net": given})
    load_safely()
    with pytest.raises(DownloadError) as error:
        CheckpointLoader.load_checkpoint(given if scheme == "address" else f"{scheme}://net")
    for words in (given, f"'{tmp_path}/checkpoints'", "--cfg-options model.backbone.init_cfg.checkpoint=FILE"):
        assert words in str(error.value)


@pytest.mark.detectron2
@pytest.mark.parametrize("place", ["half", "closed", "detectron2"])
def test_detectron2(place: str, address: str, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectron2.utils.file_io import Detectron2Handler

    from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr(Detectron2Handler, "S3_DETECTRON2_PREFIX", f"{closed}/")
    given = {"half": f"{address}/half.pkl", "closed": closed, "detectron2": "detectron2://R-50.pkl"}[place]
    with pytest.raises(DownloadError) as error:
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(given)
    for words in (given, "MODEL.WEIGHTS FILE", "train.init_checkpoint=FILE"):
        assert words in str(error.value)


@pytest.mark.timm
@pytest.mark.parametrize("network", ["TimmBackbone", "TimmHybrid", "Swin"])
def test_timm(network: str, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as hub

    from fpn_plugins.backbones import BACKBONES

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    name = {
        "TimmBackbone": "resnet10t",
        "TimmHybrid": "vit_base_r50_s16_224",
        "Swin": "swin_tiny_patch4_window7_224",
    }[network]
    with pytest.raises(DownloadError, match=f"timm's weights for '{name}.*' from https://.*; .*checkpoint=FILE"):
        BACKBONES[network](name=name, pretrained=True)


@pytest.mark.mmdet
def test_a_training_ends_in_one_line(
    closed: str, tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fpn_plugins.commands.runs import checkpoint_errors

    with pytest.raises(SystemExit) as stop, checkpoint_errors():
        download(closed, tmp_path / "x.pth", "")
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.startswith(f"error: cannot download '{closed}'") and error.count("\n") == 1
