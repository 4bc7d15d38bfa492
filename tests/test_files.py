import os
import stat

import pytest

from netcompiler import NetError
from netcompiler.files import atomic


def test_written_when_the_block_ends(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, NetError])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(error), atomic(tmp_path / "out") as file:
        file.write(b"half")
        raise error("stop")
    assert (tmp_path / "out").read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_faults_of_the_file_system(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "out"):
        with pytest.raises(NetError, match="cannot be written"), atomic(path):
            pytest.fail("the block must not start")
    with pytest.raises(NetError, match="No space left") as e, atomic(tmp_path / "out") as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert str(tmp_path / "out") in str(e.value)
    assert not list(tmp_path.iterdir())


def test_links_and_modes_are_kept(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    with atomic(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_a_fresh_file_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic(tmp_path / "out"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_device_is_written_to(tmp_path):
    with atomic(os.devnull) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
