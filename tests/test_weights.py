"""Laws of weights on disk: they fill the backbone exactly or not at all, and no file's code is ever run."""

import functools
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hectocar.errors import ArtifactError, ConfigError
from hectocar.network.backbone import create_backbone
from hectocar.network.sources import load_tensors
from hectocar.network.weights import load_tensors_with_state, save_tensors

NAME = "test_efficientnet"


@functools.cache
def make_donor(name: str = NAME) -> nn.Module:
    """A whole model with its classifier, and statistics that a fresh one does not have."""
    torch.manual_seed(5)
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=7)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
        else:
            value.fill_(41)
    return model


def write_weights(path: Path, tensors: dict[str, Tensor], wrapper: str = "") -> Path:
    """Writes a safetensors or PyTorch file; ``wrapper`` is the key under which training programs store the tensors."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("file_name", "wrapper"), [("w.safetensors", ""), ("w.pth", ""), ("w.pth", "state_dict"), ("w.bin", "model")]
)
def test_a_local_file_fills_the_backbone_exactly(file_name: str, wrapper: str, prefix: str, tmp_path: Path) -> None:
    """Every weight and buffer is the file's, to the bit; the file's classifier is ignored."""
    donor = make_donor().state_dict()
    assert any(name.startswith("classifier") for name in donor)
    path = write_weights(tmp_path / file_name, {prefix + name: value for name, value in donor.items()}, wrapper)
    filled = create_backbone(NAME, str(path), drop_path_max=0.2).state_dict()
    assert len(filled) == len(donor) - 2
    assert all(torch.equal(value, donor[name]) for name, value in filled.items())


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    """A float16 file fills a float32 backbone with its own, rounded, numbers."""
    donor = {name: value.half() if value.is_floating_point() else value for name, value in make_donor().state_dict().items()}
    backbone = create_backbone(NAME, str(write_weights(tmp_path / "w.safetensors", donor)), 0.0)
    assert {value.dtype for value in backbone.parameters()} == {torch.float32}
    assert all(torch.equal(value, donor[name].float()) for name, value in backbone.named_parameters())


def test_counters_may_be_missing(tmp_path: Path) -> None:
    """Old files lack BatchNorm's num_batches_tracked; nothing else may be missing or of another shape."""
    donor = {name: value for name, value in make_donor().state_dict().items() if "num_batches_tracked" not in name}
    create_backbone(NAME, str(write_weights(tmp_path / "w.safetensors", donor)), 0.0)
    del donor["conv_stem.weight"]
    with pytest.raises(ArtifactError, match=r"1 tensors missing \['conv_stem\.weight'\]"):
        create_backbone(NAME, str(write_weights(tmp_path / "w.safetensors", donor)), 0.0)
    donor["conv_stem.weight"] = torch.zeros(64, 3, 3, 3)
    with pytest.raises(ArtifactError, match=r"1 of another shape \['conv_stem\.weight'\]"):
        create_backbone(NAME, str(write_weights(tmp_path / "w.safetensors", donor)), 0.0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_missing_file_is_refused(suffix: str, tmp_path: Path) -> None:
    """The error names the file and what is allowed."""
    with pytest.raises(ArtifactError, match=rf"absent\{suffix} does not exist; allowed: a file, 'hub' or 'none'"):
        create_backbone(NAME, str(tmp_path / f"absent{suffix}"), 0.0)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    """Cut off anywhere, a weight file is an ArtifactError that names it."""
    path = write_weights(tmp_path / f"w{suffix}", make_donor().state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArtifactError, match=rf"network\.weights: .*w\{suffix}"):
        create_backbone(NAME, str(path), 0.0)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"a text file", b"\x80\x04garbage", b"\xff" * 64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_something_else_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    """Bytes that are no weights, whatever their suffix says, are an ArtifactError."""
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"network\.weights: .*w\{suffix}"):
        load_tensors(path)


