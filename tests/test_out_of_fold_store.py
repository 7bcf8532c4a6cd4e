"""Laws of RUN/oof: one store for audit and finish, nothing is lost to another request, nothing stale or damaged is believed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hectocar.disk.artifacts import load_arrays, save_arrays
from hectocar.finishing.out_of_fold_store import MAX_FILES, Predictions, Shelf
from hectocar.photos.views import VIEWS, Render, View, find_views

NUM_PHOTOS, NUM_CLASSES, BRIGHTNESS = 5, 3, 100.0


def make_shelf(folder: Path, **changes: Any) -> Shelf:
    shelf = Shelf(folder, "clean", 0, "network-a" * 8, "photographs" * 6, NUM_PHOTOS, NUM_CLASSES)
    return replace(shelf, **changes)


def renders_of(views: Sequence[View], size_px: int = 64) -> list[Render]:
    return [view.render(size_px, "stretch", BRIGHTNESS) for view in views]


def predict(views: Sequence[View], seed: int = 0) -> Predictions:
    """Each view's own numbers, whatever views stand beside it."""
    names, embed = list(VIEWS), [view for view in views if view.embeds]
    rng = {view.name: np.random.default_rng([seed, names.index(view.name)]) for view in views}
    return Predictions(
        np.stack([rng[view.name].normal(size=(NUM_PHOTOS, NUM_CLASSES)) for view in views]).astype(np.float32),
        np.array([rng[view.name].normal(size=(NUM_PHOTOS, 4)) for view in embed], dtype=np.float16).reshape(-1, NUM_PHOTOS, 4),
        np.ones((NUM_PHOTOS, 2), dtype=np.float32),
    )


def put(shelf: Shelf, names: str, seed: int = 0) -> Predictions:
    views = find_views(names.split(","))
    shelf.put(predict(views, seed), views, renders_of(views))
    return predict(views, seed)


def find(shelf: Shelf, names: str, size_px: int = 64) -> Predictions | None:
    views = find_views(names.split(","))
    return shelf.find(views, renders_of(views, size_px))


def assert_same(found: Predictions | None, wanted: Predictions) -> None:
    assert found is not None
    for name in ("logits", "embeddings", "looks"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_other_views_are_kept_beside_each_other(tmp_path: Path) -> None:
    """What `audit --run` made is still there after `finish` asked for other views, and the other way round."""
    shelf = make_shelf(tmp_path)
    small, large = put(shelf, "plain"), put(shelf, "mirror,zoom")
    assert_same(find(shelf, "plain"), small)
    assert_same(find(shelf, "mirror,zoom"), large)


@pytest.mark.parametrize("asked", ["plain", "mirror", "large,plain", "zoom,mirror", "plain,mirror,zoom,large", "large,zoom"])
def test_a_request_is_served_from_a_file_that_has_more(tmp_path: Path, asked: str) -> None:
    """Any of its views in any order, logits and embeddings of the views that embed."""
    shelf = make_shelf(tmp_path)
    put(shelf, "plain,mirror,zoom,large")
    assert_same(find(shelf, asked), predict(find_views(asked.split(","))))
    assert find(shelf, "plain,half") is None


def test_another_size_network_photograph_condition_or_fold_is_not_served(tmp_path: Path) -> None:
    """Whatever the answers depend on is compared in full, not by the digits in the name."""
    shelf = make_shelf(tmp_path)
    put(shelf, "plain")
    assert find(shelf, "plain", size_px=96) is None
    ends_otherwise = shelf.made_of[:-1] + "x"
    for change in ({"made_of": ends_otherwise}, {"condition": "shifted"}, {"fold": 1}, {"network": "b" * 64}):
        assert find(make_shelf(tmp_path, **change), "plain") is None, change
    assert find(shelf, "plain") is not None


def test_what_an_older_network_said_is_removed_and_only_that(tmp_path: Path) -> None:
    """Trained on, a fold's old answers go when new ones come; other folds, conditions and photographs keep theirs."""
    (tmp_path / "clean_fold0.npz").write_bytes(b"as older versions named it")
    (tmp_path / "mine.txt").write_text("mine")
    shelf, others = make_shelf(tmp_path), [make_shelf(tmp_path, fold=10), make_shelf(tmp_path, condition="shifted")]
    for old in (shelf, *others):
        put(old, "plain")
    trained_on = make_shelf(tmp_path, network="c" * 64)
    put(trained_on, "plain", seed=1)
    assert find(shelf, "plain") is None
    assert all(find(other, "plain") is not None for other in others)
    assert_same(find(trained_on, "plain"), predict(find_views(["plain"]), seed=1))
    put(make_shelf(tmp_path, network="c" * 64, made_of="another folder" * 5), "plain")
    assert find(trained_on, "plain") is not None
    assert (tmp_path / "mine.txt").exists()
    assert not (tmp_path / "clean_fold0.npz").exists()


def test_the_store_does_not_grow_without_end(tmp_path: Path) -> None:
    """The newest few sets of views of a network stay, the one just made always among them."""
    shelf, singles = make_shelf(tmp_path), list(VIEWS)[: MAX_FILES + 3]
    for number, name in enumerate(singles):
        put(shelf, name)
        for file in tmp_path.glob("*.npz"):
            if file.stat().st_mtime > 1e6:
                os.utime(file, (number, number))
        assert find(shelf, name) is not None
    kept = [name for name in singles if find(shelf, name) is not None]
    assert kept == singles[-MAX_FILES:]


Damage = Callable[[dict[str, Any]], dict[str, Any]]
DAMAGES: dict[str, Damage] = {
    "no logits": lambda data: {name: value for name, value in data.items() if name != "logits"},
    "no digests": lambda data: {name: value for name, value in data.items() if name != "digests"},
    "no views": lambda data: {name: value for name, value in data.items() if name != "views"},
    "fewer photographs": lambda data: {**data, "logits": data["logits"][:, :-1]},
    "fewer classes": lambda data: {**data, "logits": data["logits"][:, :, :-1]},
    "a view less": lambda data: {**data, "logits": data["logits"][:-1]},
    "an unknown view": lambda data: {**data, "views": np.array(["plain", "sideways"])},
    "numbers for views": lambda data: {**data, "views": np.array([1, 2])},
    "NaN": lambda data: {**data, "logits": data["logits"] * np.float32(np.nan)},
    "infinite embeddings": lambda data: {**data, "embeddings": data["embeddings"] + np.float16(np.inf)},
    "flat embeddings": lambda data: {**data, "embeddings": data["embeddings"].ravel()},
    "other looks": lambda data: {**data, "looks": data["looks"][:, :1]},
    "text": lambda data: {**data, "logits": np.array("text")},
    "another digest": lambda data: {**data, "made_of": "x"},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_foreign_file_is_made_again(tmp_path: Path, name: str) -> None:
    """It is as if it were not there, and the next answers take its place."""
    shelf = make_shelf(tmp_path)
    put(shelf, "plain,mirror")
    file = next(tmp_path.glob("*.npz"))
    data = load_arrays(file)
    assert data is not None
    save_arrays(file, **DAMAGES[name](data))
    assert find(shelf, "plain,mirror") is None
    made = put(shelf, "plain,mirror")
    assert_same(find(shelf, "plain,mirror"), made)


def test_half_a_file_is_made_again(tmp_path: Path) -> None:
    shelf = make_shelf(tmp_path)
    put(shelf, "plain")
    file = next(tmp_path.glob("*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    assert find(shelf, "plain") is None
