"""The histogram that takes many values at once, against the client library's own."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from inference_node.histogram import BatchHistogram

BUCKETS = (0.1, 0.5, 1.0, 2.5)
VALUES = (0.05, 0.1, 0.11, 0.7, 1.0, 99.0, 0.0)


class TestBatchHistogram:
    def test_exposes_what_the_library_would(self) -> None:
        ours, theirs = CollectorRegistry(auto_describe=True), CollectorRegistry(auto_describe=True)
        batch = BatchHistogram("latency_seconds", "How long.", ("model_name",), ("m",), BUCKETS)
        ours.register(batch)
        single = Histogram("latency_seconds", "How long.", ("model_name",), buckets=BUCKETS, registry=theirs).labels(
            "m"
        )
        batch.observe_all(VALUES[:4])
        for value in VALUES[4:]:
            batch.observe(value)
        for value in VALUES:
            single.observe(value)

        def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
            families = text_string_to_metric_families(generate_latest(registry).decode())
            return {
                (sample.name, sample.labels.get("le", "")): sample.value
                for family in families
                for sample in family.samples
                if not sample.name.endswith("_created")
            }

        assert samples(ours) == samples(theirs)
        assert samples(ours)["latency_seconds_bucket", "0.1"] == 3.0
