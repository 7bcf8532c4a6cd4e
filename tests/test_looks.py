"""Laws of looks: a copy that was stored or compressed again never stands on both sides of a fold."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hectocar.config.schema import DataConfig
from hectocar.dataset.folds import deal_folds
from hectocar.dataset.looks import MAX_LEVELS, MIN_CONTRAST, group_looks
from hectocar.dataset.manifest import USED, scan_photos
from hectocar.progress import NoProgress
from pictures import encode, make_picture, save


def make_copies(folder: Path) -> list[tuple[str, str]]:
    """Two classes of eight photographs, and of each photograph of the first a copy, each edited in another way."""
    for k in range(8):
        save(folder / f"train/a/{k}.jpg", encode(make_picture(k, 160, 120), 95))
        save(folder / f"train/b/{k}.jpg", encode(make_picture(100 + k, 160, 120), 95))
        data, copy = (folder / f"train/a/{k}.jpg").read_bytes(), io.BytesIO()
        if k % 4 == 0:
            copy.write(data[:2] + b"\xff\xfe\x00\x08a copy" + data[2:])  # a comment: other bytes, the same pixels
        elif k % 4 == 1:
            Image.open(io.BytesIO(data)).save(copy, "BMP")
        else:
            Image.open(io.BytesIO(data)).save(copy, "JPEG", quality=70 + 10 * (k % 4))
        save(folder / f"train/a/copy{k}.jpg", copy.getvalue())
    return [(f"train/a/{k}.jpg", f"train/a/copy{k}.jpg") for k in range(8)]


@pytest.mark.parametrize("seed", range(3))
def test_copies_never_cross_a_fold_without_an_audit(tmp_path: Path, seed: int) -> None:
    """Another comment, another format, another compression: one picture, one fold; and all of them are used."""
    pairs = make_copies(tmp_path)
    manifest, classes = scan_photos(tmp_path, DataConfig())
    assert manifest.status == (USED,) * 24  # only equal bytes are dropped without being asked
    folds = deal_folds(manifest, classes, DataConfig(num_folds=4, fold_seed=seed), NoProgress())
    fold = dict(zip(folds.image_id, folds.fold.tolist(), strict=True))
    assert [fold[first] for first, _ in pairs] == [fold[second] for _, second in pairs]
    assert len(set(folds.group.tolist())) == 16


def test_photographs_that_are_no_copies_keep_their_groups(tmp_path: Path) -> None:
    """Where nothing is alike, each photograph is a group, numbered as before."""
    for k in range(12):
        save(tmp_path / f"train/{'ab'[k % 2]}/{k}.jpg", encode(make_picture(k, 80, 60)))
    manifest, classes = scan_photos(tmp_path, DataConfig())
    assert deal_folds(manifest, classes, DataConfig(num_folds=3), NoProgress()).group.tolist() == list(range(12))


def test_every_cell_counts_and_flat_pictures_are_nobodys_copies() -> None:
    """One cell one level too far apart is another picture; blank ones are alike without being copies; chains join."""
    rng = np.random.default_rng(0)
    base = rng.integers(20, 200, (32, 32)).astype(np.uint8)
    near, far, last = base.copy(), base.copy(), base.copy()
    near[3, 4] += MAX_LEVELS
    far[3, 4] += MAX_LEVELS + 1
    last[3, 4] += 2 * MAX_LEVELS
    blank = np.full((32, 32), 7, np.uint8)
    grey = (128 + rng.integers(0, 2, (32, 32))).astype(np.uint8)
    assert float(grey.std()) < MIN_CONTRAST
    assert group_looks(np.stack([base, blank, far, blank, grey, grey, base])).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert group_looks(np.stack([base, near, last])).tolist() == [0, 0, 0]
    assert group_looks(np.zeros((0, 32, 32), np.uint8)).tolist() == []
    assert group_looks(base[None]).tolist() == [0]


def test_thousands_of_alike_pictures_cost_no_more() -> None:
    """Frames of one camera are all alike: they are one group, and no list of all their pairs is made."""
    rng = np.random.default_rng(1)
    base = rng.integers(20, 200, (32, 32))
    frames = (base + rng.integers(0, 2, (2000, 32, 32))).astype(np.uint8)
    others = rng.integers(0, 256, (2000, 32, 32)).astype(np.uint8)
    start = time.process_time()
    groups = group_looks(np.concatenate([frames, others]))
    assert time.process_time() - start < 5
    assert set(groups[:2000].tolist()) == {0}
    assert groups[2000:].tolist() == list(range(2000, 4000))
