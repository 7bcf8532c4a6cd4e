"""Training in rounds: planted wrong labels are found, a person's word stands, and what is held out keeps its given label."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hectocar
from hectocar.auditing.relabel import POLICIES, Policy, decide_labels, find_edits, find_judged
from hectocar.cli import main
from hectocar.config.schema import AugmentConfig, Config, DataConfig, NetworkConfig, SizePhase, TrainingConfig
from hectocar.dataset.decisions import DROP, KEEP, RELABEL, SOFTEN, TEACHINGS, Decision, read_decisions, write_decisions
from hectocar.dataset.run_inputs import Run, read_run
from hectocar.dataset.teaching import SoftTargets, plan_teaching
from hectocar.errors import ConfigError, DataError
from hectocar.finishing.out_of_fold import OutOfFold, predict_out_of_fold
from hectocar.network.carnet import soft_cross_entropy
from hectocar.progress import NoProgress
from hectocar.training.soft_targets import soften_batch
from hectocar.verbs.training import TrainResult
from test_decisions import write_audit
from tiny import COLORS, CPU, change

NUM_PER_CLASS = 16
PLANTED = {"train/car 1/wrong 0.jpg": "car 0", "train/car 3/wrong 1.jpg": "car 2"}
"""By file the class that it shows."""
CONFIG = Config(
    data=DataConfig(num_workers=1, num_folds=2),
    network=NetworkConfig(backbone="test_efficientnet", weights="none", num_subcenters=1, scale=16.0, drop_path_max=0.0),
    augment=AugmentConfig(color_prob=0.0, erase_prob=0.0),
    training=TrainingConfig(
        epochs=10,
        sizes=(SizePhase(epochs=1, size_px=32, batch_size=8, learning_rate=5e-3),),
        cosine="step",
        precision="float32",
        label_smoothing=0.0,
        validate_last_epochs=1,
    ),
)


class Listener(NoProgress):
    """Keeps what was said; where a line has ``cut`` in it, the user presses Ctrl-C."""

    def __init__(self, cut: str | None = None) -> None:
        self.cut, self.lines = cut, list[str]()

    def note(self, text: str) -> None:
        self.lines.append(text)
        if self.cut is not None and self.cut in text:
            raise KeyboardInterrupt


def write_textures(folder: Path, planted: dict[str, str]) -> Path:
    """Sixteen photographs of each of four colours, and some more that lie with another colour."""
    rng = np.random.default_rng(0)
    names = {f"train/car {label}/{number}.jpg": label for label in range(len(COLORS)) for number in range(NUM_PER_CLASS)}
    for name, label in (names | {name: int(shown[-1]) for name, shown in planted.items()}).items():
        coarse = rng.integers(-40, 40, (12, 16, 3)) + np.array(COLORS[label])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(coarse.clip(0, 255).astype(np.uint8), np.ones((4, 4, 1), dtype=np.uint8))
        Image.fromarray(pixels).save(folder / name, quality=90)
    return folder


def train(data: Path, out: Path, policy: Policy = "relabel", config: Config = CONFIG, **options: Any) -> TrainResult:
    return hectocar.train(
        data, out, config, **({"folds": "all", "relabel": 1, "relabel_by": policy, "device": "cpu"} | options)
    )


def read_weights(run: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(run.glob("fold*/best.safetensors"))]


def copy_round(made: Path, out: Path, *, decided: bool) -> Path:
    """The first round of a run as a kill after it leaves it."""
    ignored = () if decided else ("decisions.*",)
    shutil.copytree(
        made.with_name(f"{made.name}-round1"), out.with_name(f"{out.name}-round1"), ignore=shutil.ignore_patterns(*ignored)
    )
    return out.with_name(f"{out.name}-round1") / "decisions.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs lie in a wrong folder."""
    return write_textures(tmp_path_factory.mktemp("relabel") / "data", PLANTED)


@pytest.fixture(scope="module")
def trained(data: Path) -> TrainResult:
    """One round, relabelling."""
    return train(data, data.parent / "run")


@pytest.fixture(scope="module")
def answers(trained: TrainResult) -> tuple[Run, OutOfFold]:
    """The first round and its out-of-fold predictions."""
    run = read_run(trained.rounds[0].folder)
    return run, predict_out_of_fold(run.folder, run.manifest.root, CPU, NoProgress())


def test_planted_labels_are_found_and_their_decision_is_written(trained: TrainResult) -> None:
    """The table names the planted photographs, no others, and the class that each shows; the last run was made with it."""
    rows = read_decisions(trained.rounds[0].folder / "decisions.csv", TEACHINGS)
    assert {row.file: (row.kind, row.decision, row.label) for row in rows} == {
        file: ("wrong_label", RELABEL, shown) for file, shown in PLANTED.items()
    }
    assert all(row.score > 0.5 and "for its folder" in row.reason for row in rows)
    assert [(row.file, row.label) for row in read_run(trained.folder).relabel] == [(row.file, row.label) for row in rows]
    assert [one.taught for one in trained.rounds] == ["as given", "2 relabelled"]
    assert read_weights(trained.folder) != read_weights(trained.rounds[0].folder)


