"""Latent diffusion by diffusers and transformers: text encoders, UNet steps, decoder, and whole images.

    python peers/diffusion.py [--model sd-small] [--device cpu] [--dtype f32] [--threads 2] [--repeats 7]

The architecture is that of the model's entry in models.toml; weights are random at those shapes
(seeded), so nothing is downloaded, and speed does not depend on their values. A step is one pass of the
UNet with guidance: two rows for each image, one with its text and one with none. Attention is what
diffusers and transformers take by default (PyTorch's scaled_dot_product_attention). One JSON object a
line on stdout, times in seconds, each the median of its samples. The packages are pinned in
peers/requirements.txt.
"""

import argparse
import json
import pathlib
import statistics
import time
import tomllib

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models.toml"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
PIXELS_OF_A_LATENT = 8
TIMESTEP = 501


def entry(name):
    models = tomllib.loads(MODELS.read_text())["model"]
    return next(m for m in models if m["id"] == name and m["family"] == "diffusion")


def build_unet(numbers):
    crossed = [count > 0 for count in numbers["transformers"]]
    added = numbers.get("added")
    more = {}
    if added is not None:
        more = dict(
            addition_embed_type="text_time",
            addition_time_embed_dim=added["time_width"],
            projection_class_embeddings_input_dim=6 * added["time_width"] + added["pooled_width"],
        )
    return UNet2DConditionModel(
        in_channels=numbers["latents"],
        out_channels=numbers["latents"],
        block_out_channels=numbers["channels"],
        layers_per_block=numbers["layers"],
        down_block_types=["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed],
        up_block_types=["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(crossed)],
        transformer_layers_per_block=[max(count, 1) for count in numbers["transformers"]],
        # diffusers calls the number of heads by this name.
        attention_head_dim=numbers["heads"],
        cross_attention_dim=numbers["text_width"],
        use_linear_projection=numbers["linear_projection"],
        norm_num_groups=numbers["groups"],
        **more,
    )


def build_vae(numbers, latents):
    depth = len(numbers["channels"])
    return AutoencoderKL(
        block_out_channels=numbers["channels"],
        layers_per_block=numbers["layers"],
        norm_num_groups=numbers["groups"],
        latent_channels=latents,
        scaling_factor=numbers["scaling"],
        down_block_types=["DownEncoderBlock2D"] * depth,
        up_block_types=["UpDecoderBlock2D"] * depth,
    )


def build_text(numbers):
    config = CLIPTextConfig(
        vocab_size=numbers["vocabulary"],
        max_position_embeddings=numbers["positions"],
        hidden_size=numbers["width"],
        num_hidden_layers=numbers["layers"],
        num_attention_heads=numbers["heads"],
        intermediate_size=numbers["hidden"],
        hidden_act=numbers["activation"],
        projection_dim=numbers.get("pooled_width", numbers["width"]),
    )
    maker = CLIPTextModelWithProjection if "pooled_width" in numbers else CLIPTextModel
    return maker(config)


class Nets:
    def __init__(self, args):
        model = entry(args.model)
        architecture = model["architecture"]
        torch.manual_seed(20261127)
        ready = lambda net: net.to(args.device, DTYPES[args.dtype]).eval()
        self.args, self.architecture, self.inputs = args, architecture, model["inputs"]
        self.latents = architecture["unet"]["latents"]
        self.unet = ready(build_unet(architecture["unet"]))
        self.vae = ready(build_vae(architecture["vae"], self.latents))
        self.texts = [ready(build_text(numbers)) for numbers in architecture["text"]]

    def tokens(self, rows):
        of = lambda numbers: torch.randint(
            numbers["vocabulary"], (rows, numbers["positions"]), device=self.args.device
        )
        return [of(numbers) for numbers in self.architecture["text"]]

    def noise(self, rows, size):
        side = size // PIXELS_OF_A_LATENT
        return torch.randn(rows, self.latents, side, side).to(self.args.device, DTYPES[self.args.dtype])

    def encode(self, tokens):
        """The texts beside each other, and the pooled text where there is one."""
        states, pooled = [], None
        for encoder, ids, numbers in zip(self.texts, tokens, self.architecture["text"]):
            early = numbers["output"] == "penultimate"
            out = encoder(ids, output_hidden_states=early)
            states.append(out.hidden_states[-2] if early else out.last_hidden_state)
            pooled = getattr(out, "text_embeds", None)
        return torch.cat(states, -1), pooled

    def condition(self, rows, size):
        text, pooled = self.encode(self.tokens(rows))
        added = {}
        if "added" in self.architecture["unet"]:
            ids = torch.tensor([[size, size, 0, 0, size, size]], device=self.args.device)
            ids = ids.to(text.dtype).repeat(rows, 1)
            added = dict(added_cond_kwargs=dict(text_embeds=pooled, time_ids=ids))
        return dict(encoder_hidden_states=text, **added)

    def decode(self, latents):
        return self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]

    def scheduler(self):
        numbers = self.architecture["scheduler"]
        return DDIMScheduler(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=numbers["offset"],
            timestep_spacing=numbers["ddim_spacing"],
            prediction_type="v_prediction" if numbers["prediction"] == "velocity" else "epsilon",
            clip_sample=False,
            set_alpha_to_one=False,
        )

    def generate(self, batch, size, steps):
        scheduler = self.scheduler()
        scheduler.set_timesteps(steps, device=self.args.device)
        latents = self.noise(batch, size)
        condition = self.condition(2 * batch, size)
        guidance = self.inputs["guidance"]
        for timestep in scheduler.timesteps:
            both = torch.cat([latents, latents])
            predicted = self.unet(both, timestep, **condition, return_dict=False)[0]
            shown, empty = predicted.chunk(2)
            guided = empty + guidance * (shown - empty)
            latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
        return self.decode(latents)


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
                "peer": "diffusers",
                "name": f"diffusion-{name}",
                "model": args.model,
                "dtype": args.dtype,
                "device": args.device,
                **parameters,
                "samples": len(samples),
                "median_s": median,
                "best_s": min(samples),
                "items_per_s": items / median,
                "unit": unit,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                "threads": torch.get_num_threads(),
            }
        ),
        flush=True,
    )


@torch.inference_mode()
def measure(args):
    nets = Nets(args)
    wanted = args.phases.split(",")
    for batch in args.batches:
        if "text" in wanted and batch == 1:
            tokens = nets.tokens(batch)
            samples = timed(args, lambda: nets.encode(tokens))
            report(args, "text", samples, tokens[0].numel(), "tok", batch=batch)
        if "unet" in wanted:
            size = nets.inputs["unet"][0]
            latents, condition = nets.noise(2 * batch, size), nets.condition(2 * batch, size)
            samples = timed(args, lambda: nets.unet(latents, TIMESTEP, **condition, return_dict=False))
            report(args, "unet", samples, batch, "step", batch=batch, size=size)
        if "vae" in wanted and batch == 1:
            size = nets.inputs["vae"][0]
            latents = nets.noise(batch, size) * nets.vae.config.scaling_factor
            samples = timed(args, lambda: nets.decode(latents))
            report(args, "vae", samples, batch, "image", batch=batch, size=size)
    if "generate" in wanted:
        size, steps = nets.inputs["generate"][0], nets.inputs["steps"][0]
        samples = timed(args, lambda: nets.generate(1, size, steps))
        report(args, "generate", samples, 1, "image", batch=1, size=size, steps=steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sd-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--phases", default="text,unet,vae,generate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
