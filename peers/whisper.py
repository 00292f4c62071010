"""Whisper by Hugging Face transformers: encoder, single decode steps, and whole transcriptions.

    python peers/whisper.py [--model tiny] [--device cpu] [--dtype f32] [--threads 2] [--repeats 5]

Weights are random at the true shapes (seeded), so nothing is downloaded; speed does not depend on
their values. Texts never end by themselves: 3 tokens are written for each second of audio, as warpmark
does. Audio is noise, for the same reason; the spectrogram is transformers' own. One JSON object a line on
stdout, times in seconds, each the median of its samples. The packages are pinned in
peers/requirements.txt.
"""

import argparse
import json
import statistics
import time

import torch
import transformers
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    StaticCache,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.generation import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# width, heads, layers of encoder and decoder, mels, vocabulary
SIZES = {
    "tiny": (384, 6, 4, 4, 80, 51865),
    "base": (512, 8, 6, 6, 80, 51865),
    "small": (768, 12, 12, 12, 80, 51865),
    "medium": (1024, 16, 24, 24, 80, 51865),
    "large-v3": (1280, 20, 32, 32, 128, 51866),
    "large-v3-turbo": (1280, 20, 32, 4, 128, 51866),
}
PROMPT = [50258, 50259, 50359, 50363]
STEPS, CONTEXT, TOKENS_PER_SECOND = 16, 96, 3


def build(args):
    width, heads, encoder, decoder, mels, vocabulary = SIZES[args.model]
    torch.manual_seed(20261121)
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=encoder,
        decoder_layers=decoder,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return WhisperForConditionalGeneration(config).to(args.device, DTYPES[args.dtype]).eval()


def timed(args, work):
    """Seconds of each repeat but the first, which warms up."""
    samples = []
    for repeat in range(args.repeats + 1):
        start = time.perf_counter()
        work()
        if args.device != "cpu":
            torch.cuda.synchronize()
        if repeat > 0:
            samples.append(time.perf_counter() - start)
    return samples


def report(args, name, samples, items, unit, **parameters):
    median = statistics.median(samples)
    print(
        json.dumps(
            {
                "peer": "transformers",
                "name": f"whisper-{name}",
                "model": f"whisper-{args.model}",
                "dtype": args.dtype,
                "device": args.device,
                **parameters,
                "samples": len(samples),
                "median_s": median,
                "best_s": min(samples),
                "items_per_s": items / median,
                "unit": unit,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "threads": torch.get_num_threads(),
            }
        ),
        flush=True,
    )


def decode(args, model, encoded, kind):
    """Single steps after a text of CONTEXT tokens, over a growing cache or a static one."""
    config, batch = model.config, len(encoded)
    states = BaseModelOutput(last_hidden_state=encoded)

    def cache():
        if kind == "dynamic":
            return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        own = StaticCache(config=config, max_cache_len=CONTEXT + STEPS)
        audio = StaticCache(config=config, max_cache_len=config.max_source_positions)
        return EncoderDecoderCache(own, audio)

    steps = []
    text = torch.randint(config.vocab_size, (batch, CONTEXT), device=args.device)
    for repeat in range(args.repeats + 1):
        past = cache()

        def read(tokens):
            logits = model(
                encoder_outputs=states, decoder_input_ids=tokens, past_key_values=past, use_cache=True
            ).logits
            return logits[:, -1].argmax(-1, keepdim=True)

        token = read(text)
        for _ in range(STEPS):
            start = time.perf_counter()
            token = read(token)
            if args.device != "cpu":
                torch.cuda.synchronize()
            if repeat > 0:
                steps.append(time.perf_counter() - start)
    report(args, "decode", steps, batch, "tok", batch=batch, context=CONTEXT, cache=kind)


def transcribe(args, model, extractor, seconds, beams):
    """From samples to tokens by transformers' own search."""
    audio = torch.randn(seconds * 16_000).mul(0.1).numpy()
    settings = GenerationConfig(
        num_beams=beams,
        max_new_tokens=seconds * TOKENS_PER_SECOND,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=50257,
        decoder_start_token_id=PROMPT[0],
    )
    prompt = torch.tensor([PROMPT], device=args.device)

    def work():
        features = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features
        features = features.to(args.device, DTYPES[args.dtype])
        # Whisper's own generate adds rules for time stamps and languages; this is the search itself.
        GenerationMixin.generate(
            model, input_features=features, decoder_input_ids=prompt, generation_config=settings
        )

    samples = timed(args, work)
    clip = f"{seconds}s/" + ("greedy" if beams == 1 else f"beam{beams}")
    report(args, "transcribe", samples, seconds, "audio s", batch=1, clip=clip)


@torch.inference_mode()
def measure(args):
    model = build(args)
    config = model.config
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    wanted = args.phases.split(",")
    if "mel" in wanted:
        audio = torch.randn(30 * 16_000).mul(0.1).numpy()
        samples = timed(args, lambda: extractor(audio, sampling_rate=16_000, return_tensors="pt"))
        report(args, "mel", samples, 30, "audio s", batch=1)
    for batch in args.batches:
        mels = torch.randn(batch, config.num_mel_bins, 3000).to(args.device, DTYPES[args.dtype])
        if "encode" in wanted:
            samples = timed(args, lambda: model.model.encoder(mels))
            report(args, "encode", samples, 30 * batch, "audio s", batch=batch)
        if "decode" in wanted:
            encoded = model.model.encoder(mels).last_hidden_state
            for kind in ("dynamic", "static"):
                decode(args, model, encoded, kind)
    if "transcribe" in wanted:
        for seconds in (5, 30):
            for beams in (1, 5):
                transcribe(args, model, extractor, seconds, beams)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1])
    parser.add_argument("--phases", default="mel,encode,decode,transcribe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
