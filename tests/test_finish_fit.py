"""Laws of the finish on made-up evidence: planted effects are found, useless links are left out, nothing is leaked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hectocar.calibration.blend import ViewBlend
from hectocar.calibration.chain import LINKS, Finish
from hectocar.calibration.choose_views import choose_views
from hectocar.calibration.evidence import Evidence, take_rows
from hectocar.calibration.fit_chain import FinishReport, fit_finish
from hectocar.calibration.fit_floor import AFFORDABLE, UNUSABLE_SHARES, FloorFitter
from hectocar.calibration.fit_links import ChainFitter
from hectocar.calibration.floor import FloorLink
from hectocar.calibration.link import Answer, average_folds, measure_closeness, normalize_logits
from hectocar.calibration.neighbours import NeighbourLink
from hectocar.calibration.temperature import TemperatureLink
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.finishing.report import total_lines
from hectocar.progress import NoProgress
from hectocar.scoring.arrays import log_softmax
from hectocar.scoring.metrics import standard_error

NUM_CLASSES, NUM_FOLDS, NUM_PHOTOS, K = 6, 3, 360, 10
PRIOR = np.full(NUM_CLASSES, 1 / NUM_CLASSES)
VIEWS = ("plain", "mirror", "junk")


def make_evidence(
    seed: int, conditions: tuple[str, ...], *, overconfidence: float = 3.0, neighbours: float = 0.6, unusable: bool = False
) -> Evidence:
    """Logits with signal and noise, multiplied by the overconfidence; the third view is noise only.

    A share of the neighbours has the right class. Unusable rows are sure of a random class, far from everything.
    """
    rng = np.random.default_rng(seed)
    label = rng.integers(0, NUM_CLASSES, NUM_PHOTOS)
    rows = np.tile(np.arange(NUM_PHOTOS), len(conditions))
    label_N = label[rows]
    signal = 0.0 if unusable else 2.0 * np.eye(NUM_CLASSES)[label_N]
    tables = []
    for view in VIEWS:
        noise = rng.normal(0.0, 1.2, (len(rows), NUM_CLASSES))
        logits = noise if view == "junk" else signal + noise + (3.0 * np.eye(NUM_CLASSES)[0] if unusable else 0.0)
        tables.append(normalize_logits(overconfidence * logits))
    right = rng.random((len(rows), K)) < (0.0 if unusable else neighbours)
    labels = np.where(right, label_N[:, None], rng.integers(0, NUM_CLASSES, (len(rows), K)))
    cosines = -np.sort(-rng.uniform(0.5, 0.9, (len(rows), K)) + (0.4 if unusable else 0.0), axis=1).astype(np.float32)
    looks = np.stack([rng.uniform(60, 160, len(rows)), rng.uniform(0.2, 0.8, len(rows))], axis=1).astype(np.float32)
    condition_N = np.repeat(np.arange(len(conditions)), NUM_PHOTOS)
    return Evidence(
        tuple(tables), (labels,), (cosines,), (cosines - 0.1,), looks, label_N, rows % NUM_FOLDS, rows, condition_N, conditions
    )


def fit(evidence: Evidence, unusable: Evidence) -> FinishReport:
    chosen = choose_views(evidence, unusable, len(VIEWS), 1, [0], PRIOR)
    return fit_finish(
        evidence, unusable, views=VIEWS, costs=[1.0, 1.0, 1.0], chosen=chosen, num_models=1, prior_G=PRIOR, brightness=110.0,
        progress=NoProgress(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return make_evidence(1, ("clean", "shifted"))


@pytest.fixture(scope="module")
def unusable() -> Evidence:
    return make_evidence(2, ("dark", "noise"), unusable=True)


@pytest.fixture(scope="module")
def report(evidence: Evidence, unusable: Evidence) -> FinishReport:
    return fit(evidence, unusable)


def answer_of(evidence: Evidence, finish: Finish) -> Answer:
    """One network's answer in the views of the largest level."""
    votes = finish.neighbours.apply(evidence.neighbour_labels[0], evidence.neighbour_cosines[0], PRIOR)
    tables = (evidence.neighbour_cosines[0], evidence.unseen_cosines[0])
    sources = tuple(evidence.log_probs[VIEWS.index(view)] for view in finish.choose(None).views)
    return Answer(sources, votes, np.hstack([measure_closeness(table) for table in tables]))


