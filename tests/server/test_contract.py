"""Each rule of docs/contract.md is named by a test: `test_b7_…`, or `test_b8_b9_…` for several."""

import ast
import re

from tests.support.project import ROOT

RULES = re.findall(r"^- \*\*([A-FR]\d+)\*\* ", (ROOT / "docs" / "contract.md").read_text(), re.MULTILINE)
NAMED = re.compile(r"test((?:_[a-fr]\d+)+)_")


def test_every_rule_is_named_by_a_test() -> None:
    names = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {rule for name in names if (found := NAMED.match(name)) for rule in found[1].upper().split("_")}
    assert [rule for rule in RULES if rule not in named] == []
    assert len(RULES) == len(set(RULES)) > 50
