"""Build: copy configs and tools into the package, and render the README and the addresses for a package index.

The rest of the metadata is in ``setup.cfg``. The repository's public address comes from ``FPN_PLUGINS_URL``, from git's
remote ``origin``, or, in an unpacked source distribution, from its ``PKG-INFO``. Without one, nothing is made up: links
to files of the repository become plain text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from email import message_from_string
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# MIM looks for `mim train fpn_plugins CONFIG` in this folder of the installed package
CARRIED = ("configs", "tools", "model-index.yml")
VARIABLE = "FPN_PLUGINS_URL"
# pages and raw files of the default branch below a repository's address
FORGES = {"github.com": ("blob/HEAD", "raw/HEAD"), "gitlab.com": ("-/blob/HEAD", "-/raw/HEAD")}
REMOTE = re.compile(
    r"(?:(?:https|ssh)://)?(?:[^@/\s]*@)?(?P<host>[\w.-]+)(?::\d+/|[:/])(?P<path>[\w./~-]+?)(?:\.git)?/?"
)
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\((?P<target>[^()\s]+)[^()]*\)")
TAG = re.compile(r"(?P<start><(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=\")(?P<target>[^\"]+)(?P<end>\"[^>]*>)")


def public_url(remote: str) -> str:
    """Return the web address of a repository of a known public host, or an empty text.

    Args:
        remote: address for git or for a browser; a user and a password in it are left out.
    """
    found = REMOTE.fullmatch(remote.strip())
    return f"https://{found['host']}/{found['path']}" if found and found["host"] in FORGES else ""


def repository_url(root: Path = ROOT) -> str:
    """Return the repository's public web address, or an empty text when none is known.

    Raises:
        ValueError: ``FPN_PLUGINS_URL`` is not such an address.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if not public_url(given):
            raise ValueError(
                f"{VARIABLE}={given!r} must be a repository's address at {' or '.join(FORGES)}; or unset it"
            )
        return public_url(given)
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "remote", "get-url", "origin"]
        try:
            return public_url(subprocess.run(command, capture_output=True, text=True).stdout)
        except OSError:  # no git
            return ""
    info = root / "PKG-INFO"
    lines = message_from_string(info.read_text(encoding="utf-8")).get_all("Project-URL", []) if info.is_file() else []
    return next((line.partition(",")[2].strip() for line in lines if line.startswith("Repository,")), "")


def long_description(readme: str, url: str) -> str:
    """Return the README for a package index, whose pages are not beside the repository's files.

    Args:
        readme: Markdown.
        url: public address of the repository; without it, links to files become text, and their images are dropped.
    """
    kept = [found.group() for found in CODE.finditer(readme)]
    text = _absolute(CODE.sub("\0", readme), url)
    return re.sub("\0", lambda _: kept.pop(0), text)


def _absolute(text: str, url: str) -> str:
    def link(found: re.Match[str]) -> str:
        inner = LINK.sub(link, found["text"])  # an image may be a link
        target = _target(found["target"], url, bool(found["image"]))
        if target:
            return f"{found['image']}[{inner}]({target})"
        return "" if found["image"] else inner

    def tag(found: re.Match[str]) -> str:
        target = _target(found["target"], url, not found["start"].startswith("<a"))
        return f"{found['start']}{target}{found['end']}" if target else "<a>" * found["start"].startswith("<a")

    return TAG.sub(tag, LINK.sub(link, text))


def _target(target: str, url: str, raw: bool) -> str:
    """Return the absolute address of a link's target; an empty text when there is none."""
    if re.match(r"(https?|mailto):", target):
        return target
    if not url:
        return ""
    if target.startswith("#"):
        return f"{url}{target}"
    return f"{url}/{FORGES[url.split('/')[2]][raw]}/{target.removeprefix('./')}"


class BuildWithConfigs(build_py):
    """Build the package with a folder ``.mim``; an editable installation reads the source tree instead."""

    def run(self) -> None:
        """Build, then copy; files that nothing installed needs stay out."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "fpn_plugins" / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        leave = shutil.ignore_patterns("__pycache__", "*.pyc", "benchmarks", "data", "docs", "install")
        for name in CARRIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=leave)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


if __name__ == "__main__":
    address = repository_url()
    addresses = {"Repository": address, "Changelog": _target("CHANGELOG.md", address, False)} if address else {}
    setup(
        cmdclass={"build_py": BuildWithConfigs},
        long_description=long_description((ROOT / "README.md").read_text(encoding="utf-8"), address),
        long_description_content_type="text/markdown",
        project_urls=addresses,
    )
