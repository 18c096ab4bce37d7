"""Import less at the start: packages run when something is looked up in them, models are built when they are used.

The openai package imports the types of all of OpenAI's APIs, langsmith those of its service, MCP's client its server,
and so on. We use none of them, or a single module inside. Without all this the start takes a third less CPU time, and
a fifth less memory.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

from pydantic import BaseModel

# Packages whose own code, which imports all that they have, runs when something is looked up in them.
LAZY = (
    "langchain_openai",
    "langchain_openai.chat_models",
    "langgraph_sdk",
    "langsmith.types",
    "mcp",
    "mcp.client",
    "openai.types",
    "openai.types.responses",
)

_running = RLock()


@contextmanager
def light_imports() -> Iterator[None]:
    """Import what the server needs, and no more.

    Models of pydantic are built when they are first used. What is imported stays for good, so no garbage is looked for.
    """
    finder = LazyFinder()
    sys.meta_path.insert(0, finder)
    BaseModel.model_config["defer_build"] = True
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        del BaseModel.model_config["defer_build"]
        sys.meta_path.remove(finder)


class LazyPackage(ModuleType):
    """A package whose own code has not run yet. Its modules can be imported without it."""

    def __getattr__(self, name: str) -> Any:
        """Run the package's code, and return what is looked up."""
        with _running:
            if loader := self.__dict__.pop("_loader", None):
                loader.exec_module(self)
        if name not in self.__dict__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return self.__dict__[name]


class LazyLoader(Loader):
    """Loads a package without its code."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the package, empty."""
        return LazyPackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave its code to the first look-up."""
        module.__dict__["_loader"] = self._loader


class LazyFinder(MetaPathFinder):
    """Finds the packages of `LAZY`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a package's spec; None for other modules, which Python finds by itself."""
        spec = PathFinder.find_spec(name, path, target) if name in LAZY else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec
