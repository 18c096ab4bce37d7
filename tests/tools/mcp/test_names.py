"""Names of tools, as every endpoint takes them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.mcp.names import model_names


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("get_weather", "get_weather"),
        ("get-Weather2", "get-Weather2"),
        ("weather.get", "weather_get"),
        ("a/b", "a_b"),
        ("my tool", "my_tool"),
        ("x" * 64, "x" * 64),
    ],
)
def test_m8_a_name_is_made_fit_and_otherwise_kept(own: str, name: str) -> None:
    assert model_names([("server", own)]) == [name]


@pytest.mark.parametrize(
    ("own", "begins"), [("날씨", "tool_"), ("날씨_get", "get_"), ("x" * 70, "xxx"), ("", "tool_"), ("…", "tool_")]
)
def test_m8_a_name_that_loses_letters_gets_a_mark_in_their_place(own: str, begins: str) -> None:
    [name] = model_names([("server", own)])
    assert re.fullmatch(rf"{begins}[A-Za-z0-9_-]*[0-9a-f]{{6}}", name)


@pytest.mark.parametrize(
    "offered",
    [
        pytest.param([("s", "날씨"), ("s", "검색")], id="two names in Korean"),
        pytest.param([("s", "a/b"), ("s", "a.b"), ("s", "a_b")], id="one server, three that come to the same"),
        pytest.param([("s", "x" * 70), ("s", "x" * 71)], id="two that are too long"),
        pytest.param([("one", "echo"), ("other", "echo")], id="two servers"),
        pytest.param([("날씨", "echo"), ("검색", "echo"), ("x" * 100, "echo")], id="servers with odd names"),
        pytest.param([("a", "b_c"), ("a_b", "c"), ("x", "b_c"), ("y", "c")], id="prefixes that meet"),
        pytest.param([("a", "echo"), ("b", "echo"), ("c", "a_echo")], id="a prefixed name that exists"),
    ],
)
def test_m8_no_two_tools_have_the_same_name(offered: list[tuple[str, str]]) -> None:
    assert len(set(model_names(offered))) == len(offered)


def test_m8_the_one_that_was_called_so_before_keeps_its_name() -> None:
    marked, kept = model_names([("s", "a.b"), ("s", "a_b")])
    assert (kept, marked[:4]) == ("a_b", "a_b_")


def test_m8_a_name_stays_the_same_when_other_servers_come() -> None:
    alone = model_names([("s", "날씨"), ("s", "a/b")])
    assert model_names([("other", "c"), ("s", "날씨"), ("s", "a/b")])[1:] == alone


@pytest.mark.parametrize(
    ("held", "new", "names"),
    [
        pytest.param({("a", "x"): "x"}, [("b", "x")], ["b_x"], id="a newcomer"),
        pytest.param({("b", "x"): "x"}, [("a", "x"), ("c", "x")], ["a_x", "c_x"], id="two newcomers"),
        pytest.param({("a", "x"): "a_x", ("b", "x"): "b_x"}, [("c", "x")], ["x"], id="nobody has the short name"),
        pytest.param({("a", "b_x"): "b_x", ("a", "x"): "x"}, [("b", "y")], ["y"], id="nothing shared"),
        pytest.param({("a", "a.b"): "a_b"}, [("a", "a_b")], ["a_a_b"], id="of the same server"),
        pytest.param({("gone", "x"): "x"}, [("b", "x")], ["x"], id="who had it has gone"),
    ],
)
def test_m8_what_has_a_name_keeps_it_and_a_newcomer_gets_another(
    held: dict[tuple[str, str], str], new: list[tuple[str, str]], names: list[str]
) -> None:
    there = [tool for tool in held if tool[0] != "gone"]
    assert model_names([*new, *there], held) == [*names, *(held[tool] for tool in there)]


OFFERED = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=80)), max_size=8, unique=True)


@given(OFFERED, st.integers(min_value=0, max_value=8))
def test_m8_no_name_changes_when_others_come(offered: list[tuple[str, str]], first: int) -> None:
    held = dict(zip(offered[:first], model_names(offered[:first]), strict=True))
    names = model_names(offered, held)
    assert names[:first] == list(held.values())
    assert len(set(names)) == len(names)


@given(OFFERED)
def test_m8_names_are_fit_and_different_whatever_they_are_made_from(offered: list[tuple[str, str]]) -> None:
    names = model_names(offered)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    assert len(set(names)) == len(names)
    assert model_names(offered) == names
