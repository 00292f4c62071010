"""warpmark against PyTorch on the same GPU, in one run, with the targets that the suite sets itself.

    cargo build --release
    python peers/gpu.py target/release/warpmark [--rounds 3] [--full-runs] [--results DIR] > gpu.md

The two sides take turns, and who begins changes each round, each in a process of its own, so that neither
finds the other on the card. A
figure is the median over the rounds of each round's median; a ratio above 1 means that warpmark is
faster. Both multiply numbers uniform on [-1, 1), since a card's speed depends on them. Exit code 1 says
that a target was missed, 2 that something could not be measured that has a target.

What needs torch runs in a subprocess of the same Python; `--peer-lines FILE` takes its lines from a file
instead, as an earlier run with `--keep DIR` left them, and `--device cpu` goes the same way on a CPU.
"""

import argparse
import csv
import glob
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

SIDE = 8192
CPU_SIDE = 1024
# Our arithmetic, and how torch is asked for the same.
ARITHMETICS = ["f16.f32", "f16.f16", "bf16.f32", "tf32.f32", "f32.f32", "f64.f64", "int8.int32", "fp8.f32"]
PEER_COPY_BYTES = 1 << 30
# A tenth of a second of work for each sample at least, and so many samples.
SAMPLE_SECONDS = 0.1
SAMPLES = 20
# Two figures that lie closer than this are the same: what a card's clock does between two rounds.
NOISE = 0.01
# Cards of which it is known what can be reached.
KNOWN = {"NVIDIA H200": {"bf16.f32": 790e12, "copy": 4.3e12}}


