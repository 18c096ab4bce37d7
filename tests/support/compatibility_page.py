"""docs/compatibility.md as text."""

from tests.support.project import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
