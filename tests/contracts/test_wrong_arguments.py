"""Wrong arguments and inputs of every registered class end in a ``ValueError`` or ``TypeError`` that names them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import wrong_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_cases import CLEAR, Subject, constructor_cases, forward_cases, judge, parameters_of, wrong_argument

pytestmark = [pytest.mark.timm, pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.torchvision]
# timm looks its networks up by name, and some of the cases build one
SLOW = ("TimmBackbone", "TimmHybrid")


@cache
def subjects() -> dict[str, Subject]:
    return {subject.name: subject for subject in wrong_cases.subjects()}


def not_clear(cases: list[wrong_cases.Case]) -> list[str]:
    """Judge cases; return those that are not clear, with what came instead."""
    verdicts = ((case, *judge(case)) for case in cases)
    return [
        f"{c.owner}({c.argument}={c.value}): {verdict} {error}" for c, verdict, error in verdicts if verdict != CLEAR
    ]


def test_listed_wrong_values_of_every_parameter_are_named():
    """Every eighth value of a class, and the first one of each of its parameters."""
    chosen = []
    for subject in subjects().values():
        seen: set[str] = set()
        for number, case in enumerate(constructor_cases(subject)):
            if case.argument not in seen or number % (8 if not subject.name.endswith(SLOW) else 50) == 0:
                chosen.append(case)
            seen.add(case.argument)
    assert len(chosen) > 700
    assert not_clear(chosen) == []


# a value that no parameter of a kind takes, by the kind's annotation
UNFIT: dict[str, st.SearchStrategy[Any]] = {
    "int": st.one_of(st.text(), st.floats(), st.lists(st.integers()), st.integers(max_value=-10)),
    "bool": st.one_of(st.text(), st.integers(min_value=2), st.lists(st.booleans()), st.floats(min_value=1.5)),
    "float": st.one_of(st.text(), st.lists(st.floats()), st.sampled_from([float("nan"), float("inf")])),
    "Sequence[int]": st.one_of(
        st.text(min_size=1), st.floats(), st.lists(st.floats(), min_size=1), st.dictionaries(st.text(), st.integers())
    ),
}


@settings(max_examples=150)
@given(data=st.data())
def test_drawn_wrong_values_are_named(data: st.DataObject):
    subject = subjects()[data.draw(st.sampled_from([name for name in subjects() if not name.endswith(SLOW)]))]
    kinds = {
        name: str(parameter.annotation).replace(" | None", "")
        for name, parameter in parameters_of(subject.kind).items()
    }
    checked = {name: kind for name, kind in kinds.items() if kind in UNFIT and name not in wrong_cases.FIXED}
    if checked:
        name = data.draw(st.sampled_from(sorted(checked)))
        assert not_clear([wrong_argument(subject, name, data.draw(UNFIT[checked[name]]))]) == []


def test_wrong_inputs_are_named():
    cases = [case for name, subject in subjects().items() for case in forward_cases(subject)]
    assert len(cases) > 1000
    assert not_clear(cases) == []
