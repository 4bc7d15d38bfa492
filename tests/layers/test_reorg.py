import numpy as np

from .table import Bad, Row, suite


def darknet(stride, reverse):
    """Index by index, over the bottom's sizes."""

    def want(x):
        n, c, h, w = x.shape
        fewer = c // stride**2
        shape = (n, fewer, h * stride, w * stride) if reverse else (n, c * stride**2, h // stride, w // stride)
        small, large = x.reshape(-1), np.zeros(x.size)
        for b, k, j, i in np.ndindex(n, c, h, w):
            offset, channel = divmod(k, fewer)
            column, row = i * stride + offset % stride, j * stride + offset // stride
            place = column + w * stride * (row + h * stride * (channel + fewer * b))
            here = i + w * (j + h * (k + c * b))
            if reverse:
                large[place] = small[here]
            else:
                large[here] = small[place]
        return large.reshape(shape)

    return want


def layer(fields):
    return f'type: "Reorg" reorg_param {{ {fields} }}'


ROWS = [
    Row("2", layer("stride: 2"), [(2, 8, 6, 4)], [(2, 32, 3, 2)], darknet(2, False)),
    Row("3", layer("stride: 3"), [(1, 9, 3, 6)], [(1, 81, 1, 2)], darknet(3, False)),
    Row("1", layer("stride: 1"), [(1, 2, 3, 5)], [(1, 2, 3, 5)], darknet(1, False)),
    Row("reverse", layer("stride: 2 reverse: true"), [(2, 12, 2, 3)], [(2, 3, 4, 6)], darknet(2, True)),
]
BAD = [
    Bad("no stride", 'type: "Reorg"', [(1, 8, 2, 2)], "stride is missing"),
    Bad("channels", layer("stride: 2"), [(1, 6, 2, 2)], "the channels do not fit", at="stride"),
    Bad("image", layer("stride: 2"), [(1, 8, 3, 2)], "the image does not fit", at="stride"),
    Bad("axes", layer("stride: 2"), [(8, 2, 2)], "wrong number of axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
