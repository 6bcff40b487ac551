"""Read and write the index of the model zoo: each config's results, their sources, and published weights.

``configs/model_zoo.yml`` is the only source of published results: ``tools/publish_model.py`` adds to it, and
``tools/docs/model_zoo.py`` generates the page and MIM's index from it.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..checks import near_names
from ..extras import needed_for
from ..files import locked, suffix_of, write_atomically
from ..packaged import INSTALLED, PACKAGE
from ..weights.download import download
from .publish import as_pth
from .records import OWN, Entry, Weights, as_plain, read_entry

SOURCE_FILE = PACKAGE.parent / "configs" / "model_zoo.yml"
INSTALLED_FILE = INSTALLED / "configs" / "model_zoo.yml"
HEADER = """\
# The single source of published results. `by` says who measured: fpn_plugins is this project, everybody else is cited,
# with the place where they published it. Metrics are percent. tools/publish_model.py adds entries of our own;
# tools/docs/model_zoo.py makes docs/model_zoo.md, configs/metafile.yml and model-index.yml out of this file.
"""


class Zoo:
    """Entries of a zoo's file, by name.

    Attributes:
        entries: name -> entry, in the file's order.
        folder: folder of the file, to which paths are relative.
    """

    def __init__(self, entries: Iterable[Entry], folder: str | os.PathLike[str]) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.folder = Path(folder)

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None) -> Zoo:
        """Read a zoo's file; ``None`` is ``configs/model_zoo.yml`` of the source tree or the installed package.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not YAML, has unknown or missing keys, or two entries of one name; shows where.
        """
        file = _packaged_file() if path is None else Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"path={str(file)!r}: no model zoo there; pass the path of a model_zoo.yml")
        yaml = _yaml()
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
        models = content.get("models") if isinstance(content, Mapping) else None
        if not isinstance(models, list):
            raise ValueError(f"{file} must be a mapping with a list `models`, not {type(content).__name__}")
        entries = [read_entry(model, f"{file}, models[{number}]") for number, model in enumerate(models)]
        names = [entry.name for entry in entries]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{file} has more than one entry of {sorted(twice)}; keep one")
        return cls(entries, file.parent)

    @classmethod
    @contextmanager
    def update(cls, path: str | os.PathLike[str], create: bool = False) -> Iterator[Zoo]:
        """Read a zoo's file for a block that changes its entries, and write it after the block unless that failed.

        One process at a time is in such a block (see `locked`), so nobody's entries get lost.

        Args:
            path: the zoo's file, in a folder that exists.
            create: start with an empty zoo if the file does not exist.
        """
        path = Path(path)
        with locked(os.path.realpath(path)):
            zoo = cls([], path.parent) if create and not path.exists() else cls.read(path)
            yield zoo
            zoo.write(path)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the entries atomically, to the file that ``path`` links to if it is a link; return ``path``."""
        content = {"models": [as_plain(entry) for entry in self.entries.values()]}
        text = _yaml().safe_dump(content, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)
        with write_atomically(os.path.realpath(path)) as temporary:
            temporary.write_text(HEADER + text, encoding="utf-8")
        return Path(path)

    def find(self, name: str) -> Entry:
        """Return the entry of a name; ``ValueError`` if there is none, with similar names."""
        if name not in self.entries:
            raise ValueError(f"the model zoo has no {name!r}{near_names(name, self.entries)}")
        return self.entries[name]

    def config(self, name: str, toolbox: str) -> str:
        """Return the path of a model's config for a toolbox; ``ValueError`` if the model or the config is missing."""
        configs = self.find(name).configs
        if toolbox not in configs:
            raise ValueError(f"{name!r} has no config for toolbox={toolbox!r}, it has {configs}")
        return str(self.folder / configs[toolbox])

    def checkpoint(self, name: str, toolbox: str, cache: str | os.PathLike[str] | None = None) -> str:
        """Return the path of a model's weights in a format that the toolbox reads, downloading them if necessary.

        Args:
            name: name of the model.
            toolbox: ``"mmdet"`` or ``"detectron2"``.
            cache: folder for downloads; ``None`` is ``fpn_plugins`` in PyTorch's (``torch.hub.get_dir()``).

        Raises:
            ValueError: no weights are published for that toolbox, or the file's content differs from the published one.
            FileNotFoundError: the zoo lists a local file that does not exist, or a URL that cannot be reached.
        """
        weights = self.find(name).weights
        if toolbox not in weights:
            available = f"there are weights for {sorted(weights)}" if weights else "train the model from its config"
            raise ValueError(f"no weights of {name!r} have been published for toolbox={toolbox!r}; {available}")
        folder = Path(torch.hub.get_dir()) / OWN if cache is None else Path(cache)
        path = _fetch(weights[toolbox], self.folder, folder)
        return str(as_pth(path, toolbox, folder) if suffix_of(path) == ".safetensors" else path)


def forget_weights(node: Any) -> None:
    """Remove pretrained backbone weights from a toolbox's config, because a published file contains all weights."""
    if isinstance(node, MutableMapping):
        for key, value in node.items():
            if key in ("pretrained", "checkpoint"):
                node[key] = False if isinstance(value, bool) else None
            else:
                forget_weights(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            forget_weights(value)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _packaged_file() -> Path:
    """Find the zoo's file in the source tree or in an installed wheel."""
    found = next((file for file in (SOURCE_FILE, INSTALLED_FILE) if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"no model zoo: neither {str(SOURCE_FILE)!r} (source tree) nor {str(INSTALLED_FILE)!r} (installed package) "
            "exists; run from a clone of the repository, or pass the path of a model_zoo.yml"
        )
    return found


def _fetch(weights: Weights, folder: Path, cache: Path) -> Path:
    """Find or download the file, and check its digest."""
    path = cache / weights.file_name if weights.is_public else folder / weights.location
    if not path.is_file():
        if not weights.is_public:
            raise FileNotFoundError(f"the zoo lists {str(path)!r}, which does not exist; publish the model again")
        _download(weights, path)
    if (found := sha256_of(path)) != weights.sha256:
        raise ValueError(f"{path} has sha256 {found}, {weights.sha256} was published: damaged or replaced; delete it")
    return path


def _download(weights: Weights, path: Path) -> None:
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):  # of older releases
        leftover.unlink()
    download(weights.location, path, "", weights.sha256)


def _yaml() -> Any:
    with needed_for("files of the model zoo"):
        import yaml
    return yaml
