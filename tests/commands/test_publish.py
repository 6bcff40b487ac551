"""Publish a training checkpoint and load it by name; commands that read checkpoints refuse unsafe and damaged files."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from payload import Payload
from precision import assert_same_maps
from tiny_detector import weights_of, write_config

from fpn_plugins.weights import read_checkpoint
from fpn_plugins.zoo.index import Zoo
from fpn_plugins.zoo.records import PublishedResult, Weights

ROOT = Path(__file__).resolve().parents[2]
STATE = {"neck.w": torch.arange(6.0), "rpn_head.n": torch.tensor(7)}
pytestmark = pytest.mark.mmdet
NEW = ["--data", "a set", "--schedule", "2 iterations"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function that runs a command in this process."""

    def run(name: str, *arguments: object) -> Done:
        capsys.readouterr()
        code = 0
        try:
            importlib.import_module(f"fpn_plugins.commands.{name}").main(list(map(str, arguments)))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def zoo_file(tmp_path: Path) -> Path:
    """Place of a zoo with the shipped configs, and of a model that is called tiny."""
    folder = tmp_path / "configs"
    for toolbox in ("mmdet", "detectron2"):
        (folder / toolbox).mkdir(parents=True)
        for file in (ROOT / "configs" / toolbox).iterdir():
            (folder / toolbox / file.name).symlink_to(file)
    write_config(folder / "mmdet" / "tiny.py")
    return folder / "model_zoo.yml"


@pytest.fixture
def save(tmp_path: Path, zoo_file: Path) -> Callable[..., Path]:
    """A function that writes a training checkpoint of the tiny model; each has other weights."""
    state = weights_of(zoo_file.parent / "mmdet" / "tiny.py")

    def write(name: str, **changes: torch.Tensor) -> Path:
        content = {"state_dict": {**state, **changes}, "optimizer": {"lr": 1.0}, "meta": {"epoch": 1}}
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def trained(save: Callable[..., Path]) -> Path:
    """A training checkpoint of the tiny model."""
    return save("epoch_1.pth")


@pytest.fixture
def publish(tool: Callable[..., Done], zoo_file: Path, tmp_path: Path) -> Callable[..., Done]:
    """A function that publishes a checkpoint, of the tiny model if no other is named."""

    def run(checkpoint: Path, *arguments: object) -> Done:
        places = ["--zoo", zoo_file, "--out", tmp_path / "published"]
        return tool("publish", checkpoint, "--name", "tiny", *places, *arguments)

    return run


def assert_nothing_was_written(tmp_path: Path, zoo_file: Path) -> None:
    assert not (tmp_path / "published").exists() and not zoo_file.exists()


# ---------------------------------------------------------------------------------------------------------- the entry


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", ".x", "", "a b", "a\nb", "-x"])
def test_a_name_that_leaves_the_folder_is_refused(
    name: str, tool: Callable, zoo_file: Path, tmp_path: Path, trained: Path
) -> None:
    places = ["--zoo", zoo_file, "--out", tmp_path / "published"]
    done = tool("publish", trained, f"--name={name}", *places, *NEW)
    assert done.code == 1 and "must be the stem of a config" in done.err
    assert_nothing_was_written(tmp_path, zoo_file)


def test_a_model_is_published_and_entered(publish: Callable, zoo_file: Path, tmp_path: Path, trained: Path) -> None:
    (tmp_path / "results.json").write_text('{"mmdet": {"bbox": {"AP": 0.1234}}}')
    results = ["--results", tmp_path / "results.json", "--hardware", "an abacus"]
    done = publish(trained, *NEW, *results, "--license", "CC0-1.0")
    assert done.code == 0, done.err
    assert re.match(r"mmdet: \d+ tensors; left out: optimizer\n", done.out)
    folder = tmp_path / "published" / "tiny"
    (path,) = folder.glob("mmdet/tiny-????????.pth")
    entry = Zoo.read(zoo_file).find("tiny")
    assert entry.results == [
        PublishedResult("fpn_plugins", "mmdet", {"box AP": 12.3}, "results.json", hardware="an abacus")
    ] and (entry.data, entry.schedule, entry.license) == ("a set", "2 iterations", "CC0-1.0")
    assert Path(Zoo.read(zoo_file).checkpoint("tiny", "mmdet")).resolve() == path.resolve()
    card = (folder / "README.md").read_text()
    assert "12.3" in card and path.name in card and "license: cc0-1.0" in card
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(["README.md", path.name])