def test_what_is_held_out_keeps_its_given_label(trained: TrainResult) -> None:
    """Manifest, folds and the labels of validation are those of a run without rounds: a photograph that networks doubt costs
    the last run what its given label costs, and no less by decree."""
    first, last = (read_run(one.folder) for one in trained.rounds)
    assert (last.manifest.digest(), last.folds.digest()) == (first.manifest.digest(), first.folds.digest())
    assert trained.rounds[1].num_doubted == len(PLANTED)
    for one in trained.rounds:
        assert one.log_loss > one.trusted_log_loss + 0.05
    assert f"without {len(PLANTED)} doubted" in trained.round_table()[0]


def test_the_last_run_is_an_ordinary_run(trained: TrainResult, data: Path, tmp_path: Path) -> None:
    """A run, a plain resume and a finish take it, also without the rounds beside it; the finish knows what it doubts."""
    run = tmp_path / "moved"
    shutil.copytree(trained.folder, run)
    before = read_weights(run)
    hectocar.train(data, run, CONFIG, folds="all", resume=True, device="cpu")
    assert read_weights(run) == before

    listener = Listener()
    hectocar.finish(run, tmp_path / "bundle", views=["plain"], device="cpu", progress=listener)
    assert any("2 of 66 photographs are doubted by relabel.csv" in line for line in listener.lines)
    assert hectocar.Classifier.load(tmp_path / "bundle", device="cpu").predict(data / "train/car 1/0.jpg").name == "car 1"


def test_right_labels_change_nothing(tmp_path: Path) -> None:
    """Nothing to decide: the last run has the bits of the first, and no table."""
    data = write_textures(tmp_path / "data", {})
    result = train(data, tmp_path / "run", "drop")
    assert read_decisions(tmp_path / "run-round1/decisions.csv") == ()
    assert read_weights(tmp_path / "run") == read_weights(tmp_path / "run-round1")
    assert result.rounds[0].log_loss == result.rounds[1].log_loss
    assert not (tmp_path / "run/relabel.csv").exists()


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_decides_in_its_way(policy: Policy, answers: tuple[Run, OutOfFold]) -> None:
    """Dropped and relabelled rows are more probably wrong than right; a softened one's score is its second class's share."""
    rows = decide_labels(*answers, policy, set(), NoProgress())
    expected = {"drop": DROP, "relabel": RELABEL, "soften": SOFTEN}[policy]
    assert {row.file: row.decision for row in rows if row.score > 0.5} == dict.fromkeys(PLANTED, expected)
    assert all(row.score >= 0.05 for row in rows)


def test_a_relabel_needs_confident_networks(answers: tuple[Run, OutOfFold]) -> None:
    """Where the photographs of the other class are surer of it, the doubtful one is left out instead."""
    run, oof = answers
    place = oof.image_id.index(next(iter(PLANTED)))
    logits = oof.logits.copy()
    logits[place] = np.log([0.6, 1e-6, 0.2, 0.2])
    rows = decide_labels(
        run, OutOfFold(oof.image_id, oof.fold, logits, oof.embeddings, oof.angles), "relabel", set(), NoProgress()
    )
    assert {row.file: row.decision for row in rows} == dict(zip(PLANTED, (DROP, RELABEL), strict=True))


def test_poor_networks_decide_nothing(answers: tuple[Run, OutOfFold]) -> None:
    """Networks that are surely wrong on a third of the photographs would call them mislabelled; it is said instead."""
    run, oof = answers
    logits = oof.logits.copy()
    logits[::3] = 20.0 * np.eye(4, dtype=np.float32)[(oof.logits[::3].argmax(axis=1) + 1) % 4]
    listener = Listener()
    poor = OutOfFold(oof.image_id, oof.fold, logits, oof.embeddings, oof.angles)
    assert decide_labels(run, poor, "drop", set(), listener) == []
    assert ["nothing is decided" in line for line in listener.lines] == [True]


