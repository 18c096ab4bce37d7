"""docs/compatibility.md as text."""

from tests.project import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
