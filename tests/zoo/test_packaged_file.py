"""Where the zoo's file is found: in the source tree, or where a wheel puts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpn_plugins.zoo import Zoo, index


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two files, neither of which exists."""
    source = tmp_path / "configs" / "model_zoo.yml"
    installed = tmp_path / "fpn_plugins" / ".mim" / "configs" / "model_zoo.yml"
    monkeypatch.setattr(index, "SOURCE_FILE", source)
    monkeypatch.setattr(index, "INSTALLED_FILE", installed)
    return source, installed


def put_zoo(path: Path) -> None:
    path.parent.mkdir(parents=True)
    Zoo([], path.parent).write(path)


def test_places_are_those_of_the_source_tree_and_of_a_wheel():
    package = Path(index.__file__).parents[1]
    assert package / ".mim" / "configs" / "model_zoo.yml" == index.INSTALLED_FILE
    assert package.parent / "configs" / "model_zoo.yml" == index.SOURCE_FILE


def test_the_source_tree_comes_first(places: tuple[Path, Path]):
    source, installed = places
    put_zoo(installed)
    assert Zoo.read().folder == installed.parent
    put_zoo(source)
    assert Zoo.read().folder == source.parent


def test_the_error_names_both_places(places: tuple[Path, Path]):
    with pytest.raises(FileNotFoundError) as error:
        Zoo.read()
    assert all(str(place) in str(error.value) for place in places)


def test_a_given_path_is_the_only_place(places: tuple[Path, Path], tmp_path: Path):
    put_zoo(places[0])
    with pytest.raises(FileNotFoundError, match="path='.*other.yml': no model zoo"):
        Zoo.read(tmp_path / "other.yml")
