"""Gaussian filters over points of many dimensions, by the permutohedral lattice: what layers of random fields share."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

from ..errors import NetError

if TYPE_CHECKING:
    from torch import Tensor

MOST_CODES = 1 << 62
LEAST = 1e-20


@dataclass(frozen=True, slots=True)
class Lattice:
    """A filter over P points: each value becomes the sum of all, weighted by about exp(-|f - f'|^2 / 2).

    corner: P x (d + 1), the lattice points around each point, from 1 on.  weight: the same, how near they are.
    beside: for each of d + 1 directions the two neighbours of each lattice point, 2 x (M + 1); point 0 is nothing.
    """

    corner: Tensor
    weight: Tensor
    beside: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Lattice:
        """The lattice for points P x d. Raises: NetError for points too far apart.

        Source: Adams et al. 2010 (Fast High-Dimensional Filtering Using the Permutohedral Lattice), sections 3 and 4.
        """
        import torch

        count, d = features.shape
        scale = features.new_tensor([sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2)) for i in range(d)])
        scaled = features * scale
        behind = scaled.flip(1).cumsum(1).flip(1)  # the sum from each place on
        place = torch.arange(d + 1, device=features.device)
        raised = torch.cat((behind, behind.new_zeros(count, 1)), 1)
        raised = raised - place * torch.cat((scaled.new_zeros(count, 1), scaled), 1)
        near = (raised / (d + 1)).round()
        off = near.sum(1, keepdim=True).long()
        near = near.long() * (d + 1)
        rest = raised - near
        less = rest[:, :, None] < rest[:, None, :]
        first = place[:, None] < place
        rank = (less & first).sum(2) + (~less.transpose(1, 2) & first.t()).sum(2) + off
        turn = (d + 1) * ((rank < 0).long() - (rank > d).long())
        rank, near = rank + turn, near + turn
        share = (raised - near) / (d + 1)
        weight = features.new_zeros(count, d + 2)
        weight = weight.scatter_add(1, d - rank, share).scatter_add(1, d - rank + 1, -share)
        weight = torch.cat((weight[:, :1] + 1 + weight[:, -1:], weight[:, 1:-1]), 1)
        step = place[:, None] - (d + 1) * (place > d - place[:, None]).long()  # remainder x rank
        keys = near[:, None, :d] + step[place][:, rank[:, :d]].transpose(0, 1)  # P x (d + 1) x d
        low, high = keys.amin((0, 1)), keys.amax((0, 1))
        spans = (high - low + 2 * d + 3).tolist()
        if prod(spans) > MOST_CODES:
            raise NetError("the pixels' colours and places are too far apart", hint="larger standard deviations")
        strides = torch.tensor([prod(spans[:i]) for i in range(d)], device=features.device)
        codes, corner = torch.unique(((keys - low + d + 1) * strides).sum(2), return_inverse=True)
        axes = torch.cat((strides, strides.new_zeros(1)))
        moved = (d + 1) * axes - strides.sum()
        wanted = codes + torch.stack((moved, -moved), 1)[:, :, None]
        at = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
        beside = torch.where(codes[at] == wanted, at + 1, 0)
        return cls(corner + 1, weight, torch.cat((beside.new_zeros(d + 1, 2, 1), beside), 2))

    def filtered(self, values: Tensor) -> Tensor:
        """Values C x P, filtered; differentiable."""
        d = self.corner.shape[1] - 1
        spread = self.weight[:, :, None] * values.t()[:, None]
        held = values.new_zeros(self.beside.shape[2], len(values))
        held = held.index_add(0, self.corner.flatten(), spread.flatten(0, 1))
        for low, high in self.beside:
            held = held + 0.5 * (held.index_select(0, low) + held.index_select(0, high))
        found = held.index_select(0, self.corner.flatten()).reshape(*self.corner.shape, -1)
        return (found * self.weight[:, :, None]).sum(1).t() / (1 + 2.0**-d)

    def scale(self) -> Tensor:
        """What a filtered value is multiplied by to be a mean: P."""
        return 1 / (self.filtered(self.weight.new_ones(1, len(self.weight)))[0] + LEAST)


def places(height: int, width: int, like: Tensor) -> Tensor:
    """x and y of each pixel, row by row: P x 2."""
    import torch

    rows, columns = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (height, width))
    return torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), 2).reshape(-1, 2)


def coloured(image: Tensor, where: float, colour: float) -> Tensor:
    """Place and colour of each pixel of an image 3 x H x W, in standard deviations: P x 5."""
    import torch

    at = places(image.shape[1], image.shape[2], image) / where
    return torch.cat((at, image.flatten(1).t() / colour), 1)
