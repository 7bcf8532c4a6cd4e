"""Laws of the view suspects, on drawn cars that a pooled picture tells from parts, empty places and turned ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hectocar.auditing.view_suspects import NO_CAR, PART_ONLY, ROTATED, ViewSuspects, rank_content_suspects, rank_rotated

Images = NDArray[np.uint8]
SIDE_PX = 32


def draw_car(rng: np.random.Generator) -> Images:
    """Bright sky above a dark road, on it a coloured body with a cabin above and two wheels below."""
    image = np.empty((SIDE_PX, SIDE_PX, 3))
    image[:16], image[16:] = 200.0, 110.0
    colour = rng.uniform(90, 160) * np.array([1.0, 0.3, 0.3])
    left = int(rng.integers(3, 6))
    image[12:22, left : left + 23] = colour
    image[7:12, left + 6 : left + 17] = 0.7 * colour
    for wheel in (left + 3, left + 16):
        image[20:25, wheel : wheel + 5] = 15.0
    return np.clip(image + rng.normal(0.0, 4.0, image.shape), 0, 255).astype(np.uint8)


def embed(images: Images) -> NDArray[np.float32]:
    """Mean colour of 8 x 8 tiles: enough to see what is where."""
    tiles = images.reshape(len(images), 8, SIDE_PX // 8, 8, SIDE_PX // 8, 3).astype(np.float32).mean(axis=(2, 4))
    return tiles.reshape(len(images), -1) / 255.0 - 0.4


def draw_cars(num: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return np.stack([draw_car(rng) for _ in range(num)])


def enlarge(image: Images, top: int, left: int) -> Images:
    """A window of 8 x 8 px, drawn as large as a photograph."""
    return image[top : top + 8, left : left + 8].repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture(scope="module")
def photographs() -> Images:
    """190 cars, 5 close-ups (rows 190 to 194) and 5 places without a car (rows 195 to 199)."""
    cars = draw_cars(200)
    parts = [enlarge(car, 13, 8) for car in cars[190:195]]
    places = [np.full_like(car, 200) for car in cars[195:]]
    return np.stack([*cars[:190], *parts, *places])


def rank(images: Images, *, seed: int = 1) -> ViewSuspects:
    sample = np.arange(0, 150)
    return rank_content_suspects(embed(images), sample, images[sample], embed, seed=seed)


def test_parts_and_empty_places_come_first(photographs: Images) -> None:
    """All that is not a whole car ranks before all cars, and the kinds are told apart."""
    suspects = rank(photographs)
    assert set(suspects.row[:10]) == set(range(190, 200))
    kind_of = dict(zip(suspects.row.tolist(), suspects.kind, strict=True))
    assert [kind_of[row] for row in range(190, 200)] == [PART_ONLY] * 5 + [NO_CAR] * 5
    assert suspects.score[9] > 0.9
    assert np.median(suspects.score) < 0.1


def test_each_photograph_is_listed_once_and_scores_fall(photographs: Images) -> None:
    """The list is a permutation of all photographs, its scores are in [0, 1], and each has its reason."""
    for suspects in (rank(photographs), rank_rotated(embed(photographs), np.arange(50), photographs[:50], embed, seed=1)):
        assert sorted(suspects.row) == list(range(200))
        assert (np.diff(suspects.score) <= 0.0).all()
        assert suspects.score.min() >= 0.0
        assert suspects.score.max() <= 1.0
        assert len(suspects.kind) == len(suspects.reason) == 200
        assert all("p=" in reason for reason in suspects.reason)


def test_an_odd_photograph_in_the_sample_is_found_too(photographs: Images) -> None:
    """A close-up that itself stands for an ordinary view is judged by a detector that was not taught with it."""
    sample = np.arange(50, 200)
    suspects = rank_content_suspects(embed(photographs), sample, photographs[sample], embed, seed=1)
    assert len(set(suspects.row[:10]) & set(range(190, 200))) >= 9


def test_turned_photographs_come_first_with_their_turn() -> None:
    """Photographs turned by 90, 180 and 270 degrees head the list, and the reason says which way."""
    cars = draw_cars(160)
    for row, quarter_turns in ((7, 1), (80, 2), (159, 3)):
        cars[row] = np.rot90(cars[row], quarter_turns)
    sample = np.arange(120)
    suspects = rank_rotated(embed(cars), sample, cars[sample], embed, seed=3)
    assert set(suspects.row[:3]) == {7, 80, 159}
    assert suspects.kind[0] == ROTATED
    assert suspects.score[2] > 0.9 > 0.5 > suspects.score[3]
    reason_of = dict(zip(suspects.row.tolist(), suspects.reason, strict=True))
    assert "quarter to the left" in reason_of[7]
    assert "upside down" in reason_of[80]
    assert "quarter to the right" in reason_of[159]


def test_upright_photographs_are_no_suspects() -> None:
    """Where all stand upright no probability of a turn passes one half."""
    cars = draw_cars(100)
    assert rank_rotated(embed(cars), np.arange(60), cars[:60], embed, seed=3).score.max() < 0.5


def test_a_turned_photograph_is_not_taken_for_a_part(photographs: Images) -> None:
    """Photographs on their side have their own list: in that of the content they come after parts and empty places."""
    images = photographs.copy()
    images[160:165] = [np.rot90(image) for image in images[160:165]]
    assert set(rank(images).row[:10]) == set(range(190, 200))


def test_the_same_seed_gives_the_same_list(photographs: Images) -> None:
    """Crops, folds and textures hang on the seed alone; another seed gives other scores."""
    first, again, other = rank(photographs), rank(photographs), rank(photographs, seed=2)
    assert first.row.tolist() == again.row.tolist()
    assert first.reason == again.reason
    np.testing.assert_array_equal(first.score, again.score)
    assert not np.array_equal(first.score, other.score)


def test_rows_in_another_order_give_the_same_photographs(photographs: Images) -> None:
    """A permutation of the photographs permutes the answer."""
    order = np.random.default_rng(4).permutation(200)
    place_of = np.argsort(order)
    sample = np.arange(150)
    first = rank(photographs)
    other = rank_content_suspects(embed(photographs[order]), place_of[sample], photographs[sample], embed, seed=1)
    score_of_first, score_of_other = np.empty(200), np.empty(200)
    score_of_first[first.row], score_of_other[order[other.row]] = first.score, other.score
    np.testing.assert_allclose(score_of_other, score_of_first, atol=0.01)
    assert set(order[other.row[:10]]) == set(first.row[:10])


def test_photographs_given_are_left_as_they_were(photographs: Images) -> None:
    """Cutting and turning happen on copies."""
    before = photographs.copy()
    rank(photographs)
    np.testing.assert_array_equal(photographs, before)


def test_pictures_are_embedded_in_bounded_batches(photographs: Images) -> None:
    """The network never gets more than 64 pictures at once, square and uint8 like the photographs."""
    shapes = []

    def watch(images: Images) -> NDArray[np.float32]:
        assert images.dtype == np.uint8
        shapes.append(images.shape)
        return embed(images)

    rank_content_suspects(embed(photographs), np.arange(40), photographs[:40], watch, seed=1)
    assert max(shape[0] for shape in shapes) <= 64
    assert {shape[1:] for shape in shapes} == {(SIDE_PX, SIDE_PX, 3)}


def test_samples_that_do_not_fit_are_refused(photographs: Images) -> None:
    """The message says what was given and what is allowed."""
    space = embed(photographs)
    with pytest.raises(ValueError, match="9 sampled photographs; allowed: 10 or more"):
        rank_rotated(space, np.arange(9), photographs[:9], embed, seed=0)
    with pytest.raises(ValueError, match=r"uint8 \(20, 32, 16, 3\); allowed: uint8, \(20, H, W, 3\) with H = W"):
        rank_rotated(space, np.arange(20), photographs[:20, :, :16], embed, seed=0)
    with pytest.raises(ValueError, match=r"float32 .*; allowed: uint8"):
        rank_content_suspects(space, np.arange(20), photographs[:20].astype(np.float32), embed, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="different rows, from 0 to 199"):
        rank_content_suspects(space, np.arange(190, 210), photographs[:20], embed, seed=0)
