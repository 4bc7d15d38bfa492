"""Objects in a picture, by SSD or Faster R-CNN with trained Caffe weights.

    python examples/detect.py SSD300 VGG_VOC0712_SSD_300x300_iter_120000.caffemodel street.jpg -o found.png
    python examples/detect.py Faster-R-CNN-VGG-16 VGG16_faster_rcnn_final.caffemodel street.jpg -o found.svg

The net is a deploy or test prototxt, or a name of the model zoo, whose table says where weights are to be had. It is
taken for an SSD if it has a DetectionOutput layer, and for a Faster R-CNN if it takes im_info. Without PICTURE,
scikit-image's portrait of the astronaut Eileen Collins.

Source: how a picture goes in and boxes come out is as in the authors' own demonstrations: W. Liu's ssd_detect and
R. Girshick's py-faster-rcnn, demo.py.
"""

import argparse
import base64
import colorsys
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch

import netcompiler
from netcompiler import zoo
from netcompiler.data.image import read_image, resize
from netcompiler.layers.boxes import by_score, clip, decode, nms
from netcompiler.text import Msg

VOC = (  # noqa: SIM905  (as a list it takes a line for each)
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()
SSD_MEAN, RCNN_MEAN = (104, 117, 123), (102.9801, 115.9465, 122.7717)  # B, G, R: of the nets on VGG-16
SHORTER, LONGER = 600, 1000  # pixels of a side that Faster R-CNN's pictures are scaled to
SUFFIXES = (".png", ".jpg", ".svg")
OVERLAP = 0.3  # above it, Faster R-CNN's boxes of one class are one object


@dataclass(frozen=True)
class Detection:
    """An object: its class, from 1, how sure that is, and x1, y1, x2, y2 in pixels of the picture."""

    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Input:
    """How a picture goes in: mean (B, G, R), subtracted, and a factor after that; how many pixels its shorter side has
    for Faster R-CNN.
    """

    mean: tuple[float, ...] | None = None
    scale: float = 1
    shorter: int = SHORTER

    def blob(self, picture: np.ndarray, height: int, width: int, usual: tuple[float, ...]) -> torch.Tensor:
        """1 x 3 x height x width. usual: the mean if none is given."""
        pixels = resize(picture, height, width) - np.array(self.mean or usual, np.float32)
        return torch.from_numpy((pixels * np.float32(self.scale)).transpose(2, 0, 1)[None].copy())


def detect(
    model: str, weights: str | Path, picture: np.ndarray, threshold: float, how: Input
) -> tuple[list[Detection], int]:
    """The objects in a picture, H x W x 3 (B, G, R, 0 to 255), the surest first, and how many classes the net tells
    apart, background included.

    model: path of a prototxt, or a net of the zoo.  threshold: of the scores.
    Raises: NetError for files that cannot be read or do not fit, and for a net that is no such detector.
    """
    msg = netcompiler.load(model) if Path(model).suffix else zoo.find(model).write()
    graph = netcompiler.build(msg)
    inputs = {v.blob for v in graph.inputs()}
    if {"data", "im_info"} <= inputs:
        return faster_rcnn(msg, weights, picture, threshold, how)
    if len(inputs) == 1 and any(n.layer.kind == "DetectionOutput" for n in graph):
        return ssd(graph, weights, picture, threshold, how)
    expected = "an SSD with DetectionOutput, or a Faster R-CNN with the inputs data and im_info"
    raise netcompiler.NetError("this net is no detector that is known here", at=str(model), expected=expected)


def ssd(
    graph: netcompiler.Graph, weights: str | Path, picture: np.ndarray, threshold: float, how: Input
) -> tuple[list[Detection], int]:
    """SSD: the picture is warped to the net's size; boxes come in 0 to 1."""
    (data,) = graph.inputs()
    (rows,) = netcompiler.compile(graph, weights)(how.blob(picture, *data.shape[2:], SSD_MEAN)).values()
    height, width = picture.shape[:2]
    found = []
    for _, label, score, *box in rows.reshape(-1, 7).tolist():  # where there is nothing at all, one row of -1
        if label > 0 and score >= threshold:
            x1, y1, x2, y2 = (min(max(v, 0), 1) for v in box)
            found.append(Detection(int(label), score, (x1 * width, y1 * height, x2 * width, y2 * height)))
    (classes,) = (n.layer.num_classes for n in graph if n.layer.kind == "DetectionOutput")
    return sorted(found, key=lambda d: -d.score), classes


def faster_rcnn(
    msg: Msg, weights: str | Path, picture: np.ndarray, threshold: float, how: Input
) -> tuple[list[Detection], int]:
    """Faster R-CNN: the picture keeps its ratio; each region has a score and a box for each class."""
    height, width = picture.shape[:2]
    scale = min(how.shorter / min(height, width), LONGER / max(height, width))
    data = how.blob(picture, round(height * scale), round(width * scale), RCNN_MEAN)
    info = torch.tensor([[*data.shape[2:], scale]])
    inputs = {"data": tuple(data.shape), "im_info": (1, 3)}
    net = netcompiler.compile(msg, weights, inputs=inputs, outputs=["rois", "cls_prob", "bbox_pred"])
    out = {name: value.cpu() for name, value in net(data=data, im_info=info).items()}
    rois, scores = out["rois"], out["cls_prob"].flatten(1)
    boxes = decode(rois[:, None, 1:] / scale, out["bbox_pred"].reshape(*scores.shape, 4), one=1)
    boxes = clip(boxes, height - 1, width - 1)
    found = []
    for label in range(1, scores.shape[1]):
        (sure,) = torch.nonzero(scores[:, label] >= threshold, as_tuple=True)
        order = sure[by_score(scores[sure, label])]
        for i in order[nms(boxes[order, label], OVERLAP, one=1)].tolist():
            x1, y1, x2, y2 = boxes[i, label].tolist()
            found.append(Detection(label, float(scores[i, label]), (x1, y1, x2, y2)))
    return sorted(found, key=lambda d: -d.score), scores.shape[1]


def colour(label: int) -> str:
    """A colour for a class, light, and far from that of the next."""
    return "#" + "".join(f"{round(255 * v):02x}" for v in colorsys.hsv_to_rgb(label * 0.618 % 1, 0.6, 1))


def save(picture: np.ndarray, found: list[Detection], names: list[str], path: Path) -> None:
    """Write the picture with boxes and names."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture[:, :, ::-1].copy())
    told = [(d, f"{names[d.label]} {d.score:.2f}") for d in reversed(found)]  # the surest on top
    if path.suffix == ".svg":
        held = io.BytesIO()
        image.save(held, "png")
        size = f'width="{image.width}" height="{image.height}"'
        lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {image.width} {image.height}">']
        lines.append(f'<image {size} href="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"/>')
        for d, words in told:
            x1, y1, x2, y2 = d.box
            at = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"'
            lines.append(f'<rect {at} fill="none" stroke="{colour(d.label)}" stroke-width="3"/>')
            style = f'fill="{colour(d.label)}" stroke="black" stroke-width="3" paint-order="stroke"'
            font = 'font-family="sans-serif" font-size="16"'
            lines.append(f'<text x="{x1 + 4:.1f}" y="{y1 + 17:.1f}" {font} {style}>{escape(words)}</text>')
        path.write_text("\n".join([*lines, "</svg>\n"]), encoding="utf-8")
        return
    pen = ImageDraw.Draw(image)
    for d, words in told:
        pen.rectangle(d.box, outline=colour(d.label), width=3)
        place = (d.box[0] + 4, d.box[1] + 3)
        pen.rectangle(pen.textbbox(place, words, font_size=16), fill="black")
        pen.text(place, words, fill=colour(d.label), font_size=16)
    image.save(path)


def main() -> None:
    p = argparse.ArgumentParser(
        description="Find objects in a picture with SSD or Faster R-CNN.",
        epilog="example: python examples/detect.py SSD300 VGG_VOC0712_SSD_300x300_iter_120000.caffemodel street.jpg "
        "-o found.png",
    )
    p.add_argument("model", help="a deploy or test prototxt, or a net of the zoo: SSD300, Faster-R-CNN-VGG-16")
    p.add_argument("weights", type=Path, help="its trained weights: .caffemodel, or .caffemodel.h5")
    p.add_argument("picture", nargs="?", type=Path, help="default: scikit-image's astronaut")
    p.add_argument("-o", "--output", type=Path, help=f"write the picture with boxes: {', '.join(SUFFIXES)}")
    p.add_argument(
        "--labels", type=Path, help="names of the classes, a line each, without background (default: VOC's 20)"
    )
    p.add_argument("--threshold", type=float, default=0.6, help="least score, 0 to 1 (default: 0.6)")
    p.add_argument(
        "--shorter", type=int, default=SHORTER, help="pixels of the shorter side, for Faster R-CNN (default: 600)"
    )
    p.add_argument("--mean", type=float, nargs=3, metavar=("B", "G", "R"), help="subtracted (default: VGG-16's)")
    p.add_argument("--scale", type=float, default=1, help="a factor after that, such as 0.007843 for MobileNet-SSD")
    options = p.parse_args()
    if options.shorter < 1:
        p.error("--shorter is at least 1")
    if options.output and options.output.suffix not in SUFFIXES:
        p.error(f"--output ends in {', '.join(SUFFIXES)}")
    try:
        names = options.labels.read_text(encoding="utf-8").splitlines() if options.labels else None
        if options.picture:
            picture = read_image(options.picture)
        else:
            from skimage.data import astronaut

            picture = astronaut()[:, :, ::-1]
        how = Input(options.mean and tuple(options.mean), options.scale, options.shorter)
        found, classes = detect(options.model, options.weights, picture, options.threshold, how)
    except (netcompiler.NetError, OSError) as e:
        raise SystemExit(str(e)) from None
    if names is None:
        names = VOC if classes == len(VOC) + 1 else []
    names = ["background", *names, *map(str, range(len(names) + 1, classes))]
    for d in found:
        print(f"{names[d.label]} {d.score:.3f} at", *(f"{v:.0f}" for v in d.box))
    if not found:
        print(f"nothing with a score of {options.threshold:g} or more")
    if options.output:
        save(picture, found, names, options.output)


if __name__ == "__main__":
    main()
