"""The weather of a city as a model reads it, from a weather service over TCP."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.support.loopback import free_port, served
from tests.support.open_meteo import FORECAST, SEOUL, SEOUL_IN_KOREAN, OpenMeteo
from tools.bundled.failure import ToolFailure
from tools.bundled.weather import weather_report
from tools.bundled.weather_words import ENGLISH, KOREAN, words_for

SEOUL_REPORT = """\
Seoul, South Korea, now (2026-11-22 20:15 local time): light rain, 5.3 °C, feels like 2.1 °C, humidity 60 %, \
precipitation 0.2 mm, wind 12.4 km/h
Today (2026-11-22): light rain, 1.2 to 8.4 °C, chance of rain 70 %
Tomorrow (2026-11-23): clear sky, -1.0 to 6.0 °C, chance of rain 10 %
The day after (2026-11-24): snow, -4.3 to 1.5 °C"""

SEOUL_REPORT_IN_KOREAN = """\
서울특별시, 대한민국, 현재(2026-11-22 20:15 현지 시각): 약한 비, 기온 5.3 °C, 체감 2.1 °C, 습도 60 %, 강수량 0.2 mm, \
바람 12.4 km/h
오늘(2026-11-22): 약한 비, 1.2–8.4 °C, 비 올 확률 70 %
내일(2026-11-23): 맑음, -1.0–6.0 °C, 비 올 확률 10 %
모레(2026-11-24): 눈, -4.3–1.5 °C"""

NO_ANSWER = "The weather service does not answer right now."

PARIS = {"name": "Paris", "admin1": "Île-de-France", "country": "France", "country_code": "FR"}
PARIS_IN_TEXAS = {"name": "Paris", "admin1": "Texas", "country": "United States", "country_code": "US"}
PARIS_WITHOUT_REGION = {"name": "Paris", "country": "Denmark", "country_code": "DK"}


class Gazetteer:
    """A weather service that knows each of these places under one spelling; `asked` lists what was looked for."""

    def __init__(self, places: Mapping[str, Sequence[Mapping[str, Any]]], forecast: object = FORECAST) -> None:
        self.asked: list[str] = []
        self._places, self._forecast = places, forecast
        self.app = Starlette(routes=[Route("/v1/search", self._search), Route("/v1/forecast", self._weather)])

    async def _search(self, request: Request) -> Response:
        name = request.query_params["name"]
        self.asked.append(name)
        found = [{"latitude": 1.5, "longitude": 2.5, **place} for place in self._places.get(name, ())]
        return JSONResponse({"results": found} if found else {"generationtime_ms": 0.5})

    async def _weather(self, _: Request) -> Response:
        return JSONResponse(self._forecast)


async def report(url: str, city: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await weather_report(client, city, geocoding_url=url, forecast_url=url)


async def refusal(url: str, city: str = "Seoul") -> str:
    with pytest.raises(ToolFailure) as failure:
        await report(url, city)
    return str(failure.value)


def answering(search: Response, forecast: Response | None = None) -> Starlette:
    """A weather service that always gives these answers."""
    answers = {"/v1/search": search, "/v1/forecast": forecast or JSONResponse(FORECAST)}

    async def answer(request: Request) -> Response:
        return answers[request.url.path]

    return Starlette(routes=[Route(path, answer) for path in answers])


async def test_the_weather_of_a_city_is_now_and_three_days_with_a_unit_after_every_number(open_meteo_url: str) -> None:
    assert await report(open_meteo_url, "Seoul") == SEOUL_REPORT


async def test_f14_a_korean_name_is_looked_for_and_answered_in_korean(
    open_meteo: OpenMeteo, open_meteo_url: str
) -> None:
    assert await report(open_meteo_url, "서울") == SEOUL_REPORT_IN_KOREAN
    assert "~" not in SEOUL_REPORT_IN_KOREAN, "two of them strike out what is between, where Markdown is shown"
    assert [(query["name"], query["language"]) for query in open_meteo.searches] == [("서울", "ko")]


async def test_an_english_name_is_looked_for_once_and_in_english(open_meteo: OpenMeteo, open_meteo_url: str) -> None:
    await report(open_meteo_url, "Seoul")
    assert [(query["name"], query["language"]) for query in open_meteo.searches] == [("Seoul", "en")]


async def test_the_forecast_is_asked_for_the_place_that_was_found_in_its_own_time(
    open_meteo: OpenMeteo, open_meteo_url: str
) -> None:
    await report(open_meteo_url, "Seoul")
    [query] = open_meteo.forecasts
    assert (query["latitude"], query["longitude"]) == (str(SEOUL["latitude"]), str(SEOUL["longitude"]))
    assert (query["timezone"], query["forecast_days"]) == ("auto", "3")


async def test_an_address_of_the_service_may_end_in_a_slash(open_meteo_url: str) -> None:
    assert await report(f"{open_meteo_url}/", "Seoul") == SEOUL_REPORT


@pytest.mark.parametrize(
    ("city", "country"),
    [
        ("Paris", "Île-de-France, France"),
        ("Paris, Texas", "Texas, United States"),
        ("paris ,  TEXAS", "Texas, United States"),
        ("Paris, United States", "Texas, United States"),
        ("Paris, us", "Texas, United States"),
        ("Paris, France", "Île-de-France, France"),
        ("Paris, Denmark", "Denmark"),
        ("Paris, Narnia", "Île-de-France, France"),
    ],
)
async def test_the_words_behind_the_comma_choose_among_places_of_the_same_name(city: str, country: str) -> None:
    places = [PARIS, PARIS_WITHOUT_REGION, PARIS_IN_TEXAS]
    with served(Gazetteer({"Paris": places, "paris": places}).app) as url:
        assert (await report(url, city)).startswith(f"Paris, {country}, now")


@pytest.mark.parametrize(
    ("city", "known_as"),
    [
        ("부산", "부산광역시"),
        ("부산시", "부산광역시"),
        ("부산광역시", "부산"),
        ("수원시", "수원"),
        ("수원", "수원시"),
        ("서울시", "서울특별시"),
        ("서울특별시", "서울"),
        ("세종특별자치시", "세종"),
        ("양평군", "양평"),
        ("부산, 대한민국", "부산광역시"),
    ],
)
async def test_a_korean_city_is_found_whichever_ending_the_geocoder_knows_it_with(city: str, known_as: str) -> None:
    place = {"name": known_as, "country": "대한민국"}
    with served(Gazetteer({known_as: [place]}).app) as url:
        assert (await report(url, city)).startswith(f"{known_as}, 대한민국, 현재")


async def test_the_name_as_it_was_given_is_looked_for_first() -> None:
    service = Gazetteer({"수원": [{"name": "wrong"}], "수원시": [{"name": "수원시"}]})
    with served(service.app) as url:
        assert (await report(url, "수원시")).startswith("수원시, 현재")
    assert service.asked == ["수원시"]


async def test_an_unknown_city_is_a_sentence_that_says_what_to_try() -> None:
    service = Gazetteer({})
    with served(service.app) as url:
        assert await refusal(url, "Atlantis") == "No city called 'Atlantis' was found. Try its English name."
    assert service.asked == ["Atlantis"]


async def test_an_unknown_korean_city_is_looked_for_in_every_spelling_only_once() -> None:
    service = Gazetteer({})
    with served(service.app) as url:
        assert await refusal(url, "없는시") == "도시를 찾지 못했습니다: '없는시'. 영어 이름으로 다시 찾아 보세요."
    assert service.asked == ["없는시", "없는", "없는특별시", "없는광역시"]


@pytest.mark.parametrize("city", ["", " ", ",", ", Texas"])
async def test_no_name_at_all_is_an_unknown_city(city: str) -> None:
    with served(Gazetteer({}).app) as url:
        assert await refusal(url, city) == f"No city called {city!r} was found. Try its English name."


async def test_an_empty_list_of_places_is_an_unknown_city() -> None:
    with served(answering(JSONResponse({"results": []}))) as url:
        assert await refusal(url) == "No city called 'Seoul' was found. Try its English name."


async def test_a_service_that_is_down_is_a_sentence_in_the_language_of_the_city() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert await refusal(nobody) == NO_ANSWER
    assert await refusal(nobody, "서울") == "지금은 날씨 서비스가 응답하지 않습니다."


def test_every_condition_has_a_name_of_its_own_in_both_languages() -> None:
    for conditions in (ENGLISH.conditions, KOREAN.conditions):
        assert len(set(conditions.values())) == len(conditions)
    assert all(words_for(condition) is KOREAN for condition in KOREAN.conditions.values())


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_an_error_status_is_a_sentence(open_meteo: OpenMeteo, open_meteo_url: str, status: int) -> None:
    open_meteo.status = status
    assert await refusal(open_meteo_url) == NO_ANSWER


async def test_a_geocoder_that_works_does_not_hide_a_forecast_that_fails() -> None:
    app = answering(JSONResponse({"results": [SEOUL]}), JSONResponse({"error": True}, status_code=500))
    with served(app) as url:
        assert await refusal(url) == NO_ANSWER


@pytest.mark.parametrize("answer", ["", "<html>maintenance</html>", '{"results": [', '"text"'])
async def test_an_answer_that_is_no_json_object_is_a_sentence(answer: str) -> None:
    with served(answering(PlainTextResponse(answer))) as url:
        assert await refusal(url) == NO_ANSWER


@pytest.mark.parametrize(
    ("search", "forecast"),
    [
        pytest.param(None, FORECAST, id="null for places"),
        pytest.param([1], FORECAST, id="list for places"),
        pytest.param({"results": ["Seoul"]}, FORECAST, id="place is text"),
        pytest.param({"results": [{"name": "Seoul"}]}, FORECAST, id="place without position"),
        pytest.param({"results": [SEOUL]}, {}, id="forecast without anything"),
        pytest.param({"results": [SEOUL]}, {**FORECAST, "current": {}}, id="forecast without current values"),
        pytest.param({"results": [SEOUL]}, {**FORECAST, "daily": None}, id="forecast without days"),
        pytest.param({"results": [SEOUL]}, {**FORECAST, "daily": FORECAST["daily"] | {"time": []}}, id="uneven days"),
    ],
)
async def test_json_of_another_shape_is_a_sentence(search: object, forecast: object) -> None:
    with served(answering(JSONResponse(search), JSONResponse(forecast))) as url:
        assert await refusal(url) == NO_ANSWER


async def test_a_weather_code_without_a_name_is_told_as_a_number() -> None:
    forecast = {**FORECAST, "current": FORECAST["current"] | {"weather_code": 42}}
    with served(Gazetteer({"서울": [SEOUL_IN_KOREAN], "Seoul": [SEOUL]}, forecast).app) as url:
        assert "현지 시각): 날씨 코드 42, 기온 5.3 °C" in await report(url, "서울")
        assert "local time): weather code 42, 5.3 °C" in await report(url, "Seoul")


async def test_units_are_those_of_the_service() -> None:
    forecast = {
        **FORECAST,
        "current_units": FORECAST["current_units"] | {"temperature_2m": "°F"},
        "daily_units": FORECAST["daily_units"] | {"temperature_2m_max": "°F"},
    }
    with served(Gazetteer({"Seoul": [SEOUL]}, forecast).app) as url:
        text = await report(url, "Seoul")
    assert "light rain, 5.3 °F, feels like 2.1 °C" in text
    assert "1.2 to 8.4 °F, chance of rain 70 %" in text
