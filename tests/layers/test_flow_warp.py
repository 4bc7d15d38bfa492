import numpy as np

from .table import Bad, Row, suite


def warped(outside=0.0):
    def want(x, flow):
        n, _, h, w = x.shape
        y = np.full_like(x, outside)
        for b, i, j in np.ndindex(n, h, w):
            c, r = j + flow[b, 0, i, j], i + flow[b, 1, i, j]
            if not (0 <= c < w and 0 <= r < h):
                continue
            left, top = int(c), int(r)
            right, below, u, v = min(left + 1, w - 1), min(top + 1, h - 1), c - left, r - top
            y[b, :, i, j] = (1 - v) * ((1 - u) * x[b, :, top, left] + u * x[b, :, top, right])
            y[b, :, i, j] += v * ((1 - u) * x[b, :, below, left] + u * x[b, :, below, right])
        return y

    return want


def far(rng, shape):
    return 2 * rng.standard_normal(shape)


X, FLOW = (2, 3, 4, 5), (2, 2, 4, 5)
NAN = 'type: "FlowWarp" flow_warp_param { fill_value: NOT_A_NUMBER }'
ROWS = [
    Row("zero", 'type: "FlowWarp"', [X, FLOW], [X], warped(), feed={1: far}),
    Row("nan", NAN, [X, FLOW], [X], warped(np.nan), feed={1: far}, gradient=False),
]
BAD = [Bad("flow", 'type: "FlowWarp"', [X, (2, 3, 4, 5)], "the flow has the wrong shape")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
