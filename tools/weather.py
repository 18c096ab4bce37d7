"""The weather of a city in a few lines of text, from Open-Meteo's keyless APIs.

Source: https://open-meteo.com/en/docs/geocoding-api and https://open-meteo.com/en/docs
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from tools.failure import ToolFailure

FORECAST_DAYS = 3
HANGUL = re.compile(r"[가-힣]")
KOREAN_CITY_SUFFIX = re.compile(r"(특별자치시|특별시|광역시|시|군)$")

CURRENT = "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,wind_speed_10m"
DAILY = "weather_code,temperature_2m_max,temperature_2m_min,precipitation_probability_max"

# WMO code table 4677, in the subset that Open-Meteo uses.
CONDITIONS: Mapping[int, str] = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "freezing fog",
    51: "light drizzle",
    53: "drizzle",
    55: "heavy drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light rain showers",
    81: "rain showers",
    82: "violent rain showers",
    85: "light snow showers",
    86: "snow showers",
    95: "thunderstorm",
    96: "thunderstorm with light hail",
    99: "thunderstorm with hail",
}


async def weather_report(client: httpx.AsyncClient, city: str, *, geocoding_url: str, forecast_url: str) -> str:
    """Return the weather now and the forecast of three days as text, every number with its unit.

    Raises:
        ToolFailure: no such city, or the service did not answer.
    """
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
        return "\n".join([_now(place, forecast), *_days(forecast)])
    except (httpx.HTTPError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ToolFailure("The weather service does not answer right now.") from error


async def find_place(client: httpx.AsyncClient, city: str, geocoding_url: str) -> dict[str, Any]:
    """Return the geocoder's best match for a city named in Korean or English, with or without its country."""
    name, _, region = (part.strip() for part in city.partition(","))
    for spelling in _spellings(name):
        found = await _get_json(
            client,
            f"{geocoding_url.rstrip('/')}/v1/search",
            {
                "name": spelling,
                "count": 10,
                "language": "ko" if HANGUL.search(name) else "en",
                "format": "json",
            },
        )
        if places := found.get("results"):
            return next((place for place in places if _lies_in(place, region)), places[0])
    raise ToolFailure(f"No city called {city!r} was found. Try its English name.")


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


def _now(place: Mapping[str, Any], forecast: Mapping[str, Any]) -> str:
    current, units = forecast["current"], forecast["current_units"]

    def value(key: str) -> str:
        return f"{current[key]} {units[key]}"

    where = ", ".join(dict.fromkeys(filter(None, (place.get(key) for key in ("name", "admin1", "country")))))
    return (
        f"{where}, now ({current['time'].replace('T', ' ')} local time): {_condition(current['weather_code'])}, "
        f"{value('temperature_2m')}, feels like {value('apparent_temperature')}, "
        f"humidity {value('relative_humidity_2m')}, precipitation {value('precipitation')}, "
        f"wind {value('wind_speed_10m')}"
    )


def _days(forecast: Mapping[str, Any]) -> Iterator[str]:
    daily, units = forecast["daily"], forecast["daily_units"]
    columns = zip(*(daily[key] for key in ("time", *DAILY.split(","))), strict=True)
    unit = units["temperature_2m_max"]
    for label, (date, code, high, low, rain) in zip(("Today", "Tomorrow", "The day after"), columns, strict=False):
        chance = "" if rain is None else f", chance of rain {rain} %"
        yield f"{label} ({date}): {_condition(code)}, {low} to {high} {unit}{chance}"


def _condition(code: int) -> str:
    return CONDITIONS.get(code, f"weather code {code}")


async def _get_json(client: httpx.AsyncClient, url: str, params: Mapping[str, Any]) -> dict[str, Any]:
    response = await client.get(url, params=dict(params))
    response.raise_for_status()
    return dict(response.json())
