"""What is served has the distribution that was fitted: on one network per photograph, served on the mean of several."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hectocar.calibration.blend import Blend, ViewBlend
from hectocar.calibration.chain import Expected, Level
from hectocar.calibration.floor import DOUBT_NAMES, Floor, FloorLink, measure_doubts
from hectocar.calibration.link import Answer, Side, average_answers, join_models, normalize_logits, pair_folds
from hectocar.calibration.neighbours import NeighbourLink
from hectocar.calibration.temperature import Temperature, TemperatureLink
from hectocar.scoring.arrays import softmax

NUM_PHOTOS, NUM_CLASSES, NUM_FOLDS, NUM_VIEWS = 1500, 12, 5, 3
PRIOR = np.full(NUM_CLASSES, 1 / NUM_CLASSES)
LOOKS = np.full((NUM_PHOTOS, 2), 100.0, dtype=np.float32)
BRIGHTNESS = 110.0


def make_folds(seed: int = 0, own: float = 1.0) -> list[Answer]:
    """Networks that err together (the photograph), each by itself, and each view by itself; neighbours likewise."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, NUM_CLASSES, NUM_PHOTOS)
    hardness_N1 = rng.uniform(0.3, 2.0, (NUM_PHOTOS, 1))
    shared = 3.0 * np.eye(NUM_CLASSES)[label_N] + hardness_N1 * rng.normal(size=(NUM_PHOTOS, NUM_CLASSES))
    near_N1 = 0.6 + 0.1 * rng.normal(size=(NUM_PHOTOS, 1))
    folds = []
    for _ in range(NUM_FOLDS):
        network = shared + own * hardness_N1 * rng.normal(size=shared.shape)
        sources = tuple(normalize_logits(network + 0.8 * own * rng.normal(size=shared.shape)) for _ in range(NUM_VIEWS))
        closeness = near_N1 + 0.05 * own * rng.normal(size=(NUM_PHOTOS, 4))
        folds.append(Answer(sources, rng.dirichlet(np.ones(NUM_CLASSES), NUM_PHOTOS), closeness))
    return folds


def make_level() -> Level:
    """Its floor follows confidence and, most of all, how much the views disagree."""
    slope_of = {"confidence": -0.3, "entropy": 0.2, "nearest": -0.2, "disagreement": 1.0}
    scale_of = {"disagreement": 0.06}
    slopes = tuple(slope_of.get(name, 0.0) for name in DOUBT_NAMES)
    scales = tuple(scale_of.get(name, 1.0) for name in DOUBT_NAMES)
    means = (0.0,) * len(DOUBT_NAMES)
    floor = FloorLink(
        Temperature(0.0, tuple(0.3 * slope for slope in slopes), means, scales), Floor(-5.0, slopes, means, scales)
    )
    links = (
        ViewBlend(Blend((0.5, 0.3, 0.2), "geometric")),
        TemperatureLink(Temperature(0.1, (), (), ())),
        NeighbourLink(Blend((0.8, 0.2), "arithmetic"), Temperature(-0.1, (), (), ())),
        floor,
    )
    return Level(views=("plain", "mirror", "zoom"), cost=3.0, expected=Expected(1.0, 0.1, None, None), links=links)


def without_floor(level: Level) -> Level:
    return replace(level, links=level.links[:-1])


def side_of(answer: Answer) -> Side:
    return Side(answer, LOOKS, PRIOR, BRIGHTNESS)


def doubts_of(level: Level, answer: Answer) -> NDArray[np.float64]:
    """By the level's chain before the floor, written out."""
    log_probs = np.log(without_floor(level).apply([[answer]], LOOKS, PRIOR, BRIGHTNESS))
    return measure_doubts(log_probs, side_of(answer))


def verdicts_of(level: Level, answer: Answer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) log temperature and (N,) share that the level's floor asks for, written out."""
    link = level.find(FloorLink)
    assert isinstance(link, FloorLink)
    log_probs = np.log(without_floor(level).apply([[answer]], LOOKS, PRIOR, BRIGHTNESS))
    before = doubts_of(level, answer)
    after = measure_doubts(link.temperature.apply(log_probs, before), side_of(answer))
    return np.log(link.temperature.temperatures(before, NUM_PHOTOS)), link.floor.shares(after)


