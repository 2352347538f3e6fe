"""transformers' continuous batching. Run by `door.py` with the Python of an environment that has torch and it."""

import threading

import torch
from pipe import Pipe, options
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

# The library infers these from GPU memory; on a CPU they must be given.
_PAGE, _BLOCKS, _BATCH_TOKENS = 256, 128, 2048
# The library's word for "no token ends an answer".
_NO_EOS = -1


class TransformersEngine:
    """The library's manager has a thread of its own that steps; one of ours takes its outputs, one brings it requests."""

    def __init__(self, model: str, max_streams: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(model, local_files_only=True, dtype=torch.bfloat16).eval()
        self._manager = network.init_continuous_batching(
            GenerationConfig(do_sample=False, eos_token_id=_NO_EOS, max_new_tokens=64),
            ContinuousBatchingConfig(
                page_size=_PAGE,
                num_blocks=_BLOCKS,
                max_batch_tokens=_BATCH_TOKENS,
                max_requests_per_batch=max_streams,
            ),
        )

    def run(self) -> None:
        """Until the door is gone."""
        self._manager.start()
        pipe = Pipe(self._tokenizer.encode, lambda token: str(self._tokenizer.decode([token])))
        threading.Thread(target=self._pass_on, args=[pipe], daemon=True).start()
        while True:
            for request in pipe.requests(wait=True):
                self._manager.add_request(
                    list(request.prompt),
                    str(request.number),
                    max_new_tokens=request.max_tokens,
                    streaming=True,
                    eos_token_id=_NO_EOS,
                )

    def _pass_on(self, pipe: Pipe) -> None:
        sent: dict[str, int] = {}
        for output in self._manager:
            known = sent.get(output.request_id, 0)
            sent[output.request_id] = len(output.generated_tokens)
            ended = output.is_finished()
            pipe.send([(int(output.request_id), output.generated_tokens[known:], ended)])
            if ended:
                del sent[output.request_id]


if __name__ == "__main__":
    given = options("model", "max-streams", "threads")
    TransformersEngine(given["model"], int(given["max-streams"]), int(given["threads"])).run()
