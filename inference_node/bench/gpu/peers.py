"""transformers on the same card with weights of the same shape: compiled at batch 1, and its continuous batching."""

import random
import time
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from inference_node.bench.gpu.random_model import CONFIG


def run(report: Any) -> None:
    config = LlamaConfig(**{key: value for key, value in CONFIG.items() if key != "model_type"})
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)
    # Their generate switches gradients off by itself.
    report.attempt("peer: generate_batch", lambda: _batched(report, model))
    model.set_attn_implementation("sdpa")
    report.attempt("peer: compiled", lambda: _compiled(report, model))


def _compiled(report: Any, model: Any) -> None:
    """Static cache and torch.compile, as transformers' own generate does it: 1,024 tokens of context at the end."""
    prompt = torch.randint(0, CONFIG["vocab_size"], (1, 896), device="cuda")
    began = time.perf_counter()

    def seconds(count: int) -> float:
        settings = GenerationConfig(
            max_new_tokens=count, min_new_tokens=count, do_sample=False, cache_implementation="static", eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(prompt, generation_config=settings)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(128)
    seconds(128)
    compiled = time.perf_counter() - began
    long, short = min(seconds(128) for _ in range(3)), min(seconds(28) for _ in range(3))
    report.add(
        what="peer: compiled",
        batch=1,
        context=1024,
        tokens_per_s=round(100 / (long - short), 1),
        compile_s=round(compiled, 1),
    )


def _batched(report: Any, model: Any) -> None:
    """generate_batch: 256 requests of 128 tokens in, 128 out."""
    draw = random.Random(0)
    prompts = [[draw.randrange(CONFIG["vocab_size"]) for _ in range(128)] for _ in range(256)]
    settings = GenerationConfig(max_new_tokens=128, do_sample=False, eos_token_id=-1, pad_token_id=0)
    model.set_attn_implementation("paged|sdpa")
    model.generate_batch(inputs=prompts[:8], generation_config=settings)
    torch.cuda.synchronize()
    start = time.perf_counter()
    outputs = model.generate_batch(inputs=prompts, generation_config=settings)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    tokens = sum(len(output.generated_tokens) for output in outputs.values())
    report.add(
        what="peer: generate_batch", requests=256, prompt=128, output=128, tokens=tokens, seconds=round(seconds, 2),
        tokens_per_s=round(tokens / seconds),
    )  # fmt: skip
