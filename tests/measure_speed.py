"""How fast and how big: one row of a table in results/README.md a command.

    python tests/measure_speed.py decode --shape 1.5B --batch 64           # tokens/s, ours, theirs
    python tests/measure_speed.py decode --init FOLDER --batch 16          # a downloaded checkpoint
    python tests/measure_speed.py step --shape 1.5B --batch 8 --recompute  # a step: FLOPs, memory

Weights are random unless --init names a folder: speed does not depend on them. What this file is
not: it measures nothing that a model says. It needs `transformers` (pip install -e ".[test]"),
which is what decoding is compared with, and makes the random checkpoints, too.
"""

import argparse
import copy
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # may be run from anywhere
import rollout  # noqa: E402
import train  # noqa: E402
from extras.checkpoints import load_pretrained  # noqa: E402
from extras.options import Config  # noqa: E402
from model import GPT, Cache  # noqa: E402

NAMES = (  # of the numbers in SHAPES
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
SHAPES = {
    "0.2M": (51, 64, 192, 4, 4, 4),  # the small GPT
    "135M": (49152, 576, 1536, 30, 9, 3),  # SmolLM2
    "0.5B": (151936, 896, 4864, 24, 14, 2),  # Qwen2.5
    "1.5B": (151936, 1536, 8960, 28, 12, 2),  # Qwen2.5
}


def models(a: argparse.Namespace, dtype: torch.dtype) -> tuple[GPT, torch.nn.Module]:
    """Ours and that of `transformers`, from one folder."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = a.init
    if not folder:
        folder = tempfile.mkdtemp()
        config = LlamaConfig(**dict(zip(NAMES, SHAPES[a.shape])), tie_word_embeddings=True)
        AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(a.device).eval()
    return load_pretrained(folder, a.device, dtype), theirs


def best(action, repeats: int) -> float:
    """Seconds of the fastest of some repetitions, after one that warms up."""
    seconds = []
    action()
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        action()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def wait():
    """Until a GPU has done what it was asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bytes_of(model: GPT) -> int:
    """All weights."""
    return sum(weight.nbytes for weight in model.parameters())


def decode(a: argparse.Namespace, dtype: torch.dtype) -> str:
    """Greedy continuation of `batch` prompts.

    The last column is the share of what memory allows: every step reads all weights once, and the
    keys and values of all tokens before it.
    """
    ours, theirs = models(a, dtype)
    prompts = torch.randint(ours.config.vocab_size, (a.batch, a.prompt), device=a.device)
    counts = torch.full((a.batch,), a.prompt, device=a.device)

    def generate_ours():
        cache = Cache(ours, a.batch, a.prompt + a.new)
        rollout.generate(ours, cache, prompts, counts, -1, a.new, temperature=0.0)

    def generate_theirs():
        theirs.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=a.new,
            min_new_tokens=a.new,
            do_sample=False,
            pad_token_id=0,
        )

    mine = best(generate_ours, a.repeats)
    other = best(generate_theirs, a.repeats)
    tokens = a.batch * a.new
    filled_half_way = Cache(ours, a.batch, a.prompt + a.new // 2).keys_values.nbytes
    bound = a.new * (bytes_of(ours) + filled_half_way) / bandwidth(a.device)  # seconds
    return row(
        "decode",
        a.init or a.shape,
        a.dtype,
        f"{a.batch}",
        f"{tokens / mine:,.0f}",
        f"{tokens / other:,.0f}",
        f"{other / mine:.2f}",
        f"{bound / mine:.0%}",
    )


def step(a: argparse.Namespace, dtype: torch.dtype) -> str:
    """One step of policy, reference and AdamW on `batch` conversations of two attempts, `new`
    tokens together.

    FLOPs: 6 a parameter and token of the policy, 2 of the reference; what is computed twice counts
    once.
    """
    policy, _ = models(a, dtype)
    policy.recompute = a.recompute
    reference = copy.deepcopy(policy).requires_grad_(False)
    episodes = rollout.empty_episodes(a.batch, a.new, 2, torch.device(a.device))
    episodes.tokens.random_(policy.config.vocab_size)
    episodes.turn[:, 1:] = 1
    episodes.turn[:, a.new // 2 :] = 2
    episodes.lengths[:] = a.new
    optimizer = torch.optim.AdamW(train.masters(policy).values(), lr=1e-6)
    advantages = torch.randn(a.batch, 2, device=a.device)
    config = Config(micro_batch=a.micro_batch)

    def learn():
        train.learn(policy, reference, optimizer, episodes, advantages, (0.1, 0.1), config)

    seconds = best(learn, a.repeats)
    tokens = a.batch * a.new
    parameters = sum(weight.numel() for weight in policy.parameters())
    flops = 8 * parameters * tokens / seconds  # a second
    possible = matrix_flops(a.device, dtype)
    return row(
        "step",
        a.init or a.shape,
        a.dtype,
        f"{a.batch} x {a.new}",
        f"{tokens / seconds:,.0f}",
        f"{flops / possible:.0%} of {possible / 1e12:.2f} TFLOPS",
        f"{peak_memory(a.device) / 2**30:.1f} GiB",
    )


def bandwidth(device: str) -> float:
    """Bytes a second that this memory gives to a sum."""
    block = torch.ones(2**26, device=device)
    return block.nbytes / best(block.sum, 5)


def matrix_flops(device: str, dtype: torch.dtype) -> float:
    """FLOPs a second of a product of two matrices: 2 n^3 in all."""
    square = torch.randn(4096, 4096, device=device, dtype=dtype)
    return 2 * 4096**3 / best(lambda: square @ square, 3)


def peak_memory(device: str) -> int:
    """Bytes: of the GPU, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def main(argv: list[str] | None = None):
    """Read the command line, print a row."""
    parser = argparse.ArgumentParser("measure_speed.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("do", choices=("decode", "step"))
    add("--shape", choices=SHAPES, default="135M")
    add("--init", default="", help="a checkpoint's folder, in place of --shape")
    add("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--recompute", action="store_true", help="as in train.py")
    add("--batch", type=int, default=16, help="rows")
    add("--prompt", type=int, default=64, help="decode: tokens before the first new one")
    add("--new", type=int, default=64, help="decode: new tokens; step: tokens a row")
    add("--micro-batch", type=int, default=4, help="step: rows a forward pass")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--repeats", type=int, default=3, help="the fastest counts")
    a = parser.parse_args(argv)
    torch.set_num_threads(a.threads)
    measure = {"decode": decode, "step": step}[a.do]
    print(measure(a, getattr(torch, a.dtype)))


if __name__ == "__main__":
    main()
