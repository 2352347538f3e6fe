"""The nodes as a client sees them: in turn, without those that do not answer, one streamed request at a time and task."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

from inference_node.contract.step_profile import StepProfile

# A node that failed is left out for so long, then asked again.
REST_S = 2.0


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    sent: int = 0
    finished: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Nodes:
    """Round robin over base URLs."""

    client: httpx2.AsyncClient
    urls: Sequence[str]
    tally: Tally = field(default_factory=Tally)
    _resting: dict[str, float] = field(default_factory=dict)
    _turns: "count[int]" = field(default_factory=count)

    def next_url(self) -> str | None:
        """The next node that is not resting; None while all are."""
        now = time.monotonic()
        for _ in self.urls:
            url = self.urls[next(self._turns) % len(self.urls)]
            if self._resting.get(url, 0.0) <= now:
                return url
        return None

    async def ask(self, url: str, body: dict[str, Any]) -> bool:
        """Sends one request and reads its stream to the end. Whether it was answered in full; counts it either way."""
        self.tally.sent += 1
        try:
            async with self.client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                    self.tally.refused += 1
                    return False
                if not response.is_success:
                    return self._failed(url)
                done = False
                async for line in response.aiter_lines():
                    done = done or line == "data: [DONE]"
        except httpx2.HTTPError:
            return self._failed(url)
        if not done:
            return self._failed(url)
        self.tally.finished += 1
        return True

    def _failed(self, url: str) -> bool:
        self.tally.failed += 1
        self._resting[url] = time.monotonic() + REST_S
        return False

    async def model(self) -> str | None:
        """Name of what the first ready node serves; None while none is ready."""
        for url in self.urls:
            try:
                if (await self.client.get(f"{url}/readyz")).is_success:
                    models = (await self.client.get(f"{url}/v1/models")).json()
                    return str(models["data"][0]["id"])
            except (httpx2.HTTPError, ValueError, LookupError):
                continue
        return None


async def read_profile(client: httpx2.AsyncClient, url: str, token: str) -> StepProfile | None:
    """Step times that the node measured itself; None when it does not tell."""
    try:
        response = await client.get(f"{url}/admin/v1/step-model", headers={"Authorization": f"Bearer {token}"})
        return StepProfile.model_validate_json(response.content) if response.is_success else None
    except (ValueError, httpx2.HTTPError):
        return None


def decode_gain(profile: StepProfile, small: int, large: int) -> float | None:
    """Decode tokens/s with `large` rows as a multiple of those with `small`, from measured step times; None if there are none.

    Between two measured batch sizes the step time is taken as linear.
    """
    times: dict[int, float] = {}
    for cell in profile.cells:
        if cell.prefill_tokens == 0 and cell.decode_rows > 0:
            times.setdefault(cell.decode_rows, cell.step_s)
    at_small, at_large = _interpolate(times, small), _interpolate(times, large)
    if at_small is None or at_large is None:
        return None
    return (large / at_large) / (small / at_small)


def _interpolate(times: dict[int, float], rows: int) -> float | None:
    below = [size for size in times if size <= rows]
    above = [size for size in times if size >= rows]
    if not below or not above:
        return None
    low, high = max(below), min(above)
    share = 0.0 if low == high else (rows - low) / (high - low)
    return times[low] + share * (times[high] - times[low])
