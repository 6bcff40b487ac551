"""Model zoo: the shipped file is correct, the files made from it are current, and models are found by name."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from payload import Payload

from fpn_plugins.weights import read_checkpoint
from fpn_plugins.zoo.index import Zoo, forget_weights, sha256_of
from fpn_plugins.zoo.pages import model_card, table, zoo_page
from fpn_plugins.zoo.publish import Trained, write_published
from fpn_plugins.zoo.records import OWN, Cost, Entry, PublishedResult, Weights

ROOT = Path(__file__).resolve().parents[2]
RENDER = str(ROOT / "tools" / "docs" / "model_zoo.py")
mim_metafile = runpy.run_path(RENDER)["mim_metafile"]
TINY = Trained({"rpn_head.weight": torch.arange(4.0)}, "mmdet", ("cat", "dog"))


def entry(**changes: Any) -> Entry:
    """An entry of our own with one result."""
    content: dict[str, Any] = {
        "name": "tiny",
        "configs": {"mmdet": "mmdet/tiny.py"},
        "data": "a set",
        "schedule": "2 iterations",
        "results": [PublishedResult(OWN, "mmdet", {"box AP": 12.5}, "results.json", hardware="an abacus")],
        "costs": {"mmdet": Cost(2_500_000, 3_400_000_000, [240, 320], ["100 proposals"])},
        "license": "Apache-2.0",
    }
    return Entry(**{**content, **changes})


# ----------------------------------------------------------------------------------------------- the shipped zoo


def test_the_shipped_configs_exist() -> None:
    zoo = Zoo.read()
    assert len(zoo.entries) >= 20
    for name, found in zoo.entries.items():
        for toolbox in found.configs:
            path = Path(zoo.config(name, toolbox))
            assert path.is_file() and path.stem == name


def test_every_cited_result_names_its_source() -> None:
    results = [result for found in Zoo.read().entries.values() for result in found.results]
    assert {result.by for result in results} == {OWN, "mmdet", "detectron2", "baaivision/EVA"}
    for result in results:
        assert result.by == OWN or (result.source.startswith("https://") and result.config)
        assert result.by != OWN or result.hardware


@pytest.mark.mmdet
def test_citations_of_mmdet_match_its_metafiles() -> None:
    import mmdet

    folder = Path(mmdet.__file__).parent / ".mim"
    checked = 0
    for found in Zoo.read().entries.values():
        for result in found.results_by(own=False):
            if result.by == "mmdet" and "/projects/" not in result.source:
                models = yaml.safe_load((folder / result.source.split("/main/")[1]).read_text())["Models"]
                model = next(model for model in models if model.get("Config") == f"configs/{result.config}")
                metrics = {name: value for part in model["Results"] for name, value in part["Metrics"].items()}
                assert (metrics, model["Weights"]) == (result.metrics, result.weights)
                epochs = found.schedule.removesuffix(" epochs")
                assert model["Metadata"].get("Epochs") == int(epochs)
                checked += 1
    assert checked >= 12


@pytest.mark.detectron2
def test_weights_cited_from_detectron2_are_at_its_addresses() -> None:
    from detectron2 import model_zoo

    cited = [result for found in Zoo.read().entries.values() for result in found.results if result.by == "detectron2"]
    library = [result for result in cited if result.source.endswith("MODEL_ZOO.md")]
    assert len(library) >= 4
    for result in library:
        assert model_zoo.get_checkpoint_url(str(result.config)) == result.weights


def test_rendered_files_are_current() -> None:
    command = [sys.executable, "tools/docs/model_zoo.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rendering_writes_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    Zoo([entry()], tmp_path).write(tmp_path / "configs" / "model_zoo.yml")

    def render(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["model_zoo.py", "--repository", str(tmp_path), *arguments])
        runpy.run_path(RENDER, run_name="__main__")

    with pytest.raises(SystemExit):
        render("--check")
    assert "out of date: docs/model_zoo.md, configs/metafile.yml, model-index.yml" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()
    render("--write")
    render("--check")
    assert "`tiny`" in (tmp_path / "docs" / "model_zoo.md").read_text()
    assert yaml.safe_load((tmp_path / "model-index.yml").read_text()) == {"Import": ["configs/metafile.yml"]}


# ------------------------------------------------------------------------------------------------ reading and writing


def test_what_was_written_is_read(tmp_path: Path) -> None:
    weights = {"mmdet": Weights("https://x.org/tiny-12345678.pth", "12" * 32, "detectron2")}
    entries = [entry(weights=weights), entry(name="other", costs={}, license=None, results=[])]
    zoo = Zoo.read(Zoo(entries, tmp_path).write(tmp_path / "zoo.yml"))
    assert list(zoo.entries.values()) == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "is not YAML"),
        ("- 1", "list `models`, not list"),
        ("models: [3]", r"models\[0\]: expected a mapping"),
        ("models: [{name: a, license: b}]", "missing keys .*configs"),
        ("models: [{name: a, configs: {}, data: b, schedule: c, autor: d}]", r"unknown keys \['autor'\]"),
        ("models: [{name: a, configs: {keras: x}, data: b, schedule: c}]", "toolbox 'keras' is unknown"),
        (
            "models: [{name: a, configs: {}, data: b, schedule: c, results: [{by: x, toolbox: mmdet, source: y, "
            "metrics: {mAP: 1}}]}]",
            "metrics must be among .*mAP",
        ),
        *(
            (
                "models: [{name: a, configs: {}, data: b, schedule: c, results: [{by: x, toolbox: mmdet, source: y, "
                f"metrics: {{box AP: {value}}}}}]}}]",
                "metrics are numbers from 0 to 100, got {'box AP'",
            )
            for value in (".nan", ".inf", "-1", "true", "'12'", "[1]", "null")
        ),
        ("models: " + 1500 * "[", "is not YAML"),
        *(
            (
                f"models: [{{name: a, configs: {{}}, data: b, schedule: c, weights: {{mmdet: {weights}}}}}]",
                "SHA-256 digest",
            )
            for weights in ("{location: x.pth, sha256: 12}", f"{{location: 'https://x.org/..', sha256: {64 * 'a'}}}")
        ),
        ("models: [&a {name: a, configs: {}, data: b, schedule: c}, *a]", r"more than one entry of \['a'\]"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "zoo.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Zoo.read(tmp_path / "zoo.yml")


def test_a_missing_zoo_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path=.*zoo.yml.: no model zoo"):
        Zoo.read(tmp_path / "zoo.yml")


# ------------------------------------------------------------------------------------------------------------ by name


def test_unknown_names_are_errors_that_say_what_there_is(tmp_path: Path) -> None:
    zoo = Zoo([entry()], tmp_path)
    with pytest.raises(ValueError, match=r"has no 'tony' \(near: tiny\)"):
        zoo.find("tony")
    with pytest.raises(ValueError, match="no config for toolbox='detectron2'"):
        zoo.config("tiny", "detectron2")
    with pytest.raises(ValueError, match="no weights of 'tiny'.*train the model"):
        zoo.checkpoint("tiny", "mmdet")


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., tuple[Zoo, Path]]:
    """A function that publishes a tiny state dict to a folder, for a zoo beside it."""

    def write(suffix: str, location: Callable[[Path], str]) -> tuple[Zoo, Path]:
        path = write_published(TINY, tmp_path / "files", "tiny", suffix)
        (tmp_path / "zoo").mkdir()
        weights = {"mmdet": Weights(location(path), sha256_of(path))}
        return Zoo([entry(weights=weights)], tmp_path / "zoo"), path

    return write


def test_a_local_file_is_found_beside_the_zoo(publish: Callable) -> None:
    zoo, path = publish(".pth", lambda path: f"../files/{path.name}")
    assert Path(zoo.checkpoint("tiny", "mmdet")).resolve() == path.resolve()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="publish the model again"):
        zoo.checkpoint("tiny", "mmdet")


def test_a_remote_file_is_downloaded_once(publish: Callable, tmp_path: Path) -> None:
    zoo, path = publish(".pth", lambda path: path.as_uri())
    found = Path(zoo.checkpoint("tiny", "mmdet", tmp_path / "cache"))
    assert found.parent == tmp_path / "cache" and found.read_bytes() == path.read_bytes()
    path.unlink()
    assert zoo.checkpoint("tiny", "mmdet", tmp_path / "cache") == str(found)


def test_another_content_than_was_published_is_an_error(publish: Callable, tmp_path: Path) -> None:
    zoo, path = publish(".pth", lambda path: path.as_uri())
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="damaged or was replaced"):
        zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "cache" / path.name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="damaged or replaced; delete it"):
        zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")


def test_what_a_killed_download_left_is_removed(publish: Callable, tmp_path: Path) -> None:
    zoo, path = publish(".pth", lambda path: path.as_uri())
    (tmp_path / "cache").mkdir()
    for name in (f"{path.name}.0123.partial", "other.pth.0123.partial"):
        (tmp_path / "cache" / name).touch()
    zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {path.name, "other.pth.0123.partial"}


def test_a_cache_that_cannot_be_written_is_named(publish: Callable, tmp_path: Path) -> None:
    zoo, _ = publish(".pth", lambda path: path.as_uri())
    (tmp_path / "cache").touch()  # a file where a folder should be, which refuses root as well
    with pytest.raises(OSError, match="cache"):
        zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")


def test_entries_made_by_others_meanwhile_are_kept(tmp_path: Path) -> None:
    path = Zoo([entry()], tmp_path).write(tmp_path / "zoo.yml")
    (tmp_path / "link.yml").symlink_to(path)
    with Zoo.update(tmp_path / "link.yml") as zoo:
        zoo.entries["other"] = entry(name="other")
    with pytest.raises(KeyError), Zoo.update(path) as zoo:
        zoo.entries["third"] = entry(name="third")
        raise KeyError
    assert list(Zoo.read(path).entries) == ["tiny", "other"] and (tmp_path / "link.yml").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.yml", "zoo.yml"]


def test_an_address_that_does_not_answer_is_an_error(publish: Callable, tmp_path: Path) -> None:
    zoo, path = publish(".pth", lambda path: path.as_uri())
    path.unlink()
    with pytest.raises(FileNotFoundError, match="cannot download 'file:.*; put the file into '.*cache'"):
        zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")


def test_safetensors_become_what_the_toolbox_reads(publish: Callable, tmp_path: Path) -> None:
    zoo, _ = publish(".safetensors", lambda path: path.as_uri())
    found = zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")
    content = torch.load(found, weights_only=True)
    assert content["meta"]["dataset_meta"]["classes"] == TINY.classes
    assert torch.equal(read_checkpoint(found)["rpn_head.weight"], TINY.weights["rpn_head.weight"])


def test_a_replaced_file_beside_cached_safetensors_is_not_used(publish: Callable, tmp_path: Path) -> None:
    zoo, _ = publish(".safetensors", lambda path: path.as_uri())
    found, trace = Path(zoo.checkpoint("tiny", "mmdet", tmp_path / "cache")), tmp_path / "trace"
    before = found.read_bytes()
    torch.save({"state_dict": TINY.weights, "meta": Payload(trace)}, found)
    assert zoo.checkpoint("tiny", "mmdet", tmp_path / "cache") == str(found)
    assert found.read_bytes() == before and not trace.exists()


def test_places_of_pretrained_weights_are_forgotten() -> None:
    config = {"backbone": {"checkpoint": "x.pth", "pretrained": True}, "heads": [{"init_cfg": {"checkpoint": "y"}}, 3]}
    forget_weights(config)
    assert config == {
        "backbone": {"checkpoint": None, "pretrained": False},
        "heads": [{"init_cfg": {"checkpoint": None}}, 3],
    }


# -------------------------------------------------------------------------------------------------------------- pages


def test_own_and_cited_results_stand_apart() -> None:
    cited = PublishedResult(
        "mmdet", "mmdet", {"box AP": 77.7}, "https://mm.det/x", "x.py", weights="https://mm.det/y.pth"
    )
    page = zoo_page(Zoo([entry(results=[*entry().results, cited])], "configs"))
    own, others = page.split("## Published by others")
    assert "| 2.5 | 3.4 at 240 x 320 |" in own
    assert "12.5" in own and "an abacus" in own and "77.7" not in own
    assert "77.7" in others and "[MMDetection](https://mm.det/x)" in others and "12.5" not in others


def test_the_index_never_presents_cited_results_as_ours() -> None:
    cited = PublishedResult("detectron2", "mmdet", {"box AP": 77.7}, "https://d2/x", "x.yaml")
    (model,) = mim_metafile(Zoo([entry(results=[cited])], "configs"))["Models"]
    assert "Results" not in model and "Weights" not in model
    assert model["Metadata"]["Published By Others"] == "box AP 77.7 by detectron2 (x.yaml)"


def test_a_card_says_what_is_needed_to_use_the_model() -> None:
    weights = {"mmdet": Weights("https://x.org/tiny-12345678.pth", "12" * 32)}
    card = model_card(entry(weights=weights))
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0" and "mmdetection" in front["tags"]
    for part in (
        "2 iterations",
        "a set",
        "12.5",
        "an abacus",
        "2.5 million",
        "240 x 320 pixels",
        "3.4 GMACs",
        "100 proposals",
    ):
        assert part in card
    assert 'load("configs/mmdet/tiny.py", "mmdet/tiny-12345678.pth")' in card and "12" * 32 in card
    assert "Detectron2 (`" not in card


def test_empty_columns_are_left_out() -> None:
    assert table(["a", "b"], [["1", ""], ["2", ""]]).splitlines() == ["| a |", "| --- |", "| 1 |", "| 2 |"]
    assert table(["a"], []) == "Nothing yet."


@pytest.mark.mmdet
def test_mmengine_hub_finds_our_configs_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MIM and `mmengine.hub` read a folder `.mim` of an installed package, with the index and the configs."""
    from mmengine.config import utils
    from mmengine.hub import hub

    mim = tmp_path / ".mim"
    mim.mkdir()
    (mim / "model-index.yml").symlink_to(ROOT / "model-index.yml")
    (mim / "configs").symlink_to(ROOT / "configs")
    for found in Zoo.read().entries.values():
        name = found.configs["mmdet"]
        assert utils._get_cfg_metainfo(str(tmp_path), name)["Config"] == f"configs/{name}"
    monkeypatch.setitem(utils.MODULE2PACKAGE, "fpn_plugins", "fpn_plugins")
    monkeypatch.setattr(hub, "install_package", lambda name: None)
    monkeypatch.setattr(hub, "get_installed_path", lambda name: str(tmp_path))
    config = hub.get_config("fpn_plugins::mmdet/faster_rcnn_r50_fpn_12e.py")
    assert config.model.neck.type == "fpn_plugins.FPN"

    weights = {"mmdet": Weights("https://x.org/w-12345678.pth", "12" * 32)}
    published = Zoo.read().find("faster_rcnn_r50_fpn_12e")
    published.weights = weights
    (mim / "model-index.yml").unlink()
    (mim / "model-index.yml").write_text("Import: [metafile.yml]")
    (mim / "metafile.yml").write_text(json.dumps(mim_metafile(Zoo([published], ROOT / "configs"))))
    config = hub.get_config("fpn_plugins::mmdet/faster_rcnn_r50_fpn_12e.py", pretrained=True)
    assert config.model_path == "https://x.org/w-12345678.pth"
