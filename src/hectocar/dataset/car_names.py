"""What a class name says: brand, model, generation, years, trim, from names such as `뉴_A6_2012_2014`,
`K5_하이브리드_3세대_2020_2023` or `Audi_S5_Coupe_2012`. A name that follows no custom is a model with nothing else.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.dataset.classes import ClassList

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


_UNKNOWN_GAP_YEARS = 10
"""How far apart names are of which one gives no years."""
_KEPT = 8
"""Times ``max_pairs`` that are held while more are looked for."""


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


class CarTable:
    """Parsed names in columns, so that one is compared with all at once. Legend: N names."""

    def __init__(self, cars: Sequence[CarName]) -> None:
        self.brand_N = _number([car.brand for car in cars])
        self.has_brand_N = np.array([bool(car.brand) for car in cars], dtype=bool)
        self.word_N = _number([car.model[0] for car in cars])
        self.model_N = _number([car.model for car in cars])
        self.generation_N = _number([car.generation for car in cars])
        self.has_generation_N = np.array([bool(car.generation) for car in cars], dtype=bool)
        self.trim_N = _number([car.trim for car in cars])
        self.has_years_N = np.array([car.years is not None for car in cars], dtype=bool)
        self.first_N, self.last_N = (np.array([(car.years or (0, 0))[k] for car in cars], dtype=np.int64) for k in (0, 1))

    def similarity(self, place: int) -> NDArray[np.float64]:
        """(N,) 0 for cars of different models, more the more they share: model words, generation, trim, years.

        Names of one brand and one body are similar too, less so: `Audi_S4_Sedan_2012` and `Audi_S6_Sedan_2011`.
        """
        apart_N = np.maximum(self.first_N, self.first_N[place]) - np.minimum(self.last_N, self.last_N[place])
        known_N = self.has_years_N & self.has_years_N[place]
        gap_N = np.where(known_N, np.maximum(0, apart_N), _UNKNOWN_GAP_YEARS)
        closeness_N = 1.0 / (1.0 + gap_N)
        same_brand_N = self.brand_N == self.brand_N[place]
        same_trim_N = self.trim_N == self.trim_N[place]
        same_generation_N = self.has_generation_N & (self.generation_N == self.generation_N[place])
        same_model_N = 2.0 + (self.model_N == self.model_N[place]) + same_generation_N + 0.5 * same_trim_N + closeness_N
        same_body_N = np.where(self.has_brand_N & same_brand_N & same_trim_N & (gap_N <= 3), closeness_N, 0.0)
        similarity_N: NDArray[np.float64] = np.where(
            same_brand_N & (self.word_N == self.word_N[place]), same_model_N, same_body_N
        )
        return similarity_N


def _number(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """(N,) the same number for equal values."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def find_similar_pairs(classes: ClassList, max_pairs: int) -> list[tuple[int, int]]:
    """Pairs of trained classes whose names are similar, most similar first; equivalent names are one class, never a pair.

    Each class is compared with all later ones at once: 3,200 names take a second.
    """
    cars = CarTable([parse_car_name(name) for names in classes.members for name in names])
    starts = np.cumsum([0, *(len(names) for names in classes.members)])
    best: list[tuple[float, int, int]] = []
    for g in range(classes.num_trained - 1):
        score_N = np.max([cars.similarity(place) for place in range(starts[g], starts[g + 1])], axis=0)
        score_H = np.maximum.reduceat(score_N, starts[:-1])[g + 1 :]
        similar = np.flatnonzero(score_H > 0.0)
        top = similar[np.argsort(-score_H[similar], kind="stable")[:max_pairs]]
        best += [(-float(score_H[h]), g, g + 1 + int(h)) for h in top]
        if len(best) > _KEPT * max_pairs:
            best = sorted(best)[:max_pairs]
    return [(g, h) for _, g, h in sorted(best)[:max_pairs]]
