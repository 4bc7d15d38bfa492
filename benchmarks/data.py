"""Pictures per second from a data layer to float arrays, beside a plain torch DataLoader with Pillow.

    python benchmarks/data.py [--pictures N] [--batch N] [--workers 0,1,...] [--runs N]

The pictures are photographs in their statistics (noise of falling frequency) of 500 x 375 pixels, JPEG of quality 90. Both
sides decode, resize to 256 x 256, cut out 224 x 224 at random, mirror half of them, and subtract a mean: an ImageData layer
(OpenCV's resize, bit for bit) against a torch Dataset that does the same with Pillow's bilinear resize and numpy. Then Data
layers: an LMDB of JPEGs and one of raw bytes, 256 x 256, against a Dataset that reads the same LMDB in the way that people
write it by hand. Each runs as often as asked, in turns; medians of pictures per second over a whole pass, workers started
and warm. The files lie in the page cache.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

import netcompiler
from netcompiler.data.convert import Options, convert
from netcompiler.data.feeds import open_feeds
from netcompiler.data.records import Datum

MEAN = np.float32([104, 117, 123]).reshape(3, 1, 1)
TRANSFORM = "transform_param { crop_size: 224 mirror: true mean_value: 104 mean_value: 117 mean_value: 123 }"


def photograph(rng: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with its frequency, as in photographs."""
    h, w = 375, 500
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)) + 1 / w
    planes = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((h, w))) / radius, (h, w)) for _ in range(3)]
    x = np.stack(planes, 2)
    return Image.fromarray(np.clip(128 + 45 * x / x.std(), 0, 255).astype(np.uint8))


class Augmented(torch.utils.data.Dataset):
    """What both datasets do with R, G, B pixels of 256 x 256."""

    def finish(self, pixels: np.ndarray) -> torch.Tensor:
        y, x = np.random.randint(0, 33, 2)
        crop = pixels[y : y + 224, x : x + 224, ::-1]
        if np.random.rand() < 0.5:
            crop = crop[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1), np.float32) - MEAN)

    def close(self) -> None:
        """Let go of files."""


class Files(Augmented):
    def __init__(self, listed: Path) -> None:
        self.lines = [line.rsplit(" ", 1) for line in listed.read_text().splitlines()]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        name, label = self.lines[i]
        with Image.open(name) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((256, 256), Image.BILINEAR))
        return self.finish(pixels), int(label)


class Records(Augmented):
    def __init__(self, path: Path) -> None:
        self.path, self.env = str(path), None
        with lmdb.open(self.path, readonly=True, lock=False) as env, env.begin() as txn:
            self.keys = [bytes(key) for key in txn.cursor().iternext(values=False)]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if self.env is None:
            self.env = lmdb.open(self.path, readonly=True, lock=False)
        with self.env.begin() as txn:
            datum = Datum.FromString(txn.get(self.keys[i]))
        if datum.encoded:
            with Image.open(io.BytesIO(datum.data)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        else:
            planes = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
            pixels = planes.transpose(1, 2, 0)[:, :, ::-1]
        return self.finish(pixels), datum.label

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None


def ours(kind: str, settings: str, workers: int):
    text = f'layer {{ type: "{kind}" name: "in" top: "data" top: "label" {settings} {TRANSFORM} }}'
    feeds = open_feeds(netcompiler.parse(text), "TRAIN", seed=0, workers=workers)

    def take() -> int:
        arrays = feeds.next()
        return len(torch.from_numpy(arrays["data"]))

    return take, feeds.close


def theirs(dataset: Augmented, batch: int, workers: int):
    loader = torch.utils.data.DataLoader(
        dataset, batch, shuffle=False, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    state = {"at": iter(loader)}

    def take() -> int:
        try:
            x, _ = next(state["at"])
        except StopIteration:
            state["at"] = iter(loader)
            x, _ = next(state["at"])
        return len(x)

    def close() -> None:
        state.clear()
        dataset.close()

    return take, close


def rate(take, close, seconds: float) -> float:
    """Pictures per second, after two batches that do not count."""
    take(), take()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        count += take()
    taken = time.perf_counter() - began
    close()
    return count / taken


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--pictures", type=int, default=256)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--workers", default="0,2")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4.0)
    options = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        lines = []
        for i in range(options.pictures):
            photograph(rng).save(folder / f"{i}.jpg", quality=90)
            lines.append(f"{folder}/{i}.jpg {i % 10}\n")
        listed = folder / "list.txt"
        listed.write_text("".join(lines))
        convert(str(listed), str(folder / "raw"), Options((256, 256)))
        convert(str(listed), str(folder / "jpeg"), Options((256, 256), encode="jpg"))
        batch = options.batch
        image = f'image_data_param {{ source: "{listed}" batch_size: {batch} new_height: 256 new_width: 256 }}'
        data = 'data_param {{ source: "{}" backend: LMDB batch_size: {} }}'
        print(f"{'pictures per second':26} {'workers':>7} {'ours':>8} {'plain':>8} {'ratio':>6}")
        for workers in map(int, options.workers.split(",")):
            for title, kind, settings, dataset in (
                ("JPEG files, resized", "ImageData", image, Files(listed)),
                ("LMDB of JPEG", "Data", data.format(folder / "jpeg", batch), Records(folder / "jpeg")),
                ("LMDB, raw", "Data", data.format(folder / "raw", batch), Records(folder / "raw")),
            ):
                a, b = [], []
                for _ in range(options.runs):
                    a.append(rate(*ours(kind, settings, workers), options.seconds))
                    b.append(rate(*theirs(dataset, batch, workers), options.seconds))
                one, two = statistics.median(a), statistics.median(b)
                print(f"{title:26} {workers:7} {one:8.0f} {two:8.0f} {one / two:6.2f}", flush=True)


if __name__ == "__main__":
    main()