def test_no_class_loses_more_than_half(answers: tuple[Run, OutOfFold], monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that the networks do not know is not dropped whole."""
    run, oof = answers
    monkeypatch.setattr("hectocar.auditing.relabel.MAX_RATE", 1.0)
    of_class = np.array(["car 1/" in image_id for image_id in oof.image_id])
    logits = oof.logits.copy()
    logits[of_class] = (20.0, -20.0, 0.0, 0.0)
    rows = decide_labels(
        run, OutOfFold(oof.image_id, oof.fold, logits, oof.embeddings, oof.angles), "drop", set(), NoProgress()
    )
    assert sum("car 1/" in row.file for row in rows) == int(of_class.sum()) // 2


def test_a_persons_row_in_a_round_stands(data: Path, trained: TrainResult, tmp_path: Path) -> None:
    """What was edited after the first round is obeyed by the second training, and not judged again by the next rounds."""
    out = tmp_path / "run"
    table = copy_round(trained.folder, out, decided=True)
    first, second = PLANTED
    rows = read_decisions(table, TEACHINGS)
    write_decisions(table, [Decision(first, "wrong_label", KEEP), Decision("train/car 0/3.jpg", "no_car", DROP)])
    train(data, out, relabel=2, resume=True)
    assert {row.file: row.decision for row in read_run(tmp_path / "run-round2").relabel} == {
        first: KEEP,
        "train/car 0/3.jpg": DROP,
    }
    assert {row.file: row.decision for row in read_run(out).relabel} == {
        first: KEEP, "train/car 0/3.jpg": DROP, second: KEEP,  # its row was deleted: a person's word, too
    }  # fmt: skip
    write_decisions(table, rows)
    with pytest.raises(ConfigError, match="run-round2 was begun with other decisions than stand now"):
        train(data, out, relabel=2, resume=True)


def test_edits_are_told_from_what_was_written() -> None:
    """Changed and new rows are a person's, untouched ones the machine's, and a deleted one keeps its photograph."""
    written = [Decision(name, "wrong_label", DROP, score=0.9) for name in "abc"]
    now = [written[0], Decision("b", "wrong_label", RELABEL, label="x"), Decision("d", "unusable", DROP)]
    assert find_edits(written, written) == ()
    assert find_edits(written, now) == (now[1], now[2], Decision("c", "wrong_label", KEEP))


@pytest.mark.parametrize("decision", [KEEP, DROP, RELABEL])
def test_a_persons_row_in_the_audit_stands(decision: str, data: Path, tmp_path: Path) -> None:
    """The photographs of an edited audit's rows are a person's business; rows that name copies or other faults are not."""
    first, second = PLANTED
    rows = [Decision(first, "wrong_label", decision, label="car 0"), Decision(second, "odd_but_fine", KEEP)]
    audit = write_audit(tmp_path / "audit", data, rows)
    assert find_judged(change(CONFIG, "data", audit=str(audit))) == {first}
    assert find_judged(CONFIG) == frozenset()


def test_what_a_person_kept_in_the_audit_is_not_decided(data: Path, tmp_path: Path) -> None:
    """End to end: a planted label that a person has confirmed stays, the other one is found."""
    first, second = PLANTED
    audit = write_audit(tmp_path / "audit", data, [Decision(first, "wrong_label", KEEP)])
    train(data, tmp_path / "run", "drop", change(CONFIG, "data", audit=str(audit)))
    assert [row.file for row in read_run(tmp_path / "run").relabel] == [second]


@pytest.mark.parametrize("line", ["training 2 of 2", "decisions.csv: ", "fold 1: "])
def test_a_training_cut_anywhere_resumes_exactly(line: str, data: Path, trained: TrainResult, tmp_path: Path) -> None:
    """Cut in a round, between deciding and the next training: the same decisions and the same bits as uninterrupted."""
    out = tmp_path / "run"
    copy_round(trained.folder, out, decided=False)
    with pytest.raises(KeyboardInterrupt):
        train(data, out, resume=True, progress=Listener(cut=line))
    result = train(data, out, resume=True)
    assert read_weights(out) == read_weights(trained.folder)
    assert result.round_table()[1:] == trained.round_table()[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--relabel", "1"], "give --fold all"),
        (["--relabel", "0", "--fold", "all"], "--relabel is 0; allowed: 1 to 9"),
        (["--relabel", "many", "--fold", "all"], "--relabel is 'many'; allowed: a whole number, 1 to 9"),
        (["--relabel-by", "drop", "--fold", "all"], "give both"),
        (["--relabel", "1", "--fold", "all", "--relabel-by", "burn"], "'drop', 'relabel', 'soften'"),
    ],
)
def test_wrong_options_are_one_message(
    options: Sequence[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is written."""
    command = ["train", str(data), "--preset", "demo", "--set", "data.num_folds=2", *options, "--out", str(tmp_path / "run")]
    assert main(command) == 2
    said = capsys.readouterr().err.replace("argument --relabel: is", "--relabel is")
    assert message in said
    assert list(tmp_path.iterdir()) == []


def test_every_place_is_looked_at_before_the_first_training(data: Path, tmp_path: Path) -> None:
    """A full folder where the last run is to stand, or the second round, is refused at once."""
    for name in ("run", "run-round2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
        with pytest.raises(hectocar.ArtifactError, match=f"{name}: exists and is not a run"):
            train(data, tmp_path / "run", relabel=2)
        shutil.rmtree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_another_policy_or_number_is_refused_on_resume(data: Path, trained: TrainResult) -> None:
    """At once: before anything is trained for nothing."""
    with pytest.raises(ConfigError, match=r"--relabel-by is drop, and .*decisions.csv was made by relabel"):
        train(data, trained.folder, "drop", resume=True)
    with pytest.raises(ConfigError, match=r"was begun, but not with the decisions of .*run-round2"):
        train(data, trained.folder, relabel=2, resume=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("train/car 0/zz.jpg,drop,,", "drop of a file that is no training photograph"),
        ("train/car 0/0.jpg,soften,0.5,car 9", "soften to an unknown class: 'car 9'"),
        ("train/car 0/0.jpg,soften,most,car 1", "line 2: soften needs the share .* allowed: 0 to 1"),
        ("train/car 0/0.jpg,soften,0.5,", "line 2: soften needs the name of a class"),
        ("train/car 0/0.jpg,group,,", "decision is 'group'; allowed: keep, drop, relabel, soften"),
    ],
)
def test_mistakes_in_an_edited_round_are_named(
    row: str, message: str, data: Path, trained: TrainResult, tmp_path: Path
) -> None:
    """With the table, and before the next run is begun."""
    table = copy_round(trained.folder, tmp_path / "run", decided=True)
    table.write_text(f"file,decision,score,label\n{row}\n")
    with pytest.raises(DataError, match=message):
        train(data, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_table_becomes_rows(trained: TrainResult) -> None:
    """Drop wins over relabel, and relabel over soften; a photograph without a row teaches its own class alone."""
    run = read_run(trained.folder)
    a, b, c, d = run.manifest.image_id[:4]
    rows = [
        Decision(a, "wrong_label", DROP), Decision(b, "wrong_label", RELABEL, label="car 2"),
        Decision(b, "wrong_label", SOFTEN, score=0.4, label="car 3"),
        Decision(c, "wrong_label", SOFTEN, score=0.25, label="car 1"),
        Decision(d, "wrong_label", KEEP),
    ]  # fmt: skip
    teaching = plan_teaching(run.manifest, run.classes, rows)
    assert np.flatnonzero(~teaching.is_shown_N).tolist() == [0]
    assert teaching.label_N[:4].tolist() == [0, 2, 0, 0]
    assert teaching.soft is not None
    assert teaching.soft.other_N[:4].tolist() == [0, 2, 1, 0]
    assert teaching.soft.share_N[:4].tolist() == [0.0, 0.0, 0.25, 0.0]
    assert plan_teaching(run.manifest, run.classes, rows[:2]).soft is None


def test_a_softened_target_is_the_mixture_of_both_classes() -> None:
    """The loss of four labels equals cross-entropy against the dense target."""
    rng = np.random.default_rng(3)
    soft = SoftTargets(np.array([2, 1, 0, 3]), np.array([0.3, 0.0, 0.9, 0.5]))
    rows_B, partner_B = np.array([3, 0, 2]), np.array([0, 2, 3])
    label_N = np.array([0, 1, 2, 1])
    label_B2 = torch.from_numpy(np.stack([label_N[rows_B], label_N[partner_B]], axis=1))
    share_B2 = torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.2, 0.8]])
    _, label_B4, share_B4 = soften_batch(soft, np.stack([rows_B, partner_B], axis=1), torch.zeros(3), label_B2, share_B2)
    assert torch.allclose(share_B4.sum(dim=1), torch.ones(3))
    logits_BC, slow = torch.from_numpy(rng.normal(size=(3, 4)).astype(np.float32)), 0.0
    for place, (own, partner) in enumerate(zip(rows_B, partner_B, strict=True)):
        target = torch.zeros(4)
        for row, share in ((own, share_B2[place, 0]), (partner, share_B2[place, 1])):
            target[label_N[row]] += share * (1.0 - soft.share_N[row])
            target[soft.other_N[row]] += share * soft.share_N[row]
        slow -= float((target * torch.log_softmax(logits_BC[place], dim=0)).sum()) / 3
    assert float(soft_cross_entropy(logits_BC, label_B4, share_B4, 0.0)) == pytest.approx(slow, abs=1e-6)


def test_softening_trains(data: Path, trained: TrainResult, tmp_path: Path) -> None:
    """End to end with mixed targets, and again: the same bits."""
    for name in ("one", "two"):
        copy_round(trained.folder, tmp_path / name, decided=False)
        train(data, tmp_path / name, "soften", resume=True)
    assert {row.decision for row in read_run(tmp_path / "one").relabel} == {SOFTEN}
    assert read_weights(tmp_path / "one") == read_weights(tmp_path / "two") != read_weights(trained.folder)
