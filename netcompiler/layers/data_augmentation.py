"""DataAugmentation, GenerateAugmentationParameters and FlowAugmentation, of FlowNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, exp, log, nan, prod, sin, tanh
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Array, Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, exactly, layer, traced

if TYPE_CHECKING:
    from torch import Tensor

SPATIAL = ("mirror", "dx", "dy", "angle", "zoom_x", "zoom_y")
CHROMATIC = ("gamma", "brightness", "contrast", "color1", "color2", "color3")
_EIGEN = [f"{what}_{which}{i}" for which in ("nomean", "withmean") for what in ("pow", "add", "mult") for i in range(3)]
EIGEN = (*_EIGEN, "lmult_pow", "lmult_add", "lmult_mult", "col_angle")
EFFECTS = (
    *("fog_amount", "fog_size", "motion_blur_angle", "motion_blur_size"),
    *("shadow_angle", "shadow_distance", "shadow_strength", "noise"),
)
NAMES = (*SPATIAL, *CHROMATIC, *EIGEN, *EFFECTS)
USUAL = {
    n: float(n.startswith(("zoom", "gamma", "contrast", "color", "pow", "mult", "lmult")) and n != "lmult_add")
    for n in NAMES
}
COLOURS = 3
TRIES = 50
NEAR = 1e-3  # coefficients that are nearer to their usual value have it
FAINT = 1e-2  # less is no colour
EDGE = 1.05  # how far before the picture's end places are kept
# What each random field sets, where it sets one coefficient, or several to numbers of their own.
SETS = {
    **{n: (n,) for n in ("gamma", "brightness", "contrast", "noise", "lmult_pow", "lmult_mult", "lmult_add")},
    "color": ("color1", "color2", "color3"),
    **{f"ladd_{what}": (f"{what}_nomean0",) for what in ("pow", "add", "mult")},
    **{f"col_{what}": (f"{what}_nomean1", f"{what}_nomean2") for what in ("pow", "add", "mult")},
    "col_rotate": ("col_angle",),
}
FAMILIES = (("fog_amount", "fog_size"), ("motion_blur_angle", "motion_blur_size"), EFFECTS[4:7])
SPATIAL_FIELDS = ("mirror", "translate", "rotate", "zoom", "squeeze", "translate_x", "translate_y")
FIELDS = (*SPATIAL_FIELDS, *SETS, *(f"sat_{what}" for what in ("pow", "add", "mult")), *EFFECTS[:-1])
Coefficients = dict[str, float]


@dataclass(frozen=True, slots=True)
class Draw:
    """A RandomGeneratorParameter: uniform or gaussian about a mean, bernoulli, or one of the first two at times."""

    rand_type: str = "uniform"
    exp: bool = False
    mean: float = 0.0
    spread: float = 0.0
    prob: float = 1.0
    apply_schedule: bool = True
    discretize: bool = False
    multiplier: float = 1.0

    @classmethod
    def read(cls, p: Msg) -> Self:
        """Raises: NetError for a kind that there is not."""
        kinds = ("uniform", "gaussian", "bernoulli", "uniform_bernoulli", "gaussian_bernoulli")
        if p.rand_type not in kinds:
            raise NetError("unknown rand_type", at=p.at("rand_type"), expected=", ".join(kinds), got=p.rand_type)
        rest = p.exp, p.mean, p.spread, p.prob, p.apply_schedule, p.discretize, p.multiplier
        return cls(p.rand_type, *rest)

    def number(self, discount: float, otherwise: float = nan) -> float:
        """A number. discount: what the spread is multiplied by; otherwise: what there is when there is none."""
        import torch

        kind, _, at_times = self.rand_type.partition("_")
        hit = bool(torch.rand(()) < self.prob)
        if kind == "bernoulli":
            value = float(hit)
        elif at_times and not hit:
            if otherwise == otherwise:
                return otherwise
            value = exp(0.0) if self.exp else 0.0
        else:
            spread = self.spread * (discount if self.apply_schedule else 1.0)
            away = 2 * torch.rand(()) - 1 if kind == "uniform" else torch.randn(())
            value = self.mean + (float(away) * spread if spread > 0 else 0.0)
            value = exp(value) if self.exp else value
        return self.multiplier * (round(value) if self.discretize else value)


@dataclass(frozen=True, slots=True)
class Augmenter(Layer):
    """What the first two layers share: how coefficients are drawn."""

    category = "shape"
    ignored = frozenset({"engine", "write_augmented", "write_mean"})

    draws: tuple[tuple[str, Draw], ...] = field(default=(), repr=False)
    schedule: tuple[float, float, float] = (1.0, 1.0, 1.0)  # half_life, initial_coeff, final_coeff
    on: bool = False  # whether anything is drawn

    @classmethod
    def drawn(cls, msg: Msg) -> dict[str, Any]:
        """The three fields above. Raises: NetError."""
        p, c = msg.augmentation_param, msg.coeff_schedule_param
        if c.half_life <= 0:
            raise NetError("half_life must be positive", at=c.at("half_life"), got=f"{c.half_life:g}")
        draws = tuple((name, Draw.read(getattr(p, name))) for name in FIELDS if p.has(name))
        on = p.augment_during_test or msg.enum("phase") == "TRAIN"
        return {"draws": draws, "schedule": (c.half_life, c.initial_coeff, c.final_coeff), "on": on and bool(draws)}

    def discount(self, iteration: float) -> float:
        """How wide things are spread at an iteration, counted from 1."""
        half, first, last = self.schedule
        return first + (last - first) * tanh(1.0986 * iteration / half / 2)

    def spatial(self, held: Coefficients, discount: float, inner: Shape, outer: Shape) -> Coefficients:
        """Coefficients, added to those held, that leave the corners of a crop `inner` inside the picture `outer`."""
        draws = dict(self.draws)
        if not any(name in draws for name in SPATIAL_FIELDS):
            return held
        for _ in range(TRIES):
            c = dict(USUAL)
            if "mirror" in draws:
                c["mirror"] = float(bool(draws["mirror"].number(0.0, 0.0)))
            for name, sets in (("translate", ("dx", "dy")), ("translate_x", ("dx",)), ("translate_y", ("dy",))):
                for coefficient in sets if name in draws else ():
                    c[coefficient] = draws[name].number(discount, 0.0)
            if "rotate" in draws:
                c["angle"] = draws["rotate"].number(discount, 0.0)
            if "zoom" in draws:
                c["zoom_x"] = c["zoom_y"] = draws["zoom"].number(discount, 1.0)
            if "squeeze" in draws:
                squeeze = draws["squeeze"].number(discount, 1.0)
                c["zoom_x"], c["zoom_y"] = c["zoom_x"] * squeeze, c["zoom_y"] / squeeze
            found = merged(held, c)
            at = matrix(found, inner, outer)
            corners = [np.array([x, y, 1.0]) @ at for x in (0, inner[1] - 1) for y in (0, inner[0] - 1)]
            if all(0 <= x < outer[1] - 1 and 0 <= y < outer[0] - 1 for x, y in corners):
                return found
        return held

    def colours(self, discount: float) -> Coefficients:
        """The coefficients of colours and effects that the draws set."""
        draws, found = dict(self.draws), {}
        for name, sets in SETS.items():
            if name in draws:
                found.update({coefficient: draws[name].number(discount) for coefficient in sets})
        for what in ("pow", "add", "mult"):
            if f"sat_{what}" in draws:
                value = draws[f"sat_{what}"].number(discount)
                found.update({f"{what}_withmean1": value, f"{what}_withmean2": value})
        for family in FAMILIES:
            if any(name in draws for name in family):
                found.update({name: draws.get(name, Draw()).number(discount, 0.0) for name in family})
        return found


def merged(a: Coefficients, b: Coefficients) -> Coefficients:
    """Both one after the other: factors multiplied, others added."""
    return {n: a[n] * b[n] if USUAL[n] else a[n] + b[n] for n in NAMES}


def packed(c: Coefficients) -> list[float]:
    """Coefficients as numbers that add up: the logarithms of factors, the others as they are."""
    return [(log(c[n]) if c[n] > 0 else nan) if USUAL[n] else c[n] for n in NAMES]


def unpacked(row: Sequence[float]) -> Coefficients:
    """The other way round."""
    return {n: exp(v) if USUAL[n] else v for n, v in zip(NAMES, row, strict=True)}


def matrix(c: Coefficients, inner: Shape, outer: Shape) -> Array:
    """Where a pixel x, y, 1 of a crop H x W is in the picture: a matrix 3 x 2, to be multiplied from the left."""
    (h, w), (high, wide) = inner, outer
    flip = -1.0 if c["mirror"] else 1.0
    start = np.array([[flip, 0], [0, 1], [-flip * w / 2, -h / 2]])
    a, b = cos(c["angle"]), sin(c["angle"])
    turned = start @ np.array([[a, b], [-b, a]]) + np.array([[0, 0], [0, 0], [c["dx"] * w, c["dy"] * h]])
    found: Array = turned / np.array([c["zoom_x"], c["zoom_y"]]) + np.array([[0, 0], [0, 0], [wide / 2, high / 2]])
    return found


def rows_of(coefficients: Tensor) -> list[Coefficients]:
    """The coefficients of each item of N x 42 x 1 x 1."""
    return [unpacked(row) for row in coefficients.detach().reshape(len(coefficients), -1).tolist()]


def coefficients_fit(bottoms: Shapes, which: int) -> None:
    """Raises: NetError unless a bottom has the coefficients of each item of bottom 0."""
    want, shape = (bottoms[0][0], len(NAMES)), bottoms[which]
    if shape[:2] != want or prod(shape[2:]) != 1:
        raise NetError(f"bottom {which} has the wrong shape", expected=f"{dims(want)} coefficients", got=dims(shape))


@layer("DataAugmentation")
@dataclass(frozen=True, slots=True)
class DataAugmentation(Augmenter):
    """A crop of pictures that is moved, turned and mirrored, its colours changed, and less a mean.

    bottom[0]: N x C x H x W      bottom[1], if there is one: coefficients, N x 42 x 1 x 1, in place of drawn ones
    top[0]: N x C x crop_height x crop_width      top[1], if named: the coefficients
    Coefficients are drawn in TRAIN, or with augment_during_test; else the crop is the middle. Without a crop size nothing
    but the mean is changed. Places are interpolated linearly, those outside pulled in (to 1.05 before the far ends). Then,
    for three channels: colours along chromatic_eigvec, then gamma and the like of values in 0 .. 1, a shadow, and noise;
    values stay in 0 .. max_multiplier. Fog and blur are drawn and have no effect, in the fork neither.
    recompute_mean: the mean over that many forwards is taken off, of each pixel, or with mean_per_pixel false of each
    channel; else three `mean`, with mean_per_pixel false. No gradient.
    blobs: iterations 1 x 1 x 1 x 1; with recompute_mean also mean 1 x C x crop, channel_mean 1 x C x 1 x 1. Not learned. A
    file's mean of another size counts as the means of its channels.
    Source: lmb-freiburg/flownet2, src/caffe/layers/data_augmentation_layer.cu, augmentation_layer_base.cpp.
    """

    n_bottom = (1, 2)
    n_top = (1, 2)
    no_gradient = (0, 1)

    crop: Shape | None = None
    recompute_mean: int = 0
    mean_per_pixel: bool = True
    mean: tuple[float, ...] = ()
    max_multiplier: float = 255.0
    chromatic_eigvec: tuple[float, ...] = field(default=(), repr=False)
    shown: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.augmentation_param
        for name in ("mode", "bottomwidth", "bottomheight", "num"):
            p.has(name)  # looked at: of GenerateAugmentationParameters alone
        crop = (p.crop_height, p.crop_width) if p.has("crop_width") and p.has("crop_height") else None
        if crop and 0 in crop:
            at = p.at("crop_height" if not crop[0] else "crop_width")
            raise NetError("the crop is empty", at=at, expected="a positive size")
        vectors = tuple(p.chromatic_eigvec)
        if len(vectors) not in (0, COLOURS**2):
            expected = "nine numbers, three vectors"
            raise NetError(
                "chromatic_eigvec has the wrong number of values", at=p.at("chromatic_eigvec"), expected=expected
            )
        return cls(
            **cls.drawn(msg),
            crop=crop,
            recompute_mean=p.recompute_mean,
            mean_per_pixel=p.mean_per_pixel,
            mean=tuple(p.mean),
            max_multiplier=p.max_multiplier,
            chromatic_eigvec=vectors,
            shown=len(msg.top) > 1,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c, *image = bottoms[0]
        if self.crop and any(a > b for a, b in zip(self.crop, image, strict=True)):
            expected, got = f"at most {dims(tuple(image))}", dims(self.crop)
            raise NetError("the crop is larger than the picture", at="crop_width", expected=expected, got=got)
        if len(bottoms) > 1:
            coefficients_fit(bottoms, 1)
        return ((n, c, *(self.crop or image)), (n, len(NAMES), 1, 1))[: 1 + self.shown]

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        specs = {"iterations": BlobSpec((1, 1, 1, 1), learned=False)}
        if self.recompute_mean:
            _, c, *image = self.tops(bottoms)[0]
            specs["mean"] = BlobSpec((1, c, *image), learned=False)
            specs["channel_mean"] = BlobSpec((1, c, 1, 1), learned=False)
        return specs

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        if len(arrays) != 1 + 2 * bool(self.recompute_mean) or len(arrays) == 1 or not self.crop:
            return arrays
        first, mean, channels = arrays
        if mean.ndim == 4 and mean.shape[2:] != self.crop:
            level = mean.mean((2, 3), keepdims=True) if self.mean_per_pixel else channels.reshape(1, -1, 1, 1)
            mean = np.broadcast_to(level, (*mean.shape[:2], *self.crop)).copy()
        return [first, mean, channels]

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return dims(self.crop) if self.crop else ""

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0].detach().to(torch.promote_types(bottoms[0].dtype, torch.float32))
        n, image = len(x), tuple(x.shape[2:])
        iteration = 1.0 if traced(x) else float(m.iterations.flatten()[0]) + (not m.again)
        held = x.new_zeros(n, len(NAMES))
        if len(bottoms) > 1:
            held = bottoms[1].detach().reshape(n, -1).to(x.dtype)
        elif self.crop and self.on:
            discount = self.discount(iteration)
            drawn = [self.spatial(USUAL, discount, self.crop, image) | self.colours(discount) for _ in range(n)]
            held = x.new_tensor([packed(c) for c in drawn])
        y = x if not self.crop else self.changed(x, rows_of(held) if len(bottoms) > 1 or self.on else [USUAL] * n)
        if not traced(x):
            m.iterations.fill_(iteration)
        if self.recompute_mean:
            if iteration <= self.recompute_mean and not (traced(x) or m.again):
                old = m.mean * ((iteration - 1) / iteration)
                m.mean.copy_(old + y.mean(0, keepdim=True) / iteration)
                m.channel_mean.copy_(m.mean.mean((2, 3), keepdim=True))
            y = y - (m.mean if self.mean_per_pixel else m.channel_mean).to(y.dtype)
        elif len(self.mean) == COLOURS and not self.mean_per_pixel:
            y = y - y.new_tensor(self.mean)[:, None, None]
        tops = y.to(bottoms[0].dtype), held[:, :, None, None].to(bottoms[0].dtype)
        return tops[: 1 + self.shown]

    def changed(self, x: Tensor, coefficients: list[Coefficients]) -> Tensor:
        """The crops, moved and recoloured."""
        import torch

        assert self.crop
        sizes = tuple(x.shape[2:])
        near = [{k: USUAL[k] if abs(v - USUAL[k]) < NEAR else v for k, v in c.items()} for c in coefficients]
        at = torch.stack([x.new_tensor(matrix(c, self.crop, sizes)) for c in near])
        column, row = _moved(x, self.crop, at).unbind(1)
        y = _sampled(x, row.clamp(max=sizes[0] - EDGE).clamp(min=0), column.clamp(max=sizes[1] - EDGE).clamp(min=0))
        kinds = [names for names in (EIGEN, CHROMATIC, EFFECTS) if any(c[k] != USUAL[k] for c in near for k in names)]
        if kinds and x.shape[1] != COLOURS:
            raise NetError("colours are changed in pictures of three channels only", expected=COLOURS, got=x.shape[1])
        if not kinds:
            return y

        def each(name: str) -> Tensor:
            return x.new_tensor([c[name] for c in near])[:, None, None]

        if EIGEN in kinds:
            y = self.along_vectors(x, y, each)
        if CHROMATIC in kinds:
            bright = y.sum(1)
            y = y * torch.stack([each(f"color{i + 1}") for i in range(COLOURS)], 1)
            y = (y * (bright / (y.sum(1) + FAINT))[:, None]).clamp(0, 1) ** each("gamma")[:, None]
            y = 0.5 + (y + each("brightness")[:, None] - 0.5) * each("contrast")[:, None]
            y = y.clamp(0, self.max_multiplier)
        if EFFECTS in kinds:
            h, w = self.crop
            rows, columns = (torch.arange(s, device=x.device, dtype=x.dtype) - s // 2 for s in (h, w))
            angle = each("shadow_angle")
            beyond = columns * angle.cos() + rows[:, None] * angle.sin() - each("shadow_distance") > 0
            y = (y - (each("shadow_strength") * beyond)[:, None]).clamp(0, self.max_multiplier)
            y = y + torch.randn_like(y) * each("noise")[:, None].clamp(min=0)
        return y

    def along_vectors(self, x: Tensor, y: Tensor, each: Any) -> Tensor:
        """Crops y of pictures x, their colours changed along chromatic_eigvec."""
        import torch

        if not self.chromatic_eigvec:
            raise NetError(
                "chromatic_eigvec is missing", at="augmentation_param", expected="nine numbers, three vectors"
            )
        vectors = x.new_tensor(self.chromatic_eigvec).reshape(COLOURS, COLOURS)
        mean = x.mean((0, 2, 3))
        largest = torch.einsum("vc,nchw->nvhw", vectors, x).abs().amax((0, 2, 3))
        some = (largest > FAINT)[:, None, None]
        scale = largest.where(largest > FAINT, 1)[:, None, None]
        length = largest.square().sum().sqrt()

        def bent(v: Tensor, name: str) -> Tensor:
            power, more, factor = (each(f"{what}_{name}") for what in ("pow", "add", "mult"))
            changed: Tensor = (v.abs() ** power * v.sign() + more) * factor
            return changed

        e = torch.einsum("vc,nchw->nvhw", vectors, y - mean[:, None, None])
        plain = torch.stack([bent(e[:, i] / scale[i], f"nomean{i}") for i in range(COLOURS)], 1)
        e = torch.where(some, plain, e) + (vectors @ mean)[:, None, None] / scale
        light = torch.where(some[0], bent(e[:, 0], "withmean0"), e[:, 0])
        strong = (e[:, 1].square() + e[:, 2].square()).sqrt()
        power, more, factor = (each(f"{what}_withmean1") for what in ("pow", "add", "mult"))
        wanted = (strong**power + more).clamp(min=0) * factor
        angle = each("col_angle")
        first = angle.cos() * e[:, 1] - angle.sin() * e[:, 2]
        second = angle.sin() * e[:, 1] + angle.cos() * e[:, 2]
        e = torch.stack((light, first, second), 1) * scale
        total = e.square().sum(1).sqrt() / length.where(length > FAINT, 1)
        ratio = (wanted / strong.where(strong > FAINT, 1)).where(strong > FAINT, 1)
        e = torch.cat((e[:, :1], e[:, 1:] * ratio[:, None]), 1)
        if length > FAINT:
            now = e.square().sum(1).sqrt()
            total = (total ** each("lmult_pow") + each("lmult_add")).clamp(min=0) * each("lmult_mult") * length
            scaled = torch.minimum(e / now.where(now > FAINT, 1)[:, None] * total[:, None], largest[:, None, None])
            e = torch.where((now > FAINT)[:, None], scaled, e)
        return torch.einsum("vc,nvhw->nchw", vectors, e).clamp(0, self.max_multiplier)


def _moved(x: Tensor, crop: Shape, at: Tensor) -> Tensor:
    """Where the pixels of a crop are by matrices N x 3 x 2: N x 2 x H x W, x first."""
    import torch

    rows, columns = (torch.arange(s, device=x.device, dtype=x.dtype) for s in crop)
    grid = torch.stack((columns.expand(crop), rows[:, None].expand(crop), torch.ones(crop).to(x)))
    return torch.einsum("khw,nkj->njhw", grid, at)


def _sampled(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Values of N x C x H x W between pixels, at N x P x Q places inside: N x C x P x Q."""
    n, c, h, w = x.shape
    top, left = row.floor(), column.floor()
    low, near = (row - top)[:, None], (column - left)[:, None]
    flat, shape = x.flatten(2), (n, c, *row.shape[1:])

    def pixel(down: int, right: int) -> Tensor:
        place = (top.long() + down).clamp(max=h - 1) * w + (left.long() + right).clamp(max=w - 1)
        return flat.gather(2, place.reshape(n, 1, -1).expand(n, c, -1)).reshape(shape)

    upper = (1 - near) * pixel(0, 0) + near * pixel(0, 1)
    lower = (1 - near) * pixel(1, 0) + near * pixel(1, 1)
    return (1 - low) * upper + low * lower