def apply(finish: Finish, evidence: Evidence) -> np.ndarray:
    return finish.choose(None).apply([[answer_of(evidence, finish)]], evidence.looks, PRIOR, finish.brightness)


def test_every_planted_gain_is_found(report: FinishReport) -> None:
    """Overconfidence, a second view and neighbours that know something: each link lowers the nested loss and is kept."""
    rows = {row.name: row for row in report.chain}
    for name in ("views, fitted weights", "neighbours"):
        assert rows[name].kept, name
        assert all(gain.mean < -2 * gain.standard_error for gain in rows[name].gains.values()), name
    assert all(gain.mean < -5 * gain.standard_error for gain in report.total.values())
    assert report.finish.choose(None).views == ("plain", "mirror")


def test_calibration_is_mended(report: FinishReport) -> None:
    """The ECE falls to what sampling alone causes, nearly."""
    for found in report.calibration.values():
        assert found.before.ece > 0.1
        assert found.after.ece < found.chance_ece + 0.03


def test_useless_neighbours_are_left_out(unusable: Evidence) -> None:
    """Neighbours of random classes do not pay: the link's row says no, and the delivered level has none."""
    report = fit(make_evidence(3, ("clean",), neighbours=0.0), unusable)
    assert not {row.name: row for row in report.chain}["neighbours"].kept
    assert report.finish.choose(None).find(NeighbourLink) is None
    assert report.finish.choose(None).expected.shifted is None


def calm(evidence: Evidence) -> Evidence:
    """Every view answers with the prior: nothing to insure against."""
    tables = tuple(np.log(np.broadcast_to(PRIOR, table.shape)).astype(np.float32) for table in evidence.log_probs)
    return replace(evidence, log_probs=tables)


def one_sided(evidence: Evidence) -> Evidence:
    """The plain view as it is, the others noise."""
    junk = evidence.log_probs[VIEWS.index("junk")]
    return replace(evidence, log_probs=(evidence.log_probs[0], junk, junk))


CALIBRATED = 2.0 / 1.2**2


def test_a_chain_that_nothing_pays_for_is_empty(unusable: Evidence) -> None:
    """One rule for all links: calibrated networks, junk views, neighbours of random classes, unusable photographs that are
    answered with the prior. Every part is left out, every row says no, and one network in the plain view is what is served."""
    evidence = one_sided(make_evidence(5, ("clean",), overconfidence=CALIBRATED, neighbours=0.0))
    report = fit(evidence, calm(unusable))
    level = report.finish.choose(None)
    assert level.links == ()
    assert level.views == ("plain",)
    assert not any(row.kept for row in report.chain[1:])
    assert not any(row.kept for row in report.blends)
    finish = decode(Finish, json.loads(json.dumps(encode(report.finish))), "model.json")
    finish.check(1, "bundle.json")
    np.testing.assert_allclose(apply(finish, evidence), np.exp(evidence.log_probs[0]), atol=1e-6)
    assert not level.asks_neighbours


KINDS = ["views", "temperature", "neighbours", "floor"]


@pytest.mark.parametrize("planted", KINDS)
def test_each_link_stands_or_falls_by_itself(planted: str, unusable: Evidence) -> None:
    """Where one effect is planted its link is kept, and a link before it that has nothing to do is not."""
    evidence = make_evidence(
        5, ("clean",), overconfidence=3.0 if planted == "temperature" else CALIBRATED,
        neighbours=0.7 if planted == "neighbours" else 0.0,
    )  # fmt: skip
    evidence = evidence if planted == "views" else one_sided(evidence)
    sure = make_evidence(2, unusable.conditions, overconfidence=20.0, unusable=True)
    level = fit(evidence, sure if planted == "floor" else calm(unusable)).finish.choose(None)
    kept = {kind: level.find(link) is not None for kind, link in zip(KINDS, LINKS, strict=True)}
    assert kept[planted]
    before = list(kept)[: list(kept).index(planted)]
    assert not any(kept[name] for name in before)


