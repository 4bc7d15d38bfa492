"""Caffe's binary files: read against protobuf's own parse, written against the bytes that real Caffe saved."""

import json
import os
import struct
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import netcompiler
from netcompiler import NetError, schema
from netcompiler.binary import (
    merge,
    read_blobproto,
    read_caffemodel,
    read_h5,
    saved,
    write_caffemodel,
    write_h5,
)
from netcompiler.errors import NetWarning
from netcompiler.text import Msg
from netcompiler.weights import release

GOLDEN = Path(__file__).parent / "golden" / "layers"
CASES = sorted(p.relative_to(GOLDEN).with_suffix("").as_posix() for p in GOLDEN.glob("*/*.npz"))
CORPUS = os.environ.get("NETCOMPILER_CORPUS")
WILD = sorted(Path(CORPUS, "weights").rglob("*.caffemodel")) if CORPUS else []
WILD_H5 = sorted(Path(CORPUS, "weights").rglob("*.h5")) if CORPUS else []
MEANS = sorted(Path(CORPUS, "weights").rglob("*.binaryproto")) if CORPUS else []


def parsed(blob):
    """The array of a BlobProto that protobuf parsed, by Caffe's rules; None where Caffe would stop."""
    if blob.HasField("raw_data") and not len(blob.double_data) and not len(blob.data):
        types = {0: "<f8", 1: "<f4", 2: "<f2"}
        if not blob.HasField("raw_data_type") or blob.raw_data_type not in types:
            return None
        dtype = np.dtype(types[blob.raw_data_type])
        if len(blob.raw_data) % dtype.itemsize:
            return None
        array = np.frombuffer(blob.raw_data, dtype)
        array = array.astype(np.float32) if dtype == np.float16 else array
    elif len(blob.double_data):
        array = np.array(blob.double_data, np.float64)
    else:
        array = np.array(blob.data, np.float32)
    old = ("num", "channels", "height", "width")
    is_old = any(blob.HasField(n) for n in old)
    shape = [getattr(blob, n) for n in old] if is_old else list(blob.shape.dim)
    count = 1
    for d in shape:
        count *= d
    if min(shape, default=0) < 0 or count != array.size or len(shape) > 32 or max(shape, default=0) > 2**31 - 1:
        return None
    return array.reshape(shape)


def by_protobuf(data):
    """What a caffemodel holds by protobuf's parse; None where Caffe would stop."""
    net = schema.NetParameter.FromString(data)
    found = {}
    for layer in net.layers or net.layer:
        name, blobs = layer.name, layer.blobs
        if net.layers and layer.HasField("layer"):
            name, blobs = layer.layer.name, layer.layer.blobs
        if blobs:
            name = name.decode("latin-1") if isinstance(name, bytes) else name  # protobuf gives bytes that are no UTF-8
            found[name] = [parsed(b) for b in blobs]
    return None if any(a is None for arrays in found.values() for a in arrays) else found


