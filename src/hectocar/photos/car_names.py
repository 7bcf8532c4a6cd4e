"""What a class name says: brand, model, generation, years, trim, from names such as `뉴_A6_2012_2014`,
`K5_하이브리드_3세대_2020_2023` or `Audi_S5_Coupe_2012`. A name that follows no custom is a model with nothing else.
"""

import re
from dataclasses import dataclass
from itertools import combinations

from hectocar.photos.classes import ClassList

_BRANDS = (
    "AM_General Acura Alfa_Romeo Aston_Martin Audi BMW Bentley Bugatti Buick Cadillac Chevrolet Chrysler "
    "Daewoo Dodge Eagle FIAT Ferrari Fisker Ford GMC Genesis Geo HUMMER Honda "
    "Hyundai Infiniti Isuzu Jaguar Jeep Kia Lamborghini Land_Rover Lexus Lincoln MINI Maserati "
    "Maybach Mazda McLaren Mercedes-Benz Mitsubishi Nissan Peugeot Plymouth Porsche Ram Renault Rolls-Royce "
    "Scion Spyker Subaru Suzuki Tesla Toyota Volkswagen Volvo smart "
)
_NEWNESS = {"뉴", "더", "올", "디", "신형", "올뉴", "베리", "리얼", "넥스트", "뷰티풀", "All", "New", "The"}
"""Words by which a maker says that a model is new: they tell editions apart, not models."""
_TRIMS = {
    "하이브리드",
    "일렉트릭",
    "일렉트리파이드",
    "EV",
    "쿠페",
    "세단",
    "컨버터블",
    "왜건",
    "해치백",
    "그란쿠페",
    "투어러",
    "스포츠",
    "GT",
    "칸",
    "에어",
    "아머",
    "N",
    "R",
    "Hybrid",
    "Sedan",
    "Coupe",
    "Convertible",
    "SUV",
    "Hatchback",
    "Wagon",
    "Van",
    "Minivan",
    "Cab",
    "Pickup",
    "Roadster",
    "Cargo",
    "Crew",
    "Extended",
    "Regular",
    "Quad",
    "Club",
}
_YEAR = re.compile(r"(19|20)\d\d")
_GENERATION = re.compile(r"\d+세대|(?=.*[A-Z])[A-Z0-9]{2,5}[a-z]?|9[79]\d")
"""Ordinals, and makers' codes such as F30, W213, CN7, 4M, L663; the Porsches have only digits."""
_GLUED_NEW = re.compile(r"(올뉴|뉴)(?=[A-Z0-9가-힣]{2})")
_GLUED_CODE = re.compile(r"([A-Z]{2})(?=[가-힣]{2})|(?<=[가-힣]{2})([A-Z]{1,2})$")


@dataclass(frozen=True)
class CarName:
    """The parts of a name; what is absent is empty."""

    brand: str
    model: tuple[str, ...]
    generation: str
    years: tuple[int, int] | None
    """First and last model year, equal where the name gives one."""
    trim: frozenset[str]
    """Body, drive and edition words."""


def parse_car_name(name: str) -> CarName:
    """Takes a name apart; every name parses."""
    tokens, brand = name.split("_"), ""
    years: list[int] = []
    while len(tokens) > 1 and len(years) < 2 and _YEAR.fullmatch(tokens[-1]):
        years.insert(0, int(tokens.pop()))
    for candidate in _BRANDS.split():
        words = candidate.split("_")
        if tokens[: len(words)] == words and len(tokens) > len(words):
            brand, tokens = candidate, tokens[len(words) :]
            break
    trim: set[str] = set()
    while len(tokens) > 1 and tokens[0] in _NEWNESS:
        trim.add(tokens.pop(0))
    if glued := _GLUED_NEW.match(tokens[0]):
        trim.add(glued[1])
        tokens[0] = tokens[0][glued.end() :]
    generation = ""
    if code := _GLUED_CODE.search(tokens[0]):
        tokens[0] = tokens[0].replace(code[0], "")
        if code[0] in _TRIMS:
            trim.add(code[0])
        else:
            generation = code[0]
    elif len(tokens) > 1 and not brand and re.fullmatch(r"[A-Z]{2}", tokens[0]) and re.match(r"[가-힣]", tokens[1]):
        generation = tokens.pop(0)
    model = [tokens[0]]
    for token in tokens[1:]:
        if token in _TRIMS or token in _NEWNESS:
            trim.add(token)
        elif not brand and not generation and _GENERATION.fullmatch(token):
            generation = token
        elif not trim and not generation:
            model.append(token)
        else:
            trim.add(token)
    span = (years[0], years[-1]) if years else None
    return CarName(brand, tuple(model), generation, span, frozenset(trim))


def similarity(first: CarName, second: CarName) -> float:
    """0 for cars of different models, more the more they share: model words, generation, trim, years.

    Names of one brand and one body are similar too, less so: `Audi_S4_Sedan_2012` and `Audi_S6_Sedan_2011`.
    """
    gap = 10 if first.years is None or second.years is None else _years_between(first.years, second.years)
    closeness = 1.0 / (1.0 + gap)
    if first.brand == second.brand and first.model[0] == second.model[0]:
        same_model = 1.0 if first.model == second.model else 0.0
        same_generation = 1.0 if first.generation and first.generation == second.generation else 0.0
        same_trim = 0.5 if first.trim == second.trim else 0.0
        return 2.0 + same_model + same_generation + same_trim + closeness
    if first.brand and first.brand == second.brand and first.trim == second.trim and gap <= 3:
        return closeness
    return 0.0


def _years_between(first: tuple[int, int], second: tuple[int, int]) -> int:
    return max(0, max(first[0], second[0]) - min(first[1], second[1]))


def find_similar_pairs(classes: ClassList, max_pairs: int) -> list[tuple[int, int]]:
    """Pairs of trained classes whose names are similar, most similar first; equivalent names are one class, never a pair."""
    parsed = [[parse_car_name(name) for name in names] for names in classes.members]
    scored = []
    for g, h in combinations(range(classes.num_trained), 2):
        score = max(similarity(a, b) for a in parsed[g] for b in parsed[h])
        if score > 0.0:
            scored.append((-score, g, h))
    return [(g, h) for _, g, h in sorted(scored)[:max_pairs]]
