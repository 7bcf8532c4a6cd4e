"""Laws of the shift: what was done to photographs is recovered from other photographs, and identity is nothing at all."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hectocar.auditing.pixel_sample import LEVELS, PixelSample, sample_pixels
from hectocar.auditing.shift_fit import MIN_PHOTOS, ShiftFit, fit_shift
from hectocar.codec import decode, encode
from hectocar.disk.artifacts import read_json, write_json
from hectocar.errors import ArtifactError, DataError
from hectocar.photos.shift import PhotoShift, apply_shift, estimate_jpeg_quality
from pictures import make_picture

SHIFTS = st.builds(PhotoShift, st.floats(0.05, 10.0), st.floats(-255.0, 255.0), st.floats(0.1, 10.0), st.integers(0, 100))


def make_photo(seed: int) -> Image.Image:
    """A scene of its own exposure: some nearly black, some washed out, most with a black and a white spot."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(make_picture(seed, 120, 96), dtype=np.float64) / 255.0
    pixels = 255.0 * rng.uniform(0.6, 1.1) * pixels ** rng.uniform(0.6, 2.2) + rng.uniform(-30, 40)
    for level in (0, 255):
        if rng.random() < 0.7:
            top, left = rng.integers(0, 70), rng.integers(0, 90)
            pixels[top : top + rng.integers(4, 20), left : left + rng.integers(4, 20)] = level
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_jpeg(path: Path, image: Image.Image, quality: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)
    return path


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [make_photo(seed) for seed in range(600)]


@pytest.fixture(scope="module")
def reference(photos: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> PixelSample:
    folder = tmp_path_factory.mktemp("reference")
    return sample_pixels([write_jpeg(folder / f"{k}.jpg", photo, 88) for k, photo in enumerate(photos[:300])], num_workers=1)


def sample_shifted(photos: list[Image.Image], shift: PhotoShift, folder: Path) -> PixelSample:
    """The photographs as they come (quality 88), shifted, at the shift's quality or uncompressed."""
    files = []
    for k, photo in enumerate(photos):
        stored = apply_shift(photo, PhotoShift(jpeg_quality=88))
        path = folder / f"{k}.{'jpg' if shift.jpeg_quality else 'png'}"
        shifted = apply_shift(stored, PhotoShift(shift.gain, shift.offset, shift.gamma))
        shifted.save(path, **({"quality": shift.jpeg_quality} if shift.jpeg_quality else {}))
        files.append(path)
    return sample_pixels(files, num_workers=1)


def assert_recovered(fit: ShiftFit, true: PhotoShift, offset_levels: float) -> None:
    """Gain and gamma within 10 %; the offset within 10 % or some grey levels, for that of 0 has no per cent."""
    assert fit.shift.gain == pytest.approx(true.gain, rel=0.1)
    assert fit.shift.gamma == pytest.approx(true.gamma, rel=0.1)
    assert fit.shift.offset == pytest.approx(true.offset, rel=0.1, abs=offset_levels)


@given(SHIFTS)
@settings(deadline=None)
def test_curves_rise_and_survive_json(tmp_path_factory: pytest.TempPathFactory, shift: PhotoShift) -> None:
    """Whatever the parameters, no grey level overtakes a brighter one; a shift on disk comes back equal."""
    curve = shift.tone_curve()
    assert (curve.shape, curve.dtype) == ((256,), np.uint8)
    assert (np.diff(curve.astype(int)) >= 0).all()
    path = tmp_path_factory.mktemp("json") / "shift.json"
    write_json(path, encode(shift))
    assert decode(PhotoShift, read_json(path), "model.json") == shift
    assert PhotoShift(shift.gain, shift.offset, shift.gamma).is_identity == (curve == np.arange(256)).all()


def test_the_curve_is_the_formula() -> None:
    """v' = clip(round(offset + gain * 255 * (v / 255) ** gamma)), on each channel, and nothing else."""
    shift = PhotoShift(gain=1.2, offset=-20.0, gamma=1.5)
    levels = np.arange(256.0)
    expected = np.clip(np.round(-20.0 + 1.2 * 255.0 * (levels / 255.0) ** 1.5), 0, 255)
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shifted = np.asarray(apply_shift(Image.fromarray(ramp), shift))
    assert (shifted == expected[None, :, None]).all()
    assert shifted.min() == 0
    assert shifted.max() == 255


def test_identity_does_nothing(photos: list[Image.Image]) -> None:
    """No pixel changes at the identity, nor at a shift that rounds to it; a quality alone changes the compression alone."""
    for shift in (PhotoShift(), PhotoShift(gain=1.001, offset=-0.1)):
        assert shift.is_identity
        assert apply_shift(photos[0], shift).tobytes() == photos[0].tobytes()
    compressed = PhotoShift(jpeg_quality=60)
    assert not compressed.is_identity
    buffer = io.BytesIO()
    photos[0].save(buffer, "JPEG", quality=60)
    shifted = apply_shift(photos[0], compressed)
    assert shifted.tobytes() == Image.open(buffer).tobytes()
    assert (shifted.mode, shifted.size) == ("RGB", photos[0].size)


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"gain": 0.0}, "0.05 to 10"),
        ({"gain": float("nan")}, "0.05 to 10"),
        ({"gain": "1"}, "0.05 to 10"),
        ({"offset": 256.0}, "-255 to 255"),
        ({"gamma": -1.0}, "0.1 to 10"),
        ({"jpeg_quality": 101}, "0 to 100"),
        ({"jpeg_quality": True}, "0 to 100"),
        ({"jpeg_quality": 85.5}, "whole numbers"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], allowed: str) -> None:
    """The message names the parameter and what is allowed, in code and from a file alike."""
    (name,) = values
    with pytest.raises(DataError, match=f"{name} is .*; allowed: {allowed}"):
        PhotoShift(**values)
    with pytest.raises(ArtifactError, match=rf"model\.json: {name} is .*expected|allowed: {allowed}"):
        decode(PhotoShift, encode(PhotoShift()) | values, "model.json")


