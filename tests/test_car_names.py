"""Laws of class names: their parts are found in both languages, and cars of one model are similar, equivalent names never."""

from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectocar.photos.car_names import CarName, find_similar_pairs, parse_car_name, similarity
from hectocar.photos.classes import build_class_list


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
    assert similarity(parsed, parsed) >= 2.0


def test_similarity_is_symmetric_and_ranks_what_is_shared() -> None:
    """Same model and generation before same model, before same brand and body, before nothing."""
    names = ["3시리즈_G20_2019_2022", "3시리즈_G20_2023_2025", "3시리즈_F30_2013_2018", "아반떼_AD_2016_2018"]
    cars = [parse_car_name(name) for name in names]
    assert similarity(cars[0], cars[1]) > similarity(cars[0], cars[2]) > similarity(cars[0], cars[3]) == 0.0
    brand = [parse_car_name(name) for name in ("Audi_S4_Sedan_2012", "Audi_S6_Sedan_2011", "Audi_R8_Coupe_2012")]
    assert 0.0 < similarity(brand[0], brand[1]) < 2.0
    assert similarity(brand[0], brand[2]) == 0.0
    assert all(similarity(a, b) == similarity(b, a) for a in cars + brand for b in cars + brand)


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
