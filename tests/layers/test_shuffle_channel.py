import numpy as np

from .table import Bad, Row, suite


def shuffle(group):
    return f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}'


def shuffled(group):
    def want(x):
        y, each = np.empty_like(x), x.shape[1] // group
        for i in range(group):
            for j in range(each):
                y[:, j * group + i] = x[:, i * each + j]
        return y

    return want


X = (2, 12, 3, 5)
ROWS = [Row(f"{g} groups", shuffle(g), [X], [X], shuffled(g)) for g in (1, 2, 3, 12)]
ROWS.append(Row("no image", shuffle(2), [(3, 4)], [(3, 4)], shuffled(2)))
BAD = [
    Bad("no divisor", shuffle(5), [X], "group must divide the channels", at="group"),
    Bad("zero", shuffle(0), [X], "group must be positive", at="group"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
