"""One request while the engine serves it: its sequence, its text so far, and when it must end."""

import secrets
from dataclasses import dataclass

from inference_node.engine.detokenizer import Detokenizer, StopStrings, TextDecoder
from inference_node.engine.requests import EngineRequest, RequestTiming, TokenDelta, TokenLogprob, TopLogprob
from inference_node.engine.token_bytes import ByteDetokenizer, TokenBytes
from inference_node.model.sampler import SampledToken
from inference_node.scheduling.sequence import FinishReason, Sequence


@dataclass(frozen=True, slots=True)
class StepStamp:
    """The step that a token came from, when it ended, and the arithmetic it ran under."""

    number: int
    ended_s: float
    numerics: str


@dataclass(frozen=True, slots=True)
class Ending:
    reason: FinishReason
    stop: str | int | None = None


class Answer:
    """Turns sampled tokens into deltas. `eos` are the model's end tokens, `max_model_len` bounds prompt plus answer.

    With `token_bytes` text is put together from them, a fifth of the work that asking the decoder for each token is.
    """

    def __init__(
        self,
        request: EngineRequest,
        decoder: TextDecoder,
        *,
        eos: frozenset[int],
        max_model_len: int,
        arrived_s: float,
        token_bytes: TokenBytes | None = None,
    ) -> None:
        self.request = request
        self.sequence = Sequence(
            request_id=request.request_id,
            tokens=list(request.prompt_token_ids),
            num_prompt_tokens=len(request.prompt_token_ids),
            sampling=request.sampling,
            arrived_s=arrived_s,
            priority=request.priority,
            deadline_s=None if request.deadline_s is None else arrived_s + request.deadline_s,
            cache_salt=request.cache_salt,
        )
        # Nobody waits for it any more. Set before its cancelling is under way, so that no other engine takes it over meanwhile.
        self.is_cancelled = False
        # Without a seed of its own a request still keeps one, so that preemption does not change its draws.
        self.seed = request.sampling.seed if request.sampling.seed is not None else secrets.randbits(63)
        self._decoder = decoder
        self._detokenizer: Detokenizer | ByteDetokenizer = (
            Detokenizer(decoder, request.prompt_token_ids) if token_bytes is None else ByteDetokenizer(token_bytes)
        )
        self._stops = StopStrings(request.sampling.stop)
        self._stop_ids = frozenset(request.sampling.stop_token_ids)
        self._eos = frozenset() if request.sampling.ignore_eos else eos
        self._longest = min(max_model_len, len(request.prompt_token_ids) + request.sampling.max_tokens)

    def take(self, token: SampledToken, stamp: StepStamp) -> TokenDelta:
        """Adds a token. The delta carries a finish_reason when the answer is complete with it."""
        sequence = self.sequence
        sequence.tokens.append(token.token_id)
        sequence.last_token_s = stamp.ended_s
        if sequence.first_token_s is None:
            sequence.first_token_s = stamp.ended_s
        text, stop = self._detokenizer.push(token.token_id), None
        if self.request.sampling.stop:
            text, stop = self._stops.push(text)
        ending = self._ending(token.token_id, stop)
        if ending is not None and stop is None:
            # The rest may still complete a stop string, which then is not shown.
            rest = self._stops.push(self._detokenizer.flush())
            text += rest.text
            if rest.stop is None:
                text += self._stops.flush()
            else:
                ending = Ending(FinishReason.STOP, rest.stop)
        return self._delta(stamp, (token.token_id,), text, self._logprobs(token), ending)

    def end(self, reason: FinishReason, stamp: StepStamp, error: str | None = None) -> TokenDelta:
        """The last delta of a request that ends without a further token: cancelled, or failed."""
        text = self._stops.flush() if reason is FinishReason.CANCELLED else ""
        return self._delta(stamp, (), text, None, Ending(reason), error)

    def _ending(self, token: int, stop: str | None) -> Ending | None:
        if stop is not None:
            return Ending(FinishReason.STOP, stop)
        if token in self._stop_ids:
            return Ending(FinishReason.STOP, token)
        if token in self._eos:
            return Ending(FinishReason.STOP)
        return Ending(FinishReason.LENGTH) if self.sequence.num_tokens >= self._longest else None

    def _logprobs(self, token: SampledToken) -> tuple[TokenLogprob, ...] | None:
        if token.logprob is None:
            return None
        top = tuple(TopLogprob(i, self._text_of(i), value) for i, value in token.top)
        return (TokenLogprob(token.token_id, self._text_of(token.token_id), token.logprob, top),)

    def _text_of(self, token: int) -> str:
        return self._decoder.decode([token], skip_special_tokens=False)

    def _delta(
        self,
        stamp: StepStamp,
        tokens: tuple[int, ...],
        text: str,
        logprobs: tuple[TokenLogprob, ...] | None,
        ending: Ending | None,
        error: str | None = None,
    ) -> TokenDelta:
        sequence = self.sequence
        prompt = sequence.num_prompt_tokens
        delta = TokenDelta(
            sequence.request_id,
            tokens,
            text,
            prompt,
            sequence.num_cached,
            len(sequence.tokens) - prompt,
            stamp.numerics,
            stamp.number,
            logprobs,
        )
        if ending is None:
            return delta
        timing = RequestTiming(
            sequence.arrived_s, sequence.first_scheduled_s, sequence.first_token_s, finished_s=stamp.ended_s
        )
        return delta._replace(finish_reason=ending.reason, timing=timing, error=error, stop_reason=ending.stop)
