"""Measure on this machine, and keep the result: benchmarks/results/speed/NAME.json.

    python benchmarks/speed.py NAME [--seconds 15]
    python benchmarks/tables.py

The kernels are compiled afresh, so that the result also tells how long this takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from common import command_of, result_path
from fastrnn.measure import bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring (default 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        result = bench.run(options.seconds, command=command_of("speed", sys.argv[1:]))
    result.save(result_path("speed", options.name))
    print(bench.format_table(result))


if __name__ == "__main__":
    main()
