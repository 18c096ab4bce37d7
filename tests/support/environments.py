"""Where the clients live that .venv cannot hold."""

from tests.support.project import ROOT

PROGRAMS = ROOT / "tests" / "clients"


ENVIRONMENTS = ROOT / ".venv-clients"


NODE, NODE_MODULES = ENVIRONMENTS / "node", PROGRAMS / "node_modules"
