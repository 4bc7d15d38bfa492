"""Small sets for the tests, made with the libraries themselves."""

import lmdb
import numpy as np

import netcompiler
from netcompiler import schema
from netcompiler.data.feeds import open_feeds

Datum = schema.message("Datum")


def raw(array, label=0):
    c, h, w = array.shape
    if array.dtype == np.uint8:
        return Datum(channels=c, height=h, width=w, data=array.tobytes(), label=label).SerializeToString()
    return Datum(channels=c, height=h, width=w, float_data=array.reshape(-1), label=label).SerializeToString()


def make_lmdb(path, values):
    """An LMDB of these records, in their order."""
    with lmdb.open(str(path), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for i, value in enumerate(values):
            txn.put(f"{i:08d}".encode(), value)
    return path


def arrays(count, shape=(3, 6, 8), seed=0, kind=np.uint8):
    rng = np.random.default_rng(seed)
    if kind == np.uint8:
        return rng.integers(0, 256, (count, *shape), np.uint8)
    return rng.standard_normal((count, *shape)).astype(kind)


def save_picture(path, planes):
    """B, G, R planes as a file that keeps them exactly."""
    from PIL import Image

    pixels = planes[::-1].transpose(1, 2, 0) if len(planes) == 3 else planes[0]
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def layer(kind, settings, transform="", phase_top='top: "data" top: "label"'):
    param = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}[kind]
    text = (
        f'layer {{ name: "in" type: "{kind}" {phase_top} {param} {{ {settings} }} transform_param {{ {transform} }} }}'
    )
    return netcompiler.parse(text)


def batches(msg, count, phase="TEST", **options):
    with open_feeds(msg, phase, **{"workers": 0, **options}) as feeds:
        return [feeds.next() for _ in range(count)]
