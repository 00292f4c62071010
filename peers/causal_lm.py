"""Causal language models by Hugging Face transformers on this machine: decode and prefill, eager.

    python peers/causal_lm.py gpt2-124m [--device cuda] [--dtype f16] [--batch 1] [--context 128]

The architecture is that of the model's entry in models.toml. Weights are random at the true shapes
(seeded), so nothing is downloaded; speed does not depend on their values. One JSON object a line on
stdout, times in seconds, each the median of its samples. The packages are pinned in
peers/requirements.txt.
"""

import argparse
import json
import pathlib
import statistics
import time
import tomllib

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, StaticCache

CATALOG = pathlib.Path(__file__).resolve().parents[1] / "models.toml"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
STEPS = 32


def gpt2(numbers):
    config = GPT2Config(
        vocab_size=numbers["vocabulary"],
        n_positions=numbers["context"],
        n_embd=numbers["width"],
        n_layer=numbers["layers"],
        n_head=numbers["heads"],
    )
    return config, GPT2LMHeadModel


def llama(numbers):
    rope = {"rope_type": "default", "rope_theta": numbers["rope_theta"]}
    if scaling := numbers.get("rope_scaling"):
        rope |= {
            "rope_type": "llama3",
            "factor": scaling["factor"],
            "low_freq_factor": scaling["low_frequency_factor"],
            "high_freq_factor": scaling["high_frequency_factor"],
            "original_max_position_embeddings": scaling["original_context"],
        }
    config = LlamaConfig(
        vocab_size=numbers["vocabulary"],
        max_position_embeddings=numbers["context"],
        hidden_size=numbers["width"],
        intermediate_size=numbers["hidden"],
        num_hidden_layers=numbers["layers"],
        num_attention_heads=numbers["heads"],
        num_key_value_heads=numbers["key_value_heads"],
        rms_norm_eps=numbers["norm_epsilon"],
        tie_word_embeddings=numbers["tied"],
        rope_parameters=rope,
    )
    return config, LlamaForCausalLM


FAMILIES = {"gpt2": gpt2, "llama": llama}


def build(args):
    """The model with random weights, made in its dtype on its device."""
    entries = tomllib.loads(args.models.read_text())["model"]
    entry = next((s for s in entries if s["id"] == args.model), None)
    if entry is None or entry["family"] not in FAMILIES:
        raise SystemExit(f"{args.model!r} is no causal language model of {args.models}")
    config, net = FAMILIES[entry["family"]](entry["architecture"])
    torch.manual_seed(20261121)
    torch.set_default_dtype(DTYPES[args.dtype])
    with torch.device(args.device):
        return config, net(config).eval()


def report(args, name, samples, items, **parameters):
    median = statistics.median(samples)
    line = {
        "peer": "transformers",
        "name": name,
        "model": args.model,
        "device": args.device,
        "dtype": args.dtype,
        "batch": args.batch,
        **parameters,
        "samples": len(samples),
        "median_s": median,
        "best_s": min(samples),
        "items_per_s": items / median,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line), flush=True)


def timed(args, work):
    """What the work gives, and its time until the device is done with it."""
    start = time.perf_counter()
    result = work()
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


@torch.inference_mode()
def measure(args):
    config, model = build(args)
    prompt = torch.randint(config.vocab_size, (args.batch, args.context), device=args.device)

    def prefill(cache):
        """Reads the prompts into the cache; logits of the last position only, as warpmark does."""
        return model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def step(token, cache):
        logits = model(token, past_key_values=cache, use_cache=True).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    samples = []
    for _ in range(args.repeats + 1):
        cache = transformers.DynamicCache(config=config)
        samples.append(timed(args, lambda: prefill(cache))[1])
    # The first one warms up, here and below.
    tokens = args.batch * args.context
    report(args, "prefill", samples[1:], tokens, prompt=args.context)

    # The growing cache is what `generate` uses by default, the static one the like of warpmark's;
    # both are reported and the faster is the peer to beat.
    for kind in ("dynamic", "static"):
        samples = []
        for repeat in range(args.repeats + 1):
            if kind == "dynamic":
                cache = transformers.DynamicCache(config=config)
            else:
                cache = StaticCache(config=config, max_cache_len=args.context + STEPS)
            token = prefill(cache).logits[:, -1].argmax(-1, keepdim=True)
            for _ in range(STEPS):
                token, time_s = timed(args, lambda: step(token, cache))
                if repeat > 0:
                    samples.append(time_s)
        report(args, "decode", samples, args.batch, cache=kind, context=args.context)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an id of models.toml")
    parser.add_argument("--models", type=pathlib.Path, default=CATALOG, help="another catalog")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
