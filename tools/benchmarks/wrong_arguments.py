"""Count how wrong arguments and wrong inputs of every registered class are reported.

    python tools/benchmarks/wrong_arguments.py --json wrong_arguments.json
    PYTHONPATH=OLDER_CHECKOUT python tools/benchmarks/wrong_arguments.py --json before.json

Clear is a ``ValueError`` or ``TypeError`` that names the argument, obscure another error, silent none. The second line
counts for the package of another checkout. Exits with code 1 if ``--strict`` and any case is not clear.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fpn_plugins
from fpn_plugins.files import write_atomically

if TYPE_CHECKING:
    from wrong_cases import Case

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))  # wrong_cases, which needs pytest


def count(cases: list[Case]) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Judge cases; return the number of each verdict, and those that are not clear."""
    from wrong_cases import CLEAR, OBSCURE, SILENT, judge

    verdicts: Counter[str] = Counter()
    others = []
    for case in cases:
        verdict, error = judge(case)
        verdicts[verdict] += 1
        if verdict != CLEAR:
            entry = {"class": case.owner, "argument": case.argument, "value": case.value}
            others.append({**entry, "verdict": verdict, "error": error[:200]})
    return {verdict: verdicts[verdict] for verdict in (CLEAR, OBSCURE, SILENT)}, others


def main() -> None:
    """Count, print the numbers, and write them with every case that is not clear."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this JSON file")
    parser.add_argument("--only", nargs="+", default=[], metavar="CLASS", help="names of classes")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 unless every case is clear")
    arguments = parser.parse_args()
    from wrong_cases import constructor_cases, forward_cases, subjects

    chosen = [s for s in subjects() if not arguments.only or s.name in arguments.only]
    report: dict[str, Any] = {"package": str(Path(fpn_plugins.__file__).parent)}
    for part, cases_of in (("constructors", constructor_cases), ("forward", forward_cases)):
        cases = [case for subject in chosen for case in cases_of(subject)]
        numbers, others = count(cases)
        report[part] = {"cases": len(cases), **numbers, "not_clear": others}
        print(f"{part}: {report[part]['cases']} cases, " + ", ".join(f"{n} {v}" for v, n in numbers.items()))
    if arguments.json:
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.strict and any(report[part]["not_clear"] for part in ("constructors", "forward")):
        sys.exit(1)


if __name__ == "__main__":
    main()
