"""Laws of inference: the answer of a photograph does not depend on its company, and asking changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hectocar.config.schema import DataConfig, InferenceConfig, NetworkConfig
from hectocar.errors import DataError
from hectocar.network import arithmetic
from hectocar.network.arithmetic import choose_device, normalize_batch, to_device
from hectocar.network.carnet import CarNet
from hectocar.network.inference import Outputs, infer_photos
from hectocar.photos.batches import view_photo
from tiny import write_photos

SIZE_PX = 40
DAMAGED = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photos(tmp_path_factory.mktemp("photos"))[::3]


@pytest.fixture(scope="module")
def network() -> CarNet:
    """Random weights, and BatchNorm statistics that are not those of a fresh layer."""
    torch.manual_seed(0)
    network = CarNet(NetworkConfig(backbone="test_efficientnet", weights="none", neck="batchnorm"), 4)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 3, SIZE_PX, SIZE_PX))
    return network.eval()


def infer(networks: list[CarNet], files: list[Path], **changes: Any) -> list[Outputs]:
    settings: dict[str, Any] = {"batch_size": 4, "mirror": False, "num_workers": 1, "precision": "float32"} | changes
    return infer_photos(
        networks,
        files,
        size_px=SIZE_PX,
        inference=InferenceConfig(batch_size=settings["batch_size"], mirror=settings["mirror"]),
        data=DataConfig(num_workers=settings["num_workers"]),
        precision=settings["precision"],
        on_photo=settings.get("on_photo"),
        unreadable=settings.get("unreadable", "raise"),
    )


def test_equals_the_network_on_each_photograph_in_order(network: CarNet, files: list[Path]) -> None:
    """Row n is the plain forward pass of file n alone, normalised with the backbone's mean and deviation."""
    output = infer([network], files)[0]
    assert output.problems == {}
    assert output.logits.dtype == output.embeddings.dtype == np.float32
    mean, std = torch.tensor(network.pixels.mean).view(1, 3, 1, 1), torch.tensor(network.pixels.std).view(1, 3, 1, 1)
    for row, file in enumerate(files):
        view = torch.from_numpy(view_photo(file.read_bytes(), SIZE_PX, "stretch").copy()).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits, embed = network((view / 255.0 - mean) / std)
        np.testing.assert_allclose(output.logits[row], logits[0].numpy(), rtol=0.0, atol=1e-4)
        np.testing.assert_allclose(output.embeddings[row], embed[0].numpy(), rtol=1e-4, atol=1e-4)
    backwards = infer([network], files[::-1])[0]
    np.testing.assert_allclose(backwards.logits[::-1], output.logits, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
def test_the_batch_size_does_not_matter(batch_size: int, network: CarNet, files: list[Path]) -> None:
    """Logits of up to 30 agree to a few roundings of float32, whatever the batches."""
    np.testing.assert_allclose(
        infer([network], files, batch_size=batch_size)[0].logits, infer([network], files)[0].logits, rtol=1e-5, atol=5e-5
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_workers", [0, 2, 7])
def test_the_number_of_workers_changes_no_bit(num_workers: int, precision: str, network: CarNet, files: list[Path]) -> None:
    """Any number of threads gives the same bits in the same order."""
    one, many = (infer([network], files, num_workers=count, precision=precision)[0] for count in (1, num_workers))
    assert np.array_equal(one.logits, many.logits)
    assert np.array_equal(one.embeddings, many.embeddings)


@pytest.mark.parametrize("damage", [b"", b"not a photograph", None])
def test_a_damaged_photograph_is_named_and_harms_no_other(
    damage: bytes | None, network: CarNet, files: list[Path], tmp_path: Path
) -> None:
    """Nothing is judged that was not read: it is a DataError with the file's name, unless the caller takes it.

    Then it is in ``problems`` with its reason, its row is zero, and every other row is what it is without it, to the bit.
    """
    bad = tmp_path / "bad.jpg"
    if damage is None:
        bad.write_bytes(files[0].read_bytes()[:300])
    else:
        bad.write_bytes(damage)
    shown = [*files[:DAMAGED], bad, *files[DAMAGED + 1 :]]
    with pytest.raises(DataError, match=r"bad\.jpg: changed since the manifest was made: .*use --resume"):
        infer([network], shown)
    output = infer([network], shown, unreadable="take")[0]
    assert not output.logits[DAMAGED].any()
    assert not output.embeddings[DAMAGED].any()
    assert list(output.problems) == [DAMAGED]
    assert len(output.problems[DAMAGED]) > 10
    others = np.arange(len(files)) != DAMAGED
    assert np.array_equal(output.logits[others], infer([network], files)[0].logits[others])


def test_mirroring_averages_the_logits_of_both_views(network: CarNet, files: list[Path]) -> None:
    """With ``mirror`` the logits, not the probabilities, of the photograph and its mirror image are averaged."""
    views = np.stack([view_photo(file.read_bytes(), SIZE_PX, "stretch") for file in files])
    with torch.no_grad():
        plain, mirrored = (
            network(normalize_batch(to_device(np.ascontiguousarray(images), torch.device("cpu")), network.pixels))
            for images in (views, views[:, :, ::-1])
        )
    output = infer([network], files, mirror=True)[0]
    np.testing.assert_allclose(output.logits, ((plain[0] + mirrored[0]) / 2).numpy(), rtol=0.0, atol=1e-4)
    np.testing.assert_allclose(output.embeddings, ((plain[1] + mirrored[1]) / 2).numpy(), rtol=1e-4, atol=1e-4)
    assert not np.allclose(output.logits, plain[0].numpy(), atol=1e-2)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_network_is_left_as_it_was(damaged: bool, network: CarNet, files: list[Path]) -> None:
    """Each network's mode is restored, after a failure too, and no statistic has moved."""
    torch.manual_seed(1)
    training = CarNet(NetworkConfig(backbone="test_efficientnet", weights="none"), 4).train()
    before = [{name: value.clone() for name, value in net.state_dict().items()} for net in (training, network)]

    def stop(done: int, total: int) -> None:
        if damaged:
            raise KeyboardInterrupt

    try:
        infer([training, network], files, on_photo=stop)
    except KeyboardInterrupt:
        assert damaged
    assert training.training
    assert all(module.training for module in training.modules())
    assert not network.training
    for net, values in zip((training, network), before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_several_networks_share_one_reading(network: CarNet, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photograph is read once for all networks, each network answers as if alone, and every photograph is reported."""
    torch.manual_seed(2)
    other = CarNet(NetworkConfig(backbone="test_resnet", weights="none"), 7)
    reads: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: (reads.append(file), read_bytes(file))[1])
    reports: list[tuple[int, int]] = []
    outputs = infer([network, other], files, on_photo=lambda done, total: reports.append((done, total)))
    assert sorted(reads) == sorted(files)
    assert reports == [(4, 11), (8, 11), (11, 11)]
    for net, output in zip((network, other), outputs, strict=True):
        alone = infer([net], files)[0]
        assert np.array_equal(output.logits, alone.logits)
        assert output.embeddings.shape == (11, net.embed_dim)


def test_low_precision_is_close(network: CarNet, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 and float16 give float32 answers near the float32 ones, and those of float32 differ from them."""
    # A processor that only emulates them would answer in float32.
    monkeypatch.setattr(arithmetic, "has_fast_precision", lambda *_: True)
    exact = infer([network], files)[0].logits
    for precision, tolerance in (("bfloat16", 1.5), ("float16", 0.2)):
        output = infer([network], files, precision=precision)[0]
        assert output.logits.dtype == np.float32
        assert 0.0 < np.abs(output.logits - exact).max() < tolerance


def test_no_photographs_give_empty_tables(network: CarNet) -> None:
    """An empty list is no error: tables of no rows and the right widths."""
    output = infer([network], [])[0]
    assert (output.logits.shape, output.embeddings.shape) == ((0, 4), (0, network.embed_dim))


def test_the_device_is_chosen_or_named() -> None:
    """``auto`` is the processor where there is no GPU; a name is taken at its word."""
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
