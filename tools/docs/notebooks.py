"""Run the notebooks in docs/notebooks, and compare their outputs with the committed ones or write them.

    python tools/docs/notebooks.py [NAME ...] [--write]

Each runs in a new kernel and an empty folder. The test suite runs them too, and compares the text that they print.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# tag of a cell whose numbers depend on the machine
VARIES = "varies"


def execute(path: Path, timeout: int = 300) -> Any:
    """Run a notebook, and return it with its outputs; ``CellExecutionError`` where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        client.execute()
    notebook.metadata.language_info = {"name": "python"}  # not the version of this machine
    for cell in notebook.cells:
        if cell.cell_type == "code":  # warnings of the toolboxes and progress bars
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def printed(cell: Any) -> str:
    """Join the text of a cell's outputs; pictures do not count."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.get("outputs", ())
        if "image/png" not in output.get("data", {})
    ]
    return "".join(texts)


def differences(committed: Any, executed: Any, tolerance: float = 1e-3) -> Iterator[str]:
    """Compare what two runs of a notebook printed: the words, and the numbers up to a relative tolerance."""
    for index, (one, other) in enumerate(zip(committed.cells, executed.cells, strict=True)):
        first, second = printed(one), printed(other)
        words = [NUMBER.sub("#", text) for text in (first, second)]
        pairs = zip(*(map(float, NUMBER.findall(text)) for text in (first, second)), strict=False)
        far = [pair for pair in pairs if abs(pair[0] - pair[1]) > tolerance * max(map(abs, pair))]
        if words[0] != words[1] or (far and VARIES not in one.metadata.get("tags", ())):
            yield f"cell {index} printed\n{second}\ninstead of\n{first}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the notebooks of the documentation")
    known = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", default=known, metavar="NAME", help=f"notebooks; all by default: {known}")
    parser.add_argument("--write", action="store_true", help="write the outputs (default: compare with them)")
    args = parser.parse_args()
    import nbformat

    for name in args.names:
        path = FOLDER / f"{name}.ipynb"
        if not path.is_file():
            parser.error(f"NAME {name!r} is unknown; choose one of {known}")
        executed = execute(path)
        if args.write:
            nbformat.write(executed, path)
            print(f"wrote {path}")
        elif found := "\n".join(differences(nbformat.read(path, as_version=4), executed)):
            raise SystemExit(f"error: {path}: {found}\nwrite the outputs with --write")


if __name__ == "__main__":
    main()
