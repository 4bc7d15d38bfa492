"""Whether a layout is sound: by its numbers, with nothing drawn."""

from bisect import bisect_left, bisect_right

NEAR = 0.6  # pixels that Graphviz rounds


def along(points, steps=6):
    """Places on a Bézier spline."""
    for i in range(0, len(points) - 3, 3):
        a, b, c, d = points[i : i + 4]
        for k in range(steps + 1):
            t, u = k / steps, 1 - k / steps
            w = u**3, 3 * u * u * t, 3 * u * t * t, t**3
            yield tuple(sum(f * p[axis] for f, p in zip(w, (a, b, c, d), strict=True)) for axis in (0, 1))


def faults(layout):
    """What is wrong, in words: texts that leave their boxes, boxes that overlap, lines through boxes, frames too small."""
    return [*_texts(layout), *_overlaps(layout), *_frames(layout), *_lines(layout)]


def _texts(layout):
    for card, x, y in layout.cards:
        name = card.box.name
        for text in card.texts:
            if text.left < 4 or text.left + text.width > card.width - 4 or not 8 < text.y < card.height - 2:
                yield f"{name}: the text {text.text!r} leaves its box"
        lines = {}
        for text in card.texts:
            lines.setdefault(text.y, []).append((text.left, text.left + text.width))
        for parts in lines.values():
            parts.sort()
            if any(end > start for (_, end), (start, _) in zip(parts, parts[1:], strict=False)):
                yield f"{name}: texts of a line overlap"
        for pill in card.pills:
            if pill.text.left < pill.x or pill.text.left + pill.text.width > pill.x + pill.width:
                yield f"{name}: {pill.text.text!r} leaves its pill"
            if pill.x < 0 or pill.x + pill.width > card.cell[0] or pill.y < 0 or pill.y + pill.height > card.cell[1]:
                yield f"{name}: a pill leaves its cell"
        for a, b in zip(card.pills, card.pills[1:], strict=False):
            if a.x + a.width > b.x and a.y + a.height > b.y:
                yield f"{name}: pills overlap"
        if x < -NEAR or y < -NEAR or x + card.cell[0] > layout.width + NEAR or y + card.cell[1] > layout.height + NEAR:
            yield f"{name}: outside of the picture"
    for frame in layout.frames:
        if frame.text.x + frame.text.width > frame.width:
            yield f"the header {frame.text.after!r} leaves its frame"


def _overlaps(layout):
    cells = sorted((y, x, x + card.cell[0], y + card.cell[1], card.box.name) for card, x, y in layout.cards)
    for i, (_, left, right, bottom, name) in enumerate(cells):
        for top2, left2, right2, _, name2 in cells[i + 1 :]:
            if top2 > bottom - NEAR:
                break
            if left < right2 - NEAR and left2 < right - NEAR:
                yield f"{name} and {name2} overlap"


def _frames(layout):
    for frame in layout.frames:
        inside = set(frame.fold.copies[0])
        for card, x, y in layout.cards:
            right, bottom = frame.x + frame.width, frame.y + frame.height
            held = (
                frame.x <= x and x + card.cell[0] <= right + NEAR and frame.y <= y and y + card.cell[1] <= bottom + NEAR
            )
            apart = x >= right or x + card.cell[0] <= frame.x or y >= bottom or y + card.cell[1] <= frame.y
            if not (held if card.box.id in inside else apart):
                yield f"{card.box.name} and the frame of {frame.fold.names}"


def _lines(layout):
    boxes = sorted(
        ((y, x, x + card.cell[0], y + card.cell[1], card.box) for card, x, y in layout.cards), key=lambda box: box[:2]
    )
    starts = [box[0] for box in boxes]
    tall = max((box[3] - box[0] for box in boxes), default=0)
    for line in layout.lines:
        own = {end for edge in line.edges for end in (edge.source, edge.target)}
        for x, y in along(line.points):
            for top, left, right, bottom, box in boxes[bisect_left(starts, y - tall - 1) : bisect_right(starts, y + 1)]:
                if box.id not in own and left - 1 < x < right + 1 and top - 1 < y < bottom + 1:
                    yield f"a line of {line.edges[0]} goes through {box.name}"
