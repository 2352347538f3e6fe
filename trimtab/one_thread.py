"""How many threads the libraries of numbers (numpy's and scipy's BLAS, torch) compute with."""

import os

# What the control plane computes is small: a second thread wins nothing, and where the cores are busy with others it spins in
# wait of its turn, for times what the computation itself takes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def compute_on_one_thread() -> None:
    """In this process and in those that it starts. To be called before the libraries are imported, as they read it then. What
    the environment says already stays."""
    for name, count in ONE_THREAD.items():
        os.environ.setdefault(name, count)
