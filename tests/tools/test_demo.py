"""The demo follows both toolboxes' trainings, shows them on a terminal and elsewhere, and writes its table."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
LINES = {
    "mmdet": [
        "11/26 14:02:43 - mmengine - INFO - Iter(train) [ 80/400]  base_lr: 9.0680e-04 lr: 9.0680e-05  eta: 0:03:16"
        "  time: 0.5000  data_time: 0.0145  loss: 1.7657  loss_rpn_cls: 0.2039  loss_rpn_bbox: 0.1\n",
        "11/26 14:04:43 - mmengine - INFO - Iter(val) [ 50/100]    eta: 0:00:05  time: 0.1  data_time: 0.01  \n",
    ],
    "detectron2": [
        "[11/26 14:02:43 d2.utils.events]:  eta: 0:03:16  iter: 79  total_loss: 1.7657  loss_cls: 0.5  "
        "loss_rpn_loc: 0.1    time: 0.5000  last_time: 0.6  data_time: 0.0145  last_data_time: 0.001   lr: 0.0009\n",
        "[11/26 14:04:43 d2.evaluation.evaluator]: Start inference on 100 batches\n",
    ],
}
SCORES = {name: 0.5 for name in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")}
RESULT = {"bbox": {**SCORES, "AP50": 0.876}, "segm": SCORES, "seconds": 90.0, "cpu_seconds": 84.0}
toolboxes = pytest.mark.parametrize("toolbox", list(LINES))


@pytest.fixture
def demo(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("demo")


@pytest.fixture
def make(demo: ModuleType, tmp_path: Path) -> Callable[[str], Any]:
    return lambda toolbox, config="demo_mask_rcnn": demo.Training(toolbox, config, 400, tmp_path / toolbox)


@toolboxes
def test_lines_of_the_log_update_the_state(make: Callable[[str], Any], toolbox: str) -> None:
    run = make(toolbox)
    training, evaluation = LINES[toolbox]
    assert not run.read("something else: loss: 3\n") and run.phase == "waiting" and run.seconds_left is None
    assert run.read(training)
    assert (run.phase, run.iteration, run.loss, run.rate, run.seconds_left) == ("training", 80, 1.7657, 2.0, 160.0)
    assert run.read(evaluation) and not run.read(evaluation)
    assert (run.phase, run.iteration) == ("evaluating", 400)


@toolboxes
def test_a_loss_that_is_not_a_number_is_shown(make: Callable[[str], Any], toolbox: str) -> None:
    run = make(toolbox)
    assert run.read(LINES[toolbox][0].replace("1.7657", "nan")) and run.loss != run.loss


@toolboxes
def test_each_state_is_described_in_a_line(make: Callable[[str], Any], toolbox: str) -> None:
    from synthetic.display import describe

    run = make(toolbox)
    assert describe(run) == f"{toolbox}: waiting"
    run.read(LINES[toolbox][0])
    assert describe(run) == f"{toolbox}: iteration 80/400, loss 1.77, 2.0 it/s, 2:40 left"
    run.result = RESULT
    assert describe(run) == f"{toolbox}: done in 1.5 minutes, box AP50 87.6, mask AP50 50.0"


def test_a_terminal_shows_a_result_while_the_other_toolbox_trains(make: Callable[[str], Any]) -> None:
    from rich.console import Console
    from synthetic.display import live_table

    first, second = make("mmdet"), make("detectron2")
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with live_table([first, second], console):
        second.read(LINES["detectron2"][0])
        first.result, first.phase = RESULT, "done"
    shown = console.file.getvalue()
    assert all(text in shown for text in ("Detectron2", "80/400", "1.77", "2.0", "2:40", "MMDetection", "87.6", "1.5"))


def test_what_is_no_terminal_gets_no_table(make: Callable[[str], Any]) -> None:
    from rich.console import Console
    from synthetic.display import live_table

    console = Console(file=io.StringIO())
    with live_table([make("mmdet")], console):
        pass
    assert console.file.getvalue() == ""


def stand_in(monkeypatch: pytest.MonkeyPatch, demo: ModuleType, code: dict[str, str]) -> None:
    """Run ``code`` of each toolbox in the place of its training."""
    monkeypatch.setattr(demo.Training, "command", lambda run, seed: ["-c", code[run.toolbox]])


def test_the_trainings_run_at_once_and_report_as_they_end(
    demo: ModuleType, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    code = {name: f"import time; print({lines[0]!r}, end='')" for name, lines in LINES.items()}
    code["mmdet"] += "; time.sleep(1)"
    stand_in(monkeypatch, demo, code)
    monkeypatch.setattr(demo, "evaluate", lambda run: {kind: RESULT[kind] for kind in ("bbox", "segm")})
    runs, console = [make(name) for name in LINES], Console(file=io.StringIO(), width=300)
    demo.train_all(runs, 0, console)
    shown = [
        line for line in console.file.getvalue().splitlines() if line.startswith(tuple(f"{name}:" for name in LINES))
    ]
    states = ["starting", "iteration 80/400, loss 1.77, 2.0 it/s, 2:40 left", "done"]
    for name in LINES:  # the toolboxes' lines come in any order, except the last ones
        lines = [line.split(" in ")[0] for line in shown if line.startswith(name)]
        assert lines == [f"{name}: {state}" for state in states]
    assert shown[-1].startswith("mmdet: done")
    assert (
        runs[0].result["seconds"] >= 1 > runs[0].result["cpu_seconds"] and runs[0].log.read_text() == LINES["mmdet"][0]
    )


def test_a_training_that_fails_ends_the_other_and_shows_its_log(
    demo: ModuleType, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    stand_in(monkeypatch, demo, {"mmdet": "import time; time.sleep(60)", "detectron2": "raise SystemExit('no data')"})
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"(?s)failed with code 1; the end of .*train\.log:\nno data"):
        demo.train_all([make(name) for name in LINES], 0, Console(file=io.StringIO()))
    assert time.monotonic() - start < 20


def test_a_training_that_is_not_there_yet_can_be_ended(
    demo: ModuleType, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthetic.training import train

    stand_in(monkeypatch, demo, {"mmdet": "import time; time.sleep(60)"})
    run, start = make("mmdet"), time.monotonic()
    run.stop()
    with pytest.raises(ValueError, match="failed with code -15"):
        train(run, 0, Path("data"), 1, lambda run: None)
    assert time.monotonic() - start < 20


def test_output_in_any_encoding_is_kept(
    demo: ModuleType, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthetic.training import train

    code = r"import sys; sys.stdout.buffer.write(b'a \xff \xc3\xbc\n')"
    stand_in(monkeypatch, demo, {"mmdet": code})
    run = make("mmdet")
    train(run, 0, Path("data"), 1, lambda run: None)
    assert run.log.read_text(encoding="utf-8") == "a \\xff ü\n"


def test_folders_that_the_toolboxes_misread_are_refused(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo.work_dir("out") == tmp_path / "out" and demo.work_dir(str(ROOT / "work_dirs/x")) == Path("work_dirs/x")
    for folder in ("a b", "ü", "a,b", "a=b", "a(1)"):
        monkeypatch.setattr("sys.argv", ["demo.py", "--work-dir", folder])
        with pytest.raises(SystemExit):
            demo.parse_args()
        assert "must consist of ASCII letters" in capsys.readouterr().err


def config_of(toolbox: str, stem: str) -> Any:
    path = str(CONFIGS / toolbox / f"{stem}.py")
    if toolbox == "mmdet":
        from mmengine.config import Config

        return Config.fromfile(path)
    from detectron2.config import LazyConfig

    return LazyConfig.load(path)


@pytest.mark.parametrize("stem", ["demo_mask_rcnn", "demo_mask_rcnn_rotary_vit", "demo_mask_rcnn_vitdet"])
@pytest.mark.parametrize("toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in LINES])
def test_the_options_repeat_the_config(
    demo: ModuleType, make: Callable[..., Any], demo_folder: Path, toolbox: str, stem: str
) -> None:
    """With the default length, a user gets the same training from the config alone."""
    run, cfg = make(toolbox, stem), config_of(toolbox, stem)
    run.iterations = demo.CONFIGS[stem]
    assert f"configs/{toolbox}/{stem}.py" in run.command(seed=3)
    options = dict(option.split("=") for option in run.command(seed=3) if "=" in option)
    compared = 0
    for name, value in options.items():
        if not any(part in name for part in ("seed", "dir", "prefix", "log")):
            entry: Any = cfg
            for part in name.split("."):
                entry = entry[int(part) if part.isdigit() else part]
            assert float(value) == pytest.approx(entry), name
            compared += 1
    assert compared >= 4


def test_the_page_gets_a_row_per_toolbox_and_seed(demo: ModuleType, tmp_path: Path) -> None:
    from synthetic.page import END, START, write_page

    page = tmp_path / "page.md"
    first, other = START.format("demo_mask_rcnn_vitdet"), START.format("demo_mask_rcnn")
    page.write_text(f"before\n{other}\nkept\n{END}\n{first}\nold\n{END}\nafter\n")
    settings = {"iterations": 400, "machine": {"cores": 2, "processor": "x86_64"}}
    write_page(page, "demo_mask_rcnn_vitdet", [{**settings, "seed": seed, "mmdet": RESULT} for seed in (0, 1)])
    text = page.read_text()
    row = "| MMDetection | {} | 50.0 | 87.6 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 1.5 | 1.4 |"
    assert row.format(0) in text and row.format(1) in text and "Detectron2 |" not in text
    assert text.startswith(f"before\n{other}\nkept\n{END}\n{first}\n") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_page(page, "demo_mask_rcnn", [])
    assert page.read_text() == "no marks"


def test_the_table_in_the_docs_is_of_this_demo(demo: ModuleType) -> None:
    """Three seeds in both toolboxes, with the default number of iterations; every box AP50 is over 80."""
    from synthetic.page import END, HEAD, START

    text = (ROOT / "docs/getting_started.md").read_text().split(START.format("demo_mask_rcnn"))[1].split(END)[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if "|" in line]
    assert tuple(rows[0]) == HEAD and f"of {demo.CONFIGS['demo_mask_rcnn']} iterations" in text
    assert [row[:2] for row in rows[2:]] == [[name, str(seed)] for name in demo.NAMES.values() for seed in range(3)]
    assert min(float(row[HEAD.index("AP50")]) for row in rows[2:]) > 80


def test_the_guide_shows_that_the_rotary_vit_learns(demo: ModuleType) -> None:
    from synthetic.page import END, HEAD, START

    stem = "demo_mask_rcnn_rotary_vit"
    text = (ROOT / "docs/guides/vitdet.md").read_text().split(START.format(stem))[1].split(END)[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if "|" in line]
    assert tuple(rows[0]) == HEAD and f"of {demo.CONFIGS[stem]} iterations" in text
    assert [row[0] for row in rows[2:]] == list(demo.NAMES.values())
    assert min(float(row[HEAD.index("AP50")]) for row in rows[2:]) > 20
