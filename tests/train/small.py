"""A small net with its data and its solver, for tests that run commands."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
NET = """name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
        hdf5_data_param { source: "train.txt" batch_size: BATCH } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
        hdf5_data_param { source: "test.txt" batch_size: 8 } }
layer { name: "fc1" type: "InnerProduct" bottom: "data" top: "fc1"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "acc" type: "Accuracy" bottom: "fc2" bottom: "label" top: "acc" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt"
test_iter: 2
test_interval: 20
base_lr: 0.1
momentum: 0.9
weight_decay: 0.001
lr_policy: "step"
gamma: 0.5
stepsize: 30
display: 10
max_iter: 40
snapshot: 20
snapshot_prefix: "small"
random_seed: 3
solver_mode: CPU
"""


def write(folder, batch=4):
    """The files, in a folder; the sources in them count from there."""
    import h5py

    draw = np.random.default_rng(0)
    for name, count in (("train", 32), ("test", 16)):
        x = draw.normal(size=(count, 5)).astype(np.float32)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["data"] = x
            file["label"] = x[:, :3].argmax(1).astype(np.float32)
        (folder / f"{name}.txt").write_text(f"{name}.h5\n")
    (folder / "net.prototxt").write_text(NET.replace("BATCH", str(batch)))
    (folder / "solver.prototxt").write_text(SOLVER)


def environment(**more):
    """That of a process that finds this package, computes on one core, and is no rank."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}


def start(folder, *arguments, prefix=(), **more):
    """The command as a process of its own, whose output can be read line by line."""
    return subprocess.Popen(
        [sys.executable, *(prefix or ("-m", "netcompiler")), *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_ranks(folder, count, *arguments):
    """As many ranks, as torchrun would start them, but with nobody who looks after them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meet = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(folder, *arguments, RANK=str(i), LOCAL_RANK=str(i), **meet) for i in range(count)]


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def until(process, words):
    """Read lines up to one that has these words; all that was read. Fails when the output ends before."""
    read = ""
    for line in process.stdout:
        read += line
        if words in line:
            return read
    raise AssertionError(f"never said {words!r}:\n{read}")


def finish(process, seconds=240):
    """The exit code, and what is left of the output."""
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        raise AssertionError(f"does not end:\n{out}") from None
    return process.returncode, out
