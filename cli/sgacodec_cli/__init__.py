"""The `sgacodec` command."""

import os

# Before numpy is imported: beside other work two threads of its BLAS wait for each other and take longer than one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