def test_an_entry_keeps_what_is_not_said_again(
    publish: Callable, zoo_file: Path, tmp_path: Path, trained: Path
) -> None:
    assert publish(trained, *NEW).code == 0
    zoo = Zoo.read(zoo_file)
    cited = PublishedResult("somebody", "mmdet", {"box AP": 50.0}, "https://x.org", "x.py")
    zoo.find("tiny").results.append(cited)
    zoo.write(zoo_file)
    for value, expected in (("0.2", 20.0), ("0.3", 30.0)):
        (tmp_path / "r.json").write_text(f'{{"coco/bbox_mAP": {value}}}')
        done = publish(trained, "--results", tmp_path / "r.json", "--hardware", "x", "--url", "https://host.org/net/")
        assert done.code == 0, done.err
        entry = Zoo.read(zoo_file).find("tiny")
        assert [result.metrics["box AP"] for result in entry.results] == [expected, 50.0]
    assert entry.data == "a set" and entry.results[1] == cited
    assert entry.weights["mmdet"].location.startswith("https://host.org/net/mmdet/tiny-")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "is new in .*--data and --schedule"),
        ([*NEW, "--results", "nowhere.json", "--hardware", "x"], 1, "nowhere.json"),
        ([*NEW, "--results", "nowhere.json"], 2, "--results needs --hardware"),
        ([*NEW, "--name", "demo_retina"], 1, "no config of that stem"),
        ([*NEW, "--push-to-hub", "net"], 1, "must be USER/NAME"),
        ([*NEW, "--convert"], 1, "has no config for detectron2"),
        ([*NEW, "--name", "retinanet_r50_fpn_12e"], 1, "epoch_1.pth' does not fit .*retinanet_r50_fpn_12e.py"),
    ],
)
def test_mistakes_are_told_and_nothing_is_entered(
    publish: Callable, zoo_file: Path, trained: Path, arguments: list[str], code: int, message: str
) -> None:
    done = publish(trained, *arguments)
    assert done.code == code and "Traceback" not in done.err
    assert re.search(message, done.err), done.err
    assert not zoo_file.exists()


@pytest.mark.parametrize("wrong", [{"bbox_head.retina_cls.weight": torch.ones(1, 3, 3, 3)}, {"neck.x": torch.ones(1)}])
def test_weights_that_do_not_fit_the_config_are_refused(
    wrong: dict, publish: Callable, save: Callable, zoo_file: Path, tmp_path: Path
) -> None:
    done = publish(save("other.pth", **wrong), *NEW)
    assert done.code == 1 and re.fullmatch(r"error: checkpoint '.*other.pth' does not fit .*tiny.py: .*\n", done.err)
    assert next(iter(wrong)) in done.err
    assert_nothing_was_written(tmp_path, zoo_file)


def test_results_of_other_weights_are_dropped(
    publish: Callable, save: Callable, zoo_file: Path, tmp_path: Path
) -> None:
    first, second = save("first.pth"), save("second.pth", **{"bbox_head.retina_cls.bias": torch.ones(1)})
    (tmp_path / "r.json").write_text('{"coco/bbox_mAP": 0.2}')
    measured = ["--results", tmp_path / "r.json", "--hardware", "x"]
    assert publish(first, *NEW, *measured).code == 0
    cited = PublishedResult("somebody", "mmdet", {"box AP": 50.0}, "https://x.org", "x.py")
    with Zoo.update(zoo_file) as zoo:
        zoo.find("tiny").results.append(cited)

    def kept(*arguments: object) -> list[float]:
        done = publish(*arguments)
        assert done.code == 0, done.err
        found = [result.metrics["box AP"] for result in Zoo.read(zoo_file).find("tiny").results]
        assert ("dropped {'box AP': 20.0} in mmdet" in done.out) is (20.0 not in found)
        return found

    assert kept(first) == [20.0, 50.0]
    assert kept(second) == [50.0]
    assert kept(second, *measured) == [20.0, 50.0]