def test_each_fold_says_its_doubts_and_the_mean_of_folds_answers() -> None:
    """The served answer, written out slowly."""
    level, folds = make_level(), make_folds()
    log_probs = np.log(without_floor(level).apply([folds], LOOKS, PRIOR, BRIGHTNESS))
    verdicts = [verdicts_of(level, fold) for fold in folds]
    temperature_N = np.exp(np.mean([log_temperature for log_temperature, _ in verdicts], axis=0))
    share_N = np.mean([share for _, share in verdicts], axis=0)
    slow = (1 - share_N[:, None]) * softmax(log_probs / temperature_N[:, None]) + share_N[:, None] * PRIOR
    np.testing.assert_allclose(level.apply([folds], LOOKS, PRIOR, BRIGHTNESS), slow, rtol=1e-9, atol=1e-12)


def test_served_doubts_are_distributed_as_those_that_were_fitted() -> None:
    """What floor and temperature look at in service has, over photographs, the distribution of one network per photograph, and
    what they ask for is on average the same. Folds averaged first disagree with themselves four times less."""
    level, folds = make_level(), make_folds()
    rng, rows = np.random.default_rng(1), np.arange(NUM_PHOTOS)
    one_each = rng.integers(0, NUM_FOLDS, NUM_PHOTOS)  # out of fold: one network per photograph
    served, averaged = np.stack([doubts_of(level, fold) for fold in folds]), doubts_of(level, average_answers(folds))
    fitted = served[one_each, rows]
    for column, name in enumerate(DOUBT_NAMES[:8]):
        assert stats.ks_2samp(served[:, :, column].ravel(), fitted[:, column]).statistic < 0.03, name
        assert served[:, :, column].std() == pytest.approx(fitted[:, column].std(), rel=0.05), name
    disagreement = DOUBT_NAMES.index("disagreement")
    assert stats.ks_2samp(averaged[:, disagreement], fitted[:, disagreement]).statistic > 0.5
    assert averaged[:, disagreement].mean() < 0.25 * fitted[:, disagreement].mean()

    verdicts = np.stack([verdicts_of(level, fold) for fold in folds])
    for asked, old in zip(verdicts.swapaxes(0, 1), verdicts_of(level, average_answers(folds)), strict=True):
        alone, error = asked[one_each, rows], asked[one_each, rows].std() / np.sqrt(NUM_PHOTOS)
        assert abs(asked.mean() - alone.mean()) < 3 * error
        assert abs(old.mean() - alone.mean()) > 3 * error


@pytest.mark.parametrize("count", [1, 3])
def test_equal_networks_answer_as_one(count: int) -> None:
    """The mean of copies is the copy: nothing is doubted more or less for being asked several times."""
    level, fold = make_level(), make_folds()[0]
    one = level.apply([[fold]], LOOKS, PRIOR, BRIGHTNESS)
    np.testing.assert_allclose(level.apply([[fold] * count], LOOKS, PRIOR, BRIGHTNESS), one, rtol=1e-9, atol=1e-12)


def test_the_order_of_folds_does_not_matter() -> None:
    level, folds = make_level(), make_folds()
    first = level.apply([folds], LOOKS, PRIOR, BRIGHTNESS)
    np.testing.assert_allclose(level.apply([folds[::-1]], LOOKS, PRIOR, BRIGHTNESS), first, rtol=1e-9, atol=1e-12)


def test_a_network_of_each_model_is_asked_at_a_time() -> None:
    """Two models of three and two folds: three pairs, the shorter one begins again; sources lie models outside."""
    three, two = make_folds(0)[:3], make_folds(1)[:2]
    pairs = pair_folds([three, two])
    for number, (left, right) in enumerate(((0, 0), (1, 1), (2, 0))):
        wanted = join_models([three[left], two[right]])
        assert all(np.array_equal(a, b) for a, b in zip(pairs[number].sources, wanted.sources, strict=True))
        assert np.array_equal(pairs[number].sources[0], three[left].sources[0])
        assert np.array_equal(pairs[number].sources[NUM_VIEWS], two[right].sources[0])
        assert np.array_equal(pairs[number].closeness, (three[left].closeness + two[right].closeness) / 2)


def test_rows_are_probabilities() -> None:
    for folds in (make_folds(2), make_folds(3, own=30.0)):
        probs = make_level().apply([folds], LOOKS, PRIOR, BRIGHTNESS)
        assert probs.min() >= 0.0
        np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=0.0, atol=1e-12)
