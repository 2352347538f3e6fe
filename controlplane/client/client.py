"""One method for each thing that the REST API offers to people and programs, with typed answers."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast

import httpx2

import controlplane.client.types as t
from controlplane.client.errors import WaitTimeout
from controlplane.client.http import LONGEST_PAUSE_S, Http, unreachable
from controlplane.client.stream import StreamEvent, parse

Knobs = Mapping[str, bool | int | float | str]
POLL_S = 1.0
_RECONNECT_S = 2.0
# The server says something at least every 15 s, if only that it is there.
_SILENCE_S = 45.0


class Client(Http):
    """A control plane as Python sees it.

    >>> with Client("http://127.0.0.1:8700", token) as trimtab:          # doctest: +SKIP
    ...     pool = trimtab.pools()[0]
    ...     begun = trimtab.create_rollout(pool["id"], {"max_batch_size": 12}, "more load")
    ...     ended = trimtab.wait_for_rollout(begun["id"], timeout_s=600)

    Every method raises ClientError or one of its kinds. Lists take `limit`, the number of rows at most.
    """

    # The system and the fleet
    def system(self) -> t.SystemOut:
        return cast(t.SystemOut, self.get("/system"))

    def fleet(self) -> t.FleetOut:
        return cast(t.FleetOut, self.get("/fleet"))

    def pools(self) -> list[t.PoolOut]:
        return list(self.pages("/pools"))

    def pool(self, pool_id: str) -> t.PoolOut:
        return cast(t.PoolOut, self.get(f"/pools/{pool_id}"))

    def freeze(self, pool_id: str, reason: str) -> t.FrozenOut:
        """Stops new changes to the pool; rollbacks stay possible."""
        return cast(t.FrozenOut, self.post(f"/pools/{pool_id}/freeze", {"reason": reason}))

    def unfreeze(self, pool_id: str) -> None:
        self.delete(f"/pools/{pool_id}/freeze")

    def freeze_everything(self, reason: str) -> t.GeneralFreezeOut:
        """Stops new changes to every pool, also to those yet to come; rollbacks stay possible."""
        return cast(t.GeneralFreezeOut, self.post("/freeze", {"reason": reason}))

    def unfreeze_everything(self) -> None:
        """Pools that are frozen for themselves stay so."""
        self.delete("/freeze")

    def nodes(self, pool_id: str | None = None) -> list[t.NodeDetail]:
        return list(self.pages("/nodes", pool_id=pool_id))

    def node(self, node_id: str) -> t.NodeDetail:
        return cast(t.NodeDetail, self.get(f"/nodes/{node_id}"))

    def remove_node(self, node_id: str, *, force: bool = False) -> None:
        """force: also a node that is still heard of."""
        self.delete(f"/nodes/{node_id}", force=True if force else None)

    def release_node(self, node_id: str) -> None:
        """Ends a node's quarantine."""
        self.post(f"/nodes/{node_id}/release")

    def begin_experiment(
        self, node_id: str, settings: Mapping[str, Any], *, reason: str, lease_s: float = 900.0
    ) -> t.ExperimentOut:
        """Tries settings on this node alone; it goes back by itself when the lease ends."""
        body = {"settings": dict(settings), "lease_s": lease_s, "reason": reason}
        return cast(t.ExperimentOut, self.post(f"/nodes/{node_id}/experiment", body))

    def end_experiment(self, node_id: str) -> None:
        """Ends it before its lease does."""
        self.delete(f"/nodes/{node_id}/experiment")

    # Settings, policies, decisions
    def knobs(self) -> list[t.KnobOut]:
        return cast(list[t.KnobOut], self.get("/knobs")["items"])

    def revisions(self, pool_id: str, *, limit: int = 50) -> list[t.RevisionOut]:
        return self.items("/revisions", limit=limit, pool_id=pool_id)

    def good_revisions(self, pool_id: str) -> list[t.RevisionOut]:
        """The last that completed: going back to one of them needs no canary."""
        return cast(list[t.RevisionOut], self.get(f"/pools/{pool_id}/good-revisions")["items"])

    def policy(self, pool_id: str) -> t.PolicyOut:
        return cast(t.PolicyOut, self.get(f"/pools/{pool_id}/policy"))

    def put_policy(self, pool_id: str, document: Mapping[str, Any], *, version: int) -> t.PolicyOut:
        """version: of the policy that the change was made from; ApiError 412 when another came in between."""
        return cast(t.PolicyOut, self.put(f"/pools/{pool_id}/policy", document, if_match=version))

    def scaling(self, pool_id: str) -> t.ScalingOut:
        """How many nodes the pool needs; ApiError 409 where it is not known."""
        return cast(t.ScalingOut, self.get(f"/pools/{pool_id}/scaling"))

    def policies(self, pool_id: str) -> list[t.PolicyVersionOut]:
        """The last versions, newest first."""
        return cast(list[t.PolicyVersionOut], self.get(f"/pools/{pool_id}/policies")["items"])

    def try_policy(self, pool_id: str, document: Mapping[str, Any], *, hours: float = 24.0) -> t.PolicyTrialOut:
        """What the decisions of the last hours would have been under this policy; changes nothing."""
        return cast(
            t.PolicyTrialOut, self.post(f"/pools/{pool_id}/policy/dry-run", {"document": document, "hours": hours})
        )

    def decisions(
        self, *, pool_id: str | None = None, outcome: str | None = None, limit: int = 50
    ) -> list[t.DecisionOut]:
        return self.items("/decisions", limit=limit, pool_id=pool_id, outcome=outcome)

    def decision(self, decision_id: str) -> t.DecisionOut:
        return cast(t.DecisionOut, self.get(f"/decisions/{decision_id}"))

    def replay(self, decision_id: str) -> t.ReplayOut:
        """Decides again from the recorded inputs; changes nothing."""
        return cast(t.ReplayOut, self.get(f"/decisions/{decision_id}/replay"))

    # Rollouts
    def rollouts(
        self, *, pool_id: str | None = None, active: bool | None = None, limit: int = 50
    ) -> list[t.RolloutOut]:
        """Newest first, without analyses and timeline."""
        return self.items("/rollouts", limit=limit, pool_id=pool_id, active=active)

    def rollout(self, rollout_id: str) -> t.RolloutOut:
        return cast(t.RolloutOut, self.get(f"/rollouts/{rollout_id}"))

    def analysis(self, rollout_id: str) -> t.RolloutAnalysisOut:
        """What its verdicts rest on, window by window."""
        return cast(t.RolloutAnalysisOut, self.get(f"/rollouts/{rollout_id}/analysis"))

    def plan_rollout(self, pool_id: str, settings: Knobs, reason: str) -> t.PlanOut:
        """What `create_rollout` would do and which nodes it would reach; changes nothing."""
        body = {"pool_id": pool_id, "settings": dict(settings), "reason": reason, "dry_run": True}
        return cast(t.PlanOut, self.post("/rollouts", body))

    def create_rollout(
        self, pool_id: str, settings: Knobs, reason: str, *, not_before: datetime | None = None
    ) -> t.RolloutOut:
        """settings: only the knobs that change. not_before: aware; at once when absent."""
        body: dict[str, Any] = {"pool_id": pool_id, "settings": dict(settings), "reason": reason}
        if not_before is not None:
            body["not_before"] = not_before.isoformat()
        return cast(t.RolloutOut, self.post("/rollouts", body))

    def ask(self, rollout_id: str, verb: t.Verb, reason: str = "") -> t.RolloutOut:
        """Asks for pause, resume, promote, abort or rollback; the controller acts within about a second."""
        return cast(t.RolloutOut, self.post(f"/rollouts/{rollout_id}/{verb}", {"reason": reason}))

    def approve(self, rollout_id: str, settings_hash: str, comment: str = "") -> t.RolloutOut:
        """settings_hash: `to_revision.content_hash` of the rollout as it was read."""
        body = {"settings_hash": settings_hash, "comment": comment}
        return cast(t.RolloutOut, self.post(f"/rollouts/{rollout_id}/approve", body))

    def refuse(self, rollout_id: str, settings_hash: str, comment: str = "") -> t.RolloutOut:
        body = {"settings_hash": settings_hash, "comment": comment}
        return cast(t.RolloutOut, self.post(f"/rollouts/{rollout_id}/refuse", body))

    def roll_back_pool(self, pool_id: str, revision: int, reason: str) -> t.RolloutOut:
        """Straight back to a good revision, on all nodes at once, also in a frozen pool."""
        body = {"revision": revision, "reason": reason}
        return cast(t.RolloutOut, self.post(f"/pools/{pool_id}/rollback", body))

    def pool_mesh(self, pool_id: str, *, kind: t.MeshKind | None = None) -> t.MeshOut:
        """How requests are shared out now, as Kubernetes objects. kind: another than the policy's."""
        return cast(t.MeshOut, self.get(f"/pools/{pool_id}/mesh", format=kind))

    def rollout_mesh(self, rollout_id: str, *, kind: t.MeshKind | None = None) -> t.MeshOut:
        return cast(t.MeshOut, self.get(f"/rollouts/{rollout_id}/mesh", format=kind))

    def wait_for_rollout(self, rollout_id: str, *, timeout_s: float = 600.0) -> t.RolloutOut:
        """The rollout once it has ended, well or not. Raises WaitTimeout."""
        deadline = time.monotonic() + timeout_s
        while (row := self.rollout(rollout_id))["ended_at"] is None:
            if time.monotonic() > deadline:
                raise WaitTimeout(f"the rollout is still in phase {row['phase']} after {timeout_s:g} s: {rollout_id}")
            self._sleep(POLL_S)
        return row

    # History and access
    def events(
        self,
        *,
        pool_id: str | None = None,
        node_id: str | None = None,
        rollout_id: str | None = None,
        kind: str | None = None,
        limit: int = 50,
    ) -> list[t.EventOut]:
        """What happened, newest first. kind: one, or a group as `rollout.*`."""
        return self.items("/events", limit=limit, pool_id=pool_id, node_id=node_id, rollout_id=rollout_id, kind=kind)

    def audit(self, *, limit: int = 50, **search: str | None) -> list[t.AuditEntry]:
        """The audit log, newest first, each entry with its place in the chain. search: actor, kind, severity, pool_id, text, and
        since and until in RFC 3339."""
        return self.items("/audit", limit=limit, **search)

    def audit_export(self, *, csv: bool = False, **search: str | None) -> Iterator[bytes]:
        """All of it that `search` asks for, oldest first, piece by piece: CSV, or one JSON document a line."""
        query = {name: value for name, value in search.items() if value is not None}
        query["format"] = "csv" if csv else "jsonl"
        try:
            with self._http.stream("GET", "/audit/export", params=query) as response:
                if not response.is_success:
                    response.read()
                    self.document(response)
                yield from response.iter_bytes()
        except httpx2.TransportError as error:
            raise unreachable(self.url, error) from None

    def follow(self, last_event_id: int | None = None) -> Iterator[StreamEvent]:
        """Events as they happen, without end. After a lost line it goes on where it was.

        last_event_id: begin with what came after it. Raises ClientError when the API refuses, or is gone for longer than
        three tries.
        """
        failed = 0
        while True:
            try:
                for event in self._stream(last_event_id):
                    failed = 0
                    last_event_id = event.id if event.id is not None else last_event_id
                    yield event
            except httpx2.TransportError as error:
                failed += 1
                if failed > 3:
                    raise unreachable(self.url, error) from None
            self._sleep(min(LONGEST_PAUSE_S, _RECONNECT_S * max(1, failed)))

    def _stream(self, last_event_id: int | None) -> Iterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        patience = httpx2.Timeout(15.0, read=_SILENCE_S)
        with self._http.stream("GET", "/events/stream", headers=headers, timeout=patience) as response:
            if not response.is_success:
                response.read()
                self.document(response)
            yield from parse(response.iter_lines())

    def tokens(self) -> list[t.TokenOut]:
        return cast(list[t.TokenOut], self.get("/tokens")["items"])

    def create_token(self, name: str, role: str, *, expires_at: datetime | None = None) -> t.TokenCreated:
        """The secret is in this answer only; a lost answer is not asked for again, so revoke what came of it."""
        body: dict[str, Any] = {"name": name, "role": role}
        if expires_at is not None:
            body["expires_at"] = expires_at.isoformat()
        return cast(t.TokenCreated, self.request("POST", "/tokens", body=body, once=True))

    def revoke_token(self, token_id: str) -> None:
        self.request("DELETE", f"/tokens/{token_id}", once=True)
