"""Slow laws over timm's families, a small member of each: it works as a backbone or is refused with a message."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from hectocar.config.schema import NetworkConfig
from hectocar.errors import ConfigError
from hectocar.network.carnet import CarNet
from hectocar.network.sizes import check_sizes, nearest_size

# fmt: off
FAMILIES = [
    "beit_base_patch16_224", "halonet_h1", "test_byobnet", "cait_xxs24_224", "coat_tiny", "coat_lite_tiny", "convit_tiny",
    "convmixer_1024_20_ks9_p14", "convnext_atto_rms", "cpubone_nano", "crossvit_tiny_240", "csatv2",
    "cs3darknet_focus_s", "cspnext_tiny", "davit_tiny", "deit_tiny_distilled_patch16_224", "densenet121", "dla46x_c",
    "dpn48b", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientnet_b0", "efficientvim_m1",
    "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf",
    "gcvit_xxtiny", "ghostnet_050", "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "iformer_t",
    "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small", "levit_128s",
    "lowformer_b0", "test_mambaout", "coatnet_pico_rw_224", "poolformerv2_s12", "gmlp_ti16_224",
    "mobilenetv3_small_050", "mobilenetv5_base", "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_parfac_gap",
    "nest_tiny", "nextvit_small", "test_nfnet", "pit_ti_224", "pvt_v2_b0", "rdnet_tiny", "regnetx_002",
    "repghostnet_050", "repvit_m0_9", "res2next50", "resnest14d", "test_resnet", "resnetv2_18", "rexnet_100",
    "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny", "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224", "test_vit_relpos", "samvit_base_patch16_224", "vitamin_small_224", "volo_d1_224",
    "ese_vovnet19b_slim_dw", "legacy_xception", "xception41p", "xcit_nano_12_p8_224", "vit_small_patch14_reg4_dinov2",
    "convnextv2_atto", "caformer_s18", "mobilenetv4_conv_small", "vit_base_patch16_siglip_224", "test_vit3",
    "levit_conv_128s",
]
# fmt: on
REFUSED = {"coat_tiny", "crossvit_tiny_240", "efficientvim_m1"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_its_own_weights_and_learns_or_is_refused(name: str, tmp_path: Path) -> None:
    """A model's whole state dict fills the backbone; features are timm's; each size works or is refused with one that does.

    Where timm averages all tokens before its classifier, so does ``pool: avg``, and the embedding is timm's own. A step of
    training gives finite gradients.
    """
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False).eval()
    save_file({key: value.clone() for key, value in whole.state_dict().items()}, tmp_path / "own.safetensors")
    config = NetworkConfig(backbone=name, weights=str(tmp_path / "own.safetensors"), pool="avg", drop_path_max=0.0)
    if name in REFUSED:
        with pytest.raises(ConfigError, match="cannot be pooled"):
            CarNet(config, 3)
        return
    network = CarNet(config, 3).eval()
    size_px = network._own_size()[0]
    images_BCHW = torch.rand(2, 3, size_px, size_px)
    with torch.no_grad():
        features = whole.forward_features(images_BCHW)
        scale = float(features.abs().max())  # random weights without a norm grow beyond all bounds
        torch.testing.assert_close(network.backbone.forward_features(images_BCHW), features, rtol=1e-3, atol=1e-3 * scale)
        if getattr(whole, "global_pool", "") == "avg" and hasattr(whole, "fc_norm"):
            pre_logits = whole.forward_head(features, pre_logits=True)
            torch.testing.assert_close(network.embed(images_BCHW), pre_logits, rtol=1e-3, atol=1e-4)
    for asked_px in (100, size_px + 32):
        taken_px = nearest_size(network, asked_px)
        check_sizes(network, [taken_px])
        if taken_px != asked_px:
            with pytest.raises(ConfigError, match=f"cannot take {asked_px} px .*{taken_px}"):
                check_sizes(network, [asked_px])
    label_BM, share_BM = torch.tensor([[0], [1]]), torch.ones(2, 1)
    network.train().compute_loss(images_BCHW, label_BM, share_BM, margin_rad=0.1, label_smoothing=0.0).backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
