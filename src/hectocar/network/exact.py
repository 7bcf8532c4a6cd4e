"""float32 on a GPU is float32."""

import torch


def use_exact_float32(device: torch.device) -> None:
    """Switches TF32 off for the whole process, where the device is a GPU: training, validation and prediction call it.

    By default torch multiplies matrices in float32 and convolves in TF32, which has 10 bits after the point: neither exact nor
    as fast as bfloat16, which ``training.precision`` offers. Under bfloat16 and float16 only pooling, head and loss are
    concerned.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