def main():
    args = arguments()
    if args.peer:
        return peer(args)
    folder = pathlib.Path(args.keep or tempfile.mkdtemp(prefix="warpmark-peers-"))
    folder.mkdir(parents=True, exist_ok=True)
    rounds = []
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        # Who comes second finds a warmer card, so each does so in every other round.
        measure = [lambda: peer_lines(args, folder, number), lambda: ours(args, folder / f"round-{number}")]
        if number % 2 == 0:
            theirs, mine = [side() for side in measure]
        else:
            mine, theirs = [side() for side in reversed(measure)]
        rounds.append((mine, theirs))
    table = Table()
    compare(args, rounds, table)
    repeat(args, rounds, table)
    profiler(args, folder, rounds, table)
    if args.full_runs:
        full_runs(args, folder, table)
    print(table.markdown(rounds))
    return table.exit_code()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("warpmark", nargs="?", default="target/release/warpmark")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--suite", default="full", choices=["quick", "full"])
    parser.add_argument("--arithmetics", default=",".join(ARITHMETICS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full-runs", action="store_true", help="two runs of the whole full suite")
    parser.add_argument("--results", help="the folder for our records; without it a folder for this run")
    parser.add_argument("--keep", help="a folder for everything that was measured")
    parser.add_argument("--peer-lines", help="torch's lines from a file, instead of measuring them")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.arithmetics = args.arithmetics.split(",")
    args.cpu = args.device == "cpu"
    if args.cpu:
        args.arithmetics = [name for name in args.arithmetics if name == "f32.f32"]
    return args


# --- our side ---------------------------------------------------------------------------------------


def ids(args):
    """Our rows that something is held against, as a filter."""
    side = CPU_SIDE if args.cpu else SIDE
    wanted = [f"micro/matmul/{name}/{side}x{side}x{side}" for name in args.arithmetics]
    wanted += ["micro/memory/copy", "micro/memory/triad", "!sustained"]
    if not args.cpu:
        wanted += ["micro/launch/queued"]
        if args.suite == "full" and "f16.f32" in args.arithmetics:
            wanted += ["micro/matmul/f16.f32/best"]
    return ",".join(wanted)


def run_warpmark(args, folder, more):
    """One run; the rows by id, and the run's line."""
    folder.mkdir(parents=True, exist_ok=True)
    results = args.results or str(folder / "recorded")
    before = set(glob.glob(f"{results}/*/*.jsonl"))
    command = [args.warpmark, "run", "--device", args.device, "--results", results, *more]
    with open(folder / "warpmark.txt", "w") as out:
        ended = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT)
    made = set(glob.glob(f"{results}/*/*.jsonl")) - before
    if len(made) != 1:
        said = open(folder / "warpmark.txt").read()[-2000:]
        sys.exit(f"{' '.join(command)} ended with {ended.returncode} and recorded nothing:\n{said}")
    return read(made.pop())


def read(path):
    run, rows = None, {}
    for line in open(path):
        line = json.loads(line)
        if line["kind"] == "run":
            run = line
        elif line["kind"] == "row":
            rows[line["id"].split("@")[0]] = line
    return run, rows


def ours(args, folder):
    return run_warpmark(args, folder, ["--suite", args.suite, "--filter", ids(args)])


def median_time(row):
    """Seconds of one iteration by the row's own clock; None where it was not measured."""
    if row is None or row["outcome"] != "measured":
        return None
    samples = row["samples"]
    times = samples.get("device_s") or samples["wall_s"]
    return statistics.median(t / n for t, n in zip(times, samples["iterations"]))


def our_rate(rows, path):
    row = rows.get(path)
    time = median_time(row)
    if time is None:
        return None
    work = row["work"]
    return (work.get("flops") or work.get("bytes") or work["items"]["count"]) / time


def largest(rows, operation):
    """The row of an operation on the largest arrays."""
    named = [path for path in rows if path.startswith(f"micro/memory/{operation}/f32/")]
    mib = lambda path: int(path.rsplit("/", 1)[1].removesuffix("MiB"))
    return max(named, key=mib, default=None)


def why(rows, path):
    row = rows.get(path)
    if row is None:
        return "not planned on this card"
    outcome = row["outcome"]
    return next(iter(outcome.values()))["reason"] if isinstance(outcome, dict) else outcome


# --- torch's side -----------------------------------------------------------------------------------


def peer_lines(args, folder, number):
    if args.peer_lines:
        text = open(args.peer_lines).read()
    else:
        command = [sys.executable, __file__, "--peer", "--device", args.device]
        command += ["--arithmetics", ",".join(args.arithmetics)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"torch's side ended with {done.returncode}:\n{done.stderr[-2000:]}")
        text = done.stdout
    (folder / f"torch-{number}.jsonl").write_text(text)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


def peer(args):
    import torch

    torch.manual_seed(20261121)
    device = torch.device("cpu" if args.cpu else args.device)
    clock = Wall() if args.cpu else Events(torch, device)
    tell("torch", version=torch.__version__, cuda=torch.version.cuda, device=clock.name)
    for arithmetic in args.arithmetics:
        side = CPU_SIDE if args.cpu else SIDE
        try:
            work = product(torch, device, arithmetic, side)
            rate(f"matmul/{arithmetic}", clock.times(work), 2 * side**3)
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            tell(f"matmul/{arithmetic}", refused=str(error).splitlines()[0])
    size = (1 << 28) if args.cpu else PEER_COPY_BYTES
    a, b, c = (torch.rand(size // 4, device=device) for _ in range(3))
    rate("copy", clock.times(lambda: c.copy_(a)), 2 * size)
    rate("triad", clock.times(lambda: torch.add(a, b, alpha=0.4, out=c)), 3 * size)
    if not args.cpu:
        del a, b, c
        cupti(torch, device, clock)
    return 0


def product(torch, device, arithmetic, side):
    """A multiplication of the arithmetic, as a function without arguments."""
    operand, _, sums = arithmetic.partition(".")
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = operand == "tf32"
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False
    if sums == "f16":
        # Refused by versions that lack it, rather than timed as something else.
        if not hasattr(matmul, "allow_fp16_accumulation"):
            raise NotImplementedError("this torch cannot sum in f16")
        matmul.allow_fp16_accumulation = True
    elif hasattr(matmul, "allow_fp16_accumulation"):
        matmul.allow_fp16_accumulation = False
    uniform = lambda: torch.rand(side, side, device=device) * 2 - 1
    if operand == "int8":
        whole = lambda: torch.randint(-128, 128, (side, side), device=device, dtype=torch.int8)
        a, b = whole(), whole().t()
        return lambda: torch._int_mm(a, b)
    if operand == "fp8":
        a, b = (uniform().to(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)
    kinds = {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
    a, b = (uniform().to(kinds.get(operand, torch.float32)) for _ in range(2))
    c = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)


class Events:
    """CUDA events around as many calls as fill a sample."""

    def __init__(self, torch, device):
        self.torch, self.device = torch, device
        self.name = torch.cuda.get_device_name(device)
        torch.cuda.set_device(device)

    def interval(self, work, calls):
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls

    def times(self, work):
        for _ in range(3):
            first = self.interval(work, 1)
        calls = max(1, int(SAMPLE_SECONDS / first))
        self.interval(work, calls)
        return [self.interval(work, calls) for _ in range(SAMPLES)]


class Wall:
    """The host's clock, for a CPU."""

    name = "cpu"

    def times(self, work):
        import time

        times = []
        for sample in range(SAMPLES + 2):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return times[2:]


def cupti(torch, device, clock):
    """A kernel of about a millisecond: by events, and by CUPTI, on which torch's profiler stands."""
    from torch.profiler import ProfilerActivity, profile

    a, b = (torch.rand(2048, 2048, device=device, dtype=torch.float16) for _ in range(2))
    once = clock.times(lambda: torch.matmul(a, b))
    # As many columns more as make a millisecond of it.
    columns = max(2048, int(2048 * 1e-3 / statistics.median(once)) // 256 * 256)
    b = torch.rand(2048, columns, device=device, dtype=torch.float16)
    c = torch.empty(2048, columns, device=device, dtype=torch.float16)
    work = lambda: torch.matmul(a, b, out=c)
    by_events = statistics.median(clock.times(work))
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(100):
            work()
        torch.cuda.synchronize()
    kernels = [e for e in seen.events() if e.device_type.name == "CUDA" and "emcpy" not in e.name]
    spans = [event.time_range.elapsed_us() * 1e-6 for event in kernels]
    longest = max(spans, default=0.0)
    own = [span for span in spans if span > longest / 2]
    if len(own) < 90:
        return tell("profiler", refused=f"{len(own)} kernels of 100 were seen")
    tell("profiler", events_s=by_events, cupti_s=statistics.median(own))


def rate(name, times, amount):
    median = statistics.median(times)
    tell(name, median_s=median, per_s=amount / median, samples=len(times))


def tell(name, **values):
    print(json.dumps({"name": name, **values}), flush=True)


# --- what is held against what ----------------------------------------------------------------------


class Table:
    def __init__(self):
        self.lines, self.missed, self.unknown = [], 0, 0

    def add(self, what, measured, against, figure, target, reached):
        """`reached` is None where something could not be measured that has a target."""
        verdict = {True: "reached", False: "MISSED", None: "not measured"}[reached]
        self.missed += reached is False
        self.unknown += reached is None
        self.lines.append(f"| {what} | {measured} | {against} | {figure} | {target} | {verdict} |")

    def markdown(self, rounds):
        run, torch = rounds[0][0][0], rounds[0][1].get("torch", {})
        gpu = run["device"].get("gpu") or {}
        said = lambda value: "unknown" if isinstance(value, dict) else value
        head = [
            "<!-- Written by peers/gpu.py; do not edit. -->\n",
            "# warpmark against PyTorch on one GPU\n",
            f"{run['device']['name']} ({run['device']['kind']}), driver {said(gpu.get('driver_version'))}, "
            f"power limit {said(gpu.get('power_limit'))} W; warpmark {run['build']['git']}, "
            f"torch {torch.get('version')} (CUDA {torch.get('cuda')}); {len(rounds)} rounds in turn.\n",
            "| what | warpmark | against | figure | target | verdict |",
            "| :-- | --: | --: | --: | --: | :-- |",
        ]
        return "\n".join(head + self.lines)

    def exit_code(self):
        return 1 if self.missed else 2 if self.unknown else 0


def show(value, unit):
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def ratio(table, what, ours, theirs, unit, target, reasons):
    if ours is None or theirs is None:
        reason = reasons[0] if ours is None else reasons[1]
        # What neither of the two has on this card is nobody's gap.
        if ours is None and theirs is None:
            return table.lines.append(f"| {what} | - | - | {reason} | - | neither has it |")
        mine, peers = (side and show(side, unit) for side in (ours, theirs))
        return table.add(what, mine, peers, reason, f"≥ {target:.2f}", None)
    share = ours / theirs
    table.add(what, show(ours, unit), show(theirs, unit), f"{share:.3f}", f"≥ {target:.2f}", share >= target)


def compare(args, rounds, table):
    side = CPU_SIDE if args.cpu else SIDE
    first, first_peer = rounds[0][0][1], rounds[0][1]
    for name in args.arithmetics:
        path = f"micro/matmul/{name}/{side}x{side}x{side}"
        mine = middle(our_rate(rows, path) for (_, rows), _ in rounds)
        line = first_peer.get(f"matmul/{name}", {})
        theirs = middle(peer.get(f"matmul/{name}", {}).get("per_s") for _, peer in rounds)
        unit = "OP/s" if name.startswith("int") else "FLOP/s"
        reasons = (why(first, path), line.get("refused", "absent"))
        ratio(table, f"`{path}` / torch", mine, theirs, unit, 1.0 - NOISE, reasons)
    copy = middle(peer.get("copy", {}).get("per_s") for _, peer in rounds)
    for operation in ("copy", "triad"):
        path = largest(first, operation)
        mine = middle(our_rate(rows, path) for (_, rows), _ in rounds)
        ratio(table, f"`{path}` / torch's copy", mine, copy, "B/s", 1.0 - NOISE, (why(first, path), "absent"))
    square = f"micro/matmul/f16.f32/{SIDE}x{SIDE}x{SIDE}"
    best = middle(our_rate(rows, "micro/matmul/f16.f32/best") for (_, rows), _ in rounds)
    square = middle(our_rate(rows, square) for (_, rows), _ in rounds)
    if best and square:
        table.add("f16.f32 8192 / the best shape found", show(square, "FLOP/s"), show(best, "FLOP/s"),
                  f"{square / best:.3f}", "≥ 0.98", square / best >= 0.98)
    known = KNOWN.get(rounds[0][0][0]["device"]["name"], {})
    for what, expected in known.items():
        path = largest(first, "copy") if what == "copy" else f"micro/matmul/{what}/{side}x{side}x{side}"
        mine = middle(our_rate(rows, path) for (_, rows), _ in rounds)
        if mine:
            table.add(f"`{path}` / what is known of this card", show(mine, "/s"), show(expected, "/s"),
                      f"{mine / expected:.3f}", "≥ 0.98", mine / expected >= 0.98)


def repeat(args, rounds, table):
    if args.cpu:
        return
    path = "micro/launch/queued"
    times = [median_time(rows.get(path)) for (_, rows), _ in rounds]
    if None in times:
        return table.add(f"`{path}` repeats", None, None, why(rounds[0][0][1], path), "≤ 5 %", None)
    spread = (max(times) - min(times)) / statistics.median(times)
    table.add(f"`{path}` repeats over {len(times)} rounds", f"{min(times) * 1e6:.3f} µs",
              f"{max(times) * 1e6:.3f} µs", f"{spread * 100:.2f} %", "≤ 5 %", spread <= 0.05)


def profiler(args, folder, rounds, table):
    if args.cpu:
        return
    line = rounds[0][1].get("profiler", {})
    if "cupti_s" in line:
        off = line["events_s"] / line["cupti_s"] - 1
        table.add("events around a kernel of 1 ms / CUPTI", f"{line['events_s'] * 1e3:.4f} ms",
                  f"{line['cupti_s'] * 1e3:.4f} ms", f"{off * 100:+.2f} %", "within 1 %", abs(off) <= 0.01)
    else:
        reason = line.get("refused", "absent")
        table.add("events around a kernel of 1 ms / CUPTI", None, None, reason, "within 1 %", None)
    nsys = shutil.which("nsys")
    path = largest(rounds[0][0][1], "copy")
    mine = median_time(rounds[0][0][1].get(path))
    if nsys is None or mine is None:
        return
    report = folder / "nsys"
    command = [nsys, "profile", "--force-overwrite", "true", "-o", str(report), args.warpmark, "run"]
    command += ["--device", args.device, "--suite", args.suite, "--filter", path]
    command += ["--results", str(folder / "nsys-results")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = [nsys, "stats", "-q", "-r", "cuda_gpu_kern_sum", "--format", "csv", f"{report}.nsys-rep"]
    stats = subprocess.run(command, capture_output=True, text=True)
    profiled = kernel_median(stats.stdout, "memory_copy")
    if profiled is None:
        reason = "the kernel is not in its table"
        return table.add(f"`{path}` / Nsight Systems", f"{mine * 1e3:.4f} ms", None, reason, "within 1 %", None)
    off = mine / profiled - 1
    table.add(f"`{path}` / Nsight Systems", f"{mine * 1e3:.4f} ms", f"{profiled * 1e3:.4f} ms",
              f"{off * 100:+.2f} %", "within 1 %", abs(off) <= 0.01)


def kernel_median(text, kernel):
    """The median time of a kernel in the summary of Nsight Systems, in seconds."""
    start = text.find("Time (%)")
    if start < 0:
        return None
    for line in csv.DictReader(text[start:].splitlines()):
        if line.get("Name", "").startswith(kernel):
            return float(line["Med (ns)"].replace(",", "")) * 1e-9
    return None


def full_runs(args, folder, table):
    """Two runs of the whole suite: how many rows repeat."""
    runs = [run_warpmark(args, folder / f"full-{n}", ["--suite", "full"])[1] for n in (1, 2)]
    both = [path for path in runs[0] if median_time(runs[0][path]) and median_time(runs[1].get(path))]
    if not both:
        return table.add("two full runs", None, None, "no row was measured in both", "≥ 95 %", None)
    change = lambda path: median_time(runs[1][path]) / median_time(runs[0][path]) - 1
    off = {path: abs(change(path)) for path in both}
    same = sum(value <= 0.01 for value in off.values()) / len(off)
    table.add("two full runs", f"{len(both)} rows", "", f"{same * 100:.1f} % within 1 %", "≥ 95 %", same >= 0.95)
    for path, value in sorted(off.items(), key=lambda item: -item[1]):
        if value > 0.01:
            print(f"differs by {value * 100:.2f} %: {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
