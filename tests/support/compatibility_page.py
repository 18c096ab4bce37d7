"""docs/compatibility.md as text."""

import re
from collections.abc import Mapping

from tests.support.project import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
ROW = re.compile(r"^\| (`[a-z_`, ]+`) \| (honoured|refused|ignored) \|", re.MULTILINE)


def kinds(title: str) -> Mapping[str, str]:
    """What becomes of each parameter that a section tells of."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return {name: kind for names, kind in ROW.findall(section) for name in re.findall(r"`(\w+)`", names)}