@pytest.mark.parametrize("content", [[1, 2], 7, "text", torch.zeros(3)])
def test_a_pytorch_file_without_a_dictionary_is_refused(content: object, tmp_path: Path) -> None:
    """A list, a number, a text or a lone tensor fill no backbone."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ArtifactError, match=r"w\.pth"):
        create_backbone(NAME, str(tmp_path / "w.pth"), 0.0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("other", ["test_resnet", "test_convnext"])
def test_another_models_file_is_refused(other: str, suffix: str, tmp_path: Path) -> None:
    """The error counts what does not fit, names the first of it, and asks the right question; nothing is filled."""
    path = write_weights(tmp_path / f"w{suffix}", make_donor(other).state_dict())
    with pytest.raises(
        ArtifactError, match=r"does not fit test_efficientnet: \d+ tensors missing .* unknown .*Is network\.backbone"
    ):
        create_backbone(NAME, str(path), 0.0)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "plain pickle", "named safetensors"])
def test_a_files_code_is_never_run(form: str, tmp_path: Path) -> None:
    """A pickle that would run code is refused unread: the file that it would create does not appear."""
    marker, path = tmp_path / "marker", tmp_path / ("w.safetensors" if form == "named safetensors" else "w.pth")
    content = {**make_donor().state_dict(), "bomb": Bomb(marker)}
    if form == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ArtifactError, match=rf"network\.weights: .*{path.name}"):
        create_backbone(NAME, str(path), 0.0)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists(), "the bomb is live"


def test_an_unreachable_hub_is_named_and_nothing_starts_at_random(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network the error says what to do instead; a random start is never a silent substitute."""
    # Read at import, so the environment variable HF_HUB_OFFLINE would come too late here.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"test_efficientnet could not be fetched.*--weights FILE.*--weights none"):
        create_backbone(NAME, "hub", 0.0)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("server said 503"), ValueError("bad cache")])
def test_any_trouble_with_the_hub_is_an_artifact_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever type the trouble has, its reason is in the message."""

    def fail(*args: object, **settings: object) -> nn.Module:
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ArtifactError, match=str(error)):
        create_backbone(NAME, "hub", 0.0)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "test_efficientnet.no_such_tag"])
def test_a_model_without_hub_weights_is_refused(name: str) -> None:
    """timm would start it at random; we say so."""
    with pytest.raises(ConfigError, match=r"has no weights in timm's hub; set network\.weights to a file or to none"):
        create_backbone(name, "hub", 0.0)


def test_tensors_and_state_come_back_to_the_bit(tmp_path: Path) -> None:
    """Every type and layout, empty tensors and scalars, Korean text and every float survive; the file is replaced whole."""
    channels_last = torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last)
    tensors = {
        "channels_last": channels_last,
        "transposed": torch.rand(3, 7).t(),
        "strided": torch.arange(10)[::2],
        "expanded": torch.tensor(2.0).expand(3, 3),
        "parameter": nn.Parameter(torch.rand(2)),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "bfloat16": torch.rand(5).bfloat16(),
        "not a number": torch.tensor([float("nan"), float("-inf"), -0.0]),
    }
    state = {"class": "그랜저", "loss": 0.1 + 0.2, "tiny": 5e-324, "list": [1, None, True], "nested": {"a": {}}}
    path = tmp_path / "new folder" / "w.safetensors"
    for _ in range(2):
        save_tensors(path, tensors, state)
    loaded, loaded_state = load_tensors_with_state(path)
    assert loaded_state == state
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].nan_to_num(7.0), tensor.nan_to_num(7.0)), name
    assert channels_last.is_contiguous(memory_format=torch.channels_last), "the saved tensor itself is left alone"
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "not ours"])
def test_a_damaged_file_of_ours_is_refused(damage: str, tmp_path: Path) -> None:
    """Missing, cut off, empty or written by another program: an ArtifactError that names the file."""
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.rand(100)}, {"step": 1})
    if damage == "missing":
        path.unlink()
    elif damage == "not ours":
        save_file({"a": torch.rand(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -40])
    with pytest.raises(ArtifactError, match=r"w\.safetensors: (no such file|damaged, or not written by hectocar)"):
        load_tensors_with_state(path)
