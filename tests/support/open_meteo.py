"""A stub of Open-Meteo's two services, with the shapes of its documentation. Seoul is the only city it knows."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SEOUL: dict[str, Any] = {
    "id": 1835848,
    "name": "Seoul",
    "latitude": 37.566,
    "longitude": 126.9784,
    "elevation": 38.0,
    "feature_code": "PPLC",
    "country_code": "KR",
    "timezone": "Asia/Seoul",
    "population": 10349312,
    "country": "South Korea",
    "admin1": "Seoul",
}
SEOUL_IN_KOREAN = SEOUL | {"name": "서울특별시", "country": "대한민국", "admin1": "서울특별시"}

FORECAST: dict[str, Any] = {
    "latitude": 37.55,
    "longitude": 127.0,
    "timezone": "Asia/Seoul",
    "timezone_abbreviation": "GMT+9",
    "utc_offset_seconds": 32400,
    "current_units": {
        "time": "iso8601",
        "interval": "seconds",
        "temperature_2m": "°C",
        "apparent_temperature": "°C",
        "relative_humidity_2m": "%",
        "precipitation": "mm",
        "weather_code": "wmo code",
        "wind_speed_10m": "km/h",
    },
    "current": {
        "time": "2026-11-22T20:15",
        "interval": 900,
        "temperature_2m": 5.3,
        "apparent_temperature": 2.1,
        "relative_humidity_2m": 60,
        "precipitation": 0.2,
        "weather_code": 61,
        "wind_speed_10m": 12.4,
    },
    "daily_units": {
        "time": "iso8601",
        "weather_code": "wmo code",
        "temperature_2m_max": "°C",
        "temperature_2m_min": "°C",
        "precipitation_probability_max": "%",
    },
    "daily": {
        "time": ["2026-11-22", "2026-11-23", "2026-11-24"],
        "weather_code": [61, 0, 73],
        "temperature_2m_max": [8.4, 6.0, 1.5],
        "temperature_2m_min": [1.2, -1.0, -4.3],
        "precipitation_probability_max": [70, 10, None],
    },
}


class OpenMeteo:
    """Both services under one address; `searches` and `forecasts` are the queries they were asked."""

    def __init__(self) -> None:
        self.searches: list[dict[str, str]] = []
        self.forecasts: list[dict[str, str]] = []
        self.status = 200
        self.app = Starlette(routes=[Route("/v1/search", self._search), Route("/v1/forecast", self._forecast)])

    async def _search(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.searches.append(query)
        # As the real one: no "results" key at all where nothing was found.
        known = {"seoul": SEOUL, "서울": SEOUL_IN_KOREAN, "서울특별시": SEOUL_IN_KOREAN}
        place = known.get(query["name"].casefold())
        found = {"results": [place]} if place else {}
        return JSONResponse({**found, "generationtime_ms": 0.5}, status_code=self.status)

    async def _forecast(self, request: Request) -> Response:
        self.forecasts.append(dict(request.query_params))
        return JSONResponse(FORECAST, status_code=self.status)
