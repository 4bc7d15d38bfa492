import numpy as np

from .table import Bad, Row, suite


def positive(rng, shape):
    return rng.uniform(0.25, 4, shape)


def exp(fields: str) -> str:
    return f'type: "Exp" exp_param {{ {fields} }}'


def log(fields: str) -> str:
    return f'type: "Log" log_param {{ {fields} }}'


ROWS = [
    Row("exp", 'type: "Exp"', [(2, 3, 5)], [(2, 3, 5)], np.exp),
    Row("exp: base -1 is e", exp("base: -1 shift: 1.5"), [(2, 3)], [(2, 3)], lambda x: np.exp(1.5 + x)),
    Row("exp: base 2", exp("base: 2"), [(2, 3)], [(2, 3)], lambda x: 2.0**x),
    Row("exp: all", exp("base: 0.5 scale: -0.75 shift: 3"), [(2, 3)], [(2, 3)], lambda x: 0.5 ** (3 - 0.75 * x)),
    Row("exp: base 1", exp("base: 1 shift: 2"), [(2, 3)], [(2, 3)], lambda x: np.ones((2, 3))),
    Row("log", 'type: "Log"', [(2, 3, 5)], [(2, 3, 5)], np.log, feed={0: positive}),
    Row("log: base -1 is e", log("base: -1 shift: 1"), [(2, 3)], [(2, 3)], np.log1p, feed={0: positive}),
    Row("log: base 2", log("base: 2"), [(2, 3)], [(2, 3)], np.log2, feed={0: positive}),
    Row(
        "log: all",
        log("base: 10 scale: 0.5 shift: 2"),
        [(2, 3)],
        [(2, 3)],
        lambda x: np.log10(2 + 0.5 * x),
        feed={0: positive},
    ),
]
BAD = [
    Bad("exp: base 0", exp("base: 0"), [(2, 3)], "the base must be positive", at="base"),
    Bad("exp: base -2", exp("base: -2"), [(2, 3)], "the base must be positive", at="base"),
    Bad("exp: base infinite", exp("base: inf"), [(2, 3)], "the base must be positive", at="base"),
    Bad("exp: too large", exp("shift: 800"), [(2, 3)], "base ^ shift is too large", at="shift"),
    Bad("log: base 1", log("base: 1"), [(2, 3)], "no logarithm to base 1", at="base"),
    Bad("log: base nan", log("base: nan"), [(2, 3)], "the base must be positive", at="base"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
