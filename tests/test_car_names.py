"""Laws of class names: their parts are found in both languages, and cars of one model are similar, equivalent names never."""

import time
from importlib import resources
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.dataset.car_names import CarName, CarTable, find_similar_pairs, parse_car_name
from hectocar.dataset.classes import ClassList, build_class_list


def similarity(first: CarName, second: CarName) -> float:
    """Two names compared by plain words: what the table must give for each pair."""
    gap = 10
    if first.years and second.years:
        gap = max(0, max(first.years[0], second.years[0]) - min(first.years[1], second.years[1]))
    closeness = 1.0 / (1.0 + gap)
    if first.brand == second.brand and first.model[0] == second.model[0]:
        same_model = 1.0 if first.model == second.model else 0.0
        same_generation = 1.0 if first.generation and first.generation == second.generation else 0.0
        same_trim = 0.5 if first.trim == second.trim else 0.0
        return 2.0 + same_model + same_generation + same_trim + closeness
    if first.brand and first.brand == second.brand and first.trim == second.trim and gap <= 3:
        return closeness
    return 0.0


def find_slowly(classes: ClassList, max_pairs: int) -> list[tuple[int, int]]:
    """Every pair by itself."""
    parsed = [[parse_car_name(name) for name in names] for names in classes.members]
    scored = []
    for g, h in combinations(range(classes.num_trained), 2):
        score = max(similarity(a, b) for a in parsed[g] for b in parsed[h])
        if score > 0.0:
            scored.append((-score, g, h))
    return [(g, h) for _, g, h in sorted(scored)[:max_pairs]]


@pytest.mark.parametrize(
    ("name", "brand", "model", "generation", "years", "trim"),
    [
        ("뉴_A6_2012_2014", "", ("A6",), "", (2012, 2014), {"뉴"}),
        ("K5_하이브리드_3세대_2020_2023", "", ("K5",), "3세대", (2020, 2023), {"하이브리드"}),
        ("Audi_S5_Coupe_2012", "Audi", ("S5",), "", (2012, 2012), {"Coupe"}),
        ("2008_2015_2017", "", ("2008",), "", (2015, 2017), set()),
        ("YF쏘나타_하이브리드_2011_2015", "", ("쏘나타",), "YF", (2011, 2015), {"하이브리드"}),
        ("LF_쏘나타_2015_2017", "", ("쏘나타",), "LF", (2015, 2017), set()),
        ("디_올뉴니로EV_2023_2024", "", ("니로",), "", (2023, 2024), {"디", "올뉴", "EV"}),
        ("더_올뉴G80_2021_2024", "", ("G80",), "", (2021, 2024), {"더", "올뉴"}),
        ("911_992_2020_2024", "", ("911",), "992", (2020, 2024), set()),
        ("AM_General_Hummer_SUV_2000", "AM_General", ("Hummer",), "", (2000, 2000), {"SUV"}),
        ("BMW_3_Series_Wagon_2012", "BMW", ("3", "Series"), "", (2012, 2012), {"Wagon"}),
        ("car 7", "", ("car 7",), "", None, set()),
    ],
)
def test_names_come_apart(
    name: str, brand: str, model: tuple[str, ...], generation: str, years: tuple[int, int] | None, trim: set[str]
) -> None:
    """Brand, model, generation, years and trim of names as the contest and cars196 write them."""
    assert parse_car_name(name) == CarName(brand, model, generation, years, frozenset(trim))


@given(st.text(min_size=1, max_size=30))
def test_every_name_parses(name: str) -> None:
    """Any text is a name; a car is at least as similar to itself as to a name that shares nothing."""
    parsed = parse_car_name(name)
    assert CarTable([parsed]).similarity(0)[0] >= 2.0


def test_similarity_is_symmetric_and_ranks_what_is_shared() -> None:
    """Same model and generation before same model, before same brand and body, before nothing."""
    names = ["3시리즈_G20_2019_2022", "3시리즈_G20_2023_2025", "3시리즈_F30_2013_2018", "아반떼_AD_2016_2018"]
    cars = [parse_car_name(name) for name in names]
    first = CarTable(cars).similarity(0)
    assert first[1] > first[2] > first[3] == 0.0
    brand = [parse_car_name(name) for name in ("Audi_S4_Sedan_2012", "Audi_S6_Sedan_2011", "Audi_R8_Coupe_2012")]
    first = CarTable(brand).similarity(0)
    assert 0.0 < first[1] < 2.0
    assert first[2] == 0.0
    table = np.array([CarTable(cars + brand).similarity(place) for place in range(7)])
    assert (table == table.T).all()
    assert table.tolist() == [[similarity(a, b) for b in cars + brand] for a in cars + brand]


def test_equivalent_names_are_never_a_pair() -> None:
    """Names of one car are one trained class, and a class is no pair with itself."""
    names = ["K5_3세대_하이브리드_2020_2022", "K5_하이브리드_3세대_2020_2023", "K5_3세대_2020_2023"]
    apart = build_class_list(names)
    joined = build_class_list(names, [(names[0], names[1])])
    assert len(find_similar_pairs(apart, 300)) == 3
    pairs = find_similar_pairs(joined, 300)
    assert [{joined.label(g), joined.label(h)} for g, h in pairs] == [{"K5_3세대_2020_2023", " = ".join(names[:2])}]


def test_the_contest_has_its_300_pairs() -> None:
    """Enough similar names among the contest's 396; each pair once, ordered, within the limit."""
    text = (resources.files("hectocar.contest") / "class_names.txt").read_text("utf-8")
    classes = build_class_list(text.split())
    pairs = find_similar_pairs(classes, 300)
    assert len(set(pairs)) == 300
    assert all(g < h for g, h in pairs)
    labels = {(classes.label(g), classes.label(h)) for g, h in pairs}
    assert ("X7_G07_2019_2022", "X7_G07_2023_2025") in labels


WORDS = st.sampled_from(["Audi", "BMW", "A6", "S4", "K5", "뉴", "Coupe", "Sedan", "3세대", "G20", "2012", "2014", "2019", "7"])


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.lists(WORDS, min_size=1, max_size=5).map("_".join), min_size=2, max_size=14, unique=True),
    max_pairs=st.integers(0, 12),
    data=st.data(),
)
def test_pairs_are_those_of_comparing_all_with_all(names: list[str], max_pairs: int, data: st.DataObject) -> None:
    """The same pairs in the same order as the plain loop over all pairs, equivalent names included."""
    pairs = [(names[0], data.draw(st.sampled_from(names[1:])))] if data.draw(st.booleans()) else []
    classes = build_class_list(names, pairs)
    assert find_similar_pairs(classes, max_pairs) == find_slowly(classes, max_pairs)


@pytest.mark.parametrize("name", ["class_{k:04d}", "Audi_A{k}_Sedan_2012", "car{k}"])
def test_thousands_of_names_take_seconds(name: str) -> None:
    """3,200 names took 41 s a fold, whatever they were called."""
    classes = build_class_list([name.format(k=k) for k in range(3200)])
    start = time.process_time()
    assert len(find_similar_pairs(classes, 300)) == (0 if name == "car{k}" else 300)
    assert time.process_time() - start < 5
