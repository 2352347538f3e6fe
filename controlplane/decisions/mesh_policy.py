"""How requests reach a pool through a service mesh: which route shares them out between the two arms of a rollout."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# Names of Kubernetes objects: RFC 1123 labels and subdomains; of services RFC 1035 labels.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class MeshKind(StrEnum):
    """istio: a VirtualService. gateway_api: an HTTPRoute."""

    ISTIO = "istio"
    GATEWAY_API = "gateway_api"


def _is_label(value: str) -> str:
    if _LABEL.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no Kubernetes name: up to 63 lower-case letters, digits and inner dashes")
    return value


def _is_service(value: str) -> str:
    if _SERVICE.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no name of a Service: a lower-case letter, then letters, digits, inner dashes")
    return value


def _is_name(value: str) -> str:
    if len(value) > 253 or not all(_LABEL.fullmatch(part) for part in value.split(".")):
        raise ValueError(f"{value!r} is no Kubernetes name: labels of lower-case letters, digits and dashes, with dots")
    return value


def _is_host(value: str) -> str:
    _is_name(value.removeprefix("*."))
    return value


def _is_gateway(value: str) -> str:
    for part in value.split("/", 1):
        _is_name(part)
    return value


Label = Annotated[str, AfterValidator(_is_label)]
ServiceName = Annotated[str, AfterValidator(_is_service)]
Name = Annotated[str, AfterValidator(_is_name)]
Host = Annotated[str, AfterValidator(_is_host)]
Gateway = Annotated[str, AfterValidator(_is_gateway)]
Weight = Annotated[int, Field(ge=0, le=100)]


class MeshPolicy(BaseModel):
    """The route object belongs to Trimtab as a whole: it holds one rule, with two services and their weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: MeshKind = Field(description="what is written: an Istio VirtualService or a Gateway API HTTPRoute")
    namespace: Label = Field(default="default", description="of the route, the services and the pods")
    route: Name = Field(description="name of the VirtualService or HTTPRoute")
    baseline_service: ServiceName = Field(description="Service of the nodes on the settings from before")
    canary_service: ServiceName = Field(description="Service of the nodes on the new settings")
    port: int = Field(ge=1, le=65535, description="of both services")
    hosts: tuple[Host, ...] = Field(
        default=(), max_length=16, description="whose requests are shared out; none: those to the baseline service"
    )
    gateways: tuple[Gateway, ...] = Field(
        default=(),
        max_length=16,
        description="names, or namespace/name, of the gateways that let requests in; none: requests inside the mesh",
    )
    step_weights: tuple[Weight, ...] = Field(
        default=(),
        max_length=16,
        description="percent of requests for the new settings once the canary has them, then once each wave has; "
        "none: as many as there are nodes with them, so that each node keeps its load",
    )
    abort_baseline_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of nodes on the old settings from which an abort sends them all requests at once; "
        "below it requests follow the nodes as they go back, or the few would drown",
    )
    label_pods: bool = Field(
        default=False, description="keep the label trimtab.dev/arm on the pods that are named as the nodes"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.baseline_service == self.canary_service:
            raise ValueError("baseline_service and canary_service must be two services")
        if list(self.step_weights) != sorted(self.step_weights):
            raise ValueError(f"step_weights must not fall from step to step, got {list(self.step_weights)}")
        return self
