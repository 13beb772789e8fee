"""A process that may have little memory says what takes too much, before it takes any."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the system has no limits for a process")

LIMITED = """
import resource, sys
limit = 3 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from fastrnn.cli import main
sys.argv[1:] = "train", "--corpus", "text", "--quiet", "--updates", "1", *sys.argv[1:]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--hidden", "30000"),
            "hidden is 30000: the training would take 54 GB of memory, and this process may have "
            "3.2 GB; use fewer hidden units",
        ),
        (
            ("--sample-length", "1" + "0" * 18),
            f"sample_length is 1{'0' * 18}: a sample would take 8,000,000 TB of memory, and "
            "this process may have 3.2 GB; write shorter samples",
        ),
    ],
    ids=["hidden", "sample-length"],
)
def test_a_training_that_does_not_fit(options: tuple, message: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("A short text. " * 20)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
