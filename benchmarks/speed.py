"""Measure on this machine, and keep the result: benchmarks/results/speed/NAME.json.

    python benchmarks/speed.py NAME [--seconds 15]
    python benchmarks/tables.py

The kernels are compiled afresh, so that the result also tells how long this takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from fastrnn.measure import bench

RESULTS = Path(__file__).parent / "results" / "speed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring (default 15)")
    arguments = parser.parse_args()
    command = f"python benchmarks/speed.py {arguments.name} --seconds {arguments.seconds:g}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        result = bench.run(seconds=arguments.seconds, command=command)
    result.save(RESULTS / f"{arguments.name}.json")
    print(bench.format_table(result))


if __name__ == "__main__":
    main()
