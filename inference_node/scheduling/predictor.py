"""How long a step would take: what the scheduler asks before it builds one."""

from typing import Protocol


class StepPredictor(Protocol):
    """A measured model of this node's steps, under the arithmetic in force. Asked some ten times a step: be quick."""

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        """Seconds of a step of that shape; None when too little has been measured to say.

        context_tokens is the sum, over the step's rows, of the tokens before them that they attend to. Grows with each argument.
        """