@pytest.mark.parametrize("data", [None, [], {}, {"gain": 1.0}, encode(PhotoShift()) | {"contrast": 1.0}])
def test_foreign_json_is_refused(data: Any) -> None:
    """A key too many or too few is no shift."""
    with pytest.raises(ArtifactError, match=r"expected a mapping with gain|is missing|unknown key contrast"):
        decode(PhotoShift, data, "model.json")


def read_tables(image: Image.Image, **options: Any) -> dict[int, list[int]]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return Image.open(buffer).quantization  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_quality_is_exact_as_written(mode: str) -> None:
    """libjpeg's tables give the quality they were written with, 1 to 100, in colour and grey, in either order of steps."""
    image = Image.new(mode, (16, 16))
    scan = sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8))
    for quality in range(1, 101):
        tables = read_tables(image, quality=quality)
        assert estimate_jpeg_quality(tables) == quality
        assert estimate_jpeg_quality({key: [table[k] for k in scan] for key, table in tables.items()}) == quality


def test_foreign_tables_get_the_nearest_quality() -> None:
    """Steps a little off libjpeg's, as cameras have, stay within two; finer steps never get a lower quality; none is 0."""
    rng = np.random.default_rng(0)
    for quality in (40, 75, 90, 96):
        tables = read_tables(Image.new("RGB", (16, 16)), quality=quality)
        noisy = {
            key: np.round(np.array(table) * rng.uniform(0.95, 1.05, 64)).astype(int).tolist() for key, table in tables.items()
        }
        assert abs(estimate_jpeg_quality(noisy) - quality) <= 2
    flat = [estimate_jpeg_quality({0: [step] * 64}) for step in (1, 3, 9, 27, 81, 255)]
    assert flat == sorted(flat, reverse=True)
    assert (flat[0], flat[-1]) == (100, 1)
    assert estimate_jpeg_quality({}) == estimate_jpeg_quality({0: [1, 2, 3]}) == 0


def test_samples_are_repeatable_and_pass_over_damage(tmp_path: Path) -> None:
    """The seed alone decides the photographs, whatever the threads; damaged ones are counted; a PNG has no quality."""
    files = [write_jpeg(tmp_path / f"{k}.jpg", make_photo(k), 70) for k in range(12)]
    files[3].write_bytes(files[3].read_bytes()[:300])
    files[5].write_bytes(b"no photograph")
    make_photo(5).save(tmp_path / "6.png")
    files.append(tmp_path / "6.png")
    seen: list[tuple[int, int]] = []
    whole = sample_pixels(files, seed=1, num_workers=1, on_photo=lambda done, total: seen.append((done, total)))
    assert (len(whole), whole.num_skipped, len(whole.patches)) == (11, 2, 11)
    assert sorted(whole.jpeg_quality_N) == [0] + [70] * 10
    assert seen == [(done, 13) for done in range(1, 14)]
    again = sample_pixels(files, seed=1, num_workers=3)
    assert (again.quantiles_NU == whole.quantiles_NU).all()
    assert all((a == b).all() for a, b in zip(again.patches, whole.patches, strict=True))
    assert len(sample_pixels(files, num_photos=4, seed=2)) + sample_pixels(files, num_photos=4, seed=2).num_skipped == 4
    assert len(sample_pixels([], seed=1)) == 0


