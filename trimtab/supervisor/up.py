"""The start, watch and end of a local fleet. `run_up` is what `trimtab up` calls."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from trimtab import connection
from trimtab.client import ApiClient
from trimtab.connection import Connection
from trimtab.errors import CommandError, UsageError
from trimtab.supervisor import credentials, ports, prometheus, redis
from trimtab.supervisor.children import BAD_INPUT, Child, Spec
from trimtab.supervisor.first_start import put_demo_policy
from trimtab.supervisor.folder import DataFolder
from trimtab.supervisor.report import Reporter, banner
from trimtab.supervisor.specs import POOL, Addresses, Fleet, trimtab
from trimtab.supervisor.steps import run_step

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Who calls whom ends first, so that nobody has to report the loss of what it leans on.
STOP_ORDER = (("demo-traffic",), ("controller", "worker", "node"), ("api",), ("prometheus", "redis"))
PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line says. model: a folder in Hugging Face format; None for the demo model."""

    data_dir: Path
    port: int = ports.DEFAULT_PORT
    nodes: int = 2
    as_json: bool = False
    demo_traffic: bool = False
    model: Path | None = None


def run_up(options: UpOptions) -> int:
    """Blocks until a signal asks for the end. Returns the exit code; raises CommandError when the start or a component fails."""
    report = Reporter(options.as_json)
    if options.model is not None and not options.model.is_dir():
        raise UsageError(f"--model: {options.model} is no folder; it should hold config.json and weights")
    folder = DataFolder(options.data_dir.expanduser().resolve())
    folder.make()
    with folder.held():
        for component in folder.end_leftovers():
            report.note(component, "left by a run that was killed; ended")
        redis_url = os.environ.get(redis.VARIABLE)
        prometheus_url = os.environ.get(prometheus.VARIABLE)
        planned = ports.plan(options.port, options.nodes)
        ports.require_free(_uses(planned, redis=redis_url is None, prometheus=prometheus_url is None))
        secrets = credentials.ensure(folder.root)
        addresses = Addresses.of(
            planned,
            prometheus=(prometheus_url or f"http://{ports.HOST}:{planned.prometheus}").rstrip("/"),
            redis=redis_url or redis.local_url(planned.redis, secrets.redis_password),
        )
        http = httpx2.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False)
        fleet = Fleet(folder, planned, addresses, secrets, http)
        try:
            return asyncio.run(Supervisor(options, fleet, report).run())
        finally:
            connection.remove(folder.root)


def _uses(planned: ports.Ports, *, redis: bool, prometheus: bool) -> dict[int, str]:
    uses = {planned.api: "the API and web app"}
    uses |= {port: f"node-{number}" for number, port in enumerate(planned.nodes, start=1)}
    if prometheus:
        uses[planned.prometheus] = "Prometheus"
    if redis:
        uses[planned.redis] = "Redis"
    return uses


