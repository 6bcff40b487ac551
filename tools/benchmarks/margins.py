"""Measure how far the numeric tests are from failing, over seeds, threads and instruction sets.

    python tools/benchmarks/margins.py tests/necks tests/contracts --seeds 20 --out work_dirs/margins
    python tools/benchmarks/margins.py tests/necks -k mmdet --seeds 5 --threads 1 --instruction avx2 --out /tmp/x

Each run is one pytest process. The margin of a comparison is the allowed difference over the actual one; exact
comparisons are left out. OUT.json and OUT.md are written after each run, and a later call with the same tests continues
where this one stopped. Exits with code 1 if a run failed or a margin is below --least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_report import ROOT, machine

from fpn_plugins.files import write_atomically

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "default": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


class RunSetting(NamedTuple):
    """Conditions of one run of the tests."""

    seed: int
    threads: int
    instructions: str

    def __str__(self) -> str:
        return f"seed {self.seed}, threads {self.threads}, instructions {self.instructions}"

    def environment(self, margins: Path) -> dict[str, str]:
        """Environment variables of the run, which appends its margins to the file."""
        kept = {k: v for k, v in os.environ.items() if all(k not in names for names in INSTRUCTIONS.values())}
        return {
            **kept,
            **INSTRUCTIONS[self.instructions],
            "OMP_NUM_THREADS": str(self.threads),
            "FPN_PLUGINS_TEST_SEED": str(self.seed),
            "FPN_PLUGINS_TEST_MARGINS": str(margins),
        }


def setting_of(result: Mapping[str, Any]) -> RunSetting:
    """Setting of a saved run."""
    return RunSetting(result["seed"], result["threads"], result["instructions"])


def worst_uses(lines: Iterable[str]) -> dict[tuple[str, str], float]:
    """Largest used share of the allowed difference by test and dtype, without exact comparisons."""
    worst: dict[tuple[str, str], float] = {}
    for line in lines:
        entry = json.loads(line)
        if not entry["exact"]:
            key = (entry["test"], entry["dtype"])
            worst[key] = max(worst.get(key, 0.0), entry["used"])
    return worst


def run(setting: RunSetting, arguments: Sequence[str]) -> dict[str, Any]:
    """Run the tests once and return the result with its margins."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        margins = Path(folder) / "margins.jsonl"
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=setting.environment(margins), capture_output=True, text=True)
        seconds = time.perf_counter() - start
        worst = worst_uses(margins.read_text().splitlines()) if margins.exists() else {}
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    failed = [match[1] for line in lines if (match := re.match(r"(?:FAILED|ERROR) (\S+)", line))]
    return {
        **setting._asdict(),
        "exit": done.returncode,
        "seconds": round(seconds, 1),
        "summary": lines[-1],
        "failed": failed,
        "used": [{"test": test, "dtype": dtype, "used": value} for (test, dtype), value in sorted(worst.items())],
    }


def margin(used: float) -> float:
    """Allowed difference over the actual one."""
    return 1 / used if used else math.inf