def test_the_floor_is_judged_by_the_loss_that_it_is_fitted_for(report: FinishReport, unusable: Evidence) -> None:
    """(1 - share) real + share unusable, the unusable kinds by floors that have not seen them; it is kept where that falls by
    more than its standard error, and the report says so."""
    assert report.insurance.share in UNUSABLE_SHARES
    assert -report.insurance.gain.mean > report.insurance.gain.standard_error
    assert {row.name: row for row in report.chain}["floor, and temperature under it"].kept
    assert "kept" in total_lines(report)[-1]
    spared = fit(one_sided(make_evidence(1, ("clean",), overconfidence=CALIBRATED, neighbours=0.0)), calm(unusable))
    assert spared.insurance.share == UNUSABLE_SHARES[0]
    assert spared.finish.choose(None).find(FloorLink) is None
    assert "left out" in total_lines(spared)[-1]


def test_every_level_takes_over_what_was_decided(report: FinishReport) -> None:
    """A link that the largest level left out is in no smaller one; the floor is each level's own, and what it promises."""
    for kind in (TemperatureLink, NeighbourLink):
        assert len({level.find(kind) is None for level in report.finish.levels}) == 1, kind
    assert len(report.insurances) == len(report.finish.levels)
    for level, insurance in zip(report.finish.levels, report.insurances, strict=True):
        assert (level.find(FloorLink) is not None) == (-insurance.gain.mean > insurance.gain.standard_error)


def test_the_share_is_the_smallest_that_pays_and_makes_unseen_kinds_affordable(evidence: Evidence, unusable: Evidence) -> None:
    """A kind is judged by floors that were fitted without it: the share that suffices for kinds that were seen may not do."""
    fitter = ChainFitter(evidence, unusable, PRIOR, 1, 110.0)
    states = fitter.start(evidence.log_probs[:1], unusable.log_probs[:1])
    floor = FloorFitter(fitter)
    paying, enough = [], []
    for tried in UNUSABLE_SHARES:
        unseen_U = floor.unseen_costs(states[-1], tried)
        kinds = [unseen_U[unusable.condition_N == place] / floor.prior_loss for place in range(len(unusable.conditions))]
        gain = floor.insure(floor.lay(states, tried)[1], states, tried, unseen_U).gain
        if -gain.mean > gain.standard_error:
            paying.append(tried)
            enough += [tried] if all(kind.mean() + standard_error(kind) <= AFFORDABLE for kind in kinds) else []
    assert floor.choose(states)[1].share == [*enough[:1], *paying[-1:], UNUSABLE_SHARES[0]][0]


def test_the_expected_loss_is_given_without_suspects_too(evidence: Evidence, unusable: Evidence, report: FinishReport) -> None:
    """Photographs with a wrong label among the held-out ones raise it: without them it is what was expected before, nearly.
    Nothing but the second estimate depends on who is suspected."""
    wrong = evidence.photo_N % 12 == 0
    labels = np.where(wrong, (evidence.label_N + 1) % NUM_CLASSES, evidence.label_N)
    planted = replace(evidence, label_N=labels)
    found = fit(replace(planted, suspect_N=wrong), unusable).finish
    expected = found.choose(None).expected
    assert expected.num_suspects == NUM_PHOTOS / 12
    assert expected.clean_trusted is not None
    assert expected.shifted_trusted is not None
    assert expected.clean > expected.clean_trusted + 3 * expected.clean_error
    honest = report.finish.choose(None).expected.clean
    assert expected.clean_trusted - honest < 0.6 * (expected.clean - honest)
    unsuspecting = fit(planted, unusable).finish
    assert unsuspecting.choose(None).expected.clean_trusted is None
    assert unsuspecting.choose(None).expected.clean == expected.clean
    assert np.array_equal(apply(unsuspecting, planted), apply(found, planted))


def test_unusable_photographs_become_affordable(report: FinishReport) -> None:
    """Sure of a random class they cost far more than the prior without a floor, and at most half more with it."""
    assert max(report.unusable_cost_before.values()) > 2.0
    assert max(report.insurance.unseen_cost.values()) < 1.5


def test_probabilities_are_probabilities(report: FinishReport, evidence: Evidence, unusable: Evidence) -> None:
    """Whatever comes in, rows are in [0, 1] and sum to 1."""
    for rows in (evidence, unusable):
        probs = apply(report.finish, rows)
        assert probs.min() >= 0.0
        assert probs.max() <= 1.0
        np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=0.0, atol=1e-12)


