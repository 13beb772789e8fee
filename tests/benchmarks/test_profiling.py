import json

import numpy as np
import pytest

import profiling
from common import Steps
from fastrnn import network
from fastrnn.kernels import benchmark
from fastrnn.kernels.benchmark import PARTS
from fastrnn.measure import bench
from fastrnn.measure.bench import Shape

TINY = Shape(m=7, K=5, T=3, B=5)


def fixed_result():
    """The parts take 1, 2, 3 … µs, for half of the streams; the limit is 1 GFLOP/s."""
    seconds = {name: [1e-6 * (i + 1)] * 3 for i, name in enumerate(PARTS)}
    seconds["step"] = [3e-5, 4e-5, 6e-5]
    shape = Shape(m=10, K=20, T=5, B=2)._asdict()
    row = {"shape": shape, "dtype": "float32", "streams": 1, "limit": [1e9] * 3}
    return {
        "command": "python benchmarks/profiling.py a",
        "date": "2025-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "A Processor",
            "cores": 2,
            "instructions": "AVX2",
            "system": "Linux x86_64",
        },
        "versions": {"fastrnn": "0.1", "python": "3.12.1", "numpy": "2.0.0", "numba": "0.61.0"},
        "rounds": 3,
        "rows": [{**row, "seconds": seconds}],
    }


MARKDOWN = """\
|  | m=10 K=20 T=5 B=2 float32, µs | of the limit |
|---|--:|--:|
| forward recurrence | 2.00 | 100 % |
| logits | 4.00 | 100 % |
| softmax and loss | 2.00 |  |
| gradient of h | 8.00 | 50 % |
| backward recurrence | 2.00 | 80 % |
| gradients of W, V | 2.00 | 300 % |
| gradients of U, b, c | 12.0 |  |
| AdaGrad | 8.00 |  |
| packing into panels | 1.00 |  |
| **sum of these** | **41.0** | **43 %** |
| **whole update** | **40.0** | **44 %** |

One thread. A Processor (AVX2), 2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, \
Numba 0.61.0; `python benchmarks/profiling.py a`, 2025-01-02. Medians of 3 interleaved rounds. \
Limit of fused multiply-adds: 1.00 GFLOP/s in float32."""


def test_from_end_to_end(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(profiling, "CASES", [(TINY, "float32")])
    monkeypatch.setattr(profiling, "RESULTS", tmp_path)
    monkeypatch.setattr(network, "STREAMS", 2)  # of the 5, in a group
    profiling.main(["a", "--quick"])
    (row,) = json.loads((tmp_path / "profile" / "a.json").read_text())["rows"]
    assert row["streams"] == 2
    assert set(row["seconds"]) == {"step", *PARTS}
    assert all(len(times) == 3 and min(times) > 0 for times in row["seconds"].values())
    printed = capsys.readouterr().out
    assert printed.startswith(f"{TINY} float32\n  forward recurrence")
    assert "\n  sum of these" in printed
    assert "\n  whole update" in printed


def test_the_parts_are_those_of_an_update():
    steps = Steps(TINY, "float32", threads=1)
    n = steps.network

    def trained(work):
        steps.reset()
        work()
        views = n.gradient, n.parameters, n.memory
        return [x.copy() for view in views for x in view.values()] + [x.copy() for x in n._packed]

    def update():
        n.loss_and_gradient(steps.codes[: TINY.T + 1])
        n.update()

    def parts(*names):
        for name in names:
            state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes, n._team
            benchmark.part(*state, steps.codes, TINY.B, PARTS.index(name), 0.1, 5.0, 1)

    first = "forward recurrence", "logits and softmax", "hidden gradient and backward recurrence"
    expected = trained(update)
    for gradients, last in (
        (("all gradients",), "AdaGrad and packing"),
        (("all gradients", "vector gradients"), "AdaGrad and packing"),
        (("all gradients",), "AdaGrad"),
    ):
        found = trained(lambda names=(*first, *gradients, last): parts(*names))
        packed = last != "AdaGrad"
        for x, y in zip(expected if packed else expected[: -len(n._packed)], found, strict=packed):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("shape", [TINY, Shape(100, 80, 25, 1)])
def test_the_phases_have_all_operations(shape):
    found = sum(profiling.flops(shape, phase) for phase in profiling.PHASES)
    assert found == bench.flops(shape, "step")


def test_a_difference_below_zero():
    (row,) = fixed_result()["rows"]
    row["seconds"]["all gradients"] = row["seconds"]["logits"]
    assert profiling.cells(row)["gradients of W, V"] == ("0", "")