def worst_over_runs(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Largest used share of each test and dtype with its setting, smallest margin first."""
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for result in runs:
        setting = str(setting_of(result))
        for entry in result["used"]:
            key = (entry["test"], entry["dtype"])
            if key not in worst or entry["used"] > worst[key]["used"]:
                worst[key] = {**entry, "setting": setting}
    return sorted(worst.values(), key=lambda entry: -entry["used"])


def page(report: Mapping[str, Any], least: float, shown: int = 25) -> str:
    """Markdown: failures, margins below ``least``, and the ``shown`` smallest ones."""
    runs, worst = report["runs"], worst_over_runs(report["runs"])
    below = [entry for entry in worst if margin(entry["used"]) < least]
    failed = [f"`{name}` ({setting_of(r)})" for r in runs for name in r["failed"]]
    failed += [f"{r['summary']} (seed {r['seed']})" for r in runs if r["exit"] and not r["failed"]]
    lines = [
        "# Margins of the numeric tests",
        "",
        f"`pytest {' '.join(report['arguments'])}`: {len(runs)} runs, {_counts(runs)}, "
        f"on {report['hardware']['processor']}. "
        "Margin: allowed difference over the actual one, smallest of all runs; exact comparisons are left out.",
        "",
        f"- failures: {'; '.join(failed) or 'none'}",
        f"- comparisons with a margin below {least:g}: {len(below)} of {len(worst)}",
        "",
        "| margin | type | test | in |",
        "|---:|---|---|---|",
    ]
    for entry in worst[: max(shown, len(below))]:
        mark = " **below**" if margin(entry["used"]) < least else ""
        test = entry["test"].replace("|", "\\|")
        lines.append(f"| {margin(entry['used']):.3g}{mark} | {entry['dtype']} | `{test}` | {entry['setting']} |")
    return "\n".join([*lines, ""])


def _counts(runs: Sequence[Mapping[str, Any]]) -> str:
    kinds = {(r["threads"], r["instructions"]): 0 for r in runs}
    for r in runs:
        kinds[r["threads"], r["instructions"]] += 1
    return ", ".join(f"{n} seeds with threads {t} and instructions {isa}" for (t, isa), n in sorted(kinds.items()))


def write(out: Path, report: Mapping[str, Any], least: float) -> None:
    """Write OUT.json and OUT.md."""
    for suffix, text in ((".json", json.dumps(report, indent=1) + "\n"), (".md", page(report, least))):
        with write_atomically(out.with_suffix(suffix)) as temporary:
            temporary.write_text(text)


def earlier_runs(out: Path, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Read the runs of the same tests from OUT.json.

    Raises:
        ValueError: the file holds runs of other tests.
    """
    file = out.with_suffix(".json")
    if not file.exists():
        return []
    report = json.loads(file.read_text())
    if report["arguments"] != list(arguments):
        raise ValueError(f"{file} holds runs of {report['arguments']}, not of {list(arguments)}; choose another --out")
    return report["runs"]


def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Parse our arguments; return them and pytest's: the tests and every option unknown here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--instruction", dest="instructions", nargs="+", choices=INSTRUCTIONS, default=list(INSTRUCTIONS)
    )
    parser.add_argument("--least", type=float, default=5.0, help="margins below it are flagged")
    args, rest = parser.parse_known_args(argv)
    if args.seeds < 1 or min(args.threads) < 1:
        parser.error("--seeds and --threads must be at least 1")
    if not any((ROOT / argument.partition("::")[0]).exists() for argument in rest):
        parser.error(f"name at least one test file or folder, relative to {ROOT}")
    return args, rest


def main(argv: Sequence[str] | None = None) -> int:
    """Run every setting that OUT.json lacks."""
    args, arguments = parse(argv)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    settings = [RunSetting(s, t, i) for i, t, s in itertools.product(args.instructions, args.threads, seeds)]
    runs = earlier_runs(args.out, arguments)
    done = set(map(setting_of, runs))
    for number, setting in enumerate(settings, 1):
        if setting in done:
            continue
        result = run(setting, arguments)
        runs.append(result)
        write(args.out, {"arguments": arguments, "hardware": machine(), "runs": runs}, args.least)
        worst = worst_over_runs([result])
        least = f"smallest margin {margin(worst[0]['used']):.3g} in {worst[0]['test']}" if worst else "no comparison"
        print(f"[{number}/{len(settings)}] {setting}: {result['summary']}; {least}", flush=True)
    print(page({"arguments": arguments, "hardware": machine(), "runs": runs}, args.least))
    below = [entry for entry in worst_over_runs(runs) if margin(entry["used"]) < args.least]
    return int(bool(below) or any(r["exit"] for r in runs))


if __name__ == "__main__":
    raise SystemExit(main())
