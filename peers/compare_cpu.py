"""warpmark against PyTorch and Hugging Face transformers and diffusers on this machine's CPU, in one run.

    cargo build --release
    python peers/compare_cpu.py target/release/warpmark [--rounds 5] [--only speech] [--rows TEXT]

It prints a section of docs/peers-cpu.md for each group that is compared: micro, text, speech, image.

The two sides take turns, phase by phase (text: model by model), so that a machine that slows down or
speeds up does so for both. A figure is the median over the rounds of each round's median; a ratio above 1
means that warpmark is faster. The packages are pinned in peers/requirements.txt.
"""

import argparse
import glob
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
LANGUAGE_MODELS = ("gpt2-124m", "smollm2-135m")
# What is compared: our row, and the peer's (name, and a parameter that tells its rows apart).
PAIRS = [
    ("micro/matmul/f32.f32/1024x1024x1024@gemm", [("matmul", "size", 1024)]),
    ("micro/matmul/f32.f32/2048x2048x2048@gemm", [("matmul", "size", 2048)]),
    ("micro/matmul/f32.f32/2048x2048x2048@faer", [("matmul", "size", 2048)]),
    ("micro/memory/copy/f32/*@host", [("copy", "dtype", "f32")]),
    *(
        pair
        for model in LANGUAGE_MODELS
        for pair in (
            (f"text/{model}/prefill/f32/b1/p128@warpmark", [("prefill", "model", model)]),
            # transformers has two caches, and a row for each; the faster one is the peer to beat.
            (f"text/{model}/decode/f32/b1/c128@warpmark", [("decode", "model", model)]),
        )
    ),
    ("speech/whisper-tiny/mel/b1/30s@warpmark", [("whisper-mel", "batch", 1)]),
    ("speech/whisper-tiny/encode/f32/b1@warpmark", [("whisper-encode", "batch", 1)]),
    (
        "speech/whisper-tiny/decode/f32/b1/c96@warpmark",
        [("whisper-decode", "cache", "dynamic"), ("whisper-decode", "cache", "static")],
    ),
] + [
    (f"speech/whisper-tiny/transcribe/f32/b1/{clip}@warpmark", [("whisper-transcribe", "clip", clip)])
    for clip in ("5s/greedy", "5s/beam5", "30s/greedy")
] + [
    ("image/sd-small/text/f32/b1@warpmark", [("diffusion-text", "batch", 1)]),
    ("image/sd-small/unet/f32/b1/s256@warpmark", [("diffusion-unet", "batch", 1)]),
    ("image/sd-small/unet/f32/b2/s256@warpmark", [("diffusion-unet", "batch", 2)]),
    ("image/sd-small/vae/f32/b1/s256@warpmark", [("diffusion-vae", "batch", 1)]),
    ("image/sd-small/generate/f32/b1/s256/n4/ddim@warpmark", [("diffusion-generate", "steps", 4)]),
]
# The quick suite has no whole window of audio on a CPU.
SUITES = {"micro": "quick", "text": "quick", "speech": "full", "image": "quick"}
SCRIPTS = {
    "micro": [["cpu_micro.py"]],
    "text": [["causal_lm.py", model] for model in LANGUAGE_MODELS],
    "speech": [["whisper.py"]],
    "image": [["diffusion.py"]],
}
BATCH = re.compile(r"b\d+")


def ours(warpmark, folder, group, pairs):
    """Rates of our rows, by id: items, operations or bytes a second."""
    results = os.path.join(folder, "results")
    chosen = ",".join(pattern.split("@")[0].rstrip("/*") for pattern, _ in pairs) + ",!@candle"
    command = [warpmark, "run", "--device", "cpu", "--suite", SUITES[group]]
    command += ["--filter", chosen, "--results", results]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    newest = max(glob.glob(f"{results}/*/*.jsonl"), key=os.path.getmtime)
    rates = {}
    for line in open(newest):
        row = json.loads(line)
        if row["kind"] != "row" or row["outcome"] != "measured":
            continue
        samples = row["samples"]
        times = [t / n for t, n in zip(samples["wall_s"], samples["iterations"])]
        work = row["work"]
        items = work.get("items", {}).get("count")
        if row["id"].startswith("micro/matmul"):
            amount = work["flops"]
        else:
            amount = items or work["bytes"]
        rates[row["id"]] = amount / statistics.median(times)
    return rates