def test_the_nested_estimate_of_a_fold_does_not_see_its_labels(evidence: Evidence, unusable: Evidence) -> None:
    """Other labels in one fold change the nested answers of the other folds, and none of its own."""
    fold = evidence.fold_N == 1
    wrong = np.where(fold, (evidence.label_N + 1) % NUM_CLASSES, evidence.label_N)
    changed = Evidence(**{**evidence.__dict__, "label_N": wrong})

    def nested(rows: Evidence) -> np.ndarray:
        fitter = ChainFitter(rows, unusable, PRIOR, 1, 110.0)
        states = fitter.start(rows.log_probs[:1], unusable.log_probs[:1])
        for kind in (ViewBlend, TemperatureLink, NeighbourLink):
            states = fitter.advance(states, kind.fit(fitter, states))
        _, states = FloorFitter(fitter).lay(states, 0.01)
        return fitter.nested_table(states)

    before, after = nested(evidence), nested(changed)
    assert np.array_equal(before[fold], after[fold])
    assert not np.array_equal(before[~fold], after[~fold])


def test_in_sample_equals_what_is_delivered(report: FinishReport, evidence: Evidence) -> None:
    """The last row's in-sample loss is that of the delivered finish on the same rows."""
    probs = apply(report.finish, evidence)
    loss_N = -np.log(probs[np.arange(len(probs)), evidence.label_N])
    for place, condition in enumerate(evidence.conditions):
        assert loss_N[evidence.condition_N == place].mean() == pytest.approx(report.chain[-1].in_sample[condition], abs=1e-5)


def test_permuting_photographs_permutes_the_answer(report: FinishReport, evidence: Evidence) -> None:
    """A row's answer does not depend on its company."""
    order = np.random.default_rng(0).permutation(len(evidence.label_N))
    mixed = take_rows(evidence, order)
    np.testing.assert_allclose(apply(report.finish, mixed), apply(report.finish, evidence)[order], rtol=1e-12)


def test_permuting_classes_permutes_the_answer(report: FinishReport, evidence: Evidence, unusable: Evidence) -> None:
    """The chain fitted with the classes in another order gives the same columns in that order."""
    order = np.random.default_rng(1).permutation(NUM_CLASSES)
    place = np.argsort(order)

    def permute(rows: Evidence) -> Evidence:
        tables = tuple(np.ascontiguousarray(table[:, order]) for table in rows.log_probs)
        labels = (place[rows.neighbour_labels[0]],)
        return Evidence(**{**rows.__dict__, "log_probs": tables, "neighbour_labels": labels, "label_N": place[rows.label_N]})

    again = fit(permute(evidence), permute(unusable))
    np.testing.assert_allclose(
        apply(again.finish, permute(evidence)), apply(report.finish, evidence)[:, order], rtol=2e-3, atol=2e-5
    )


def test_the_finish_survives_its_file(report: FinishReport, evidence: Evidence) -> None:
    """Through JSON and back, the answers are the same to the last bit; damage is refused."""
    tree = json.loads(json.dumps(encode(report.finish)))
    assert np.array_equal(apply(decode(Finish, tree, "model.json"), evidence), apply(report.finish, evidence))
    decode(Finish, tree, "model.json").check(1, "bundle.json")
    for name, value in (("levels", []), ("levels", [{}]), ("neighbours", {}), ("brightness", "dark"), ("brightness", 999.0)):
        with pytest.raises(ArtifactError):
            decode(Finish, {**tree, name: value}, "model.json").check(1, "bundle.json")
    with pytest.raises(ArtifactError, match="2 models x"):
        decode(Finish, tree, "model.json").check(2, "bundle.json")


def test_fewer_views_choose_a_smaller_level(report: FinishReport) -> None:
    """`--views 1` takes the level with one view, more than there are takes the largest."""
    assert [len(level.views) for level in report.finish.levels] == [1, 2]
    assert len(report.finish.choose(1).views) == 1
    assert report.finish.choose(99) is report.finish.levels[-1]


def test_folds_are_averaged_geometrically() -> None:
    """The mean of logs, normalised; one fold stays what it is."""
    rng = np.random.default_rng(0)
    tables = [log_softmax(rng.normal(size=(5, 4))) for _ in range(3)]
    slow = np.exp(np.mean(tables, axis=0))
    np.testing.assert_allclose(np.exp(average_folds(tables)), slow / slow.sum(axis=1, keepdims=True), rtol=1e-12)
    assert np.array_equal(average_folds(tables[:1]), tables[0])
