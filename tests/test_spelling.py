"""Code and pages are in American English; names of earlier versions stay as they are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERBS = "initial|normal|organ|optim|serial|general|visual|recogn|summar|minim|maxim|synchron|quant"
BRITISH = re.compile(
    r"\b(licence|\w*colour|behaviour|centre|neighbour|grey|favour|judgement|artefact|labelled|modelled|cancelled"
    rf"|(?:{VERBS})is(?:e|ed|ing|ation)\b|analys(?:e|ed|ing)\b)",
    re.IGNORECASE,
)
KEPT = {"fpn_plugins/moved.py": {"recognise"}}


def british_words(text: str) -> set[str]:
    return {found.group(0).lower() for found in BRITISH.finditer(text)}


def test_spelling_is_american():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    code = [path for folder in ("fpn_plugins", "tools", "configs", "tests") for path in (ROOT / folder).rglob("*.py")]
    files = {str(path.relative_to(ROOT)): path for path in [*pages, *code] if path != Path(__file__)}
    found = {name: british_words(path.read_text()) - KEPT.get(name, set()) for name, path in files.items()}
    assert {name: words for name, words in found.items() if words} == {}


def test_british_words_are_seen():
    american = "behavior, normalized, gray, centered, license, analysis, noise"
    assert british_words(f"Its behaviour: normalised, grey, MIT Licence; {american}") == {
        *("behaviour", "normalised", "grey", "licence")
    }
