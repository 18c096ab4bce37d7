"""What a server's process imports. Each test runs a Python of its own."""

import subprocess
import sys
from textwrap import dedent

BEGIN = """
    import sys
    from server.command.imports import LAZY, light_imports
    with light_imports():
        import server.command.process
    def waits(name):
        return "_loader" in vars(sys.modules[name])
"""


def said(code: str) -> str:
    """What a program prints, behind the server's imports."""
    program = dedent(BEGIN) + dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_of_which_nothing_is_looked_up_have_not_run() -> None:
    assert said("print([name for name in LAZY if not waits(name)])").strip() == "[]"
    assert said('print("mcp.server" in sys.modules, "langsmith.types.run" in sys.modules)').strip() == "False False"


def test_they_run_when_something_is_looked_up() -> None:
    code = """
        import langchain_openai, langgraph_sdk, mcp, openai
        from langchain_openai import ChatOpenAI, OpenAIEmbeddings
        from mcp import ClientSession, StdioServerParameters
        from mcp.server import Server
        from mcp.server.fastmcp import FastMCP
        from openai.lib.streaming.chat import ChatCompletionStreamState
        from openai.types.chat import *
        from openai.types.responses import Response
        assert ChatOpenAI is sys.modules["graph.model.client"].ChatOpenAI
        assert openai.types.Completion.model_fields and ChatCompletion.model_fields and Response.model_fields
        assert langgraph_sdk.get_client and openai.OpenAI(api_key="x").chat.completions
        assert "Completion" in dir(openai.types)
        print([name for name in LAZY if waits(name)])
    """
    assert set(eval(said(code))) <= {"langsmith.types", "mcp.client"}


def test_what_is_not_there_is_an_error() -> None:
    code = """
        import openai
        try:
            openai.types.Nothing
        except AttributeError as error:
            print(error)
    """
    assert said(code).strip() == "module 'openai.types' has no attribute 'Nothing'"


def test_threads_that_look_something_up_at_once_all_find_it() -> None:
    code = """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        import openai
        together = threading.Barrier(8)
        def look_up(_):
            together.wait()
            return openai.types.Completion, openai.types.ModelDeleted
        with ThreadPoolExecutor(8) as threads:
            print(len(set(threads.map(look_up, range(8)))))
    """
    assert said(code).strip() == "1"


def test_models_of_others_are_built_at_once_again_behind_the_imports() -> None:
    code = """
        from pydantic import BaseModel
        class Later(BaseModel):
            x: int
        print(Later.__pydantic_complete__, Later(x=1).x)
    """
    assert said(code).strip() == "True 1"


def test_models_that_were_not_built_are_when_they_are_used() -> None:
    code = """
        from server.chat.request import ChatRequest
        print(ChatRequest.__pydantic_complete__)
        print(ChatRequest(model="m", messages=[{"role": "user", "content": "x"}]).messages[0].content)
        print(ChatRequest.__pydantic_complete__)
    """
    assert said(code).split() == ["False", "x", "True"]