@dataclass(slots=True)
class Supervisor:
    """One run of one fleet, inside one event loop."""

    options: UpOptions
    fleet: Fleet
    report: Reporter
    children: dict[str, Child] = field(default_factory=dict)
    _watching: list["asyncio.Task[None]"] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _kill: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """From the first start to the last end. Raises CommandError, with everything stopped, when the fleet cannot go on."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await self._until(asyncio.create_task(self._bring_up()), stop)
            await self._until(None, stop)
        finally:
            await self._stop_all()
            stop.cancel()
            await self.fleet.http.aclose()
        self.report.event("trimtab", "stopped", "stopped; nothing is left running")
        return 0

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._kill.set()
            self.report.note("trimtab", "asked again: killing what still runs")
        else:
            self.report.note("trimtab", "stopping everything (ask again to kill)")
            self._stop.set()

    async def _until(self, work: "asyncio.Task[None] | None", stop: "asyncio.Task[Any]") -> None:
        """Until `work` is done, a component fails for good (raised), or a signal came."""
        try:
            while not self._stop.is_set() and not (work is not None and work.done()):
                waiting: list[asyncio.Task[Any]] = [stop, *self._watching, *([work] if work else [])]
                # A child started meanwhile joins at the next round, hence the time-out.
                done, _ = await asyncio.wait(waiting, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in done & set(self._watching):
                    task.result()
            if work is not None and work.done():
                work.result()
        finally:
            if work is not None:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    # Start -------------------------------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        options, addresses = self.options, self.fleet.addresses
        await _together(self._redis(), self._prometheus(), self._controlplane(), self._nodes())
        await self._put_demo_policy()
        if options.demo_traffic:
            await self._start(self.fleet.traffic())
        served = await asyncio.to_thread(self._served_model)
        sign_in = f"{addresses.api}/#token={self.fleet.credentials.admin_token}"
        root = str(self.fleet.folder.root)
        seconds = self.report.seconds()
        self.report.event(
            "trimtab",
            "ready",
            f"everything is ready after {seconds:.0f} s",
            url=addresses.api,
            sign_in_url=sign_in,
            pid=os.getpid(),
            data_dir=root,
            nodes=[{"name": name, "url": url} for name, url in addresses.nodes.items()],
            prometheus_url=addresses.prometheus,
            model=served,
            ready_s=seconds,
        )
        self.report.banner(
            banner(
                sign_in_url=sign_in,
                url=addresses.api,
                nodes=addresses.nodes,
                model=served,
                prometheus_url=addresses.prometheus,
                data_dir=root,
                traffic=options.demo_traffic,
            )
        )

    async def _redis(self) -> None:
        url = self.fleet.addresses.redis
        if os.environ.get(redis.VARIABLE):
            await redis.require(url)
            self.report.event(
                "redis", "ready", f"yours, at {redis.masked(url)}", url=redis.masked(url), pid=None, ready_s=0.0
            )
            return
        port, password = self.fleet.ports.redis, self.fleet.credentials.redis_password
        config = redis.write_config(self.fleet.folder.root / "redis", port, password)
        command = (redis.find_server(), str(config))
        await self._start(Spec("redis", command, dict(os.environ), redis.probe(url), url=redis.masked(url)))

    async def _prometheus(self) -> None:
        url, api = self.fleet.addresses.prometheus, self.fleet.addresses.api
        if os.environ.get(prometheus.VARIABLE):
            await prometheus.require(url, self.fleet.http)
            words = f"yours, at {url}; let it discover the nodes by http_sd at {api}{prometheus.DISCOVERY_PATH}"
            self.report.event("prometheus", "ready", words, url=url, pid=None, ready_s=0.0)
            return
        home = self.fleet.folder.root / "prometheus"
        interval = float(self.fleet.controlplane_env()["CONTROLPLANE_SCRAPE_INTERVAL_S"])
        config = prometheus.write_config(
            home, api_url=api, token=self.fleet.credentials.enrolment_token, scrape_interval_s=interval
        )
        program = await prometheus.find_server(self.fleet.folder.root, self.report)
        command = prometheus.command(program, config, home, self.fleet.ports.prometheus)
        await self._start(
            Spec("prometheus", command, dict(os.environ), prometheus.probe(url, self.fleet.http), url=url)
        )

    async def _controlplane(self) -> None:
        outcome = await run_step(*trimtab("migrate"), env=self.fleet.controlplane_env())
        if outcome.code != 0:
            raise CommandError(f"the database could not be migrated: {_said(outcome.err)}")
        self.report.note("database", (outcome.out.strip().splitlines() or ["at the newest schema"])[-1])
        await self._start(self.fleet.api())
        connection.write(
            self.fleet.folder.root,
            Connection(
                self.fleet.addresses.api,
                self.fleet.credentials.admin_token,
                os.getpid(),
                self.fleet.addresses.prometheus,
                tuple(self.fleet.addresses.nodes.items()),
            ),
        )
        await _together(self._start(self.fleet.controller()), self._start(self.fleet.worker()))

    async def _nodes(self) -> None:
        model = self.options.model or await self._demo_model()
        starts = (
            self._start(self.fleet.node(name, port, model, served_name=None))
            for name, port in zip(self.fleet.addresses.nodes, self.fleet.ports.nodes, strict=True)
        )
        await _together(*starts)

    async def _demo_model(self) -> Path:
        # A process of its own: what the conversion needs of memory is given back when it ends.
        command = (sys.executable, "-P", "-m", "inference_node.demo_model", str(self.fleet.folder.root))
        outcome = await run_step(*command, on_line=lambda line: self.report.note("model", line))
        if outcome.code != 0:
            raise CommandError(_said(outcome.err))
        return Path(outcome.out.strip())

    async def _start(self, spec: Spec) -> None:
        """Starts it, keeps it under watch from now on, and returns once it is ready."""
        child = Child(spec, self.fleet.folder.logs / f"{spec.name}.log", self.report, self._remember)
        self.children[spec.name] = child
        watch = asyncio.create_task(child.run(), name=spec.name)
        self._watching.append(watch)
        ready = asyncio.create_task(child.ready())
        try:
            await asyncio.wait([watch, ready], return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            else:
                ready.result()
        finally:
            ready.cancel()

    def _remember(self) -> None:
        pids = {name: child.pid for name, child in self.children.items()}
        self.fleet.folder.remember_processes({name: pid for name, pid in pids.items() if pid is not None})

    # Once the parts stand ----------------------------------------------------------------------------------------

    async def _put_demo_policy(self) -> None:
        try:
            put = await asyncio.to_thread(put_demo_policy, self.fleet.folder.root, self._connection(), POOL)
        except CommandError as error:
            self.report.note("policy", f"the demo policy could not be set, the default one holds: {error}")
            return
        if put:
            words = "demo policy set: short canaries; an inconclusive one is promoted when no guard fired"
            self.report.note("policy", words)

    def _served_model(self) -> str:
        with ApiClient(self._connection()) as client:
            nodes = client.get("/nodes")["items"]
        return str(nodes[0]["model"]) if nodes else ""

    def _connection(self) -> Connection:
        return Connection(self.fleet.addresses.api, self.fleet.credentials.admin_token)

    # End ---------------------------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        for child in self.children.values():
            child.stopping.set()  # nothing is started again from here on
        for kinds in STOP_ORDER:
            stage = [child for name, child in self.children.items() if name.startswith(kinds)]
            if not stage:
                continue
            stopping = [asyncio.create_task(child.stop(at_once=self._kill.is_set())) for child in stage]
            killing = asyncio.create_task(self._kill_when_asked(stage))
            await asyncio.wait(stopping)
            killing.cancel()
        for watch in self._watching:
            watch.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._remember()

    async def _kill_when_asked(self, stage: list[Child]) -> None:
        await self._kill.wait()
        await asyncio.gather(*(child.stop(at_once=True) for child in stage))


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """All at once; the first failure cancels the rest and is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _said(text: str) -> str:
    """The last line that a command of ours printed, without its `error:`."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"it ended with exit code {BAD_INPUT} and said nothing"
