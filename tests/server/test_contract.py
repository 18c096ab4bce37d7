"""Each rule of the contract with OpenAI's clients is named by a test: `test_b7_…`, or `test_b8_b9_…` for several.

The rules are of A transport, B requests, C whole answers, D streams, E tools of the client beside ours, and F models.
"""

import ast
import re

from tests.support.project import ROOT

RULES = {"A": 11, "B": 16, "C": 6, "D": 9, "E": 10, "F": 2}
NAMED = re.compile(r"test((?:_[a-f]\d+)+)_")


def test_every_rule_is_named_by_a_test() -> None:
    names = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {rule for name in names if (found := NAMED.match(name)) for rule in found[1].upper().split("_")}
    assert {f"{section}{number}" for section, last in RULES.items() for number in range(1, last + 1)} - named == set()
