"""The number of CPUs that this process may use."""

import os


def cpu_count() -> int:
    """Return the CPU limit of the container, which the operator sets as the number of threads, or the number
    of CPUs that this process may run on."""
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # a number for each level of nested loops
    return int(limit) if limit.isdigit() else len(os.sched_getaffinity(0))