def test_quantiles_are_those_of_all_channels(tmp_path: Path) -> None:
    """Small photographs give their exact quantiles, large ones (sampled at places, never averaged) nearly."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8)
    for side, tolerance in ((60, 0.0), (600, 5.0)):
        Image.fromarray(pixels[:side, :side]).save(tmp_path / "photo.png")
        found = sample_pixels([tmp_path / "photo.png"]).quantiles_NU[0]
        assert np.abs(found - np.quantile(pixels[:side, :side], LEVELS)).max() <= tolerance


@pytest.mark.parametrize(
    "true",
    [
        PhotoShift(gain=0.6, jpeg_quality=50),
        PhotoShift(gamma=1.5, jpeg_quality=92),
        PhotoShift(offset=-25.0),
        PhotoShift(gain=1.3, offset=10.0, gamma=0.8, jpeg_quality=75),
        PhotoShift(gain=0.8, offset=-20.0, gamma=1.2, jpeg_quality=40),
    ],
    ids=PhotoShift.describe,
)
def test_a_known_shift_is_recovered(
    photos: list[Image.Image], reference: PixelSample, true: PhotoShift, tmp_path: Path
) -> None:
    """From 300 shifted photographs and 300 others, clipped and recompressed, every parameter comes back; a pure one pure."""
    fit = fit_shift(reference, sample_shifted(photos[300:], true, tmp_path))
    assert_recovered(fit, true, 2.5)
    assert fit.shift.jpeg_quality == true.jpeg_quality
    assert fit.distance_after < 2.0 * fit.distance_noise < fit.distance_before
    pure = [name for name, neutral in (("gain", 1.0), ("offset", 0.0), ("gamma", 1.0)) if getattr(true, name) != neutral]
    assert len(pure) > 1 or fit.form == pure[0]
    for name in ("gain", "offset", "gamma"):
        assert abs(getattr(fit.shift, name) - getattr(true, name)) < 5.0 * getattr(fit, f"{name}_spread")


def test_halves_of_one_set_need_no_shift(photos: list[Image.Image], reference: PixelSample, tmp_path: Path) -> None:
    """With nothing to find, the identity is found, its distance is that of chance, and the compression is left alone."""
    files = [write_jpeg(tmp_path / f"{k}.jpg", photo, 88) for k, photo in enumerate(photos[300:])]
    fit = fit_shift(reference, sample_pixels(files, num_workers=1))
    assert (fit.form, fit.shift, fit.shift.is_identity) == ("none", PhotoShift(), True)
    assert fit.distance_before < 2.0 * fit.distance_noise
    assert (fit.ref_quality, fit.target_quality, fit.num_ref, fit.num_target) == (88, 88, 300, 300)
    assert fit_shift(reference, sample_pixels(files, num_workers=1)) == fit


def test_too_few_or_empty_photographs(reference: PixelSample, tmp_path: Path) -> None:
    """Nine photographs are refused by number; photographs of one grey still give a finite curve between their levels."""
    files = [tmp_path / f"{k}.png" for k in range(MIN_PHOTOS)]
    for path in files:
        Image.new("RGB", (20, 20), (100, 100, 100)).save(path)
    with pytest.raises(DataError, match="9 readable photographs in the target set; allowed: 10 or more"):
        fit_shift(reference, sample_pixels(files[:-1]))
    grey = sample_pixels(files)
    assert fit_shift(grey, grey).shift.is_identity
    for path in files:
        Image.new("RGB", (20, 20), (60, 60, 60)).save(path)
    assert fit_shift(grey, sample_pixels(files)).shift.tone_curve()[100] == pytest.approx(60, abs=2)


@pytest.mark.realdata
def test_real_photographs(shared: Path) -> None:
    """cars196: no shift between halves, a made one recovered between them, and the test set's as its shared pictures show it.

    Seven pictures lie in both sets at one size; pixel by pixel the test set's are darker by 35 to 59, in the median by 42.
    """
    train, test = (sorted((shared / "data" / "cars196" / part).rglob("*.jpg")) for part in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    halves = [[train[k] for k in order[side::2]] for side in (0, 1)]
    first, second, dark = (sample_pixels(files, num_photos=700, seed=1) for files in (*halves, test))
    assert fit_shift(first, second).form == "none"
    made = PhotoShift(gain=0.7, offset=15.0, gamma=1.3)
    curve: NDArray[np.uint8] = made.tone_curve()
    shifted = PixelSample(np.interp(second.quantiles_NU, np.arange(256), curve), 0 * second.jpeg_quality_N, (), 0)
    assert_recovered(fit_shift(first, shifted), made, 2.0)
    fit = fit_shift(first, dark)
    assert fit.shift.tone_curve()[[60, 120, 180, 240]].tolist() == pytest.approx([18, 78, 138, 198], abs=8)
    assert (fit.ref_quality, fit.target_quality, fit.shift.jpeg_quality) == (86, 92, 92)
    assert fit.distance_after < 0.1 * fit.distance_before
