"""How near recent steps came to what the machine can do: the least time that their work needs over the time that they took."""

# Weight of a new step: the last hundred or so count.
_GAIN = 0.02


class Roofline:
    """Bandwidth and arithmetic as one bound: a step takes at least the longer of its two times. Source: Williams, Waterman and
    Patterson, "Roofline: An Insightful Visual Performance Model" (CACM 52, 2009). Written by the threads that step, read by any:
    of two replicas' steps that end at once one may go uncounted, which an average over a hundred steps does not notice."""

    def __init__(self, bytes_per_s: float, flops_per_s: float) -> None:
        """Rates that are 0 are not known, and bound nothing."""
        self.bytes_per_s = bytes_per_s
        self.flops_per_s = flops_per_s
        self._least_s = 0.0
        self._took_s = 0.0

    def add(self, work_bytes: float, work_flops: float, took_s: float) -> None:
        """A step with so much work. One of unknown work says nothing."""
        reading_s = work_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        multiplying_s = work_flops / self.flops_per_s if self.flops_per_s else 0.0
        if least_s := max(reading_s, multiplying_s):
            self._least_s += _GAIN * (least_s - self._least_s)
            self._took_s += _GAIN * (took_s - self._took_s)

    @property
    def ratio(self) -> float:
        """0 before the first step. Above 1 the rates were measured on a worse day."""
        return self._least_s / self._took_s if self._took_s else 0.0
