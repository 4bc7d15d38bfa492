"""What folds and what does not; and that a closed fold hides no edge."""

import pytest

from netcompiler import build, load
from netcompiler.drawing.folding import folded, view
from netcompiler.drawing.model import picture
from tests.drawing.nets import ZOO, add, block, conv, graph, layer, random_net, relu, too_large


def chain(names, first="data", make=conv):
    text = ""
    for name in names:
        text += make(name, first)
        first = name
    return text


def pair(name, bottom, kernel=3):
    return conv(f"{name}_x", bottom, 8, kernel) + conv(name, f"{name}_x", 4 if kernel == 3 else 8)


def bottleneck(name, bottom):
    """A residual block of four boxes."""
    text = conv(f"{name}_a", bottom, 4, 1) + conv(f"{name}_b", f"{name}_a", 4) + conv(f"{name}_c", f"{name}_b", 8, 1)
    return text + add(name, bottom, f"{name}_c")


def dense(name, bottom):
    """Puts eight channels more beside what came in."""
    return conv(f"{name}_c", bottom) + layer(name, "Concat", f"{bottom} {name}_c")


def three_and_pool(name, bottom):
    return chain([f"{name}{k}" for k in "abc"], bottom) + layer(
        name, "Pooling", f"{name}c", more="pooling_param { kernel_size: 3 pad: 1 stride: 1 }"
    )


def tee(name, bottom):
    """Reads what came in and the net's input, which all copies share."""
    return conv(f"{name}_a", bottom) + add(name, f"{name}_a", "data")


def towers(count):
    text, a, b = "", "data", "data"
    for i in range(count):
        text += conv(f"a{i}", a, 8, 3) + conv(f"b{i}", b, 8, 5)
        a, b = f"a{i}", f"b{i}"
    return text


def heads(count, outputs=(5,) * 9):
    text = conv("trunk", "data")
    for i in range(count):
        text += layer(f"h{i}_fc", "InnerProduct", "trunk", more=f"inner_product_param {{ num_output: {outputs[i]} }}")
        text += layer(f"h{i}_out", "Softmax", f"h{i}_fc")
    return text


def skips(count):
    """Down and up again: each step up reads another step down."""
    text = chain([f"d{i}" for i in range(count)])
    x = f"d{count - 1}"
    for i in range(count - 1, 0, -1):
        text += add(f"u{i}", x, f"d{i - 1}") + layer(f"v{i}", "Sigmoid", f"u{i}")
        x = f"v{i}"
    return text


