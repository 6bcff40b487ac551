"""Kill trainings with SIGKILL at random moments, resume them, and compare their ends with an uninterrupted one.

    python tools/benchmarks/resume.py [--case mmdet detectron2] [--kills 20] [--json FILE]

Each training is a process that runs this package's command with ``--resume`` and ``FPN_PLUGINS_EXACT_RESUME=1``. A kill
is one of three, in turn: after a random time; halfway through the bytes of a checkpoint; or after a random time, with
the last checkpoint cut in half afterwards. The process is started again until it ends. Everything in the last
checkpoint that influences the training has to be equal bit for bit: weights, optimizer, running averages. One training
runs without the option and is killed once, to show what differs then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from resume_cases import CASES, Case, imports, train

from fpn_plugins.commands.common import CHECK_DATA
from fpn_plugins.commands.runs import EXACT_RESUME
from fpn_plugins.weights.training_state import read_training_checkpoint

sys.path.append(str(Path(__file__).resolve().parents[1]))
KINDS = ("writing", "time", "damaged")
LONGEST = 300  # seconds of one process
COMPARED = ("state_dict", "ema_state_dict", "optimizer", "model", "trainer")


def start(case: Case, config: Path, output: Path, exact: bool = True, dies_in: int | None = None) -> int:
    """Fork a process that trains; it kills itself halfway through the checkpoint of that number, if there is one."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        log = os.open(output.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ[EXACT_RESUME] = str(int(exact))
        if dies_in is not None:
            die_in_write(dies_in)
        train(case.toolbox, case.arguments(config, output))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_in_write(number: int) -> None:
    """Kill this process when half of its checkpoint of that number, counted from 0, is written."""
    replace, left = os.replace, [number]

    def dying_replace(source: Any, target: Any) -> None:
        if str(target).endswith(".pth"):
            if left[0] == 0:
                os.truncate(source, os.path.getsize(source) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        replace(source, target)

    os.replace = dying_replace


def finish(pid: int, limit: float, output: Path) -> bool:
    """Wait for a process, and kill it after ``limit`` seconds; return whether it ended by itself.

    Raises:
        RuntimeError: it failed.
    """
    deadline = time.monotonic() + limit
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.005)
    if not found[0]:
        os.kill(pid, signal.SIGKILL)
        found = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # its data workers
    status = os.waitstatus_to_exitcode(found[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(
            f"a training failed with exit code {status}:\n{output.with_suffix('.log').read_text()[-3000:]}"
        )
    return status == 0


def damage_last(output: Path) -> bool:
    """Cut the last checkpoint in half; return whether there is one."""
    tag = output / "last_checkpoint"
    if not tag.is_file():
        return False
    path = output / tag.read_text().strip()
    os.truncate(path, path.stat().st_size // 2)
    return True


def values(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers and tensors of a checkpoint by their places."""
    if isinstance(content, dict):
        content = content.items()
    elif not isinstance(content, (list, tuple)):
        yield name, content
        return
    else:
        content = enumerate(content)
    for key, value in content:
        yield from values(value, f"{name}.{key}")


def compare(case: Case, one: Path, other: Path) -> dict[str, Any]:
    """Compare what two trainings ended with; ``largest`` is the largest difference of a weight."""
    read = [read_training_checkpoint(output / case.final) for output in (one, other)]
    first, second = (dict(values({key: file[key] for key in COMPARED if key in file})) for file in read)
    differing = [key for key in first if not _same(first[key], second.get(key))] + sorted(second.keys() - first.keys())
    tensors = [key for key in differing if isinstance(first.get(key), torch.Tensor)]
    gaps = [float((first[key].double() - second[key].double()).abs().max()) for key in tensors]
    return {"equal": not differing, "values": len(first), "differing": len(differing), "largest": max(gaps, default=0)}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return bool(one == other)


def kill_and_resume(case: Case, config: Path, output: Path, kinds: Sequence[str], seconds: float) -> dict[str, int]:
    """Train with one kill of each kind, and a random number that depends on the output's name; count the kills."""
    done = dict.fromkeys(KINDS, 0)
    draw = random.Random(output.name)
    for kind in kinds:
        dies_in = draw.randrange(2) if kind == "writing" else None
        limit = LONGEST if kind == "writing" else draw.uniform(0, seconds)
        if finish(start(case, config, output, dies_in=dies_in), limit, output):
            return done
        done[kind] += 1
        if kind == "damaged":
            damage_last(output)
    if not finish(start(case, config, output), LONGEST, output):
        raise RuntimeError(f"a training took more than {LONGEST} s; see {output.with_suffix('.log')}")
    return done


def run_case(name: str, kills: int, folder: Path, seed: int, control: bool) -> dict[str, Any]:
    """Train uninterrupted, then with as many kills, a few in each training; return the comparisons."""
    case, folder = CASES[name], folder / name
    folder.mkdir()
    config, reference = case.write(folder), folder / "reference"
    begin = time.monotonic()
    finish(start(case, config, reference), LONGEST, reference)
    seconds = time.monotonic() - begin
    trainings: list[dict[str, Any]] = []
    left = kills
    while left > 0:
        output = folder / f"killed_{seed}_{len(trainings)}"
        kinds = [KINDS[(kills - left + number) % len(KINDS)] for number in range(min(left, 4))]
        done = kill_and_resume(case, config, output, kinds, seconds)
        trainings.append({"kills": done, **compare(case, reference, output)})
        left -= sum(done.values())
        print(name, json.dumps(trainings[-1]), file=sys.stderr, flush=True)
    result = {"seconds": seconds, "kills": kills, "equal": all(t["equal"] for t in trainings), "trainings": trainings}
    return {**result, "without_the_option": without_option(case, config, folder)} if control else result


def without_option(case: Case, config: Path, folder: Path) -> dict[str, Any]:
    """Compare two trainings without the option, one of which was killed while it wrote its third checkpoint."""
    outputs = [folder / "plain", folder / "plain_killed"]
    for output, dies_in in zip(outputs, (None, 2), strict=True):
        while not finish(start(case, config, output, exact=False, dies_in=dies_in), LONGEST, output):
            dies_in = None
    return compare(case, *outputs)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases and write the results; exit code 1 if a resumed training ended otherwise."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--case", dest="cases", nargs="+", choices=CASES, default=list(CASES), help="trainings")
    parser.add_argument("--kills", type=int, default=20, help="kills of each training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--no-control", action="store_true", help="leave out the training without the option")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # a process with threads must not be forked
    from synthetic.dataset import make_synthetic_coco

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        make_synthetic_coco(data, num_train=8, num_val=2, progress=False)
        os.environ.update({"FPN_PLUGINS_COCO": str(data), CHECK_DATA: "0"})
        for name in args.cases:
            imports(CASES[name].toolbox)
            results[name] = run_case(name, args.kills, Path(folder), args.seed, not args.no_control)
    text = json.dumps(results, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    if not all(result["equal"] for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
