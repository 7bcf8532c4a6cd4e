"""Laws of the schedule: preset seed2025 is the published contest recipe, epoch for epoch, and phases stretch to any length."""

import dataclasses
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR

from hectocar.config.reader import read_config
from hectocar.config.schema import Config, MixPhase, TrainingConfig
from hectocar.training.recipe import (
    WARMUP_START,
    cosine_factor,
    epoch_plan,
    is_validated,
    phase_at,
    plan_rows,
    step_learning_rates,
    warmup_factor,
)

# The published recipe: (size px, first epoch, last epoch, batch, backbone learning rate), epochs counted from 1.
PUBLISHED = (
    (256, 1, 5, 224, 4e-5),
    (384, 6, 10, 96, 8e-5),
    (512, 11, 16, 48, 6e-5),
    (640, 17, 24, 32, 2e-5),
    (768, 25, 30, 32, 8e-6),
)
SEED2025 = read_config("seed2025")


def with_training(config: Config, **changes: object) -> Config:
    return replace(config, training=replace(config.training, **changes))  # type: ignore[arg-type]


def torch_cosine(base: float, num_epochs: int) -> list[float]:
    """The learning rate of each epoch in the closed form of torch's own scheduler."""
    closed_form = CosineAnnealingLR._get_closed_form_lr  # an optimizer would load the compiler: 8 s
    settings_of_epoch = (
        SimpleNamespace(base_lrs=[base], last_epoch=epoch, T_max=num_epochs, eta_min=0.0) for epoch in range(num_epochs)
    )
    return [float(closed_form(scheduler)[0]) for scheduler in settings_of_epoch]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(1, 31))
def test_seed2025_is_the_published_recipe(number: int) -> None:
    """Every epoch of the preset has the size, batch, rates, margin, smoothing, mix and drop path that were published."""
    (row,) = [row for row in PUBLISHED if row[1] <= number <= row[2]]
    size_px, _, _, batch_size, learning_rate = row
    epoch = number - 1  # margin and mix are published with epochs counted from 0, the table from 1
    plan = epoch_plan(SEED2025, epoch)
    assert (plan.epoch, plan.size_px, plan.batch_size, plan.phase_learning_rate) == (epoch, size_px, batch_size, learning_rate)
    assert plan.margin_rad == (0.10 if epoch < 16 else 0.05)
    assert plan.label_smoothing == 0.05
    assert (plan.drop_path, plan.drop_path_share) == (0.1, 1.0)
    if epoch <= 15:
        assert (plan.mix.kind, plan.mix.alpha, plan.mix.prob) == ("cutmix", 1.0, 0.3)
    elif epoch <= 20:
        assert (plan.mix.kind, plan.mix.alpha, plan.mix.prob) == ("mixup", 0.2, 1.0)
    else:
        assert plan.mix.kind == "none"
    expected = torch_cosine(learning_rate, 30)[epoch]
    assert plan.learning_rate == pytest.approx(expected, rel=1e-9)
    assert plan.head_learning_rate == 5 * plan.learning_rate
    for step in (0, 7, 99):  # lowered once per epoch, without a warm-up
        assert step_learning_rates(SEED2025, plan, step, 100) == (plan.learning_rate, plan.head_learning_rate)


def test_the_finetuning_stage_is_the_last_epochs() -> None:
    """Its length is kept, and margin and smoothing are off in it only when asked; validation may be kept for the end."""
    plain = dataclasses.replace(
        SEED2025.training, finetune_epochs=6, finetune_plain=True, validate_last_epochs=2, validate_every=0
    )
    plans = [epoch_plan(dataclasses.replace(SEED2025, training=plain), epoch) for epoch in range(30)]
    assert [plan.finetune for plan in plans] == [False] * 24 + [True] * 6
    assert {(plan.margin_rad, plan.label_smoothing) for plan in plans[24:]} == {(0.0, 0.0)}
    assert all(plan.margin_rad > 0.0 and plan.label_smoothing == 0.05 for plan in plans[:24])
    assert [plan.validate for plan in plans] == [False] * 28 + [True] * 2
    kept = dataclasses.replace(SEED2025.training, finetune_epochs=6)
    assert epoch_plan(dataclasses.replace(SEED2025, training=kept), 29).margin_rad == 0.05
    asked = [epoch + 1 for epoch in range(30) if epoch_plan(SEED2025, epoch).validate]
    assert asked == [5, 10, 15, 20, *range(25, 31)]
    always = dataclasses.replace(SEED2025.training, validate_last_epochs=0)
    assert all(is_validated(always, epoch) for epoch in range(30))


