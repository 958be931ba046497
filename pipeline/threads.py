"""One thread for matrix products in processes that run lanes."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_thread() -> None:
    """Let this process take its matrix products by itself.

    OpenBLAS wakes a thread per core for a product with a matrix of ten thousand numbers, and these wait busily: what a
    shard asks for then costs the others their time. And its last bits depend on the number of threads: a replay in one
    process must sum as the shards of a run did. It holds for the libraries that are loaded by now.
    """
    threadpool_limits(limits=1, user_api="blas")
