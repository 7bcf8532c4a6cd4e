"""A timm backbone, filled from one of the sources in sources.py.

Whatever the source, one strict filling follows: no weight is left at random, none is passed over, none is NaN.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hectocar.errors import ArtifactError, ConfigError
from hectocar.network.sources import find_source
from hectocar.tables import nearest_names

# What belongs to a pretrained model's classifier and pooling, whatever its family calls it.
_HEAD_WORDS = ("classifier", "head", "heads", "fc", "last_linear", "head_dist", "aux_head", "attn_pool")
_PREFIXES = ("_orig_mod.", "module.", "model.", "backbone.", "encoder.", "network.")
_FILTERS = (
    "checkpoint_filter_fn", "checkpoint_filter_fn_encoder", "checkpoint_filter_fn_classifier", "_filter_fn",
    "_filter_torchvision_pretrained",
)  # fmt: skip


def create_backbone(name: str, weights: str, drop_path_max: float) -> nn.Module:
    """Builds a timm backbone without classifier and fills it.

    Its final norms stand where the pretrained model has them: ``fc_norm``, after the pooling, is applied by ``CarNet``.

    Args:
        name: timm model name, with or without a pretrained tag.
        weights: ``hub``, ``none``, or the path of a safetensors or PyTorch file of the model's own weights.
        drop_path_max: stochastic depth of the deepest block.

    Raises:
        ConfigError: timm does not know the name, or the model cannot be built so.
        ArtifactError: The weights are missing or do not fit; the message says what to do.
    """
    if not timm.is_model(name):
        near = nearest_names(name.split(".")[0], timm.list_models())
        raise ConfigError(f"network.backbone is {name!r}, which timm {timm.__version__} does not have; nearest: {near}")
    source = find_source(weights)
    tensors = source.fetch(name)
    backbone = _build_backbone(name, drop_path_max)
    if tensors is not None:
        fill_backbone(backbone, tensors, name, source.title)
    return backbone


def _build_backbone(name: str, drop_path_max: float) -> nn.Module:
    # Not every model knows these: a transformer needs the first to take other sizes than its own, a convolutional network
    # takes all sizes anyway; and a backbone without stochastic depth has none to switch off.
    optional: dict[str, Any] = {"dynamic_img_size": True, "drop_path_rate": drop_path_max}
    while True:
        try:
            backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, **optional)
            break
        except TypeError as error:
            unknown = [key for key in optional if key in str(error)]
            if unknown == ["drop_path_rate"] and drop_path_max > 0.0:
                raise ConfigError(
                    f"network.backbone {name!r} has no stochastic depth and cannot be built with drop_path_rate "
                    f"{drop_path_max:g}; set network.drop_path_max to 0"
                ) from error
            if not unknown:
                raise ConfigError(f"network.backbone {name!r} cannot be built: {error}") from error
            del optional[unknown[0]]
        except Exception as error:  # timm's models refuse in many types
            reason = str(error)[:160] or type(error).__name__
            raise ConfigError(f"network.backbone {name!r} cannot be built: {reason}") from error
    if getattr(backbone, "attn_pool", None) is not None:
        backbone.attn_pool = None  # we pool ourselves: it would be a weight that nothing trains
    built: nn.Module = backbone
    return built


def fill_backbone(backbone: nn.Module, tensors: Mapping[str, Tensor], name: str, source: str) -> None:
    """Fills the backbone from a model's own weights; its classifier is ignored, nothing else may differ.

    Names as the backbone has them are taken as they are; others pass through timm's own filter for the family first, which
    knows old names, dropped buffers, and resamples positions that were learned at another size.

    Raises:
        ArtifactError: Tensors are missing, left over, of another shape, or not finite.
    """
    wanted = backbone.state_dict()
    own = _strip_prefixes(tensors, wanted)
    tried = [own]
    misfits = [_compare(own, wanted, backbone, name)]
    if any(misfits[0]):
        for filtered in _filter_by_timm(own, backbone, name):
            tried.append(filtered)
            misfits.append(_compare(filtered, wanted, backbone, name))
    best = min(range(len(tried)), key=lambda place: sum(map(len, misfits[place])))
    missing, extra, shapes = misfits[best]
    if missing or extra or shapes:
        raise ArtifactError(
            f"network.weights: {source} does not fit {name}: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}, {len(shapes)} of another shape {shapes[:3]}. "
            "Is network.backbone the model that the file was made for?"
        )
    found = tried[best]
    filled = {key: found[key].to(value.dtype) if key in found else value for key, value in wanted.items()}
    broken = [key for key, value in filled.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ArtifactError(
            f"network.weights: {source} holds NaN or infinite numbers in {len(broken)} tensors, {broken[:3]} among them; "
            "its training broke down or it was damaged: take another checkpoint"
        )
    backbone.load_state_dict(filled)


def _strip_prefixes(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of wrappers, in whatever order; what lies beside a prefix is no part of the backbone."""
    own = dict(tensors)
    while True:
        sizes = {
            prefix: sum(value.numel() for key, value in own.items() if key.startswith(prefix))
            for prefix in _PREFIXES
            if not any(key.startswith(prefix) for key in wanted)
        }
        prefix = max(sizes, key=lambda key: sizes[key], default="")
        # Its part must be the bulk: wrapped models lie beside a classifier, a pooling, or a second copy.
        if not prefix or sizes[prefix] == 0 or 3 * sizes[prefix] < sum(value.numel() for value in own.values()):
            return own
        own = {key.removeprefix(prefix): value for key, value in own.items() if key.startswith(prefix)}


def _compare(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], backbone: nn.Module, name: str
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, left over, and of another shape."""
    classifier: Any = (getattr(backbone, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (*_HEAD_WORDS, *((classifier,) if isinstance(classifier, str) else classifier))
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted and not any(key == head or key.startswith(head + ".") for head in heads)]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if extra and not missing and not shapes:  # a few heads have more parts than their names say: ask the whole model
        with torch.random.fork_rng(devices=[]):
            whole = timm.create_model(name, pretrained=False).state_dict()
        extra = [key for key in extra if key not in whole]
    return missing, extra, shapes


def _filter_by_timm(tensors: Mapping[str, Tensor], backbone: nn.Module, name: str) -> Iterator[dict[str, Tensor]]:
    """The tensors as timm's loading filters of the model's family return them."""
    family = sys.modules[timm.model_entrypoint(name).__module__]
    filters: Iterable[Callable[..., Any]] = (getattr(family, found) for found in _FILTERS if hasattr(family, found))
    for change in filters:
        for arguments in ((backbone,), ()):
            try:
                yield {str(key): value for key, value in change(dict(tensors), *arguments).items() if isinstance(value, Tensor)}
                break
            except Exception:  # a filter that does not know this file helps nothing; what does not fit is reported
                continue
