"""Laws of the network: every family of backbones gives float32 logits and embeddings, and each photograph its own."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hectocar.config.schema import NetworkConfig
from hectocar.errors import ConfigError
from hectocar.network import compiled
from hectocar.network.carnet import AveragePool, BufferedDropPath, CarNet, GeM
from hectocar.network.compiled import compile_loss
from hectocar.network.sizes import check_sizes

NUM_CLASSES = 5
# (timm model, size, width of the last map, widths of the last two): maps, tokens, channels last; others: test_families.
BACKBONES = [
    ("test_resnet", 64, 96, (192, 96)),
    ("test_efficientnet", 64, 256, (48, 64)),
    ("test_byobnet", 64, 256, (128, 256)),
    ("test_convnext", 64, 64, (48, 64)),
    ("test_mambaout", 64, 64, (48, 64)),
    ("test_vit", 160, 64, (64, 64)),
    ("mobilenetv2_035", 64, 1280, (32, 112)),
]
FAST = "test_efficientnet"


def make_network(backbone: str = FAST, **changes: Any) -> CarNet:
    torch.manual_seed(0)
    return CarNet(NetworkConfig(backbone=backbone, **{"weights": "none", **changes}), NUM_CLASSES)


def make_images(num_images: int = 3, size_px: int = 64) -> Tensor:
    return torch.randn(num_images, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("backbone", "size_px", "width", "widths"), BACKBONES, ids=[row[0] for row in BACKBONES])
def test_every_family_gives_float32_logits_and_embeddings(
    backbone: str, size_px: int, width: int, widths: tuple[int, int]
) -> None:
    """Maps, tokens and channels-last maps are pooled to (B, D), D the width of what is pooled; under autocast float32 too."""
    images = make_images(2, size_px)
    for num_stages, embed_dim in ((1, width), (2, sum(widths))):
        network = make_network(backbone, pool_stages=num_stages, drop_path_max=0.1).eval()
        assert network.embed_dim == embed_dim
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=num_stages == 1):
            logits, embed = network(images)
        assert (logits.shape, embed.shape) == ((2, NUM_CLASSES), (2, embed_dim))
        assert logits.dtype == embed.dtype == torch.float32
        assert bool(logits.isfinite().all())


def test_tokens_are_pooled_without_the_class_token() -> None:
    """A transformer's embedding is GeM over its patch tokens; the class token is no position."""
    network = make_network("test_vit", gem_p=2.0).eval()
    images = make_images(2, 160)
    with torch.no_grad():
        tokens = network.backbone.forward_features(images)
        patches = tokens[:, network.backbone.num_prefix_tokens :]
        assert patches.shape[1] == tokens.shape[1] - 1 == 100
        expected = patches.clamp(min=1e-6).square().mean(dim=1).sqrt()
        torch.testing.assert_close(network(images)[1], expected, rtol=1e-4, atol=1e-6)


def test_the_last_stage_norm_starts_from_the_pretrained_one(tmp_path: Path) -> None:
    """ConvNeXt's own norm behind its pooling, which the file brings; the other stage and other families start plain."""
    whole = timm.create_model("test_convnext").state_dict()
    own = {name: torch.rand_like(whole[f"head.norm.{name}"]) for name in ("weight", "bias")}
    save_file(whole | {f"head.norm.{name}": value for name, value in own.items()}, tmp_path / "file.safetensors")
    network = make_network("test_convnext", pool_stages=2, weights=str(tmp_path / "file.safetensors"))
    assert isinstance(network.stage_norms, nn.ModuleList)
    first, last = network.stage_norms
    assert all(torch.equal(getattr(last, name), value) for name, value in own.items())
    plain = make_network("test_resnet", pool_stages=2).stage_norms
    assert isinstance(plain, nn.ModuleList)
    for norm in (first, *plain):
        assert (norm.weight.unique().tolist(), norm.bias.unique().tolist()) == ([1.0], [0.0])


def test_two_stages_are_pooled_apart_and_normalised() -> None:
    """Each of the last two stages has its own exponent and LayerNorm; the parts stand side by side, the later one last."""
    network = make_network("test_convnext", pool_stages=2).eval()
    assert len({id(module) for module in network.modules() if isinstance(module, GeM)}) == 2
    assert isinstance(network.stage_norms, nn.ModuleList)
    with torch.no_grad():
        embed = network(make_images())[1]
        maps = network.backbone.forward_intermediates(make_images(), indices=2, intermediates_only=True)
        for pool, norm, stage, part in zip(
            (network.pools2, network.pool), network.stage_norms, maps, embed.split([48, 64], 1), strict=True
        ):
            assert pool is not None
            torch.testing.assert_close(part, norm(pool(stage)))
            torch.testing.assert_close(part.mean(dim=1), torch.zeros(3), rtol=0.0, atol=1e-5)


