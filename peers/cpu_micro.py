"""f32 matmul and copy bandwidth by PyTorch on this machine's CPU.

    python peers/cpu_micro.py [--threads 2] [--samples 15]

One JSON object a line on stdout, times in seconds, each the median of its samples. A copy counts what
it reads and what it writes, as warpmark does. The packages are pinned in peers/requirements.txt.
"""

import argparse
import json
import statistics
import time

import torch

SIZES = (1024, 2048)
COPY_BYTES = 512 * 1024 * 1024


def report(name, samples, amount, unit, **parameters):
    median = statistics.median(samples)
    print(
        json.dumps(
            {
                "peer": "torch",
                "name": name,
                **parameters,
                "samples": len(samples),
                "median_s": median,
                "best_s": min(samples),
                unit: amount / median,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            }
        ),
        flush=True,
    )


def timed(work, samples):
    """Times of `work`, after two calls that warm up."""
    times = []
    for sample in range(samples + 2):
        start = time.perf_counter()
        work()
        if sample >= 2:
            times.append(time.perf_counter() - start)
    return times


@torch.inference_mode()
def measure(args):
    torch.manual_seed(20261121)
    for size in SIZES:
        a, b, c = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
        samples = timed(lambda: torch.matmul(a, b, out=c), args.samples)
        report("matmul", samples, 2 * size**3, "flop_per_s", dtype="f32", size=size)

    source = torch.randn(COPY_BYTES // 4)
    target = torch.empty_like(source)
    samples = timed(lambda: target.copy_(source), args.samples)
    report("copy", samples, 2 * COPY_BYTES, "bytes_per_s", dtype="f32", bytes=COPY_BYTES)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
