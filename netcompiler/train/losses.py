"""The loss that is told: the mean of the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

MOST_PENDING = 1000


class Losses:
    """The mean of the last `most` losses. Source: Caffe, src/caffe/solver.cpp, UpdateSmoothedLoss."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.last: list[float] = []  # in a ring, once there are `most`
        self.smoothed = 0.0
        self.counted = 0
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Count a loss in. On CUDA it is looked at later, so that the device need not be waited for."""
        self.pending.append(loss)
        if loss.device.type == "cpu" or len(self.pending) > MOST_PENDING:
            self.mean()

    def mean(self) -> float:
        """The mean of now; 0 before the first loss. Waits for the device."""
        for tensor in self.pending:
            loss = float(tensor)
            if len(self.last) < self.most:
                self.last.append(loss)
                size = len(self.last)
                self.smoothed = (self.smoothed * (size - 1) + loss) / size
            else:
                place = self.counted % self.most
                self.smoothed += (loss - self.last[place]) / self.most
                self.last[place] = loss
            self.counted += 1
        self.pending.clear()
        return self.smoothed

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        self.mean()
        return {"losses": self.last, "smoothed_loss": self.smoothed, "losses_counted": self.counted}

    def load(self, held: Mapping[str, Any]) -> None:
        """What `state` gave, of another `most` too. Raises: KeyError, TypeError or ValueError for anything else."""
        self.clear()
        found, counted = [float(loss) for loss in held["losses"]], int(held["losses_counted"])
        oldest = counted % len(found) if found else 0
        self.last = [*found[oldest:], *found[:oldest]][-self.most :]
        self.counted, self.smoothed = len(self.last), float(held["smoothed_loss"])
        if len(self.last) < len(found):
            self.smoothed = sum(self.last) / len(self.last)
