"""Each reader's fuzzer for a little while, always the same; CONTRIBUTING.md tells how to let it run for hours."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it exists for Linux on x86-64 only, and not for every version of Python",
)

# What takes each of them less than ten seconds on a machine that has nothing else to do.
RUNS = {"asterisk": 4_000, "freeswitch": 3_000, "kamailio": 20_000, "native": 20_000}


@pytest.mark.parametrize("name", RUNS)
def test_nothing_that_the_fuzzer_comes_upon_breaks_a_reader(name, tmp_path):
    kept = tmp_path / "kept"
    options = ["-seed=1", f"-runs={RUNS[name]}", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "readers.py", name, *options, kept],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    assert f"stat::number_of_executed_units: {RUNS[name]}" in done.stderr
    # It was led by what it saw of the reader.
    first, *_, last = map(int, re.findall(r" cov: (\d+) ", done.stderr))
    assert 50 < first < last
