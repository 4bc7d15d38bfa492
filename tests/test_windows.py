"""Windows one after another and side by side, against sets of pixels gone through one by one."""

import pytest
from hypothesis import given, settings, strategies as st

from netcompiler.windows import MOST, NONE, NOTHING, SAME, Window

small = st.integers(1, 4)
SLIDING = st.builds(Window.sliding, small, small, st.integers(0, 3), small)
SPREAD = st.builds(Window.spread, small, small, st.integers(0, 3), small)
LISTED = st.lists(
    st.tuples(st.integers(-3, 9), st.integers(0, 5)).map(lambda p: (p[0], sum(p))), min_size=6, max_size=6
)
ANY = SLIDING | SPREAD | st.builds(Window.whole, st.integers(1, 30)) | LISTED.map(lambda e: Window(tuple(e), None))


@given(small, small, st.integers(0, 3), small)
def test_sliding(kernel, stride, pad, dilation):
    window = Window.sliding(kernel, stride, pad, dilation)
    for o in range(-5, 9):
        taps = [o * stride - pad + t * dilation for t in range(kernel)]
        assert window.at(o) == (min(taps), max(taps))


@given(small, small, st.integers(0, 3), small)
def test_spread(kernel, stride, pad, dilation):
    """The scatter itself: every pixel of the bottom adds to its taps."""
    made = {}
    for i in range(-20, 30):
        for t in range(kernel):
            made.setdefault(i * stride + t * dilation - pad, []).append(i)
    window = Window.spread(kernel, stride, pad, dilation)
    for o in range(-5, 9):
        assert window.at(o) == ((min(made[o]), max(made[o])) if o in made else NONE)


def hull(window, pixels):
    held = [e for e in map(window.at, pixels) if e[0] <= e[1]]
    return (min(a for a, _ in held), max(b for _, b in held)) if held else NONE


@settings(deadline=None)
@given(ANY, ANY, st.integers(1, 12))
def test_after(outer, inner, size):
    both = outer.after(inner, size)
    for o in range(size):
        first, last = outer.at(o)
        assert both.at(o) == hull(inner, range(first, last + 1))


def test_after_pixels_past_both_ends():
    own = Window(((0, 0), (-9, 2), (5, 20), (1, 1)), None)
    assert Window.sliding(31, 1, 13).after(own, 1).at(0) == (-9, 20)


@settings(deadline=None)
@given(ANY, ANY, st.integers(1, 12))
def test_beside(a, b, size):
    both = a.beside(b, size)
    for o in range(size):
        held = [e for e in (a.at(o), b.at(o)) if e[0] <= e[1]]
        assert both.at(o) == ((min(e[0] for e in held), max(e[1] for e in held)) if held else NONE)


FIGURES = [  # window, size, stride, centre
    (SAME, 1, 1, 0),
    (Window.sliding(7, 2, 3), 7, 2, 0),
    (Window.sliding(3, 1, 0, 4), 9, 1, 4),
    (Window.spread(4, 2, 1), 2, 1 / 2, -1 / 4),
    (Window.spread(64, 32, 0), 2, 1 / 32, -63 / 64),
    (Window.spread(1, 2), 1, 1 / 2, 0),
    (Window.whole(6), 6, 0, 2.5),
    (NOTHING[0], 0, 0, 0),
    (Window(((0, 3), (2, 9)), None), 8, None, 1.5),
]


@pytest.mark.parametrize(("window", "size", "stride", "centre"), FIGURES)
def test_figures(window, size, stride, centre):
    assert (window.size, window.stride, window.centre) == (size, stride, centre)


def test_huge_images_are_not_listed():
    """Branches that do not move together, over a row of 2^31 pixels."""
    both = SAME.beside(Window.sliding(1, 2), 1 << 31)
    assert both.extents == ((0, (1 << 32) - 2),) and both.step == 0
    assert len(Window.spread(3, MOST).after(Window.spread(5, 7), 1 << 31).extents) == 1
