"""The examples, on what they are for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORPUS = os.environ.get("NETCOMPILER_CORPUS")


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS has the trained nets")
def test_mtcnn_finds_the_astronaut(tmp_path):
    """One face, where it is: her eyes are left and right of (225, 102), her mouth is at (223, 140), to a few pixels."""
    command = [sys.executable, str(ROOT / "examples" / "mtcnn.py"), CORPUS, "-o", str(tmp_path / "found.png")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    words = line.replace(",", " ").split()
    x1, y1, x2, y2 = map(float, words[3:7])
    marks = list(map(float, words[8:]))
    assert float(words[1]) > 0.9
    assert x1 < 200 < 245 < x2 and y1 < 95 < 145 < y2 and x2 - x1 < 120
    eye, other, nose = marks[0:2], marks[2:4], marks[4:6]
    assert abs((eye[0] + other[0]) / 2 - 225) < 8 and abs((eye[1] + other[1]) / 2 - 102) < 8
    assert eye[0] < nose[0] < other[0] and nose[1] > eye[1]
    assert abs((marks[6] + marks[8]) / 2 - 223) < 8 and abs((marks[7] + marks[9]) / 2 - 140) < 8
    assert (tmp_path / "found.png").stat().st_size > 100_000


def test_a_folder_without_the_nets(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "mtcnn.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and "has no det1.prototxt" in done.stderr
