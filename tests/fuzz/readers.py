"""Feeds a reader what libFuzzer makes of captured records, led by which lines of the reader that reaches.

    .venv/bin/python tests/fuzz/readers.py freeswitch -max_total_time=600

The rest of the command line is libFuzzer's: options, and a directory for what it finds worth keeping, which is
``.fuzz/<reader>`` otherwise. It goes on until it is stopped, or until the reader raises what is no RecordError, gives
what the store does not expect, or takes ten seconds; the input that did is left in a file, and read alone when that
file is named in the place of the directory.
"""

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

with atheris.instrument_imports(include=["callhouse"]):
    from sources.reading import NAMES, PLUGINS, SEEDS, TOKENS, examined


def main():
    name, *options = sys.argv[1:] or [""]
    if name not in SEEDS:
        sys.exit(f"Name a reader first: {', '.join(sorted(SEEDS))}.")
    kept = next((Path(option) for option in options if not option.startswith("-")), None)
    if kept is None:
        kept = ROOT / ".fuzz" / name
        options = [f"-artifact_prefix={kept}-", *options, str(kept)]
    if not kept.is_file():
        write_seeds(kept, SEEDS[name])
        options.insert(0, f"-dict={write_dictionary(kept.with_suffix('.dict'))}")
    plugin = PLUGINS[name]
    atheris.enabled_hooks.add("str")
    atheris.Setup([sys.argv[0], "-timeout=10", *options], lambda body: examined(plugin, body))
    atheris.Fuzz()


def write_seeds(directory, seeds):
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (directory / f"seed-{number:03}").write_bytes(seed)


def write_dictionary(file):
    """What the fuzzer could hardly guess: the words and signs that mean something to a reader."""
    words = [*TOKENS, *(name.encode() for name in NAMES)]
    file.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
    return file


main()
