"""How much memory a training step needs, found before the run; a batch that does not fit is split.

The activations that autograd keeps are counted, not guessed: they grow with the batch in proportion.
"""

import math
from pathlib import Path

import torch

from hectocar.config import Config, SizePhase
from hectocar.network.carnet import CarNet, soft_cross_entropy
from hectocar.network.inference import autocast

PROBE_BATCH = 4
WORKSPACE = 1.35
"""Peak over kept activations: gradients on their way and the kernels' own memory."""
SHARE_OF_FREE = 0.8
"""Of the free memory that a run may plan with."""


def count_activation_bytes(network: CarNet, size_px: int, precision: str) -> float:
    """Bytes that autograd keeps per photograph of a training step at a size, every storage counted once."""
    device = next(network.parameters()).device
    kept: dict[int, int] = {}
    held: list[torch.Tensor] = []  # storages must live until all are counted, or an address could come twice
    fixed = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    images = torch.zeros(PROBE_BATCH, 3, size_px, size_px, device=device).to(memory_format=torch.channels_last)
    label_BM = torch.zeros(PROBE_BATCH, 1, dtype=torch.int64, device=device)
    statistics = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    was_training, random_state = network.training, torch.get_rng_state()
    network.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(device, precision):
        logits_BC, _ = network(images, label_BM)
        soft_cross_entropy(logits_BC, label_BM, torch.ones(PROBE_BATCH, 1, device=device), label_smoothing=0.0)
    network.load_state_dict(statistics)  # BatchNorm has seen a black batch
    network.train(was_training)
    torch.set_rng_state(random_state)
    return sum(kept.values()) / PROBE_BATCH


def count_fixed_bytes(network: CarNet, config: Config) -> int:
    """Bytes of weights, gradients, AdamW's two moments, and the averaged weights."""
    copies = 4 + (config.training.ema_decay > 0.0) + (config.training.sam_rho > 0.0)
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def read_free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or of this machine; 0 where it cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else 0


def step_bytes(config: Config, network: CarNet, phase: SizePhase, num_chunks: int = 1) -> float:
    """Memory of a training step of a phase whose batches are split into chunks."""
    per_photo = count_activation_bytes(network, phase.size_px, config.training.precision)
    return count_fixed_bytes(network, config) + WORKSPACE * per_photo * math.ceil(phase.batch_size / num_chunks)


def choose_chunks(config: Config, network: CarNet, free_bytes: int) -> dict[str, int]:
    """Into how many parts a batch of each (size, batch) must be split to fit; the same effective batch in any case.

    Args:
        config: The whole configuration; ``training.memory_gib`` overrides what is free.
        network: On its device.
        free_bytes: 0 for unknown: nothing is split.
    """
    budget = config.training.memory_gib * 2**30 or SHARE_OF_FREE * free_bytes
    chunks: dict[str, int] = {}
    for phase in config.training.sizes:
        needed = count_activation_bytes(network, phase.size_px, config.training.precision) * WORKSPACE if budget else 0.0
        room = budget - count_fixed_bytes(network, config)
        largest = int(max(room, 0) // needed) if needed else phase.batch_size
        parts = math.ceil(phase.batch_size / max(2, min(largest, phase.batch_size)))  # a part has two photographs or more
        chunks[chunk_key(phase.size_px, phase.batch_size)] = max(1, min(parts, phase.batch_size // 2))
    return chunks


def chunk_key(size_px: int, batch_size: int) -> str:
    return f"{size_px}x{batch_size}"
