"""Laws of the views: what a network is shown at prediction is made without chance, alike whoever asks for whatever else."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hectocar.errors import ConfigError, DataError
from hectocar.photos.batches import RenderBatch, iter_render_batches, render_photo, shift_change, view_photo
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.measure import measure_photo
from hectocar.photos.render import brighten_picture, fit_photo, render_picture
from hectocar.photos.shift import PhotoShift
from hectocar.photos.unusable import UNUSABLE, make_unusable
from hectocar.photos.views import VIEWS, Render, find_views, measure_look, plan_renders
from tiny import write_photos

SIZE_PX = 48


def make_jpeg(width: int = 320, height: int = 200, level: int = 120) -> bytes:
    """A photograph with a gradient and some texture around a mean level."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(-40, 40, width)[None, :, None] + rng.integers(-20, 20, (height, width, 3)) + level
    buffer = io.BytesIO()
    Image.fromarray(ramp.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photos(tmp_path_factory.mktemp("photos"))[::5]


def all_batches(files: list[Path], **settings: object) -> list[RenderBatch]:
    renders, _ = plan_renders(tuple(VIEWS.values()), SIZE_PX, "stretch", 115.0)
    return list(iter_render_batches(files, renders, read=read_photo_bytes, **{"batch_size": 3, **settings}))  # type: ignore[arg-type]


def test_the_plain_view_is_what_validation_sees() -> None:
    """The first view of prediction has the pixels of `view_photo`, at a size where libjpeg decodes smaller, too."""
    for data in (make_jpeg(), make_jpeg(900, 700)):
        pictures, _ = render_photo(data, [VIEWS["plain"].render(SIZE_PX, "stretch", 100.0)])
        assert np.array_equal(pictures[0], view_photo(data, SIZE_PX, "stretch"))


@pytest.mark.parametrize("name", VIEWS)
def test_a_picture_does_not_depend_on_what_else_is_asked_for(name: str) -> None:
    """Rendered alone or among all views, decoded once or several times: the same pixels."""
    data = make_jpeg(1000, 640)
    renders, places = plan_renders(tuple(VIEWS.values()), SIZE_PX, "stretch", 115.0)
    together, _ = render_photo(data, renders)
    alone, _ = render_photo(data, [VIEWS[name].render(SIZE_PX, "stretch", 115.0)])
    assert np.array_equal(together[places[list(VIEWS).index(name)][0]], alone[0])


def test_views_that_differ_by_the_mirror_share_their_pixels() -> None:
    """A mirrored view costs no decoding: it points at the same render."""
    renders, places = plan_renders(find_views(["plain", "mirror", "large", "large_mirror"]), SIZE_PX, "stretch", 0.0)
    assert len(renders) == 2
    assert places == [(0, False), (0, True), (1, False), (1, True)]


def test_sizes_are_multiples_of_the_step_and_the_plain_one_is_exact() -> None:
    """Networks with strides take 16 px steps; the size of validation itself is never rounded."""
    assert VIEWS["plain"].render(50, "stretch", 0.0).size_px == 50
    assert {VIEWS[name].render(112, "crop", 0.0).size_px for name in ("large", "larger")} == {144, 160}


def test_zoom_and_half_show_the_middle() -> None:
    """Half shows the middle half of the area: a white frame around a black middle disappears."""
    image = Image.new("RGB", (200, 100), (255, 255, 255))
    image.paste((0, 0, 0), (20, 10, 180, 90))
    assert render_picture(image, Render("half", 32)).max() == 0
    assert render_picture(image, Render("zoom", 32)).max() == 255
    assert np.array_equal(render_picture(image, Render("stretch", 32)), fit_photo(image, 32, "stretch"))


@given(level=st.integers(0, 255), target=st.floats(0, 255))
@example(level=20, target=107.0)  # its black pixels stay black: gamma 0.3 makes 102.6 of it, not the 119 of an even grey
def test_brightening_reaches_the_target_or_leaves_the_photograph_alone(level: int, target: float) -> None:
    """A darker photograph ends at the target, or where gamma 0.3 carries its pixels, to the rounding; others are untouched.

    Rounding a curve's levels moves their mean by at most half a level. Held for grey photographs: it is the luma that is
    measured, and in strong colours the bent channels' luma lies a little lower.
    """
    image = decode_photo(make_jpeg(64, 64, level)).convert("L").convert("RGB")
    before = measure_look(image)[0]
    bright = brighten_picture(image, target)
    if before >= target:
        assert bright is image
    else:
        farthest = 255.0 * float(((np.asarray(image, dtype=np.float64) / 255.0) ** 0.3).mean())
        assert measure_look(bright)[0] == pytest.approx(min(target, farthest), abs=0.51)


def test_batches_hold_every_photograph_once_in_order_whatever_the_workers(files: list[Path]) -> None:
    """Any number of threads and any limit of the batch give the same bits in the same order."""
    one, many = all_batches(files, num_workers=1), all_batches(files, num_workers=5)
    assert np.concatenate([batch.index_B for batch in one]).tolist() == list(range(len(files)))
    for first, second in zip(one, many, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(first.pictures, second.pictures, strict=True))
        assert np.array_equal(first.look_BK, second.look_BK)
    larger = all_batches(files, batch_size=64)
    for place, picture in enumerate(larger[0].pictures):
        assert np.array_equal(picture, np.concatenate([batch.pictures[place] for batch in one]))


def test_memory_of_a_batch_is_bounded(files: list[Path]) -> None:
    """Large pictures come in small batches, one photograph at least; each render lies in one piece, ready to be sent."""
    batches = all_batches(files, max_bytes=1)
    assert [len(batch.index_B) for batch in batches] == [1] * len(files)
    assert all(picture.flags.c_contiguous for batch in all_batches(files) for picture in batch.pictures)


def test_a_damaged_photograph_is_named(files: list[Path], tmp_path: Path) -> None:
    """Its pictures are black and its place says why; the others are as without it."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nothing")
    batch = next(iter(all_batches([files[0], bad, files[1]], batch_size=3)))
    assert list(batch.problems) == [1]
    assert all(picture[1].max() == 0 for picture in batch.pictures)
    with pytest.raises(DataError, match="not a photograph"):
        render_photo(b"nothing", [Render("stretch", 32)])


def test_a_shift_is_applied_before_the_views() -> None:
    """Shifted pictures equal those of `view_photo` with the shift: the shifted validation in another room."""
    shift, data = PhotoShift(offset=-40.0, jpeg_quality=80), make_jpeg()
    pictures, look = render_photo(data, [Render("stretch", SIZE_PX)], change=shift_change(shift))
    assert np.array_equal(pictures[0], view_photo(data, SIZE_PX, "stretch", shift=shift))
    assert look[0] < render_photo(data, [Render("stretch", SIZE_PX)])[1][0] - 30


def test_looks_agree_with_the_scan() -> None:
    """Brightness and sharpness at prediction are those that the audit measured, within the sampling."""
    data = make_jpeg(500, 375)
    look, measured = measure_look(decode_photo(data)), measure_photo(data)
    assert look[0] == pytest.approx(measured.brightness, abs=1.5)
    assert look[1] == pytest.approx(measured.sharpness, rel=0.1)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_photographs_are_made_without_chance_and_differ_from_the_original(kind: str) -> None:
    """The same index gives the same pixels; whatever is made is RGB, and far from what was there."""
    blocks = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((20, 20, 1), dtype=np.uint8)))
    first, second = make_unusable(image, kind, 5), make_unusable(image, kind, 5)
    assert first.mode == "RGB"
    assert np.array_equal(np.asarray(first), np.asarray(second))
    small = [np.asarray(picture.resize((32, 32)), dtype=np.float64) for picture in (image, first)]
    assert np.abs(small[0] - small[1]).mean() > 5.0


def test_unknown_views_are_named_with_the_nearest() -> None:
    """A wrong name, a name twice and no name at all are refused."""
    with pytest.raises(ConfigError, match=r"'miror' \(nearest: 'mirror'\); allowed: plain"):
        find_views(["plain", "miror"])
    with pytest.raises(ConfigError, match="none twice"):
        find_views(["plain", "plain"])
    with pytest.raises(ConfigError, match="one view or more"):
        find_views([])
