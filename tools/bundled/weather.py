"""The weather of a city in a few lines of text, from Open-Meteo's keyless APIs.

Source: https://open-meteo.com/en/docs/geocoding-api and https://open-meteo.com/en/docs
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from tools.bundled.failure import ToolFailure
from tools.bundled.weather_words import HANGUL, Words, words_for

FORECAST_DAYS = 3
KOREAN_CITY_SUFFIX = re.compile(r"(특별자치시|특별시|광역시|시|군)$")

CURRENT = "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,wind_speed_10m"
DAILY = "weather_code,temperature_2m_max,temperature_2m_min,precipitation_probability_max"


async def weather_report(client: httpx.AsyncClient, city: str, *, geocoding_url: str, forecast_url: str) -> str:
    """Return the weather now and the forecast of three days as text, every number with its unit.

    It is in Korean where the city's name is.

    Raises:
        ToolFailure: no such city, or the service did not answer.
    """
    words = words_for(city)
    try:
        place = await find_place(client, city, geocoding_url)
        forecast = await _get_json(
            client,
            f"{forecast_url.rstrip('/')}/v1/forecast",
            {
                "latitude": place["latitude"],
                "longitude": place["longitude"],
                "current": CURRENT,
                "daily": DAILY,
                "timezone": "auto",
                "forecast_days": FORECAST_DAYS,
            },
        )
        return "\n".join([_now(words, place, forecast), *_days(words, forecast)])
    except (httpx.HTTPError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ToolFailure(words.no_answer) from error


async def find_place(client: httpx.AsyncClient, city: str, geocoding_url: str) -> dict[str, Any]:
    """Return the geocoder's best match for a city named in Korean or English, with or without its country."""
    name, _, region = (part.strip() for part in city.partition(","))
    words = words_for(city)
    for spelling in _spellings(name):
        found = await _get_json(
            client,
            f"{geocoding_url.rstrip('/')}/v1/search",
            {
                "name": spelling,
                "count": 10,
                "language": words.language,
                "format": "json",
            },
        )
        if places := found.get("results"):
            return next((place for place in places if _lies_in(place, region)), places[0])
    raise ToolFailure(words.unknown_city.format(city))


def _spellings(name: str) -> Iterator[str]:
    """The geocoder matches two-letter names exactly and knows Korean cities as 서울 or 서울특별시, not both ways."""
    yield name
    if HANGUL.search(name):
        bare = KOREAN_CITY_SUFFIX.sub("", name)
        for spelling in (bare, f"{bare}시", f"{bare}특별시", f"{bare}광역시"):
            if spelling and spelling != name:
                yield spelling


def _lies_in(place: Mapping[str, Any], region: str) -> bool:
    """Whether the words behind the comma ("Paris, Texas") name the place's country or region."""
    wanted = region.casefold()
    names = (place.get(key) for key in ("country", "country_code", "admin1"))
    return any(wanted == str(name).casefold() for name in names if name)


def _now(words: Words, place: Mapping[str, Any], forecast: Mapping[str, Any]) -> str:
    current, units = forecast["current"], forecast["current_units"]

    def value(key: str) -> str:
        return f"{current[key]} {units[key]}"

    return words.now.format(
        where=", ".join(dict.fromkeys(filter(None, (place.get(key) for key in ("name", "admin1", "country"))))),
        time=current["time"].replace("T", " "),
        condition=_condition(words, current["weather_code"]),
        temperature=value("temperature_2m"),
        felt=value("apparent_temperature"),
        humidity=value("relative_humidity_2m"),
        precipitation=value("precipitation"),
        wind=value("wind_speed_10m"),
    )


def _days(words: Words, forecast: Mapping[str, Any]) -> Iterator[str]:
    daily, unit = forecast["daily"], forecast["daily_units"]["temperature_2m_max"]
    columns = zip(*(daily[key] for key in ("time", *DAILY.split(","))), strict=True)
    for day, (date, code, high, low, rain) in zip(words.days, columns, strict=False):
        condition = _condition(words, code)
        said = words.day.format(day=day, date=date, condition=condition, low=low, high=f"{high} {unit}")
        yield said + ("" if rain is None else words.chance.format(rain))


def _condition(words: Words, code: int) -> str:
    return words.conditions.get(code) or words.condition.format(code)


async def _get_json(client: httpx.AsyncClient, url: str, params: Mapping[str, Any]) -> dict[str, Any]:
    response = await client.get(url, params=dict(params))
    response.raise_for_status()
    return dict(response.json())