CONVS = [f"c{i}" for i in range(5)]
IN_PLACE = "".join(conv(f"c{i}", f"c{i - 1}" if i else "data") + relu(f"r{i}", f"c{i}") for i in range(4))
TABLE = [  # what it is, the net, and its folds: how often, boxes of a copy, the first and the last name
    ("a chain", chain(CONVS), [(5, 1, "c0", "c4")]),
    ("too few", chain(CONVS[:2]), []),
    ("layers in place belong to it", IN_PLACE, [(4, 1, "c0", "c3")]),
    ("other settings", conv("c0", "data") + conv("c1", "c0", 8, 5) + conv("c2", "c1", 9), []),
    ("residual blocks", chain(["b1", "b2", "b3", "b4"], make=block), [(4, 3, "b1", "b4")]),
    (
        "a first one with a projection is none of them",
        conv("p", "data")
        + conv("b0_a", "data")
        + conv("b0_b", "b0_a")
        + add("b0", "p", "b0_b")
        + chain(["b1", "b2", "b3"], "b0", block),
        [(3, 3, "b1", "b3")],
    ),
    (
        "one read elsewhere ends it",
        chain(["b1", "b2", "b3", "b4"], make=block) + layer("s", "Silence", "b3", ""),
        [(3, 3, "b1", "b3")],
    ),
    ("one read inside ends it", chain(["b1", "b2", "b3"], make=block) + layer("s", "Silence", "b2_a", ""), []),
    ("shapes may differ", chain(["d1", "d2", "d3"], make=dense), [(3, 2, "d1", "d3")]),
    ("one place for all", chain(["t1", "t2", "t3", "t4"], "data", tee), [(3, 2, "t2", "t4")]),
    ("other places each", skips(4), [(4, 1, "d0", "d3")][:0]),
    (
        "one in another",
        chain(["x", "y", "z"], make=three_and_pool),
        [(3, 1, "xa", "xc"), (3, 1, "ya", "yc"), (3, 1, "za", "zc"), (3, 4, "x", "z")],
    ),
    ("two chains at once, from one place", towers(4), [(3, 2, "b1", "b3")]),
    ("side by side", heads(4), [(4, 2, "h0", "h3")]),
    ("side by side, not alike", heads(3, (5, 6, 5)), []),
    (
        "the other way round",
        chain(["b1", "b2"], make=block) + conv("b3_a", "b2") + conv("b3_b", "b3_a") + add("b3", "b3_b", "b2"),
        [],
    ),
    ("data never", "".join(layer(f"i{k}", "Input", "", more="input_param { shape { dim: 1 } }") for k in range(4)), []),
    ("faults never", "".join(too_large(name, "data") for name in CONVS), []),
    ("what reads unknown shapes", layer("x", "Strange", "data") + chain(CONVS, "x"), [(5, 1, "c0", "c4")]),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_folds(text, expected):
    folds = folded(picture(graph(text))).folds
    assert [(len(f.copies), len(f.copies[0]), f.names[0], f.names[-1]) for f in folds] == expected
    assert [f.side_by_side for f in folds] == [text == heads(4)] * len(folds)


def test_how_often():
    twice, five = (picture(graph(chain(names, make=make))) for names, make in ((CONVS[:2], bottleneck), (CONVS, conv)))
    for found, often, folds in [(twice, 2, 1), (twice, 3, 0), (five, 5, 1), (five, 6, 0), (five, 0, 0)]:
        assert len(folded(found, often).folds) == folds


def test_how_often_unless_told():
    """Three times; twice where it is four boxes or more, as they are seen: three convolutions that fold are one."""
    for names, make, expected in [
        ("ab", bottleneck, [(2, 4)]),
        ("abc", bottleneck, [(3, 4)]),
        ("ab", block, []),
        ("abc", block, [(3, 3)]),
        ("ab", three_and_pool, [(3, 1), (3, 1)]),
    ]:
        folds = folded(picture(graph(chain(names, make=make)))).folds
        assert [(len(f.copies), len(f.copies[0])) for f in folds] == expected


def projected(name, bottom, out=False):
    """A block with a projection; `out`: something inside it is read elsewhere."""
    text = conv(f"{name}_p", bottom) + conv(f"{name}_a", bottom, 8, 5) + conv(f"{name}_b", f"{name}_a")
    return text + add(name, f"{name}_p", f"{name}_b") + (layer("s", "Silence", f"{name}_a", "") if out else "")


BLOCKS = chain(["b1", "b2", "b3"], "b0", block)
KIN = [
    ("a projection", projected("b0", "data") + BLOCKS, "b0"),
    (
        "ends otherwise",
        projected("b0", "data").replace('"Eltwise"', '"Eltwise" eltwise_param { operation: PROD }') + BLOCKS,
        "",
    ),
    ("read elsewhere", projected("b0", "data", True) + BLOCKS, ""),
    ("another end", projected("b0", "data") + relu("r", "b0") + BLOCKS, ""),
    ("other types", conv("c", "data") + add("b0", "data", "c") + BLOCKS, ""),
    ("nothing before", BLOCKS.replace('bottom: "b0"', 'bottom: "data"'), ""),
    ("a chain", conv("c", "data", 8, 5) + chain(CONVS[:3], "c"), ""),
]


@pytest.mark.parametrize(("text", "kin"), [row[1:] for row in KIN], ids=[row[0] for row in KIN])
def test_the_like_block_before(text, kin):
    (fold,) = folded(picture(graph(text))).folds
    assert len(fold.copies) == 3 and fold.kin == kin


def test_names_do_not_matter():
    text = block("alpha", "data") + block("beta", "alpha") + block("gamma", "beta")
    assert folded(picture(graph(text))).folds[0].names == ("alpha", "beta", "gamma")


def test_names_by_their_end():
    text, x = "", "data"
    for k in "123":
        text += conv(f"one_stage{k}", x) + conv(f"two_stage{k}", f"one_stage{k}", 8, 5)
        x = f"two_stage{k}"
    assert folded(picture(graph(text))).folds[0].names == ("stage1", "stage2", "stage3")


def test_a_closed_fold_shows_its_first_copy():
    found = folded(picture(graph(chain(["b1", "b2", "b3"], make=block) + conv("end", "b3"))))
    seen = view(found)
    assert [box.name for box in seen.boxes] == ["data", "b1_a", "b1_b", "b1", "end"]
    names = {box.id: box.name for box in seen.boxes}
    assert [(names[e.source], names[e.target]) for e in seen.edges] == [
        ("data", "b1_a"),
        ("b1_a", "b1_b"),
        ("data", "b1"),
        ("b1_b", "b1"),
        ("b1", "end"),
    ]
    assert seen.stands_for[1] == (1, 4, 7) and seen.stands_for[10] == (10,)
    assert len(view(found, ()).boxes) == 11 and len(view(found, ()).edges) == len(found.edges)


def test_shapes_of_a_closed_fold():
    seen = view(folded(picture(graph(chain(["d1", "d2", "d3"], make=dense)))))
    concat = next(box for box in seen.boxes if box.name == "d1")
    assert seen.shapes(concat, 0) == [(2, 16, 32, 32), (2, 24, 32, 32), (2, 32, 32, 32)]
    assert seen.top(concat, 0).output and not seen.top(seen.boxes[0], 0).output


def test_nested_folds_close_together():
    found = folded(picture(graph(chain(["x", "y", "z"], make=three_and_pool))))
    seen = view(found)
    assert [box.name for box in seen.boxes] == ["data", "xa", "x"]
    assert [len(f.copies[0]) for f in seen.folds] == [4, 1] and seen.parents() == [-1, 0]
    assert seen.innermost() == {1: 1, 4: 0} and seen.members() == [[1, 4], [1]]
    assert len(view(found, [f for f in found.folds if len(f.copies[0]) == 1]).boxes) == 7


@pytest.mark.parametrize("name", ["ResNet-50", "ResNet-101", "ResNet-152"])
def test_the_zoo(name):
    found = folded(picture(build(load(ZOO / f"{name}-deploy.prototxt"))))
    blocks = {"ResNet-50": [3, 5], "ResNet-101": [3, 22], "ResNet-152": [7, 35]}[name]
    assert [len(f.copies) for f in found.folds] == [2, *blocks, 2]
    assert [f.names[0] for f in found.folds][::3] == ["res2b", "res5b"]
    assert [f.kin for f in found.folds] == ["res2a", "res3a", "res4a", "res5a"]
    assert len(view(found).boxes) == 42
    assert [len(f.copies) for f in folded(found, 3).folds] == blocks


def wiring(found):
    """For each box, in order, what it reads: (source, top)."""
    reads = [[] for _ in found.boxes]
    for edge in found.edges:
        reads[edge.target].append((edge.source, edge.top))
    return reads


def check(found):
    """That each fold keeps its promise, said anew: copies are alike, and only what the rule allows goes in and out."""
    reads = wiring(found)
    for fold in found.folds:
        place = {box: (k, j) for k, copy in enumerate(fold.copies) for j, box in enumerate(copy)}
        boxes = [[found.boxes[b] for b in copy] for copy in fold.copies]
        for copy in boxes:
            assert [[(r.kind, r.settings) for r in b.rows] for b in copy] == [
                [(r.kind, r.settings) for r in b.rows] for b in boxes[0]
            ]

        def seen_from(k, j, way, fold=fold, place=place):
            """What the j-th box of copy k reads, in words that do not depend on k."""
            words = []
            for source, top in reads[fold.copies[k][j]]:
                if source not in place:
                    words.append(("outside", source, top))
                else:
                    copy, at = place[source]
                    assert copy in (k, k - 1) if way == "chain" else copy == k
                    words.append(("same" if copy == k else "before", at, top))
            return words

        way = "beside" if fold.side_by_side else "chain"
        size = len(fold.copies[0])
        for j in range(size):
            told = {tuple(seen_from(k, j, way)) for k in range(1, len(fold.copies))}
            assert len(told) == 1
            first, (others,) = seen_from(0, j, way), told
            for mine, theirs in zip(first, others, strict=True):
                assert mine == theirs or (mine[0], theirs[0]) == ("outside", "before")
        if way == "chain":  # what the first copy reads from outside stands for one place of the copy before, and back
            pairs = set()
            for j in range(size):
                for mine, theirs in zip(seen_from(0, j, way), seen_from(1, j, way), strict=True):
                    if theirs[0] != "same":
                        pairs.add((mine, theirs))
            assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        readers = {}
        for target, sources in enumerate(reads):
            for source, top in sources:
                if source in place and (target not in place or place[target][0] != place[source][0]):
                    readers.setdefault(place[source][0], set()).add(
                        (place[source][1], top, place.get(target, (None, target)))
                    )
        for k in range(len(fold.copies) - 1):
            out = readers.get(k, set())
            if way == "chain":
                assert all(to[0] == k + 1 for _, _, to in out) and out
            else:
                assert out == readers.get(0, set()) == readers.get(len(fold.copies) - 1, set())
        if way == "chain":
            passed = {(at, top) for at, top, _ in readers[0]}
            assert {(at, top) for at, top, _ in readers.get(len(fold.copies) - 1, ())} <= passed


def test_the_check_can_fail():
    from dataclasses import replace

    found = folded(picture(graph(chain(["b1", "b2", "b3", "b4"], make=block))))
    check(found)
    one = found.folds[0]
    for wrong in (one.copies[:1] + one.copies[2:], one.copies[:2] + (tuple(b + 1 for b in one.copies[2]),)):
        with pytest.raises(AssertionError):
            check(replace(found, folds=(replace(one, copies=wrong),)))
    apart = found.edges[0]
    moved = [replace(e, source=apart.source) if e.target == one.copies[2][0] else e for e in found.edges]
    with pytest.raises(AssertionError):
        check(replace(found, edges=tuple(moved)))


@pytest.mark.parametrize("seed", range(60))
def test_wiring_of_random_nets(seed):
    found = folded(picture(graph(random_net(seed))), 2 + seed % 2)
    check(found)
    seen = view(found)
    shown = {box.id for box in seen.boxes}
    assert sorted(k for ids in seen.stands_for.values() for k in ids) == [box.id for box in found.boxes]
    assert all(e.source in shown and e.target in shown and e.source < e.target for e in seen.edges)


def test_random_nets_do_fold():
    assert sum(len(folded(picture(graph(random_net(seed))), 2).folds) for seed in range(20)) > 20
