"""OpenVINO GenAI's continuous batching. Run by `door.py` with the Python of an environment that has it."""

import numpy as np
import openvino as ov
import openvino_genai as genai
from pipe import Pipe, Request, options


class OpenVinoEngine:
    """One pipeline, stepped as long as anything runs."""

    def __init__(self, model: str, hints: dict[str, str], max_streams: int, cache_gb: int, batched_tokens: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = max_streams
        scheduler.max_num_batched_tokens = batched_tokens
        scheduler.cache_size = cache_gb
        scheduler.enable_prefix_caching = True
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", hints)
        self._tokenizer = self._pipeline.get_tokenizer()

    def run(self) -> None:
        """Until the door is gone."""
        pipe = Pipe(
            lambda text: self._tokenizer.encode(text).input_ids.data[0].tolist(),
            lambda token: str(self._tokenizer.decode([token])),
        )
        running: dict[int, genai.GenerationHandle] = {}
        while True:
            for request in pipe.requests(wait=not running):
                running[request.number] = self._add(request)
            self._pipeline.step()
            pieces = []
            for number, handle in list(running.items()):
                tokens: list[int] = []
                while handle.can_read():
                    for output in handle.read().values():
                        tokens += output.generated_ids
                ended = handle.get_status() != genai.GenerationStatus.RUNNING
                if tokens or ended:
                    pieces.append((number, tokens, ended))
                if ended:
                    del running[number]
            pipe.send(pieces)

    def _add(self, request: Request) -> "genai.GenerationHandle":
        config = genai.GenerationConfig()
        config.max_new_tokens = request.max_tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = ov.Tensor(np.array([request.prompt], dtype=np.int64))
        return self._pipeline.add_request(request.number, ids, config)


if __name__ == "__main__":
    given = options("model", "precision-hint", "dynamic-group", "max-streams", "cache-gb", "batched-tokens")
    numbers = (int(given[name]) for name in ("max-streams", "cache-gb", "batched-tokens"))
    hints = {"INFERENCE_PRECISION_HINT": given["precision-hint"]}
    if given["dynamic-group"] != "default":
        hints["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = given["dynamic-group"]
    OpenVinoEngine(given["model"], hints, *numbers).run()
