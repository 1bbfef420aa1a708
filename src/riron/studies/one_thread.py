"""One BLAS thread for studies, whose matrices are small: on a busy machine two threads waiting for each other took 62 s
for what one does in 0.7 s. A number of threads that the user has set is left alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

OWN = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy and SciPy use one thread inside the block."""
    if any(name in os.environ for name in OWN):
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
