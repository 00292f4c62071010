"""Has scripts/check-record accept two good records, and refuse each of what it must not let through.

From the root of the checkout, with WARPMARK and `jsonschema`; see `run` beside this file.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCE = max(pathlib.Path("results/cpu-amd-epyc").glob("*.jsonl"))
METHOD = int(re.search(r"METHOD: u32 = (\d+);", pathlib.Path("crates/record/src/lib.rs").read_text())[1])


def record(name, change=lambda run, rows: None):
    """A committed record as if it were made by the present method, with a change; its text."""
    lines = [json.loads(line) for line in SOURCE.read_text().splitlines()]
    for line in lines:
        line.update(method=METHOD, run=name)
    change(lines[0], lines[1:])
    return "".join(json.dumps(line) + "\n" for line in lines)


def kind(run, _):
    run["device"]["kind"] = "simulated"


def host(run, _):
    run["command"] = ["warpmark", "--models", "/home/somebody/models.toml"]


def token(_, rows):
    rows[0]["caveats"] = ["answered with hf_" + "a" * 34]


def debug(run, _):
    run["build"]["profile"] = "debug"


def dirty(run, _):
    run["build"]["git"] += "-dirty"


def method(run, rows):
    for line in [run, *rows]:
        line["method"] = METHOD - 1


def unknown(_, rows):
    rows[0]["colour"] = "green"


def card(run, _):
    run["device"]["name"] = "Another"


SLIPS = [
    (kind, "is simulated"),
    (host, "a home folder"),
    (token, "a token of the Hugging Face hub"),
    (debug, "only release builds"),
    (dirty, "build a clean checkout"),
    (method, "the present one is"),
    (unknown, "'colour' was unexpected"),
    (card, "not of one card"),
]


def checked(folder, second):
    """Exit code and words for two records, of which the first is good."""
    place = pathlib.Path(folder) / "cpu-amd-epyc"
    place.mkdir(exist_ok=True)
    texts = {"20261130T000001Z-1": record("20261130T000001Z-1"), "20261130T000002Z-1": second}
    paths = [place / f"{name}.jsonl" for name in texts]
    for path, text in zip(paths, texts.values()):
        path.write_text(text)
    done = subprocess.run([sys.executable, "scripts/check-record", *paths], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        code, said = checked(folder, record("20261130T000002Z-1"))
        if code:
            sys.exit(f"two good records are refused: {said}")
        for change, words in SLIPS:
            code, said = checked(folder, record("20261130T000002Z-1", change))
            if code != 1 or words not in said:
                sys.exit(f"{change.__name__}: exit code {code}, and not \"{words}\": {said}")
            print(f"refused {change.__name__}: {words}")


if __name__ == "__main__":
    main()
