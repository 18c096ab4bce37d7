"""The words of a weather report in English and Korean; small models relay text better than they translate it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HANGUL = re.compile(r"[가-힣]")

# WMO code table 4677, in the subset that Open-Meteo uses; in Korean as the KMA puts it.
CONDITIONS: Mapping[int, tuple[str, str]] = {
    0: ("clear sky", "맑음"),
    1: ("mainly clear", "대체로 맑음"),
    2: ("partly cloudy", "구름 조금"),
    3: ("overcast", "흐림"),
    45: ("fog", "안개"),
    48: ("freezing fog", "어는 안개"),
    51: ("light drizzle", "약한 이슬비"),
    53: ("drizzle", "이슬비"),
    55: ("heavy drizzle", "강한 이슬비"),
    56: ("light freezing drizzle", "약한 어는 이슬비"),
    57: ("freezing drizzle", "어는 이슬비"),
    61: ("light rain", "약한 비"),
    63: ("rain", "비"),
    65: ("heavy rain", "강한 비"),
    66: ("light freezing rain", "약한 어는 비"),
    67: ("freezing rain", "어는 비"),
    71: ("light snow", "약한 눈"),
    73: ("snow", "눈"),
    75: ("heavy snow", "강한 눈"),
    77: ("snow grains", "싸락눈"),
    80: ("light rain showers", "약한 소나기"),
    81: ("rain showers", "소나기"),
    82: ("violent rain showers", "강한 소나기"),
    85: ("light snow showers", "약한 소낙눈"),
    86: ("snow showers", "소낙눈"),
    95: ("thunderstorm", "뇌우"),
    96: ("thunderstorm with light hail", "약한 우박을 동반한 뇌우"),
    99: ("thunderstorm with hail", "우박을 동반한 뇌우"),
}


@dataclass(frozen=True, kw_only=True)
class Words:
    """The sentences of one language, as formats."""

    language: str
    now: str
    day: str
    chance: str
    days: Sequence[str]
    conditions: Mapping[int, str]
    condition: str
    """For a code that the table does not have."""
    unknown_city: str
    no_answer: str


ENGLISH = Words(
    language="en",
    now="{where}, now ({time} local time): {condition}, {temperature}, feels like {felt}, humidity {humidity}, "
    "precipitation {precipitation}, wind {wind}",
    day="{day} ({date}): {condition}, {low} to {high}",
    chance=", chance of rain {} %",
    days=("Today", "Tomorrow", "The day after"),
    conditions={code: english for code, (english, _) in CONDITIONS.items()},
    condition="weather code {}",
    unknown_city="No city called {!r} was found. Try its English name.",
    no_answer="The weather service does not answer right now.",
)
KOREAN = Words(
    language="ko",
    now="{where}, 현재({time} 현지 시각): {condition}, 기온 {temperature}, 체감 {felt}, 습도 {humidity}, "
    "강수량 {precipitation}, 바람 {wind}",
    day="{day}({date}): {condition}, {low}–{high}",
    chance=", 비 올 확률 {} %",
    days=("오늘", "내일", "모레"),
    conditions={code: korean for code, (_, korean) in CONDITIONS.items()},
    condition="날씨 코드 {}",
    unknown_city="도시를 찾지 못했습니다: {!r}. 영어 이름으로 다시 찾아 보세요.",
    no_answer="지금은 날씨 서비스가 응답하지 않습니다.",
)


def words_for(text: str) -> Words:
    """Return the words of the language that a text is written in."""
    return KOREAN if HANGUL.search(text) else ENGLISH
