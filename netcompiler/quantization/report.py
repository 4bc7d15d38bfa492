"""What quantising a net came to, layer by layer and in all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer with weights, by the name of its convolution or inner product; what is fused behind it counts with it.

    error: the largest difference of its top from the float32 layer's over the same bottoms, quantised for it alone, as a
    share of the top's largest value.  noise: the root of the mean square of the difference, as a share of the top's.
    share: what it alone in int8 does to the net's outputs, measured when there is a bound to keep.
    why: why it runs in float32.
    """

    name: str
    kind: str
    runs: str  # int8 or float32
    macs: int
    error: float | None = None
    noise: float | None = None
    share: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A quantised net beside the float32 net, over inputs that calibration did not see where there are enough.

    errors: for each output its largest difference, as a share of its largest value; error: the largest of them.
    agreement: the share of items for which both nets rank the same class first; None for a net without class scores.
    method: how ranges were chosen; tried: what each that was tried came to, over inputs that calibration saw: the root of the
    mean square of the outputs' differences, as a share of theirs.
    calibrated, held_out: how many batches; held_out is 0 where the calibration inputs had to serve for both.
    """

    layers: tuple[LayerReport, ...]
    error: float
    errors: dict[str, float]
    noise: float
    agreement: float | None
    items: int
    method: str
    tried: dict[str, float]
    calibrated: int
    held_out: int
    max_error: float | None = None

    @property
    def quantized(self) -> tuple[str, ...]:
        """The names of the layers that run in int8."""
        return tuple(row.name for row in self.layers if row.runs == "int8")

    @property
    def share_of_macs(self) -> float:
        """The share of multiply-accumulates that run in int8."""
        whole = sum(row.macs for row in self.layers)
        return sum(row.macs for row in self.layers if row.runs == "int8") / whole if whole else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self) | {"quantized": list(self.quantized), "share_of_macs": self.share_of_macs}

    def summary(self) -> str:
        """One line."""
        seen = (
            "calibration did not see" if self.held_out else "calibration saw too: too few were given to hold some back"
        )
        agreed = "" if self.agreement is None else f", the same class first for {100 * self.agreement:.4g} %"
        items = "item" if self.items == 1 else "items"
        kept = f"{len(self.quantized)} of {len(self.layers)} layers, {100 * self.share_of_macs:.4g} % of the MACs"
        return f"{kept}; off by {self.error:.2g} of the largest value{agreed}, over {self.items} {items} that {seen}"

    def table(self) -> str:
        """A line for each layer."""
        head = ("layer", "type", "runs", "error", "noise", "alone", "why in float32")
        rows = [
            (row.name, row.kind, row.runs, *map(_short, (row.error, row.noise, row.share)), row.why)
            for row in self.layers
        ]
        widths = [min(40, max(len(r[i]) for r in (head, *rows))) for i in range(7)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{self.table()}\nint8: {self.summary()}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
