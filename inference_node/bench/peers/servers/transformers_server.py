"""transformers' continuous batching behind the thin door. Run by the Python of a virtual environment that has torch and it."""

import asyncio
from collections.abc import Sequence

import torch
from completions import Request, options, serve
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

# The library infers these from GPU memory, and on a CPU they must be given.
_PAGE, _BLOCKS, _BATCH_TOKENS = 256, 128, 2048


class TransformersEngine:
    """The library's own manager thread steps; it hands outputs to the event loop itself."""

    def __init__(self, model: str, max_streams: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(model, local_files_only=True, dtype=torch.bfloat16).eval()
        self._manager = network.init_continuous_batching(
            # -1 is the library's word for no end token: every answer has its full length.
            GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=64),
            ContinuousBatchingConfig(
                page_size=_PAGE,
                num_blocks=_BLOCKS,
                max_batch_tokens=_BATCH_TOKENS,
                max_requests_per_batch=max_streams,
            ),
        )
        self._manager.start()

    def submit(self, request: Request) -> None:
        name, sent = str(request.number), 0

        def take(output: object) -> None:
            nonlocal sent
            tokens = output.generated_tokens  # type: ignore[attr-defined] # the library's GenerationOutput: all so far
            request.deliver(tokens[sent:], output.is_finished())  # type: ignore[attr-defined]
            sent = len(tokens)

        self._manager.register_result_handler(name, take)
        # It takes a lock that the stepping thread holds for a moment, so not on the event loop.
        asyncio.get_running_loop().run_in_executor(
            None,
            lambda: self._manager.add_request(
                list(request.prompt), name, max_new_tokens=request.max_tokens, streaming=True, eos_token_id=-1
            ),
        )

    def encode(self, text: str) -> Sequence[int]:
        ids: Sequence[int] = self._tokenizer.encode(text)
        return ids

    def decode(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))


if __name__ == "__main__":
    given = options("model", "name", "port", "max-streams", "threads")
    serve(
        TransformersEngine(given["model"], int(given["max-streams"]), int(given["threads"])),
        int(given["port"]),
        given["name"],
    )
