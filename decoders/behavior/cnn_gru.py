"""Second stage of the published run/rest decoder: a recurrent network over the features of consecutive images."""

from typing import Literal

from torch import Tensor, nn

from decoders.behavior.efficientnet import FEATURES, EfficientNetB0

RnnType = Literal["RNN", "LSTM", "GRU"]
_UNITS, _LAYERS, _DROPOUT = 128, 2, 0.2  # Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074


class CnnGruNetwork(nn.Module):
    """Windows of 2 h + 1 images to the logit of running at each window's centre; 4,649,470 parameters with a GRU.

    Neighbouring windows share images, so a stretch of them is decoded together: each image goes through the CNN once.

    Parameters
    ----------
    cnn
        First stage. Its classifier takes no part, but counts among the parameters, as published.
    cnn_fixed
        Train only the recurrent part.
    norms_frozen
        Batch norms keep their statistics in training. Needed when the images of a batch come from few stretches:
        a batch's own mean would take away what tells its run from another's rest.
    """

    def __init__(
        self,
        cnn: EfficientNetB0,
        half_window: int = 5,
        rnn: RnnType = "GRU",
        cnn_fixed: bool = False,
        norms_frozen: bool = True,
    ) -> None:
        super().__init__()
        self.half_window = half_window
        self.cnn = cnn.requires_grad_(not cnn_fixed)
        kind = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[rnn]
        self.rnn = kind(FEATURES, _UNITS, _LAYERS, dropout=_DROPOUT, batch_first=True)
        self.readout = nn.Linear(_UNITS, 1)
        self._norms_frozen = norms_frozen

    def forward(self, images: Tensor) -> Tensor:
        """Stretches of images (B, L + 2 h, 3, H, W) to logits of their inner L images, (B, L)."""
        features = self.cnn.features(images.flatten(0, 1))
        return self.decode(features.view(*images.shape[:2], -1))

    def decode(self, features: Tensor) -> Tensor:
        """Features (B, L + 2 h, 1280) to logits (B, L)."""
        windows = features.unfold(1, 2 * self.half_window + 1, 1).transpose(2, 3)  # (B, L, 2 h + 1, 1280)
        states, _ = self.rnn(windows.flatten(0, 1))
        logits: Tensor = self.readout(states[:, -1]).view(windows.shape[:2])
        return logits

    def train(self, mode: bool = True) -> "CnnGruNetwork":
        """Switch to training or evaluation, but for batch norms that are frozen."""
        super().train(mode)
        if self._norms_frozen:
            for part in self.cnn.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self