def theirs(group, pairs):
    """The peer's lines."""
    chosen = []
    if group in ("speech", "image"):
        parts = [pattern.split("@")[0].split("/") for pattern, _ in pairs]
        chosen += ["--phases", ",".join({part[2] for part in parts})]
        batches = {segment[1:] for part in parts for segment in part if BATCH.fullmatch(segment)}
        chosen += ["--batches", ",".join(sorted(batches, key=int))]
    lines = []
    for script, *arguments in SCRIPTS[group]:
        if arguments and not any(model in pattern for pattern, _ in pairs for model in arguments):
            continue
        command = [sys.executable, str(HERE / script), *arguments, *chosen]
        command += ["--threads", str(os.cpu_count())]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines += [json.loads(line) for line in out.splitlines()]
    return lines


def rate(line):
    for unit in ("flop_per_s", "bytes_per_s", "items_per_s"):
        if unit in line:
            return line[unit], {"flop_per_s": "FLOP/s", "bytes_per_s": "B/s"}.get(
                unit, line.get("unit", "tok") + "/s"
            )
    raise KeyError(line)


def find(rates, pattern):
    head, _, tail = pattern.partition("*")
    matches = [v for k, v in rates.items() if k.startswith(head) and k.endswith(tail)]
    if len(matches) != 1:
        raise SystemExit(f"{pattern} has {len(matches)} rows in {sorted(rates)}")
    return matches[0]


def show(value, unit):
    return f"{value / 1e9:.1f} G{unit}" if value >= 1e8 else f"{value:.1f} {unit}"


def of_group(group):
    return [(pattern, keys) for pattern, keys in PAIRS if pattern.startswith(f"{group}/")]


def together(group, pairs):
    """The rows that are run in one go: those of a phase, or of a language model."""
    parts = {}
    for pattern, keys in pairs:
        segments = pattern.split("@")[0].split("/")
        part = {"micro": None, "text": segments[1]}.get(group, segments[2])
        parts.setdefault(part, []).append((pattern, keys))
    return list(parts.values())


def compare(warpmark, group, rounds, rows):
    """Both sides in turn, and the group's section."""
    pairs = [(pattern, keys) for pattern, keys in of_group(group) if rows in pattern]
    if not pairs:
        return
    collected = {pattern: ([], []) for pattern, _ in pairs}
    units, versions = {}, set()
    with tempfile.TemporaryDirectory() as folder:
        turns = [(number, part) for number in range(rounds) for part in together(group, pairs)]
        for number, part in turns:
            print(f"{group}: round {number + 1} of {rounds}, {part[0][0]}", file=sys.stderr)
            mine, peers = ours(warpmark, folder, group, part), theirs(group, part)
            versions |= {(k, p[k]) for p in peers for k in ("torch", "transformers", "diffusers") if k in p}
            for pattern, keys in part:
                best = max(
                    rate(p)
                    for p in peers
                    for name, key, value in keys
                    if p["name"] == name and p.get(key) == value
                )
                collected[pattern][0].append(find(mine, pattern))
                collected[pattern][1].append(best[0])
                units[pattern] = best[1]
    processor = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line),
        "unknown processor",
    )
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions))
    print(f"\n## {group}\n")
    print(f"{processor}, {os.cpu_count()} cores; {packages}; medians of {rounds} rounds in turn.\n")
    print("| benchmark | warpmark | peer | ratio | spread |")
    print("| :-- | --: | --: | --: | --: |")
    for pattern, (a, b) in collected.items():
        ratios = [x / y for x, y in zip(a, b)]
        unit = units[pattern]
        print(
            f"| `{pattern}` | {show(statistics.median(a), unit)} | {show(statistics.median(b), unit)} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("warpmark")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=SCRIPTS, help="one group, its section alone")
    parser.add_argument("--rows", default="", help="rows whose id contains this text alone")
    args = parser.parse_args()
    if args.only is None:
        print("<!-- Written by peers/compare_cpu.py; do not edit. -->\n")
        print("# warpmark against its peers on a CPU\n")
        print("A ratio above 1 means that warpmark is faster. Spread: lowest and highest ratio of a round.")
    for group in [args.only] if args.only else SCRIPTS:
        compare(args.warpmark, group, args.rounds, args.rows)


if __name__ == "__main__":
    main()