def test_the_result_beside_converted_weights_is_not_that_of_another_training(
    publish: Callable, save: Callable, zoo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpn_plugins.commands import publish as command

    write_config(zoo_file.parent / "detectron2" / "tiny.py")  # stands for a config of Detectron2
    monkeypatch.setattr(command, "convert_weights", lambda weights, *unused: weights)
    assert publish(save("first.pth"), *NEW).code == 0
    with Zoo.update(zoo_file) as zoo:
        entry = zoo.find("tiny")
        entry.results = [PublishedResult("fpn_plugins", "detectron2", {"box AP": 40.0}, "r.json", hardware="x")]
        entry.weights["detectron2"] = Weights("https://x.org/tiny-12345678.pth", "12" * 32)
    done = publish(save("first.pth"), "--convert")
    assert done.code == 0 and "dropped {'box AP': 40.0} in detectron2" in done.out
    entry = Zoo.read(zoo_file).find("tiny")
    assert entry.results == [] and entry.weights["detectron2"].converted_from == "mmdet"


def test_models_published_at_once_are_all_entered(trained: Path, zoo_file: Path, tmp_path: Path) -> None:
    from fpn_plugins.commands.publish import main

    names = [f"tiny{number}" for number in range(4)]
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)

    def publish_one(name: str) -> None:
        start.wait()
        places = ["--zoo", str(zoo_file), "--out", str(tmp_path / "published")]
        main([str(trained), "--name", name, *places, *NEW])

    for name in names:
        write_config(zoo_file.parent / "mmdet" / f"{name}.py")
    processes = [context.Process(target=publish_one, args=(name,)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert set(Zoo.read(zoo_file).entries) == set(names)
    assert [name for name in os.listdir(zoo_file.parent) if name.startswith(".")] == []


# ------------------------------------------------------------------------------------------------------------- by name


@pytest.mark.detectron2
def test_a_published_demo_loads_by_name_in_both_toolboxes(
    publish: Callable, zoo_file: Path, tmp_path: Path, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of an MMDetection training, published for both toolboxes, give the same maps and boxes in both."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    from fpn_plugins.adapters.hosts import build_detector

    source = build_detector(str(zoo_file.parent / "mmdet" / "demo_mask_rcnn.py")).eval()
    classes = ("disk", "box", "ring", "star")
    checkpoint = {"state_dict": source.state_dict(), "meta": {"dataset_meta": {"classes": classes}}, "optimizer": {}}
    torch.save(checkpoint, tmp_path / "iter_400.pth")
    demo = ["--name", "demo_mask_rcnn"]
    done = publish(tmp_path / "iter_400.pth", *NEW, *demo, "--convert", "--count", 64, 96)
    assert done.code == 0, done.err
    zoo = Zoo.read(zoo_file)
    entry = zoo.find("demo_mask_rcnn")
    parameters = sum(p.numel() for p in source.parameters())
    assert [cost.parameters for cost in entry.costs.values()] == [parameters, parameters]
    assert all(cost.macs > 1e8 and cost.image_size == [64, 96] for cost in entry.costs.values())
    assert entry.weights["detectron2"].converted_from == "mmdet" and entry.weights["mmdet"].converted_from is None

    from fpn_plugins.adapters.detectron2 import zoo as detectron2
    from fpn_plugins.adapters.mmdet import zoo as mmdet

    one, other = mmdet.load_published("demo_mask_rcnn", zoo), detectron2.load_published("demo_mask_rcnn", zoo)
    assert tuple(one.dataset_meta["classes"]) == classes and not one.training and not other.training
    state = source.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    image = torch.randn(1, 3, 64, 96, dtype=torch.double)
    source.double(), one.double(), other.double()
    with torch.no_grad():
        maps, theirs, same = source.extract_feat(image), one.extract_feat(image), other.backbone(image)
        scores, _ = source.rpn_head(maps)
        other_scores, _ = other.proposal_generator.rpn_head(list(same.values()))
    assert_same_maps(theirs, maps, tolerance=0)
    assert_same_maps(list(same.values()), maps)
    assert_same_maps(other_scores, scores)

    wrong = {key: value for key, value in state.items() if "rpn_cls" not in key}
    broken = Path(zoo.checkpoint("demo_mask_rcnn", "mmdet"))
    torch.save({"state_dict": wrong}, broken)
    with pytest.raises(ValueError, match="damaged or replaced"):
        mmdet.load_published("demo_mask_rcnn", zoo)
    done = publish(broken, *NEW, *demo)
    assert done.code == 1 and re.search("(?s)does not fit .*demo_mask_rcnn.py.*rpn_cls", done.err)


@pytest.mark.detectron2
@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
@pytest.mark.parametrize("name", ["retinanet_r50_fpn_12e", "mask_rcnn_swin_t_fpn_12e", "mask_rcnn_vitdet_b_100e"])
def test_the_shipped_costs_are_current(name: str, toolbox: str) -> None:
    from fpn_plugins.commands.publish import zoo_cost

    zoo = Zoo.read()
    cost = zoo.find(name).costs[toolbox]
    assert zoo_cost(zoo.config(name, toolbox), (cost.image_size[0], cost.image_size[1])) == cost


# ------------------------------------------------------------------------------------------------------- refused files


@pytest.fixture
def read_by(tool: Callable, publish: Callable, zoo_file: Path, tmp_path: Path, tiny_coco: Path) -> Callable[..., Done]:
    """A function that reads a checkpoint with one of the commands."""
    configs = {name: str(zoo_file.parent / name / "demo_mask_rcnn.py") for name in ("mmdet", "detectron2")}

    def run(name: str, path: Path) -> Done:
        if name == "publish":
            return publish(path, *NEW)
        if name == "convert":
            return tool(name, path, tmp_path / "published" / "out.pth", "--config", configs["detectron2"])
        pairs = [part for toolbox, config in configs.items() for part in (f"--{toolbox}", config, path)]
        return tool(name, *pairs, "--root", tiny_coco, "--out", tmp_path / "published" / "compare.json")

    return run


READERS = ("publish", "convert", "compare")


@pytest.mark.detectron2
@pytest.mark.parametrize("name", READERS)
def test_a_payload_is_refused_and_does_not_run(
    name: str, read_by: Callable, tmp_path: Path, zoo_file: Path, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    trace = tmp_path / "trace"
    torch.save({"state_dict": STATE, "meta": {"hook": Payload(trace)}}, tmp_path / "evil.pth")
    done = read_by(name, tmp_path / "evil.pth")
    assert done.code == 1 and "Traceback" not in done.err
    assert "error: cannot read checkpoint" in done.err and "evil.pth" in done.err and "not executed" in done.err
    assert not trace.exists()
    assert_nothing_was_written(tmp_path, zoo_file)
    torch.load(tmp_path / "evil.pth", weights_only=False)  # it would have run: otherwise this test proves nothing
    assert trace.is_dir()


@pytest.mark.detectron2
@pytest.mark.parametrize("name", READERS)
def test_a_truncated_file_is_an_error_and_nothing_is_written(
    name: str, read_by: Callable, tmp_path: Path, zoo_file: Path, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    torch.save({"state_dict": STATE}, tmp_path / "whole.pth")
    assert set(read_checkpoint(tmp_path / "whole.pth")) == set(STATE)
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    done = read_by(name, tmp_path / "cut.pth")
    assert done.code == 1 and "Traceback" not in done.err
    assert "error: cannot read checkpoint" in done.err and "cut.pth" in done.err and "damaged" in done.err
    assert_nothing_was_written(tmp_path, zoo_file)