def test_average_pooling_is_the_control() -> None:
    """pool = avg is the plain mean over positions, in float32, and has no parameter."""
    network = make_network(pool="avg", head="softmax")
    assert isinstance(network.pool, AveragePool)
    assert not list(network.pool.parameters())
    features = make_images().bfloat16()
    torch.testing.assert_close(network.pool(features), features.float().mean(dim=(2, 3)))


def find_drop_paths(network: CarNet) -> list[float]:
    return [1.0 - float(module.strength_2[0]) for module in network.modules() if isinstance(module, BufferedDropPath)]


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_vit", "test_resnet"])
def test_drop_path_is_set_as_a_share_of_what_was_built(backbone: str) -> None:
    """Half the share halves every DropPath; setting it twice is not cumulative, and 1 restores what was built.

    timm lets the deepest block of some families, test_efficientnet's among them, stay one step below the maximum.
    """
    network = make_network(backbone, drop_path_max=0.4)
    built = find_drop_paths(network)
    assert 0.3 < max(built) <= 0.4 + 1e-6
    for share in (0.5, 0.5, 0.0, 0.25, 1.0):
        network.set_drop_path(share)
        assert find_drop_paths(network) == pytest.approx([share * prob for prob in built], abs=1e-6)


@pytest.mark.parametrize(
    "backbone",
    [
        FAST,
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_no_drop_path_means_none(backbone: str) -> None:
    """drop_path_max 0 switches stochastic depth off, also where timm's own default is not 0."""
    assert not any(find_drop_paths(make_network(backbone, drop_path_max=0.0)))


def test_drop_path_acts_in_training_only() -> None:
    """In training two passes differ; at share 0 they do not, and at rest they never do."""
    network, images = make_network("test_convnext", drop_path_max=0.9), make_images()
    for share, training, differ in ((1.0, True, True), (0.0, True, False), (1.0, False, False)):
        network.train(training).set_drop_path(share)
        with torch.no_grad():
            assert torch.equal(network(images)[1], network(images)[1]) is not differ


def test_an_unknown_backbone_is_refused_with_the_nearest_name() -> None:
    """A typing error is a ConfigError that names what was asked for and what is near."""
    with pytest.raises(ConfigError, match=r"network\.backbone is 'mobilenetv2_10'.*nearest: .*mobilenetv2_100"):
        make_network("mobilenetv2_10")


def test_a_backbone_without_drop_path_is_refused_with_the_reason() -> None:
    """A model that cannot be built as configured is a ConfigError, not a TypeError from inside timm."""
    with pytest.raises(ConfigError, match=r"network\.backbone 'dla46x_c' has no stochastic depth .*drop_path_max to 0"):
        make_network("dla46x_c", drop_path_max=0.1)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_layout_changes_nothing_but_speed(channels_last: bool) -> None:
    """channels_last lays out the convolutions' weights; values are those of the plain layout."""
    network, plain = make_network(channels_last=channels_last).eval(), make_network(channels_last=False).eval()
    weight = network.backbone.conv_stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    with torch.no_grad():
        torch.testing.assert_close(network(make_images())[0], plain(make_images())[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["arcface", "softmax"])
@pytest.mark.parametrize("neck", ["none", "batchnorm"])
def test_ten_steps_lower_the_loss_of_a_fixed_batch(head: str, neck: str) -> None:
    """Gradients reach everything: the loss falls, and every parameter that training uses moves."""
    network = make_network(head=head, neck=neck, drop_path_max=0.0).train()
    images, label_BM = make_images(8), torch.arange(8)[:, None] % NUM_CLASSES
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    settings = {"margin_rad": 0.1 if head == "arcface" else 0.0, "label_smoothing": 0.05}
    losses = []
    for _ in range(10):
        loss = network.compute_loss(images, label_BM, torch.ones(8, 1), **settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_each_photograph_has_its_own_embedding() -> None:
    """At rest a permuted batch has the permuted embeddings, and one photograph alone the same as in company."""
    network, images = make_network(neck="batchnorm").eval(), make_images(4)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        logits, embed = network(images)
        permuted_logits, permuted = network(images[order])
        alone = network(images[2:3])[1]
        mirrored = network(images.flip(3))[1]
        mirrored_permuted = network(images[order].flip(3))[1]
    torch.testing.assert_close(permuted, embed[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted_logits, logits[order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, embed[2:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mirrored_permuted, mirrored[order], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mirrored, embed, rtol=1e-3, atol=1e-4), "a mirrored car is another picture"


def test_pixels_are_the_backbones_own() -> None:
    """Mean and standard deviation come from the weights' own settings, not from a constant."""
    assert make_network("test_vit").pixels.mean == (0.5, 0.5, 0.5)
    assert make_network("mobilenetv2_035").pixels.mean == (0.485, 0.456, 0.406)


def test_weights_given_to_the_constructor_win(tmp_path: Any) -> None:
    """A bundle brings its own weights: what the configuration names is then not looked at."""
    config = NetworkConfig(backbone=FAST, weights=str(tmp_path / "absent.safetensors"))
    assert CarNet(config, NUM_CLASSES, weights="none").config == dataclasses.replace(config)


def test_a_transformer_takes_other_sizes_than_its_own() -> None:
    """Position embeddings follow the input size, so that progressive resizing works with token backbones too."""
    network = make_network("test_vit")
    check_sizes(network, [96, 160, 192])


def test_a_size_that_the_backbone_cannot_take_is_named_before_training() -> None:
    """A backbone of one fixed size (an MLP over positions) refuses the others with a message."""
    network = make_network("gmlp_ti16_224")
    check_sizes(network, [224])
    with pytest.raises(ConfigError, match=r"gmlp_ti16_224 cannot take 96 px"):
        check_sizes(network, [224, 96])


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile would end in a page of errors; the message names the key to change."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"network\.compile needs a C compiler"):
        compile_loss(make_network(FAST))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext"])
def test_the_compiled_loss_is_the_loss(backbone: str) -> None:
    """Compilation changes neither the loss nor, beyond rounding, its gradient; strided depthwise layers included."""
    results = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        network = make_network(backbone, drop_path_max=0.0).train()
        compute_loss = compile_loss(network) if is_compiled else network.compute_loss
        label_BM = torch.tensor([[0], [1], [2], [0]])
        loss = compute_loss(make_images(4), label_BM, torch.ones(4, 1), margin_rad=0.1, label_smoothing=0.05)
        loss.backward()
        grads = torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])
        results.append((loss.detach(), grads))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-2, atol=1e-4)


def count_graphs(networks: list[CarNet], sizes: tuple[int, ...] = (32,)) -> int:
    """Graphs made over a ramp of drop-path, margin and smoothing at each size."""
    graphs = []

    def keep(module: Any, examples: Any) -> Any:
        graphs.append(module)
        return module

    torch._dynamo.reset()
    for network in networks:
        loss = compile_loss(network.train(), backend=keep)
        for size_px in sizes:
            for step in range(12):
                network.set_drop_path(step / 12)
                label_B2, share_B2 = torch.tensor([[0, 1], [2, 2]]), torch.full((2, 2), 0.5)
                loss(make_images(2, size_px), label_B2, share_B2, margin_rad=0.02 * step, label_smoothing=0.01 * step)
    torch._dynamo.reset()
    return len(graphs)


def test_the_schedule_compiles_one_graph_per_size() -> None:
    """Numbers of the schedule are tensors in the graph; a second network of the same shape takes the graphs of the first."""
    networks = [make_network("test_convnext", drop_path_max=0.2) for _ in range(2)]
    assert count_graphs(networks, (32, 64)) == 2


def test_more_graphs_than_allowed_is_an_error_and_never_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would go on in eager mode, at a fraction of the speed, without a word."""
    monkeypatch.setattr(compiled, "MAX_GRAPHS", 2)
    network = make_network("test_convnext", drop_path_max=0.2)
    with pytest.raises(ConfigError, match="more than 2 compiled forms"):
        count_graphs([network], (32, 64, 96))


def test_the_schedules_numbers_as_tensors_change_no_bit() -> None:
    """The compiled loss gets margin and smoothing as tensors: in eager mode they give the same loss and gradient."""
    results = []
    for convert in (float, lambda number: torch.tensor(number, dtype=torch.float64)):
        network = make_network("test_convnext", drop_path_max=0.0).train()
        for margin, smoothing in ((0.3, 0.05), (0.0, 0.0)):
            label_B2, share_B2 = torch.tensor([[0, 1], [2, 2], [1, 0]]), torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]])
            loss = network.compute_loss(
                make_images(), label_B2, share_B2, margin_rad=convert(margin), label_smoothing=convert(smoothing)
            )
            loss.backward()
            results.append(loss.detach())
        results.extend(parameter.grad for parameter in network.parameters() if parameter.grad is not None)
    half = len(results) // 2
    assert all(torch.equal(a, b) for a, b in zip(results[:half], results[half:], strict=True))
