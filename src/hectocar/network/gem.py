"""Generalised-mean pooling (Radenovic et al., 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", eq. 3)."""

import torch
from torch import Tensor, nn

# Legend: B batch, C channels, H W positions.


class GeM(nn.Module):
    """(mean over positions of max(x, eps)^p)^(1/p) per channel, with one learnable p.

    p = 1 is the plain average of the non-negative part; p -> infinity is the maximum.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if not 1.0 <= p <= 20.0:
            raise ValueError(f"p is {p}; allowed: 1 to 20")
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Pools (B, C, H, W) of any float type to float32 (B, C).

        Float32 always: 60 cubed overflows float16, and eps cubed underflows it.
        """
        with torch.autocast(features_BCHW.device.type, enabled=False):
            features = features_BCHW.float().clamp(min=self.eps)
            # Dividing by the largest value first keeps x^p finite for any p the training may reach.
            largest_BC11 = features.detach().amax(dim=(2, 3), keepdim=True)
            mean_BC = (features / largest_BC11).pow(self.p).mean(dim=(2, 3))
            return mean_BC.clamp(min=torch.finfo(torch.float32).tiny).pow(1.0 / self.p) * largest_BC11.flatten(1)