def test_seed2025_has_the_published_numbers() -> None:
    """Network, augmentation, optimiser and data of the preset are those that were published."""
    network, augment, training, data = SEED2025.network, SEED2025.augment, SEED2025.training, SEED2025.data
    assert (training.similar_prob, training.max_similar_pairs) == (0.3, 300)
    assert network.backbone == "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384"
    assert (network.pool, network.gem_p, network.pool_stages, network.neck) == ("gem", 3.0, 1, "none")
    assert (network.head, network.num_subcenters, network.scale) == ("arcface", 3, 30.0)
    assert (network.drop_path_max, network.channels_last, network.compile) == (0.1, True, True)
    assert (augment.crop_scale, augment.crop_ratio, augment.crop_ratio_of) == ((0.6, 1.0), (0.75, 1.333), "pixels")
    assert (augment.brightness, augment.contrast, augment.saturation, augment.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (augment.shift, augment.scale, augment.rotate_degrees, augment.flip_prob) == (0.05, 0.1, 15.0, 0.5)
    assert augment.erase_side == (0.10, 0.25)
    assert (training.epochs, training.seed, training.head_multiplier) == (30, 2025, 5.0)
    assert (training.weight_decay, training.clip_norm, training.cosine) == (1e-2, 1.0, "epoch")
    assert training.ema_decay > 0.0
    assert training.precision in ("bfloat16", "float16")
    assert (data.num_folds, data.drop_exact_duplicates, data.exclude) == (5, True, ("contest:noise_seed",))


def test_the_plan_table_has_a_row_per_epoch() -> None:
    """`hectocar plan` shows each epoch once, counted from 1, under a header; rows say what the plan says."""
    header, *rows = plan_rows(SEED2025)
    assert [row[0] for row in rows] == [str(number) for number in range(1, 31)]
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0] == ["1", "256", "224", "4.0e-05", "4.00e-05", "2.00e-04", "0.10", "cutmix a=1 p=0.3", "0.05", "0.10"]
    mixes = [rows[number - 1][7] for number in (16, 17, 21, 22)]
    assert mixes == [
        "cutmix a=1 p=0.3",
        "mixup a=0.2 p=1",
        "mixup a=0.2 p=1",
        "-",
    ]
    assert len(plan_rows(Config())) == Config().training.epochs + 1