def same(got, want):
    assert list(got) == list(want)
    for layer in want:
        assert len(got[layer]) == len(want[layer])
        for a, b in zip(got[layer], want[layer], strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.tobytes() == b.tobytes()


def golden(case):
    file = np.load(GOLDEN / f"{case}.npz")
    return str(file["prototxt"]), file["caffemodel"].tobytes(), json.loads(str(file["meta"]))["phase"]


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def sized(number, data):
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def net_of(*blobs, name="c", layer_field=100):
    """The bytes of a net of one layer with these BlobProto bytes."""
    return sized(layer_field, sized(1, name.encode()) + b"".join(sized(7, b) for b in blobs))


def shape(*dims):
    return sized(7, sized(1, b"".join(varint(d) for d in dims)))


def floats(*values):
    return sized(5, struct.pack(f"<{len(values)}f", *values))


@pytest.fixture
def file(tmp_path):
    """Write bytes to a file."""

    def write(data, name="w.caffemodel"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def fault(path, read=read_caffemodel):
    with pytest.raises(NetError) as e:
        read(path)
    assert str(path) in str(e.value)
    return str(e.value)


# Reading: what Caffe wrote, and what protobuf makes of it


@pytest.mark.parametrize("case", CASES)
def test_reads_what_caffe_saved(case, file):
    data = golden(case)[1]
    same(read_caffemodel(file(data)), by_protobuf(data))


@pytest.mark.skipif(not WILD, reason="NETCOMPILER_CORPUS is not set")
@pytest.mark.parametrize("path", WILD, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_reads_files_from_the_wild(path):
    found = read_caffemodel(path)
    assert found
    same(found, by_protobuf(path.read_bytes()))


@pytest.mark.skipif(not WILD_H5, reason="NETCOMPILER_CORPUS is not set")
@pytest.mark.parametrize("path", WILD_H5, ids=lambda p: p.name)
def test_reads_h5_from_the_wild(path):
    h5py = pytest.importorskip("h5py")
    found = read_caffemodel(path)
    with h5py.File(path) as f:
        layers = {name: group for name, group in f["data"].items() if len(group)}
        want = {name: [group[str(i)][()] for i in range(len(group))] for name, group in layers.items()}
    assert want
    same({k: found[k] for k in want}, want)
    assert set(found) == set(want)


@pytest.mark.skipif(not MEANS, reason="NETCOMPILER_CORPUS is not set")
@pytest.mark.parametrize("path", MEANS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_reads_means_from_the_wild(path):
    blob = schema.BlobProto.FromString(path.read_bytes())
    array = read_blobproto(path)
    assert array.shape == (blob.channels, blob.height, blob.width)
    assert array.tobytes() == np.array(blob.data, np.float32).tobytes()


def test_old_generations(file):
    v1, v0 = schema.NetParameter(name="v1"), schema.NetParameter(name="v0")
    layer = v1.layers.add(name="c", type=4)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    layer.blobs.add(num=1, channels=1, height=1, width=2, data=[7, 8])
    v1.layers.add(name="empty")
    inner = v0.layers.add().layer
    inner.name = "d"
    inner.blobs.add(num=2, channels=1, height=1, width=1, data=[1, 2])
    for net in (v1, v0):
        same(read_caffemodel(file(net.SerializeToString())), by_protobuf(net.SerializeToString()))
    assert [a.shape for a in read_caffemodel(file(v1.SerializeToString()))["c"]] == [(1, 1, 2, 3), (1, 1, 1, 2)]
    assert read_caffemodel(file(v0.SerializeToString()))["d"][0].shape == (2, 1, 1, 1)


def test_old_layers_win_over_new_ones(file):
    net = schema.NetParameter()
    net.layer.add(name="new").blobs.add(data=[1])
    net.layers.add(name="old").blobs.add(num=1, channels=1, height=1, width=1, data=[2])
    assert list(read_caffemodel(file(net.SerializeToString()))) == ["old"]


def test_old_dims_win_over_shape(file):
    net = schema.NetParameter()
    blob = net.layer.add(name="c").blobs.add(num=1, channels=2, height=1, width=1, data=[1, 2])
    blob.shape.dim.extend([2])
    assert read_caffemodel(file(net.SerializeToString()))["c"][0].shape == (1, 2, 1, 1)


def test_the_last_of_layers_with_one_name_counts(file):
    net = schema.NetParameter()
    net.layer.add(name="c").blobs.add(data=[1])
    net.layer.add(name="c").blobs.add(data=[2])
    net.layer.add(name="c")
    assert float(read_caffemodel(file(net.SerializeToString()))["c"][0]) == 2


def test_name_after_the_blobs_and_unknown_fields(file):
    strange = varint(77 << 3) + b"\x05" + varint(78 << 3 | 1) + bytes(8) + varint(79 << 3 | 5) + bytes(4)
    group = varint(80 << 3 | 3) + strange + varint(81 << 3 | 3) + varint(81 << 3 | 4) + varint(80 << 3 | 4)
    blob = strange + shape(2) + group + floats(1, 2) + sized(90, b"abc")
    layer = sized(7, blob) + group + sized(500, b"fork") + sized(1, b"c") + strange
    data = strange + sized(100, layer) + group
    same(read_caffemodel(file(data)), by_protobuf(data))
    assert read_caffemodel(file(data))["c"][0].tolist() == [1, 2]


def test_names_that_are_not_utf8(file):
    layer = sized(1, b"conv\xe9") + sized(7, floats(1))
    assert list(read_caffemodel(file(sized(100, layer)))) == ["conv\u00e9"]


def one(*values, tag=b"\x2d"):
    return b"".join(tag + struct.pack("<f", v) for v in values)


@pytest.mark.parametrize(
    "values",
    [
        floats(0, 1, 2, 3, 4, 5),
        floats(0, 1) + floats(2) + floats() + floats(3, 4, 5),
        one(0, 1, 2, 3, 4, 5),
        one(0, 1) + floats(2, 3) + one(4) + one(5, tag=b"\xad\x00"),
        one(0) + varint(77 << 3) + b"\x05" + one(1, 2, 3, 4, 5),
    ],
    ids=["packed", "chunks", "unpacked", "mixed", "interrupted"],
)
@pytest.mark.parametrize("dims", [shape(2, 3), sized(7, b"\x08\x02\x08\x03"), sized(7, b"\x08\x02") * 1 + shape(3)])
def test_ways_to_write_values_and_dims(file, values, dims):
    data = net_of(dims + values)
    same(read_caffemodel(file(data)), by_protobuf(data))
    assert read_caffemodel(file(data))["c"][0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_long_runs_of_unpacked_values(file):
    want = np.random.default_rng(0).standard_normal(10_007).astype(np.float32)
    doubles = b"".join(b"\x41" + struct.pack("<d", v) for v in want[:1000])
    data = net_of(shape(10_007) + one(*want) + sized(90, b"x"), shape(1000) + doubles)
    first, second = read_caffemodel(file(data))["c"]
    assert np.array_equal(first, want)
    assert second.dtype == np.float64 and np.array_equal(second, want[:1000])


def test_doubles_stay_doubles_and_win(file):
    net = schema.NetParameter()
    blob = net.layer.add(name="c").blobs.add(double_data=[0.1, 0.2], data=[1, 2])
    blob.shape.dim.append(2)
    (array,) = read_caffemodel(file(net.SerializeToString()))["c"]
    assert array.dtype == np.float64 and array.tolist() == [0.1, 0.2]


@pytest.mark.parametrize(("kind", "dtype"), [("DOUBLE", "<f8"), ("FLOAT", "<f4"), ("FLOAT16", "<f2")])
def test_raw_data_of_nvcaffe(file, kind, dtype):
    values = np.array([[0.5, -2, 3]], dtype)
    net = schema.NetParameter()
    blob = net.layer.add(name="c").blobs.add(raw_data_type=schema.enum("Type")[kind], raw_data=values.tobytes())
    blob.shape.dim.extend([1, 3])
    (array,) = read_caffemodel(file(net.SerializeToString()))["c"]
    assert array.dtype == (np.float64 if kind == "DOUBLE" else np.float32)
    assert array.tolist() == values.tolist()


RAW_TYPES = [(0, "<d", np.float64), (1, "<f", np.float32), (2, "<e", np.float32)]


@pytest.mark.parametrize(("number", "code", "dtype"), RAW_TYPES, ids=["double", "float", "half"])
@pytest.mark.parametrize("dims", [shape(2, 2), sized(7, b"\x08\x02\x08\x02")], ids=["packed dims", "unpacked dims"])
@pytest.mark.parametrize("first", ["type", "data"])
def test_raw_data_byte_by_byte(file, number, code, dtype, dims, first):
    """Field 10 is the type, a number, field 12 the values, as bytes; in whatever order."""
    values = [0.5, -2.0, 65504.0, 2.0**-24]  # the largest and the smallest half among them
    kind = b"\x50" + bytes([number])
    data = b"\x62" + varint(4 * struct.calcsize(code)) + b"".join(struct.pack(code, v) for v in values)
    (array,) = read_caffemodel(file(net_of(dims + (kind + data if first == "type" else data + kind))))["c"]
    assert array.dtype == dtype and array.tolist() == [[0.5, -2.0], [65504.0, 2.0**-24]]


def test_plain_values_count_before_raw_ones(file):
    """As in NVCaffe, which looks for doubles first, then floats, then raw values."""
    raw = b"\x50\x01" + sized(12, struct.pack("<f", 7))
    doubles = b"\x41" + struct.pack("<d", 8)
    data = net_of(shape(1) + raw + floats(9), shape(1) + raw + doubles, shape(1) + raw, shape(1) + raw + one(9))
    assert [float(a[0]) for a in read_caffemodel(file(data))["c"]] == [9, 8, 7, 9]


def test_half_precision_weights_run(file):
    values = np.array([0.1, -0.2, 3.0], np.float16)
    raw = b"\x50\x02" + sized(12, values.tobytes())
    net = netcompiler.parse(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
        layer { name: "c" type: "Bias" bottom: "x" top: "y" }"""
    )
    net = netcompiler.compile(net, file(net_of(shape(3) + raw)), device="cpu")
    assert net(np.zeros((1, 3)))["y"].tolist() == [values.astype(np.float32).tolist()]


@pytest.mark.parametrize("kind", ["INT", "BOOL", None])
def test_raw_data_that_is_no_weight(file, kind):
    net = schema.NetParameter()
    blob = net.layer.add(name="c").blobs.add(raw_data=bytes(4))
    if kind:
        blob.raw_data_type = schema.enum("Type")[kind]
    message = fault(file(net.SerializeToString()))
    assert '"c" (blob 0): raw_data is of no type' in message and (kind or "none") in message


def test_empty_blobs_and_scalars(file):
    data = net_of(shape(0, 3), floats(5), shape(0, 2**31 - 1))
    empty, scalar, wide = read_caffemodel(file(data))["c"]
    assert empty.shape == (0, 3) and scalar.shape == () and scalar == 5 and wide.size == 0


def test_gradients_are_skipped(file):
    net = schema.NetParameter()
    net.layer.add(name="c").blobs.add(data=[1], diff=[9], double_diff=[9])
    assert read_caffemodel(file(net.SerializeToString()))["c"][0] == 1


def test_a_net_without_weights_is_empty(file):
    assert read_caffemodel(file(schema.NetParameter(layer=[{"name": "r", "type": "ReLU"}]).SerializeToString())) == {}


def test_public_reader_takes_both_formats(tmp_path):
    pytest.importorskip("h5py")
    write_h5(tmp_path / "w.caffemodel.h5", {"c": [np.ones((2, 3), np.float32)]})
    assert netcompiler.read_weights(tmp_path / "w.caffemodel.h5")["c"][0].shape == (2, 3)


# No copies


def resident(path):
    """Bytes of a mapped file that are in memory, as the kernel counts them."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            ours = line.endswith(str(path))
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="counts pages as Linux tells them")
def test_views_read_nothing_and_can_be_released(file):
    size = 8 << 20
    values = np.random.default_rng(0).standard_normal(size // 4).astype(np.float32)
    path = file(net_of(shape(size // 8, 2) + sized(5, values.tobytes()), shape(3) + floats(1, 2, 3)))
    (array, small) = read_caffemodel(path)["c"]
    assert resident(path) < size // 2
    assert not array.flags.writeable
    assert np.array_equal(array.ravel(), values)
    assert resident(path) >= size
    release(array)
    assert resident(path) < size // 2
    assert np.array_equal(array.ravel(), values) and small.tolist() == [1, 2, 3]


def test_files_above_2_gib(tmp_path):
    path, count = tmp_path / "w.caffemodel", (1 << 29) + 7
    head = sized(1, b"big")
    blob = shape(count)
    lengths = varint(5 << 3 | 2) + varint(4 * count)
    inner = varint(7 << 3 | 2) + varint(len(blob) + len(lengths) + 4 * count) + blob + lengths
    with open(path, "wb") as f:
        f.write(varint(100 << 3 | 2) + varint(len(head) + len(inner) + 4 * count) + head + inner)
        f.seek(4 * count - 4, os.SEEK_CUR)  # a hole: takes no room on the disk
        f.write(struct.pack("<f", 2.5) + net_of(shape(2) + floats(3, 4), name="last"))
    found = read_caffemodel(path)
    assert found["big"][0].shape == (count,) and found["big"][0][-1] == 2.5
    assert found["last"][0].tolist() == [3, 4]


# Faults


def test_files_that_cannot_be_read(tmp_path, file):
    assert "cannot be read: No such file" in fault(tmp_path / "missing.caffemodel")
    assert "a directory" in fault(tmp_path)
    assert "the file is empty" in fault(file(b""))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in fault(tmp_path / "pipe")


WHOLE = golden("graph/residual_block")[1]


def test_every_truncation_is_found_or_leaves_whole_layers(file):
    whole = by_protobuf(WHOLE)
    clean = 0
    for n in range(1, len(WHOLE)):
        try:
            found = read_caffemodel(file(WHOLE[:n]))
        except NetError as e:
            assert "cut short" in str(e) or "has no layers" in str(e) or "this is text" in str(e)
            continue
        clean += 1
        same(found, {k: whole[k] for k in list(whole)[: len(found)]})
    assert clean == len(schema.NetParameter.FromString(WHOLE).layer) - 1  # between any two layers, and only there


def test_a_truncated_file_tells_the_byte_and_both_lengths(file):
    data = net_of(shape(4) + floats(1, 2, 3, 4))
    message = fault(file(data[:-5]))
    assert message.splitlines()[0].endswith("w.caffemodel, byte 0: the file is cut short")
    assert f"{len(data) - 3} bytes from byte 3 on" in message and f"{len(data) - 8}" in message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (sized(100, b"\x0a\xff\x01ab") + b"\x0a\x00", "byte 3: the file is damaged: field 1 runs past the end"),
        (sized(100, b"\x0a" + b"\xff" * 11) + b"\x0a\x00", "more than 10 bytes"),
        (sized(100, b"\x0f") + b"\x0a\x00", "no field has wire type 7"),
        (sized(100, b"\x0c") + b"\x0a\x00", "a group ends that never began"),
        (sized(100, b"\x0b\x14") + b"\x0a\x00", "a group ends that never began"),
        (sized(100, b"\x0b") + b"\x0a\x00", "runs past the end of its message"),
        (sized(100, b"\x0b" * 200) + b"\x0a\x00", "nested more than"),
        (sized(100, b"\x00\x00") + b"\x0a\x00", "no field has number 0"),
        (net_of(shape(1) + sized(5, b"abc")), "3 bytes are no whole number of 4-byte values"),
        (b"\xff" * 64, "byte 0"),
        (b"hello world", "byte"),
        (sized(1, b"only a name\x00"), "the file has no layers"),
        (sized(33, b"\x00what is this"), "this is no file of Caffe's"),
    ],
)
def test_damaged_files(file, data, what):
    assert what in fault(file(data))


@pytest.mark.parametrize(
    ("blob", "what", "told"),
    [
        (shape(2, 3) + floats(1, 2), "the number of values does not fit", "6 for the shape 2 x 3"),
        (shape(2) + floats(1, 2, 3), "the number of values does not fit", "3"),
        (shape(2), "the number of values does not fit", "2 for the shape 2"),
        (shape(2**64 - 1) + floats(1), "no blob can have this shape", "-1"),
        (shape(2**31 - 1) + floats(1), "the number of values does not fit", "2,147,483,647"),
        (shape(2**31), "no blob can have this shape", "2147483648"),
        (shape(2**33, 2**33), "no blob can have this shape", "8589934592 x 8589934592"),
        (shape(0, 2**62, 2**62), "no blob can have this shape", "0 x "),
        (shape(*[1] * 33) + floats(1), "no blob can have this shape", "at most 32 dims"),
        (shape(*[1] * 100_000) + floats(1), "no blob can have this shape", "at most 32 dims"),
        (b"\x08" + varint(2**64 - 3) + floats(1), "no blob can have this shape", "-3 x 0 x 0 x 0"),
    ],
)
def test_shapes_that_do_not_fit(file, blob, what, told):
    path = file(net_of(shape(1) + floats(1), blob))
    tracemalloc.start()
    start = time.monotonic()
    message = fault(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 'layer "c" (blob 1): ' + what in message and told in message and ", byte " in message
    assert time.monotonic() - start < 5 and peak < 4 << 20


def test_other_files_are_told(tmp_path, file):
    state = schema.message("SolverState")(iter=10, learned_net="lenet_iter_10.caffemodel")
    state.history.add(data=[1], num=1, channels=1, height=1, width=1)
    mean = schema.BlobProto(num=1, channels=3, height=1, width=2, data=range(6))
    shaped = schema.BlobProto(data=range(6))
    shaped.shape.dim.extend([3, 1, 2])
    for data, what, hint in [
        (state.SerializeToString(), "this is a .solverstate", "the .caffemodel of the same snapshot"),
        (mean.SerializeToString(), "this is a single array", "weights are in a .caffemodel"),
        (shaped.SerializeToString(), "this is a single array", "weights are in a .caffemodel"),
        (b'# net\nname: "n"\nlayer { name: "\xe9" }\n', "this is text", "give it as the net"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "this is a web page", "download the file again"),
        (b"PK\x03\x04rest", "this is a zip archive", "unpack"),
        (b"\x1f\x8b\x08rest", "this is a gzip archive", "unpack"),
    ]:
        message = fault(file(data))
        assert what in message and hint in message and "expected: weights" in message


def mutations():
    """Ways to damage a file: what to do, where, and with what."""
    place = st.integers(0, 10_000)
    return st.lists(
        st.one_of(
            st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=4)),
            st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=12)),
            st.tuples(st.just("drop"), place, st.binary(max_size=20)),
            st.tuples(st.just("cut"), place, st.just(b"")),
            st.tuples(st.just("double"), place, st.binary(max_size=60)),
        ),
        min_size=1,
        max_size=6,
    )


def mutated(data, changes):
    for what, place, more in changes:
        i, n = place % (len(data) + 1), len(more)
        if what == "set":
            data = data[:i] + more + data[i + n :]
        elif what == "insert":
            data = data[:i] + more + data[i:]
        elif what == "drop":
            data = data[:i] + data[i + n :]
        elif what == "cut":
            data = data[:i]
        else:
            data = data[: i + n] + data[i:]
    return data


SMALL = [golden(c)[1] for c in CASES if len(golden(c)[1]) < 1500]
OLD = schema.NetParameter(
    name="old", layers=[{"layer": {"name": "d", "blobs": [{"num": 1, "width": 2, "data": [1, 2]}]}}]
)
RAW = schema.NetParameter(
    layer=[{"name": "c", "blobs": [{"raw_data": bytes(8), "raw_data_type": 1}, {"double_data": [1]}]}]
)
RAW.layer[0].blobs[0].shape.dim.append(2)
SOURCES = [*SMALL, OLD.SerializeToString(), RAW.SerializeToString(), net_of(shape(3) + one(1, 2, 3))]


@settings(max_examples=400, derandomize=True, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SOURCES), mutations())
def test_damaged_bytes_give_an_error_or_what_protobuf_reads(source, changes):
    """Whatever is in the file: a NetError, or the arrays that protobuf and Caffe's rules find there."""
    data = mutated(source, changes)
    try:
        want = by_protobuf(data)
        is_readable = True
    except Exception:  # protobuf's own DecodeError, whose home differs between its versions
        is_readable = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.caffemodel")
        path.write_bytes(data)
        try:
            got = read_caffemodel(path)
        except NetError as e:
            # protobuf lets a field number 0 pass inside groups that it skips.
            told = (
                "has no layers",
                "no file of Caffe's",
                "is empty",
                "this is a",
                "this is text",
                "HDF5",
                "has number 0",
            )
            assert not is_readable or want is None or any(t in str(e) for t in told), e
            return
        if is_readable:
            assert want is not None
            same(got, want)


@settings(max_examples=100, derandomize=True, deadline=2000)
@given(st.binary(max_size=200))
def test_random_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.caffemodel")
        path.write_bytes(data)
        for read in (read_caffemodel, read_blobproto):
            try:
                read(path)
            except NetError:
                continue


# Means


def test_blobproto(file):
    old = schema.BlobProto(num=1, channels=3, height=1, width=2, data=range(6))
    several = schema.BlobProto(num=3, channels=1, height=1, width=2, data=range(6))
    flat = schema.BlobProto(data=range(6))
    flat.shape.dim.append(6)
    for blob, want in [(old, (3, 1, 2)), (several, (3, 1, 1, 2)), (flat, (6,))]:
        array = read_blobproto(file(blob.SerializeToString(), "mean.binaryproto"))
        assert array.shape == want and array.ravel().tolist() == list(range(6))


def test_blobproto_faults(file):
    net = schema.NetParameter(name="n", layer=[{"name": "c"}]).SerializeToString()
    assert "this is a .caffemodel" in fault(file(net), read_blobproto)
    assert "this is text" in fault(file(b"mean_value: 104\n"), read_blobproto)
    assert "this is an HDF5 file" in fault(file(b"\x89HDF\r\n\x1a\n" + bytes(80)), read_blobproto)
    assert "does not fit the shape" in fault(
        file(schema.BlobProto(num=2, data=[1]).SerializeToString()), read_blobproto
    )


# HDF5


def test_h5_round_trip(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    blobs = {
        "conv": [rng.standard_normal((2, 3, 5, 7)).astype(np.float32), np.float32([1, 2])],
        "a/b": [rng.standard_normal(11)],
        "many": [np.float32([i]) for i in range(12)],
        "scalar": [np.float32(2.5).reshape(())],
    }
    write_h5(tmp_path / "w.h5", blobs)
    found = read_caffemodel(tmp_path / "w.h5")
    same({k: found[k] for k in blobs}, blobs)
    assert set(found) == set(blobs)
    with h5py.File(tmp_path / "w.h5") as f:
        assert f["data/conv/0"].dtype == "<f4" and f["data/conv/0"].shape == (2, 3, 5, 7)


def test_h5_faults(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.h5"

    def made(fill):
        with h5py.File(path, "w") as f:
            fill(f)
        return fault(path)

    assert "has no group /data" in made(lambda f: f.create_dataset("data", data=[1.0]))
    assert "this is a .solverstate.h5" in made(lambda f: (f.create_group("history"), f.create_dataset("iter", data=3)))
    assert "weights must be floats" in made(lambda f: f.create_dataset("data/c/0", data=[1, 2]))
    assert '"/data/c/weight" is no blob' in made(lambda f: f.create_dataset("data/c/weight", data=[1.0]))
    assert '"1000" is no blob' in made(lambda f: f.create_dataset("data/c/1000", data=[1.0]))
    assert "fewer values than the shape needs" in made(
        lambda f: f.create_dataset("data/c/0", (1 << 40,), "f4", chunks=True)
    )
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "cannot be read as HDF5" in fault(path)
    write_h5(path, {"c": [np.zeros(1000, np.float32)]})
    path.write_bytes(path.read_bytes()[:-500])
    assert "cannot be read as HDF5" in fault(path)
    with pytest.raises(NetError, match="cannot be written as HDF5"):
        write_h5(path, {"": [np.zeros(1, np.float32)]})
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5"]


def test_h5_reads_a_layer_that_shares_all_blobs_as_absent(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as f:
        f.create_dataset("data/owner/0", data=np.ones(3, np.float32))
        f.create_group("data/borrower")
    assert list(read_h5(tmp_path / "w.h5")) == ["owner"]


def test_h5_of_a_net_that_shares_some_blobs(tmp_path):
    """As Caffe writes it: each blob for its owner only."""
    h5py = pytest.importorskip("h5py")
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }' + "".join(
        f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" {params}
            inner_product_param {{ num_output: 4 transpose: {str(name == "turned").lower()} }} }}"""
        for name, params in (
            ("own", 'param { name: "w" } param { name: "b" }'),
            ("weight", 'param { name: "w" }'),
            ("turned", 'param { name: "w" share_mode: PERMISSIVE }'),
            ("bias", 'param {} param { name: "b" }'),
            ("alone", ""),
        )
    )
    arrays = {"own/0": (4, 3), "own/1": (4,), "weight/1": (4,), "turned/1": (4,), "bias/0": (4, 3), "alone/0": (4, 3)}
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    with h5py.File(tmp_path / "w.h5", "w") as f:
        for name, array in arrays.items():
            f.create_dataset(f"data/{name}", data=array)
    net = netcompiler.parse(text)
    with pytest.raises(NetError, match="another number of blobs") as caught:
        netcompiler.compile(net, tmp_path / "w.h5", device="cpu")
    assert [e.layer for e in caught.value.all] == ['"alone" (InnerProduct)']
    with h5py.File(tmp_path / "w.h5", "a") as f:
        del f["data/alone"]
        f.create_dataset("data/alone/1", data=np.zeros(4, np.float32))
    with pytest.raises(NetError, match="got:      0"):
        netcompiler.compile(net, tmp_path / "w.h5", device="cpu")
    with h5py.File(tmp_path / "w.h5", "a") as f:
        f.create_dataset("data/alone/0", data=arrays["alone/0"])
    found = netcompiler.compile(net, tmp_path / "w.h5", device="cpu", optimize=False).caffe_params()
    del found["alone"]
    assert found.pop("turned")[0].tobytes() == arrays["own/0"].tobytes()
    came = {"own": ("own/0", "own/1"), "weight": ("own/0", "weight/1"), "bias": ("bias/0", "own/1")}
    same(found, {layer: [arrays[name] for name in names] for layer, names in came.items()})


def test_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'netcompiler[hdf5]'" in fault(tmp_path / "w.h5")
    with pytest.raises(NetError, match="h5py"):
        write_h5(tmp_path / "new.h5", {})


# Writing


@pytest.mark.parametrize("case", CASES)
def test_writes_what_caffe_saved(case, file, tmp_path):
    prototxt, data, phase = golden(case)
    write_caffemodel(tmp_path / "out", netcompiler.parse(prototxt), read_caffemodel(file(data)), phase=phase)
    assert (tmp_path / "out").read_bytes() == data


SNAPSHOTS = sorted(p for p in WILD if schema.NetParameter.FromString(p.read_bytes()).layer)


@pytest.mark.skipif(not SNAPSHOTS, reason="NETCOMPILER_CORPUS is not set")
@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_net_that_caffe_saved_is_saved_alike(path, tmp_path):
    net = schema.NetParameter.FromString(path.read_bytes())
    made = {top for layer in net.layer for top in layer.top}
    if not made.issuperset(bottom for layer in net.layer for bottom in layer.bottom):
        pytest.skip("saved by a Caffe that left the net's inputs out")
    phase = "TRAIN" if net.layer[0].phase == 0 else "TEST"
    write_caffemodel(tmp_path / "out", Msg(net), read_caffemodel(path), phase=phase)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


NET = """
    name: "n" force_backward: true state { stage: "late" }
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "early" type: "ReLU" bottom: "x" top: "x" include { phase: TRAIN } }
    layer { name: "late" type: "ReLU" bottom: "x" top: "x" include { stage: "late" } }
    layer { name: "deep" type: "ReLU" bottom: "x" top: "x" include { min_level: 2 } }
    layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
    layer { name: "a" type: "ReLU" bottom: "y" top: "a" }
    layer { name: "b" type: "ReLU" bottom: "y" top: "b" phase: TRAIN }
"""


def test_what_a_saved_net_holds():
    net = saved(netcompiler.parse(NET), "TEST", level=2)
    names = ["x", "late", "deep", "ip", "y_ip_0_split", "a", "b"]
    assert [m.name for m in net.layer] == names
    assert [m.enum("phase") for m in net.layer] == ["TEST"] * 6 + ["TRAIN"]
    assert [f.name for f, _ in net.raw.ListFields()] == ["name", "layer"]
    assert [m.name for m in saved(netcompiler.parse(NET), "TRAIN").layer][:3] == ["x", "early", "late"]
    assert saved(net, "TEST", 2, ["late"]) == net


def test_the_message_stays_as_it_is(tmp_path):
    msg = netcompiler.parse(NET)
    before, places = str(msg), [str(m.at()) for m in msg.layer]
    write_caffemodel(tmp_path / "out", msg, {})
    assert str(msg) == before and [str(m.at()) for m in msg.layer] == places


def test_types_and_layouts_of_arrays(tmp_path):
    msg, path = netcompiler.parse(NET), tmp_path / "out"
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    given = [
        weight.T,
        np.float64([0.1, 0.2]),
        np.float32(3).reshape(()),
        np.zeros((0, 2), np.float32),
        np.float16([1, 2]),
    ]
    write_caffemodel(path, msg, {"ip": given})
    found = read_caffemodel(path)["ip"]
    same({"ip": found}, by_protobuf(path.read_bytes()))
    assert [a.tolist() for a in found] == [a.tolist() for a in given]
    assert [a.dtype.itemsize for a in found] == [4, 8, 4, 4, 4]
    net = schema.NetParameter.FromString(path.read_bytes())
    assert net.SerializeToString(deterministic=True) == path.read_bytes()  # protobuf's own order of fields


def test_names_beyond_ascii_and_empty_names(tmp_path):
    msg = netcompiler.parse('layer { name: "\u5377\u79ef" type: "ReLU" }')
    write_caffemodel(tmp_path / "out", msg, {"\u5377\u79ef": [np.float32([1])]})
    assert (tmp_path / "out").read_bytes()[:2] == b"\x0a\x00"  # Caffe writes a name also where there is none
    assert list(read_caffemodel(tmp_path / "out")) == ["\u5377\u79ef"]


def test_fields_without_a_number_of_their_own_are_left_out(tmp_path):
    msg = netcompiler.parse('layer { name: "c" type: "X" pooling_param { ceil_mode: false } flip_param {} }')
    with pytest.warns(NetWarning, match="left out: ceil_mode, flip_param, which have no number in files of bvlc"):
        write_caffemodel(tmp_path / "out", msg, {})
    net = schema.NetParameter.FromString((tmp_path / "out").read_bytes())
    assert [f.name for f, _ in net.layer[0].ListFields()] == ["name", "type", "phase", "pooling_param"]
    assert not net.layer[0].pooling_param.ListFields()


def test_blobs_go_to_the_layer_of_their_name_that_learns(tmp_path):
    msg = netcompiler.parse(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
           layer { name: "ip" type: "ReLU" bottom: "x" top: "y" }
           layer { name: "ip" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 3 } }"""
    )
    write_caffemodel(tmp_path / "out", msg, {"ip": [np.ones((3, 2), np.float32), np.ones(3, np.float32)]})
    net = schema.NetParameter.FromString((tmp_path / "out").read_bytes())
    assert [(m.type, len(m.blobs)) for m in net.layer] == [("Input", 0), ("ReLU", 0), ("InnerProduct", 2)]


def test_faults_of_writing(tmp_path):
    msg = netcompiler.parse(NET)
    with pytest.raises(NetError, match='no layer "ipp"') as e:
        write_caffemodel(tmp_path / "out", msg, {"ipp": []})
    assert 'did you mean "ip"' in str(e.value)
    with pytest.raises(NetError, match="unknown phase"):
        write_caffemodel(tmp_path / "out", msg, {}, phase="DEPLOY")
    with pytest.raises(NetError, match="cannot be written: No such file"):
        write_caffemodel(tmp_path / "no" / "out", msg, {})
    with pytest.raises(NetError, match="too large"):
        write_caffemodel(tmp_path / "out", msg, {"ip": [np.broadcast_to(np.float32(0), (2**16, 2**15))]})
    assert not list(tmp_path.iterdir())


def test_merge():
    first, second = {"a": [np.float32([1])], "b": [np.float32([2])]}, {"b": [np.float32([3])], "c": [np.float32([4])]}
    both = merge([first, second])
    assert {k: v[0].tolist() for k, v in both.items()} == {"a": [1], "b": [3], "c": [4]}
    assert merge([]) == {}
