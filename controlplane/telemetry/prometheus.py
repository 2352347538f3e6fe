"""A thin door to Prometheus (or Thanos, Mimir: the same API): instant queries, with a deadline always and one kind of error.

How it lets us in is told in `access`.
"""

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests import TooManyRedirects
from urllib3.exceptions import InsecureRequestWarning
from urllib3.util import Retry

from controlplane.errors import Unavailable
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.access import CredentialUnreadable, PrometheusAccess, without_user


class PrometheusUnavailable(Unavailable):
    """Prometheus did not answer, or refused the query."""

    title = "Prometheus unavailable"

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"Prometheus at {url} did not answer: {cause}. "
            "Check that it runs and that CONTROLPLANE_PROMETHEUS_URL names it; until then no settings are changed.",
            url=url,
        )
        self.url = url
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: str


class Prometheus:
    """Safe from any thread. Queries by POST, without retries: a tick that missed its data holds, and the next tick asks anew."""

    def __init__(self, url: str, *, timeout_s: float = 5.0, access: PrometheusAccess | None = None) -> None:
        self.url, self._access = without_user(url, access or PrometheusAccess())
        self._timeout_s = timeout_s
        if not self._access.verify:  # somebody has chosen so, and need not be told at each query
            warnings.simplefilter("ignore", InsecureRequestWarning)
        # The library's session belongs to one thread.
        self._local = threading.local()
        self._clients: list[PrometheusConnect] = []

    @classmethod
    def of(cls, settings: ControlPlaneSettings, *, timeout_s: float | None = None) -> Self:
        """The one that the settings name; timeout_s: a shorter patience than theirs."""
        patience_s = min(settings.prometheus_timeout_s, timeout_s or settings.prometheus_timeout_s)
        return cls(settings.prometheus_url, timeout_s=patience_s, access=PrometheusAccess.of(settings))

    @property
    def _client(self) -> PrometheusConnect:
        client: PrometheusConnect | None = getattr(self._local, "client", None)
        if client is None:
            session = self._access.session(self.url)
            client = self._local.client = PrometheusConnect(
                url=self.url, session=session, retry=Retry(total=0), timeout=self._timeout_s, method="POST"
            )
            self._clients.append(client)
        return client

    def query(self, promql: str, at: datetime) -> list[Sample]:
        """The instant vector of `promql` at `at`. Raises PrometheusUnavailable."""
        params = {"time": f"{at.timestamp():.3f}", "timeout": f"{self._timeout_s:g}s"}
        result = self._ask(lambda: self._client.custom_query(promql, params=params))
        return [Sample(item["metric"], item["value"][1]) for item in result]

    def check(self) -> None:
        """Returns when Prometheus answers a query. Raises PrometheusUnavailable, whose text says what to do."""
        self._ask(lambda: self._client.custom_query("vector(1)"))

    def close(self) -> None:
        """When no thread asks any more."""
        while self._clients:
            self._clients.pop().close()

    def _ask(self, call: Any) -> list[dict[str, Any]]:
        try:
            result: list[dict[str, Any]] = call()
        except PrometheusApiClientException as error:
            raise PrometheusUnavailable(self.url, str(error)[:300]) from error
        except CredentialUnreadable as error:
            raise PrometheusUnavailable(self.url, f"a credential is not there ({error})") from None
        except TooManyRedirects:
            why = "it sends us to another address, which is not followed with credentials: name that one"
            raise PrometheusUnavailable(self.url, why) from None
        except OSError as error:  # requests' errors are OSErrors: refused, timed out, not resolved
            raise PrometheusUnavailable(self.url, _first_cause(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise PrometheusUnavailable(self.url, f"the answer is not a Prometheus answer ({error})") from error
        return result


def _first_cause(error: BaseException) -> str:
    """The innermost reason; the wrappers around it only repeat the address."""
    reason: object = error
    while isinstance(reason, BaseException):
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    text = str(reason)
    return text.split(": ", 1)[-1] or type(reason).__name__
