"""docs/python.md: every example runs as it stands, and a verb stays a verb whatever was imported."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hectocar
from hectocar import ArtifactError, Classifier, ConfigError, DataError
from hectocar.results import Result
from hectocar.verbs.answers import PredictResult

DOCS = Path(__file__).resolve().parents[1] / "docs" / "python.md"
VERBS = (
    "audit", "read_audit", "deal_folds", "draw_photos", "preview", "train", "finish", "predict", "score", "ablate",
    "load_config", "write_showroom",
)  # fmt: skip


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the examples leave behind, run in order in an empty folder, which is the first value."""
    folder = tmp_path_factory.mktemp("python")
    found: dict[str, object] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code in re.findall(r"^```python\n(.*?)^```", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            exec(compile(code, str(DOCS), "exec"), found)
    found["car"] = folder / str(found["car"])  # the examples' own folder is left
    return found


def test_every_example_runs_and_leaves_what_it_says(namespace: dict[str, object]) -> None:
    folder = namespace["folder"]
    assert isinstance(folder, Path)
    for name in ("AUDIT/audit.html", "folds.csv", "RUN/fold1/best.safetensors", "BUNDLE/bundle.json", "submission.csv",
                 "SCORE/score.html", "ABLATION/table.md", "copies.png", "preview.png", "answers.png",
                 "explained.png"):  # fmt: skip
        assert (folder / name).is_file(), name
    text = DOCS.read_text("utf-8")
    assert all(f"{verb}(" in text for verb in (*VERBS, "predict_many", "predict_proba", "embed"))
    assert re.findall(r"^ *(?:from|import) hectocar\.\S+", text, re.MULTILINE) == []


def test_results_are_tables_in_a_console_and_in_a_notebook(namespace: dict[str, object]) -> None:
    """A header and rows of equal length; HTML shows every cell and nothing that acts."""
    results = [value for value in namespace.values() if isinstance(value, Result)]
    assert len(results) >= 6
    for result in results:
        header, *rows = result.table()
        assert rows
        assert {len(row) for row in rows} == {len(header)}
        assert all(cell in repr(result) for cell in header)
        assert result._repr_html_().count("<tr>") == len(rows) + 1

    class Hostile(Result):
        def table(self) -> list[list[str]]:
            return [["<script>"], ["a & b"]]

    class Long(Result):
        def table(self) -> list[list[str]]:
            return [["number"], *([str(k) * 40] for k in range(100))]

    assert len(repr(Long()).splitlines()) == 33  # name, header, 30 rows, what is left
    assert max(map(len, repr(Long()).splitlines())) < 70
    assert Long()._repr_html_().count("<tr>") == 31
    assert "70 rows more" in repr(Long())
    assert "<script>" not in Hostile()._repr_html_()
    assert "a &amp; b" in Hostile()._repr_html_()


def test_a_verb_stays_a_verb() -> None:
    """No room has a verb's name: importing rooms, or running commands, never hides the function. And torch comes late."""
    code = (
        "import sys, hectocar; assert 'torch' not in sys.modules\n"
        "from hectocar import audit, load_config, train; assert 'torch' not in sys.modules\n"
        "import hectocar.auditing.audit, hectocar.finishing.finish, hectocar.scoring.truth, hectocar.training.run\n"
        "from hectocar.cli import main; main(['config'])\n"
        f"assert all(callable(getattr(hectocar, name)) for name in {VERBS!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, stdout=subprocess.DEVNULL)
    assert set(VERBS) < set(dir(hectocar))


def test_one_photograph_has_one_answer_however_it_is_asked(namespace: dict[str, object]) -> None:
    """Alone, among many, as a path, bytes or an image; names and order are kept, and each row is a distribution."""
    classifier, car = namespace["classifier"], namespace["car"]
    assert isinstance(classifier, Classifier)
    assert isinstance(car, Path)
    others = sorted(car.parents[1].rglob("*.jpg"))[:5]
    alone = classifier.predict(car, top=4)
    many = classifier.predict_many([*others, car.read_bytes(), Image.open(car)], top=4)
    for one in many[-2:]:
        assert one.names == alone.names
        np.testing.assert_allclose(one.probs, alone.probs, atol=1e-5)
    table = classifier.predict_proba([*others, car])
    assert table.probs_NG.shape == (6, len(classifier.names))
    np.testing.assert_allclose(table.probs_NG.sum(axis=1), 1.0, atol=1e-9)
    assert [classifier.names[row.argmax()] for row in table.probs_NG] == [one.name for one in many[:6]]


def test_what_cannot_be_read_is_named_and_has_the_prior(namespace: dict[str, object], tmp_path: Path) -> None:
    classifier, car = namespace["classifier"], namespace["car"]
    assert isinstance(classifier, Classifier)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    good, bad = classifier.predict_many([car, tmp_path / "broken.jpg"], top=9)  # type: ignore[list-item]
    assert (good.problem, "broken.jpg" in bad.problem or "JPEG" in bad.problem) == ("", True)
    np.testing.assert_allclose(sorted(bad.probs), sorted(classifier.spec.prior))
    with pytest.raises(DataError, match=r"broken\.jpg"):
        classifier.embed([tmp_path / "broken.jpg"])
    assert classifier.predict_many([]) == []
    assert classifier.embed([]).shape[0] == 0


def test_embeddings_have_length_one_and_know_a_copy(namespace: dict[str, object]) -> None:
    classifier, car = namespace["classifier"], namespace["car"]
    assert isinstance(classifier, Classifier)
    assert isinstance(car, Path)
    embed = classifier.embed([car, car.read_bytes(), *sorted(car.parents[1].rglob("*.jpg"))[-3:]])
    np.testing.assert_allclose(np.linalg.norm(embed, axis=1), 1.0, atol=1e-5)
    cosine = embed @ embed[0]
    assert cosine[1] == pytest.approx(1.0, abs=1e-5)
    assert (cosine[2:] < cosine[1]).all()


@pytest.mark.parametrize(("folds", "words"), [("both", "folds is 'both'; allowed: 'all'"), (7, "--fold is 7; allowed: 0 to 1")])
def test_folds_that_are_none_are_refused_before_the_run(
    folds: object, words: str, namespace: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        hectocar.train(tmp_path, tmp_path / "run", namespace["config"], folds=folds)
    assert not (tmp_path / "run").exists()


def test_a_classifier_says_what_it_is(namespace: dict[str, object]) -> None:
    text = repr(namespace["classifier"])
    assert re.fullmatch(r"Classifier\('BUNDLE': \d+ classes, 2 networks x [12] views, finished\)", text), text


def test_pictures_replace_nothing_of_the_users_and_name_what_is_wrong(namespace: dict[str, object], tmp_path: Path) -> None:
    """A picture of ours is drawn again; a file of the user's, an ID that was not predicted and an empty sheet are refused."""
    answer, folder = namespace["answer"], namespace["folder"]
    assert isinstance(answer, PredictResult)
    assert isinstance(folder, Path)
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for draw in (answer.draw, answer.explain, lambda out: hectocar.preview("DATA", out, namespace["config"])):
            with pytest.raises(ArtifactError, match=r"mine\.png"):
                draw(mine)
        for _ in range(2):
            answer.draw("again.png", num_photos=1)
        with pytest.raises(ConfigError, match="ids has 'nobody'"):
            answer.explain(tmp_path / "no.png", ids=["nobody"])
        with pytest.raises(DataError, match="no photographs to draw"):
            hectocar.draw_photos({"none": []}, tmp_path / "no.png")
        with pytest.raises(DataError, match=r"mine\.png"):
            hectocar.draw_photos({"one": [mine]}, tmp_path / "no.png")
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "no.png").exists()
