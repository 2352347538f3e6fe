"""OpenVINO GenAI's continuous batching behind the thin door. Run by the Python of a virtual environment that has it."""

import queue
import threading
from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino_genai as genai
from completions import Request, options, serve


class OpenVinoEngine:
    """One thread steps the pipeline as long as anything runs."""

    def __init__(self, model: str, precision_hint: str, max_streams: int, cache_gb: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = max_streams
        scheduler.cache_size = cache_gb
        scheduler.enable_prefix_caching = True
        hints = {"INFERENCE_PRECISION_HINT": precision_hint} if precision_hint != "default" else {}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", hints)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._new: queue.SimpleQueue[Request] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, request: Request) -> None:
        self._new.put(request)

    def encode(self, text: str) -> Sequence[int]:
        ids: Sequence[int] = self._tokenizer.encode(text).input_ids.data[0].tolist()
        return ids

    def decode(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _run(self) -> None:
        running: dict[int, tuple[Request, genai.GenerationHandle]] = {}
        while True:
            while not running or not self._new.empty():
                request = self._new.get()
                running[request.number] = (request, self._add(request))
            self._pipeline.step()
            for number, (request, handle) in list(running.items()):
                tokens: list[int] = []
                while handle.can_read():
                    for output in handle.read().values():
                        tokens += output.generated_ids
                finished = handle.get_status() != genai.GenerationStatus.RUNNING and not handle.can_read()
                if tokens or finished:
                    request.deliver(tokens, finished)
                if finished:
                    del running[number]

    def _add(self, request: Request) -> "genai.GenerationHandle":
        config = genai.GenerationConfig()
        config.max_new_tokens = request.max_tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = ov.Tensor(np.array([request.prompt], dtype=np.int64))
        return self._pipeline.add_request(request.number, ids, config)


if __name__ == "__main__":
    given = options("model", "name", "port", "precision-hint", "max-streams", "cache-gb")
    serve(
        OpenVinoEngine(given["model"], given["precision-hint"], int(given["max-streams"]), int(given["cache-gb"])),
        int(given["port"]),
        given["name"],
    )
