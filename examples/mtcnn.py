"""Faces and their landmarks in a picture, by the three nets of MTCNN with their trained Caffe weights.

    python examples/mtcnn.py FOLDER [PICTURE] [-o found.png]

FOLDER has det1, det2 and det3, each as .prototxt and .caffemodel, side by side or in folders of their own: the files of
the project MTCNN_face_detection_alignment. Without PICTURE, scikit-image's portrait of the astronaut Eileen Collins.

Source: K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", IEEE Signal Processing Letters 23 (2016). The nets were trained on pictures as Matlab holds them, so they take
red, green, blue, each transposed: N x 3 x W x H.
"""

import argparse
from pathlib import Path

import numpy as np

import netcompiler
from netcompiler.data.image import resize

THRESHOLDS = (0.6, 0.7, 0.7)  # of the probability of a face, in each stage
SMALLEST = 40  # side of the smallest face to look for, in pixels
STEP = 0.709  # from one picture of the pyramid to the next
FIELD, STRIDE = 12, 2  # of the first net


def load(folder: Path) -> list[netcompiler.CompiledNet]:
    """det1, det2 and det3."""
    nets = []
    for name in ("det1", "det2", "det3"):
        found = sorted(folder.rglob(f"{name}.prototxt"))
        if not found:
            raise SystemExit(f"{folder} has no {name}.prototxt")
        nets.append(netcompiler.compile(found[0], found[0].with_suffix(".caffemodel")))
    return nets


def blob(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size, H x W x 3, as the nets take them: N x 3 x W x H, from -1 to 1."""
    return ((np.stack(pictures).astype(np.float32) - 127.5) / 128).transpose(0, 3, 2, 1).copy()


def run(net: netcompiler.CompiledNet, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What a net makes of pictures."""
    return {name: value.numpy() for name, value in net(data=blob(pictures)).items()}


def candidates(net: netcompiler.CompiledNet, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first stage, over a pyramid of pictures. Returns boxes, N x 4 (x1, y1, x2, y2), and probabilities."""
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    scale = FIELD / SMALLEST
    while min(picture.shape[:2]) * scale >= FIELD:
        height, width = (int(np.ceil(side * scale)) for side in picture.shape[:2])
        out = run(net, [resize(picture, height, width)])
        face, shift = out["prob1"][0, 1], out["conv4-2"][0]  # W x H, 4 x W x H
        x, y = np.nonzero(face >= THRESHOLDS[0])
        corner = np.stack([x, y, x, y], 1) * STRIDE + [0, 0, FIELD, FIELD]
        found, kept = corner / scale, face[x, y]
        alive = suppress(found, kept, 0.5)
        moved = found + shift[:, x, y].T * FIELD / scale
        boxes.append(moved[alive])
        scores.append(kept[alive])
        scale *= STEP
    every, sure = np.concatenate(boxes), np.concatenate(scores)
    alive = suppress(every, sure, 0.7)
    return every[alive], sure[alive]


def refined(
    net: netcompiler.CompiledNet, picture: np.ndarray, boxes: np.ndarray, size: int, threshold: float, shifts: str
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A later stage: what is left of the boxes, their probabilities, and all that the net says of them."""
    if not len(boxes):
        return boxes, np.zeros(0), {}
    boxes = squares(boxes)
    out = run(net, [cut(picture, box, size) for box in boxes])
    alive = out["prob1"][:, 1] >= threshold
    side = (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
    told = {name: value[alive] for name, value in out.items()} | {"square": boxes[alive]}
    return (boxes + out[shifts] * side)[alive], out["prob1"][alive, 1], told


def detect(nets: list[netcompiler.CompiledNet], picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces: boxes N x 4 (x1, y1, x2, y2, in pixels), probabilities N, and landmarks N x 5 x 2 (x, y).

    The landmarks are the eyes, the nose and the corners of the mouth. picture: H x W x 3, red, green, blue, 0 to 255.
    """
    first, second, third = nets
    boxes, _ = candidates(first, picture)
    boxes, scores, _ = refined(second, picture, boxes, 24, THRESHOLDS[1], "conv5-2")
    boxes = boxes[suppress(boxes, scores, 0.7)]
    boxes, scores, told = refined(third, picture, boxes, 48, THRESHOLDS[2], "conv6-2")
    if not len(boxes):
        return boxes, scores, np.zeros((0, 5, 2))
    square, marks = told["square"], told["conv6-3"]
    points = square[:, None, :2] + np.stack([marks[:, :5], marks[:, 5:]], 2) * (square[:, 2:] - square[:, :2])[:, None]
    alive = suppress(boxes, scores, 0.7, smaller=True)
    return boxes[alive], scores[alive], points[alive]


def squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes about the same centres, as wide as high."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    return np.concatenate([centre - side / 2, centre + side / 2], 1).round()


def cut(picture: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """What is inside a box, black where that is outside of the picture, at size x size pixels."""
    x1, y1, x2, y2 = box.astype(int)
    whole = np.zeros((max(y2 - y1, 1), max(x2 - x1, 1), 3), np.uint8)
    height, width = picture.shape[:2]
    left, top = max(x1, 0), max(y1, 0)
    part = picture[top : min(y2, height), left : min(x2, width)]
    whole[top - y1 : top - y1 + part.shape[0], left - x1 : left - x1 + part.shape[1]] = part
    return resize(whole, size, size)


def suppress(boxes: np.ndarray, scores: np.ndarray, most: float, smaller: bool = False) -> np.ndarray:
    """Which boxes stay when each takes away the less likely ones that overlap it by more than `most`.

    Overlap is the intersection over the union, or with `smaller` over the smaller of the two boxes.
    """
    order, kept = scores.argsort()[::-1], []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.clip(corner[1] - corner[0], 0, None).prod(1)
        whole = np.minimum(area[best], area[rest]) if smaller else area[best] + area[rest] - common
        order = rest[common <= most * whole]
    return np.array(kept, int)


def main() -> None:
    p = argparse.ArgumentParser(description="find faces with MTCNN's Caffe nets")
    p.add_argument("folder", type=Path, help="where det1, det2 and det3 are")
    p.add_argument("picture", nargs="?", type=Path, help="default: scikit-image's astronaut")
    p.add_argument("-o", "--output", type=Path, help="write the picture with the faces marked")
    options = p.parse_args()
    if options.picture:
        from PIL import Image

        picture = np.asarray(Image.open(options.picture).convert("RGB"))
    else:
        from skimage.data import astronaut

        picture = astronaut()
    boxes, scores, points = detect(load(options.folder), picture)
    for box, score, marks in zip(boxes, scores, points, strict=True):
        print(f"face {score:.3f} at", *(f"{v:.0f}" for v in box), " landmarks", *(f"{x:.0f},{y:.0f}" for x, y in marks))
    if not len(boxes):
        print("no face")
    if options.output:
        from PIL import Image, ImageDraw

        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        for box, marks in zip(boxes, points, strict=True):
            pen.rectangle(tuple(box), outline="lime", width=3)
            for x, y in marks:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill="red")
        image.save(options.output)


if __name__ == "__main__":
    main()
