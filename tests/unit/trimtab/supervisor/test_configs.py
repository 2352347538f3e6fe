"""The configurations that are written for Redis and Prometheus, and the production one beside them."""

import json
import re
from pathlib import Path

from trimtab.supervisor import prometheus, redis
from trimtab.supervisor.report import banner

PRODUCTION = Path(__file__).parents[4] / "dashboards" / "prometheus" / "prometheus.yml"


class TestPrometheusConfig:
    def test_scrapes_discovered_nodes_at_the_interval_that_windows_rely_on(self) -> None:
        text = prometheus.render_config(api_url="http://127.0.0.1:9", secret=Path("/d/token"), scrape_interval_s=1.5)
        config = json.loads(text)
        assert config["global"]["scrape_interval"] == "1500ms"
        nodes, controlplane = config["scrape_configs"]
        discovery = nodes["http_sd_configs"][0]
        assert discovery["url"] == "http://127.0.0.1:9/api/v1/sd/prometheus"
        assert discovery["authorization"]["credentials_file"] == "/d/token"
        assert controlplane["static_configs"] == [{"targets": ["127.0.0.1:9"]}]

    def test_the_production_file_has_the_same_jobs(self) -> None:
        ours = json.loads(prometheus.render_config(api_url="http://x", secret=Path("t"), scrape_interval_s=1))
        production = PRODUCTION.read_text()
        assert re.findall(r"job_name: (\S+)", production) == [job["job_name"] for job in ours["scrape_configs"]]
        assert re.search(rf"url: \S+{prometheus.DISCOVERY_PATH}$", production, re.MULTILINE)

    def test_it_loads_the_shipped_rules_from_beside_it(self, tmp_path: Path) -> None:
        path = prometheus.write_config(tmp_path, api_url="http://x", token="tte_secret", scrape_interval_s=1)
        named = [Path(name) for name in json.loads(path.read_text())["rule_files"]]
        shipped = re.findall(r"^  - (\S+\.yml)$", PRODUCTION.read_text(), re.MULTILINE)
        assert [name.name for name in named] == shipped
        for name in named:
            assert name.parent == tmp_path
            assert name.read_text() == (PRODUCTION.parent / name.name).read_text()

    def test_the_secret_is_for_the_owner_only(self, tmp_path: Path) -> None:
        prometheus.write_config(tmp_path, api_url="http://x", token="tte_secret", scrape_interval_s=1)
        assert (tmp_path / "discovery_token").stat().st_mode & 0o777 == 0o600
        assert "tte_secret" not in (tmp_path / "prometheus.yml").read_text()

    def test_listens_on_loopback_only(self) -> None:
        command = prometheus.command("prometheus", Path("c.yml"), Path("/d"), 9090)
        assert "--web.listen-address=127.0.0.1:9090" in command


class TestRedisConfig:
    def test_loses_nothing_and_drops_nothing(self) -> None:
        lines = redis.render_config(Path("/d"), 6379, "ttr_x").splitlines()
        assert {"appendonly yes", "maxmemory-policy noeviction", "bind 127.0.0.1", "requirepass ttr_x"} <= set(lines)

    def test_the_password_is_for_the_owner_only(self, tmp_path: Path) -> None:
        assert redis.write_config(tmp_path, 6379, "ttr_x").stat().st_mode & 0o777 == 0o600

    def test_addresses_are_shown_without_their_password(self) -> None:
        assert redis.masked(redis.local_url(6379, "ttr_x")) == "redis://:***@127.0.0.1:6379/0"
        assert redis.masked("rediss://user:secret@host:6380/1") == "rediss://user:***@host:6380/1"
        assert redis.masked("redis://host/1") == "redis://host/1"


class TestBanner:
    def test_names_every_address_and_the_way_to_stop(self) -> None:
        text = banner(
            sign_in_url="http://127.0.0.1:1/#token=tt_x",
            url="http://127.0.0.1:1",
            nodes={"node-1": "http://127.0.0.1:2", "node-2": "http://127.0.0.1:3"},
            model="m",
            prometheus_url="http://127.0.0.1:4",
            data_dir="/d",
            traffic=True,
        )
        for part in ("1/#token=tt_x", "1/docs", "2/v1", "3/v1", "127.0.0.1:4", "/d/logs", "Ctrl-C", "curl"):
            assert part in text
