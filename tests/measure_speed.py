"""How fast and how big: one row of the README's table a command.

    python tests/measure_speed.py decode --shape 1.5B --batch 64           # tokens/s, and those of `transformers`
    python tests/measure_speed.py decode --init FOLDER --batch 16          # the same for a downloaded checkpoint
    python tests/measure_speed.py step --shape 1.5B --batch 8 --recompute    # a training step: FLOPs, memory

Weights are random unless --init names a folder: speed does not depend on them. What this file is not: it measures
nothing that a model says. It needs `transformers` (pip install -e ".[test]"), which makes the random checkpoints too.
"""
import argparse
import copy
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rollout  # noqa: E402  (the file may be run from anywhere)
import train  # noqa: E402
from model import GPT, Cache, load_pretrained  # noqa: E402

SHAPES = {  # vocabulary, width, hidden, layers, heads, key/value heads: of the small GPT, SmolLM2, Qwen2.5
    "0.2M": (51, 64, 192, 4, 4, 4), "135M": (49152, 576, 1536, 30, 9, 3),
    "0.5B": (151936, 896, 4864, 24, 14, 2), "1.5B": (151936, 1536, 8960, 28, 12, 2)}
NAMES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads")


def models(a: argparse.Namespace, dtype: torch.dtype) -> tuple[GPT, torch.nn.Module]:
    """Ours and that of `transformers`, from one folder."""
    import transformers
    folder = a.init or tempfile.mkdtemp()
    if not a.init:
        config = transformers.LlamaConfig(**dict(zip(NAMES, SHAPES[a.shape])), tie_word_embeddings=True)
        transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(a.device).eval()
    return load_pretrained(folder, a.device, dtype), theirs


def best(action, repeats: int) -> float:
    """Seconds of the fastest of some repetitions; the first one warms up."""
    times = []
    for _ in range(repeats + 1):
        wait, started = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None, time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def decode(a: argparse.Namespace, dtype: torch.dtype) -> str:
    """Greedy continuation of `batch` prompts. The bound: every step reads all weights and the cache once."""
    ours, theirs = models(a, dtype)
    prompts = torch.randint(ours.config.vocab_size, (a.batch, a.prompt), device=a.device)
    counts = torch.full((a.batch,), a.prompt, device=a.device)
    cache = lambda: Cache(ours, a.batch, a.prompt + a.new)

    def transformers_generate():
        theirs.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=a.new, min_new_tokens=a.new,
                        do_sample=False, pad_token_id=0)

    mine = best(lambda: rollout.generate(ours, cache(), prompts, counts, -1, a.new, 0.0), a.repeats)
    other = best(transformers_generate, a.repeats)
    block = torch.ones(2 ** 26, device=a.device)
    bandwidth = 1e9 * a.bandwidth or block.nbytes / best(lambda: block.sum(), 5)  # bytes per second
    size = sum(weight.numel() * weight.element_size() for weight in ours.parameters())
    size += cache().keys_values.nbytes * (a.prompt + a.new / 2) / (a.prompt + a.new)  # bytes read in a middle step
    share = a.new * size / bandwidth / mine
    return (f"| decode | {a.init or a.shape} | {a.dtype} | {a.batch} | {a.batch * a.new / mine:,.0f} | "
            f"{a.batch * a.new / other:,.0f} | {other / mine:.2f} | {share:.0%} |")


def step(a: argparse.Namespace, dtype: torch.dtype) -> str:
    """One step of policy, reference and AdamW on `batch` conversations of two attempts, `new` tokens together. FLOPs: 6
    a parameter and token of the policy, 2 of the reference; what is computed twice counts once."""
    policy = models(a, dtype)[0]
    policy.recompute, reference = a.recompute, copy.deepcopy(policy).requires_grad_(False)
    episodes = rollout.empty_episodes(a.batch, a.new, 2, torch.device(a.device))
    episodes.tokens.random_(policy.config.vocab_size)
    episodes.turn[:, 1:], episodes.turn[:, a.new // 2:], episodes.lengths[:] = 1, 2, a.new
    optimizer = torch.optim.AdamW(train.masters(policy).values(), lr=1e-6)
    rest = episodes, torch.randn(a.batch, 2, device=a.device), (0.1, 0.1), train.Config(micro_batch=a.micro_batch)
    seconds = best(lambda: train.learn(policy, reference, optimizer, *rest), a.repeats)
    square = torch.randn(4096, 4096, device=a.device, dtype=dtype)
    peak = 1e12 * a.peak or 2 * 4096 ** 3 / best(lambda: square @ square, 3)  # FLOPs per second
    flops = 8 * sum(weight.numel() for weight in policy.parameters()) * a.batch * a.new
    memory = torch.cuda.max_memory_allocated() if a.device == "cuda" else 1024 * resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss
    return (f"| step | {a.init or a.shape} | {a.dtype} | {a.batch} x {a.new} | {a.batch * a.new / seconds:,.0f} | "
            f"{flops / seconds / peak:.0%} of {peak / 1e12:.2f} TFLOPS | {memory / 2 ** 30:.1f} GiB |")


def main(argv: list[str] | None = None):
    """Read the command line, print a row."""
    parser = argparse.ArgumentParser("measure_speed.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("decode", "step"))
    parser.add_argument("--shape", choices=SHAPES, default="135M")
    parser.add_argument("--init", default="", help="a checkpoint's folder, in place of --shape")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--recompute", action="store_true", help="as in train.py")
    for name, default, text in (
            ("batch", 16, "rows"), ("prompt", 64, "decode: tokens before the first new one"),
            ("new", 64, "decode: new tokens; step: tokens a row"), ("micro-batch", 4, "step: rows a forward pass"),
            ("threads", 1, "CPU threads"), ("repeats", 3, "the fastest counts"),
            ("peak", 0.0, "TFLOPS that are 100 %% (H200, bfloat16: 989); 0: a matrix product's, measured here"),
            ("bandwidth", 0.0, "GB/s that are 100 %% (H200: 4800); 0: a sum's, measured here")):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    a = parser.parse_args(argv)
    torch.set_num_threads(a.threads)
    print({"decode": decode, "step": step}[a.do](a, getattr(torch, a.dtype)))


if __name__ == "__main__":
    main()