def test_phases_stretch_with_the_training() -> None:
    """Twice the epochs are twice each phase: sizes, margins and mixes keep their share of the training."""
    double = with_training(SEED2025, epochs=60)
    for epoch in range(60):
        long, short = epoch_plan(double, epoch), epoch_plan(SEED2025, epoch // 2)
        assert (long.size_px, long.batch_size, long.margin_rad, long.mix) == (
            short.size_px,
            short.batch_size,
            short.margin_rad,
            short.mix,
        )


def test_phases_shrink_and_short_ones_are_skipped() -> None:
    """In 3 epochs five phases cannot all appear: borders round to whole epochs, the order stays, the last one is reached."""
    short = with_training(SEED2025, epochs=3)
    assert [epoch_plan(short, epoch).size_px for epoch in range(3)] == [384, 512, 768]
    assert [epoch_plan(short, epoch).mix.kind for epoch in range(3)] == ["cutmix", "cutmix", "none"]
    assert epoch_plan(with_training(SEED2025, epochs=1), 0).size_px == 512


@given(lengths=st.lists(st.floats(0.1, 50), min_size=1, max_size=8), num_epochs=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_any_phases_fill_any_training_in_order(lengths: list[float], num_epochs: int) -> None:
    """For any lengths: no phase comes back, and each has its exact share of the epochs within one."""
    phases = [MixPhase(epochs=length, kind="mixup", alpha=place + 1) for place, length in enumerate(lengths)]
    places = [phases.index(phase_at(phases, epoch, num_epochs)) for epoch in range(num_epochs)]
    assert places == sorted(places)
    for place, length in enumerate(lengths):
        assert abs(places.count(place) - length / sum(lengths) * num_epochs) <= 1.0 + 1e-6


@pytest.mark.parametrize("epoch", [-1, 30, 1000])
def test_an_epoch_outside_is_refused(epoch: int) -> None:
    """There is no epoch after the last; the error states the allowed range."""
    with pytest.raises(ValueError, match=rf"epoch is {epoch}; allowed: 0 to 29"):
        epoch_plan(SEED2025, epoch)


def test_warmup_is_linear() -> None:
    """From WARMUP_START the factor rises in equal steps to 1 at the end of the warm-up and stays there."""
    training = TrainingConfig(epochs=10, warmup_epochs=2.0, cosine="none")
    factors = [warmup_factor(training, step / 8) for step in range(40)]
    assert factors[0] == WARMUP_START == 0.01
    steps = [after - before for before, after in itertools.pairwise(factors)]
    assert steps[:16] == pytest.approx([0.99 / 16] * 16)
    assert factors[16:] == [1.0] * 24
    assert warmup_factor(TrainingConfig(), 0.0) == 1.0
    config = with_training(Config(), warmup_epochs=0.5, cosine="none")
    rates = [step_learning_rates(config, epoch_plan(config, 0), step, 10) for step in range(10)]
    backbone_rates = [backbone for backbone, _ in rates]
    assert backbone_rates == pytest.approx([1e-4 * (0.01 + 0.99 * min(1.0, step / 5)) for step in range(10)])
    assert [head for _, head in rates] == pytest.approx([5 * rate for rate in backbone_rates])


def test_cosine_per_step_falls_at_every_step() -> None:
    """`cosine: step` starts at 1, meets torch's curve at each epoch, falls strictly in between and ends next to 0."""
    config = with_training(Config(), cosine="step", epochs=6)
    rates = [step_learning_rates(config, epoch_plan(config, epoch), step, 25)[0] for epoch in range(6) for step in range(25)]
    assert all(after < before for before, after in itertools.pairwise(rates))
    assert rates[::25] == pytest.approx(torch_cosine(1e-4, 6))
    assert rates == pytest.approx(torch_cosine(1e-4, 150))
    assert cosine_factor(config.training, 6.0) == pytest.approx(0.0, abs=1e-15)
    assert cosine_factor(config.training, 7.0) == pytest.approx(0.0, abs=1e-15)


def test_cosine_can_be_switched_off() -> None:
    """`cosine: none` keeps each phase's own rate to the end."""
    config = with_training(SEED2025, cosine="none")
    assert all(plan.learning_rate == plan.phase_learning_rate for plan in (epoch_plan(config, epoch) for epoch in range(30)))


def test_drop_path_rises_to_its_maximum() -> None:
    """drop_path_start is the share of the first epoch; the last epoch has the whole; one epoch alone stays at the start."""
    config = with_training(SEED2025, drop_path_start=0.2, epochs=5)
    shares = [epoch_plan(config, epoch).drop_path_share for epoch in range(5)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [epoch_plan(config, epoch).drop_path for epoch in range(5)] == pytest.approx([0.1 * share for share in shares])
    assert epoch_plan(with_training(config, epochs=1), 0).drop_path_share == pytest.approx(0.2)