@layer("GenerateAugmentationParameters")
@dataclass(frozen=True, slots=True)
class GenerateAugmentationParameters(Augmenter):
    """Draw the coefficients that DataAugmentation takes.

    bottom[0]: coefficients N x 42 x 1 x 1, or alone also pictures, whose size then is that of the picture
    bottom[1], bottom[2], if there are any: the pictures and their crops, whose sizes count in place of bottomheight x
    bottomwidth and crop_height x crop_width      top[0]: N x 42 x 1 x 1
    mode "add": drawn coefficients on top of those of bottom[0], "replace": in place of them, those not drawn being left;
    "regenerate", which pictures alone mean: only what is drawn. Nothing is drawn in TEST without augment_during_test.
    No gradient. How many forwards there were, which coeff_schedule_param asks for, stays for the next one.
    Source: lmb-freiburg/flownet2, src/caffe/layers/generate_augmentation_parameters_layer.cu.
    """

    n_bottom = (1, 3)
    no_gradient = (0, 1, 2)
    remembers = ("forwards",)

    mode: str = "add"
    crop: Shape = (0, 0)
    image: Shape = (0, 0)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.augmentation_param
        for name in ("max_multiplier", "recompute_mean", "mean_per_pixel", "mean", "chromatic_eigvec", "num"):
            p.has(name)  # looked at: of DataAugmentation, or for no bottom at all
        if len(bottoms) == 2:
            raise NetError("there are one or three bottoms", at=msg.at("bottom", 1), expected="1 or 3", got=2)
        if p.mode not in ("add", "replace", "regenerate"):
            raise NetError("unknown mode", at=p.at("mode"), expected="add, replace or regenerate", got=p.mode)
        sizes = (p.crop_height, p.crop_width), (p.bottomheight, p.bottomwidth)
        return cls(**cls.drawn(msg), mode=p.mode, crop=sizes[0], image=sizes[1])

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(len(bottoms)):
            exactly(4, bottoms, i)
        pictures = len(bottoms) == 1 and bottoms[0][2:] != (1, 1)
        if not pictures and self.mode != "regenerate":
            coefficients_fit(bottoms, 0)
        inner, outer = self.sizes(bottoms)
        if self.on and 0 in (*inner, *outer):
            expected = "crop_height, crop_width, bottomheight and bottomwidth, or the blobs"
            raise NetError("the sizes of picture and crop are not told", expected=expected)
        return ((bottoms[0][0], len(NAMES), 1, 1),)

    def sizes(self, bottoms: Shapes) -> tuple[Shape, Shape]:
        """Those of crop and picture."""
        if len(bottoms) == 3:
            return bottoms[2][2:], bottoms[1][2:]
        return self.crop, bottoms[0][2:] if bottoms[0][2:] != (1, 1) else self.image

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0].detach()
        shapes = tuple(tuple(b.shape) for b in bottoms)
        inner, outer = self.sizes(shapes)
        mode = "regenerate" if len(bottoms) == 1 and shapes[0][2:] != (1, 1) else self.mode
        done = getattr(m, "forwards", 0) + (not m.again)
        m.forwards = done
        discount = self.discount(done)
        rows = []
        for given in [dict(USUAL)] * len(x) if mode == "regenerate" else rows_of(x):
            start = {**given, **{n: USUAL[n] for n in SPATIAL}} if mode == "replace" and self.on else given
            c = self.spatial(start, discount, inner, outer) if self.on else given
            new = self.colours(discount) if self.on else {}
            rows.append(packed(merged(c, {**USUAL, **new}) if mode == "add" else {**c, **new}))
        return x.new_tensor(rows)[:, :, None, None]


