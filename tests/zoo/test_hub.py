"""Uploads to the Hugging Face Hub, tested against a local server that answers the necessary calls."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from tiny_detector import weights_of, write_config

from fpn_plugins.zoo.hub import hub_url, push_to_hub
from fpn_plugins.zoo.index import Zoo

ROOT = Path(__file__).resolve().parents[2]


class Hub(BaseHTTPRequestHandler):
    """Create repositories and accept commits of small files; both are kept on the server."""

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        if self.path == "/api/repos/create":
            server.created.append(json.loads(body)["name"])
            self.answer({"url": f"{server.url}/me/net"}, status=403 if server.refuses else 200)
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            server.commits.append([json.loads(line) for line in body.splitlines()])
            self.answer({"commitUrl": f"{server.url}/me/net/commit/1", "commitOid": "1" * 40})
        else:  # the check of the card's front matter
            self.answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:  # noqa: N802
        self.answer({"error": "nothing here"}, status=404)

    def answer(self, content: dict, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *unused: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that records its requests; without the machine's proxy and token."""
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    found.url, found.created, found.commits, found.refuses = f"http://127.0.0.1:{found.server_port}", [], [], False
    thread = Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A card and a file of weights."""
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# net\n")
    (tmp_path / "net-12345678.pth").write_bytes(b"\x00weights\xff")
    return {"README.md": tmp_path / "README.md", "mmdet/net-12345678.pth": tmp_path / "net-12345678.pth"}


def test_files_are_uploaded_in_one_commit(server: Any, files: dict[str, Path]) -> None:
    url = push_to_hub(files, "me/net", "Publish net", endpoint=server.url)
    assert url == f"{server.url}/me/net/commit/1"
    assert server.created == ["net"] and len(server.commits) == 1
    header, *operations = server.commits[0]
    assert header["value"]["summary"] == "Publish net"
    sent = {entry["value"]["path"]: base64.b64decode(entry["value"]["content"]) for entry in operations}
    assert sent == {name: path.read_bytes() for name, path in files.items()}


def test_a_refusal_is_an_error_that_says_so(server: Any, files: dict[str, Path]) -> None:
    server.refuses = True
    with pytest.raises(ValueError, match="upload to 'me/net' failed.*403"):
        push_to_hub(files, "me/net", "Publish net", endpoint=server.url)
    assert server.commits == []


def test_a_hub_out_of_reach_is_an_error_that_says_so(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="upload to 'me/net' failed"):
        push_to_hub(files, "me/net", "Publish net", endpoint="http://127.0.0.1:9")


@pytest.mark.mmdet
@pytest.mark.parametrize("refuses", [False, True])
def test_the_tool_uploads_before_it_enters_the_model(server: Any, tmp_path: Path, refuses: bool) -> None:
    """In its own process: huggingface_hub reads the address of the hub when it is imported."""
    server.refuses = refuses
    config = write_config(tmp_path / "configs" / "mmdet" / "net.py")
    torch.save({"state_dict": weights_of(config), "optimizer": {}}, tmp_path / "epoch_1.pth")
    zoo = tmp_path / "configs" / "model_zoo.yml"
    words = ["epoch_1.pth", "--name", "net", "--data", "a set", "--schedule", "1 epoch", "--push-to-hub", "me/net"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "publish_model.py"), *words, "--zoo", str(zoo)],
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if refuses:
        assert done.returncode == 1 and "Traceback" not in done.stderr and "403" in done.stderr
        assert not zoo.exists()
        return
    assert done.returncode == 0, done.stderr
    entry = Zoo.read(zoo).find("net")
    name = entry.weights["mmdet"].file_name
    assert entry.weights["mmdet"].location == f"{server.url}/me/net/resolve/main/mmdet/{name}"
    assert {operation["value"].get("path") for operation in server.commits[0][1:]} == {"README.md", f"mmdet/{name}"}


def test_addresses_are_known_before_the_upload() -> None:
    assert hub_url("me/net", "mmdet/x.pth", "https://hub.org") == "https://hub.org/me/net/resolve/main/mmdet/x.pth"
    with pytest.raises(ValueError, match="repository='net' must be USER/NAME"):
        hub_url("net", "x.pth")
