"""The API under reads, changes and open streams, in a process of its own: each answer comes, each stream hears each event."""

from trimtab.api_bench.run import ApiOptions, run


def test_all_are_answered_and_all_streams_hear_of_every_change() -> None:
    options = ApiOptions(streams=3, reads=20, writes=3, duration_s=2, pools=2, nodes=4, history=False)
    report = run(options, lambda _: None)
    assert report["failures"] == {}
    assert (report["reads"]["count"], report["writes"]["count"]) == (40, 6)
    told = report["event_to_stream"]
    assert (told["events"], told["arrivals"], told["missed"]) == (6, 18, 0)
    assert 0 < told["seconds"]["p50"] <= told["seconds"]["max"]
