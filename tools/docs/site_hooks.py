"""Hooks of the documentation's site.

Each notebook in docs/notebooks becomes a page like every other, and the Markdown that llms.txt links to is on the site.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

NOTEBOOK_LINK = re.compile(r"(\]\([^)\s]*notebooks/[\w-]+)\.ipynb\)")


def on_files(files: Files, config: Any) -> Files:
    """Add a page, and its pictures, for each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(file.abs_src_path).read_text(encoding="utf-8"))
        page, pictures = render(notebook, PurePosixPath(file.src_uri).stem)
        folder = PurePosixPath(file.src_uri).parent
        files.append(File.generated(config, str(PurePosixPath(file.src_uri).with_suffix(".md")), content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, str(folder / name), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to a notebook lead to its page; on GitHub, the same links lead to the notebook."""
    return NOTEBOOK_LINK.sub(r"\1.md)", markdown)


def on_post_build(config: Any) -> None:
    """Copy the sources of the pages next to them."""
    docs, site = Path(config["docs_dir"]), Path(config["site_dir"])
    for source in docs.rglob("*.md"):
        target = site / source.relative_to(docs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def render(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Render a notebook as Markdown, with its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            if len(parts) == 1:
                parts.append(f"[Download this notebook]({name}.ipynb){{ .md-button }}")
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}_{len(pictures)}.png"
                pictures[picture] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({picture})")
                continue
            text = "".join(output.get("text") or data.get("text/plain", "")).rstrip()
            parts.append(f'```{{ .text .output title="Output" }}\n{text}\n```')
    return "\n\n".join(parts) + "\n", pictures
