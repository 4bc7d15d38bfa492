"""What holds for all tests."""

import os

# Workers of pytest-xdist share the cores: without this each would take all of them, and wait for the others while spinning.
# It must stand before torch is imported, which reads it once.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))
