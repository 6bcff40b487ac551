"""What a package index shows: a README without links that lead nowhere, and addresses that are known, not made up."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "https://github.com/owner/repository"
TARGETS = re.compile(r"\]\(([^)\s]+)|(?:src|href|srcset)=\"([^\"]+)")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """setup.py, imported and not run."""
    spec = importlib.util.spec_from_file_location("setup_of_fpn_plugins", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FPN_PLUGINS_URL", raising=False)


def targets(text: str) -> list[str]:
    """Targets of links and images outside code."""
    plain = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [first or second for first, second in TARGETS.findall(plain)]


@pytest.mark.parametrize("url", ["", URL])
def test_the_readme_has_no_relative_link(build: ModuleType, url: str):
    assert any(not target.startswith("http") for target in targets(README))
    text = build.long_description(README, url)
    assert [target for target in targets(text) if not target.startswith("https://")] == []
    assert len(targets(text)) == len(targets(README)) or not url
    assert re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL) == re.findall(
        r"^```.*?^```", README, re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize(
    ("text", "without", "with_url"),
    [
        ("[a](docs/x.md#y)", "a", f"[a]({URL}/blob/HEAD/docs/x.md#y)"),
        ("[`a`](./x.md)", "`a`", f"[`a`]({URL}/blob/HEAD/x.md)"),
        ("![a](x.png)b", "b", f"![a]({URL}/raw/HEAD/x.png)b"),
        ("[![a](x.png)](y.md)", "", f"[![a]({URL}/raw/HEAD/x.png)]({URL}/blob/HEAD/y.md)"),
        ("[a](#part)", "a", f"[a]({URL}#part)"),
        ("[a](https://arxiv.org)", "[a](https://arxiv.org)", "[a](https://arxiv.org)"),
        ('<img src="x.png" width="9">b', "b", f'<img src="{URL}/raw/HEAD/x.png" width="9">b'),
        ('<a href="x.md">b</a>', "<a>b</a>", f'<a href="{URL}/blob/HEAD/x.md">b</a>'),
        ("`[a](b)`\n```\n[a](b)\n```\n", "`[a](b)`\n```\n[a](b)\n```\n", "`[a](b)`\n```\n[a](b)\n```\n"),
    ],
)
def test_links_become_absolute_or_text(build: ModuleType, text: str, without: str, with_url: str):
    assert build.long_description(text, "") == without
    assert build.long_description(text, URL) == with_url


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://github.com/owner/repository.git\n", URL),
        ("https://user:secret@github.com/owner/repository", URL),
        ("git@github.com:owner/repository.git", URL),
        ("ssh://git@github.com:22/owner/repository/", URL),
        ("https://gitlab.com/group/sub/repository", "https://gitlab.com/group/sub/repository"),
        ("http://github.com/owner/repository", ""),
        ("https://git.company.internal/owner/repository", ""),
        ("https://github.com.evil.org/owner/repository", ""),
        ("/srv/repositories/fpn_plugins", ""),
        ("file:///srv/fpn_plugins", ""),
        ("", ""),
    ],
)
def test_only_a_public_hosts_address_is_used(build: ModuleType, remote: str, url: str):
    assert build.public_url(remote) == url


def test_where_the_address_comes_from(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert build.repository_url(tmp_path) == ""
    (tmp_path / "PKG-INFO").write_text(f"Name: x\nProject-URL: Repository, {URL}\n\nText\n")
    assert build.repository_url(tmp_path) == URL  # of an unpacked source distribution
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert build.repository_url(tmp_path) == ""
    other = "git@gitlab.com:group/repository.git"
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", other], check=True)
    assert build.repository_url(tmp_path) == "https://gitlab.com/group/repository"
    monkeypatch.setenv("FPN_PLUGINS_URL", URL)
    assert build.repository_url(tmp_path) == URL
    monkeypatch.setenv("FPN_PLUGINS_URL", "https://example.org/x")
    with pytest.raises(ValueError, match=r"FPN_PLUGINS_URL='https://example.org/x' must be a repository's address at"):
        build.repository_url(tmp_path)
