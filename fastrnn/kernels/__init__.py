"""Everything that Numba compiles. Numba is imported here first, before the modules that use it."""

from __future__ import annotations

import os
import warnings

from fastrnn.errors import FastrnnError


def _import_numba() -> None:
    """Import Numba, whose settings come from the environment; FastrnnError if it cannot work."""
    with warnings.catch_warnings():
        # Of a value that it cannot read Numba would print a traceback, and go on without it.
        warnings.filterwarnings("error", "Environment variable 'NUMBA_", RuntimeWarning)
        try:
            import numba
        except Exception as error:
            problem = str(error).partition("\n")[0].rstrip(".")
            settings = ", ".join(sorted(name for name in os.environ if name.startswith("NUMBA_")))
            remedy = f"unset or correct {settings}" if settings else "install fastrnn again"
            raise FastrnnError(
                f"cannot import Numba: {problem}; {remedy}, then start again"
            ) from error
    config = numba.core.config
    if config.DISABLE_JIT:
        raise FastrnnError(
            "cannot run the kernels: NUMBA_DISABLE_JIT is set, but they only run compiled; unset it"
        )
    features = (config.CPU_FEATURES or "").split(",")
    if not all(feature[:1] in "+-" for feature in features):  # LLVM would end the process
        raise FastrnnError(
            f"cannot compile for the processor: NUMBA_CPU_FEATURES is {config.CPU_FEATURES!r}, but "
            "must be a list such as '+avx2,-avx512f'; unset or correct it"
        )


_import_numba()
