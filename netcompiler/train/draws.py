"""Random numbers of a solver's own, which a snapshot can keep."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws:
    """While it is entered, PyTorch draws its random numbers from here: what others draw in between changes nothing."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self.devices = [torch.device("cpu")] + ([device] if device.type == "cuda" else [])
        self.states: list[Tensor] = []
        self.outer: list[Tensor] = []
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self.states = [torch.Generator(device).manual_seed(seed).get_state() for device in self.devices]

    def _get(self) -> list[Tensor]:
        return [torch.get_rng_state() if d.type == "cpu" else torch.cuda.get_rng_state(d) for d in self.devices]

    def _set(self, states: Sequence[Tensor]) -> None:
        for device, state in zip(self.devices, states, strict=True):
            if device.type == "cpu":
                torch.set_rng_state(state)
            else:
                torch.cuda.set_rng_state(state, device)

    def __enter__(self) -> None:
        self.outer = self._get()
        self._set(self.states)

    def __exit__(self, *_: object) -> None:
        self.states = self._get()
        self._set(self.outer)

    def state(self) -> list[str]:
        """As JSON can hold it."""
        return [base64.b64encode(state.numpy().tobytes()).decode() for state in self.states]

    def load(self, held: Sequence[str]) -> None:
        """What `state` gave. A device that it knows nothing of keeps its own. Raises: ValueError for anything else."""
        states = [
            torch.from_numpy(np.frombuffer(base64.b64decode(text, validate=True), np.uint8).copy()) for text in held
        ]
        if not states or any(new.shape != old.shape for new, old in zip(states, self.states, strict=False)):
            raise ValueError("no state of random numbers")
        self.states = states[: len(self.states)] + self.states[len(states) :]
