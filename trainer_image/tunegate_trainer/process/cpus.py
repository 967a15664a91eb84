"""The number of CPUs that this process may use."""

import os


def cpu_count() -> int:
    """Return the CPU limit of the container, which the operator sets as the number of threads, or the number
    of CPUs that this process may run on."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
