"""GPT-2 124M by Hugging Face transformers on this machine: batch-1 decode and prefill.

    python peers/gpt2.py [--threads 2] [--dtype f32] [--context 128] [--repeats 5]

Weights are random at the true shapes (seeded), so nothing is downloaded; speed does not depend on
their values. One JSON object a line on stdout, times in seconds, each the median of its samples.
The packages are pinned in peers/requirements.txt.
"""

import argparse
import json
import statistics
import time

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, StaticCache

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
STEPS = 32


def report(name, samples, items, **parameters):
    median = statistics.median(samples)
    print(
        json.dumps(
            {
                "peer": "transformers",
                "name": name,
                **parameters,
                "samples": len(samples),
                "median_s": median,
                "best_s": min(samples),
                "items_per_s": items / median,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "threads": torch.get_num_threads(),
            }
        ),
        flush=True,
    )


def prefill(model, prompt, cache):
    """Reads the prompt into the cache; logits of the last position only, as warpmark does."""
    return model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)


@torch.inference_mode()
def measure(args):
    torch.manual_seed(20261121)
    config = GPT2Config()
    model = GPT2LMHeadModel(config).to(DTYPES[args.dtype]).eval()
    prompt = torch.randint(config.vocab_size, (1, args.context))
    parameters = {"model": "gpt2-124m", "dtype": args.dtype, "batch": 1}

    samples = []
    for repeat in range(args.repeats + 1):
        cache = transformers.DynamicCache(config=config)
        start = time.perf_counter()
        prefill(model, prompt, cache)
        if repeat > 0:  # the first one warms up
            samples.append(time.perf_counter() - start)
    report("prefill", samples, args.context, prompt=args.context, **parameters)

    # The growing cache is what `generate` uses by default, the static one the like of warpmark's;
    # both are reported and the faster is the peer to beat.
    for kind in ("dynamic", "static"):
        steps = []
        for repeat in range(args.repeats + 1):
            if kind == "dynamic":
                cache = transformers.DynamicCache(config=config)
            else:
                cache = StaticCache(config=config, max_cache_len=args.context + STEPS)
            token = prefill(model, prompt, cache).logits[:, -1].argmax(-1, keepdim=True)
            for _ in range(STEPS):
                start = time.perf_counter()
                logits = model(token, past_key_values=cache, use_cache=True).logits
                token = logits[:, -1].argmax(-1, keepdim=True)
                if repeat > 0:
                    steps.append(time.perf_counter() - start)
        report("decode", steps, 1, cache=kind, context=args.context, **parameters)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