@layer("FlowAugmentation")
@dataclass(frozen=True, slots=True)
class FlowAugmentation(Layer):
    """The flow between two pictures after both were changed by DataAugmentation.

    bottom[0]: flow, N x 2 x H x W, x first      bottom[1], bottom[2]: the coefficients of both pictures, N x 42 x 1 x 1
    top[0]: N x 2 x crop_height x crop_width
    A pixel of the first crop is p in the first picture; p plus the flow at the pixel nearest to p is a place of the second
    picture, and the way from the pixel to that place's one in the second crop is the top. Pixels outside are pulled in,
    where the fork reads what lies beside. No gradient.
    Source: lmb-freiburg/flownet2, src/caffe/layers/flow_augmentation_layer.cu.
    """

    category = "shape"
    n_bottom = (3, 3)
    no_gradient = (0, 1, 2)

    crop: Shape

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.augmentation_param
        for name in ("crop_height", "crop_width"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} is missing", at=p.at(name) or "augmentation_param", expected="a positive size")
        return cls((p.crop_height, p.crop_width))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        if bottoms[0][1] != 2:
            raise NetError("a flow has two channels", expected=2, got=f"{bottoms[0][1]} ({dims(bottoms[0])})")
        for i in (1, 2):
            coefficients_fit(bottoms, i)
        return ((*bottoms[0][:2], *self.crop),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        flow = bottoms[0].detach().to(torch.promote_types(bottoms[0].dtype, torch.float32))
        n, _, h, w = flow.shape
        first, second = (
            torch.stack([flow.new_tensor(matrix(c, self.crop, (h, w))) for c in rows_of(b)]) for b in bottoms[1:]
        )
        at = _moved(flow, self.crop, first)
        column, row = ((at[:, k] + 0.5).long().clamp(0, size - 1) for k, size in ((0, w), (1, h)))
        place = (row * w + column).reshape(n, 1, -1).expand(n, 2, -1)
        there = at + flow.flatten(2).gather(2, place).reshape(at.shape)
        back = torch.linalg.inv(second[:, :2])
        found = torch.einsum("nkhw,nkj->njhw", there - second[:, 2, :, None, None], back)
        pixels = _moved(flow, self.crop, torch.eye(3).to(flow)[:, :2].expand(n, 3, 2))
        return (found - pixels).to(bottoms[0].dtype)
