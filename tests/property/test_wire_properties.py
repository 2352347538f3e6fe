"""However an answer is cut on its way, the same events come out, each with the time of its last byte."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.answers import chunked, events, plain, recording

BODIES = st.lists(st.text(max_size=12), max_size=8)


@given(BODIES, st.lists(st.integers(1, 40), max_size=12), st.lists(st.integers(1, 400), max_size=12), st.booleans())
def test_cuts_change_nothing_but_times(texts: list[str], sizes: list[int], cuts: list[int], in_chunks: bool) -> None:
    body = events(texts)
    raw = chunked(body, sizes) if in_chunks else plain(body)
    whole = [data for _, data in recording(raw).answer().events()]
    cut = list(recording(raw, cuts).answer().events())
    assert [data for _, data in cut] == whole and len(whole) == len(texts) + 1
    times = [at for at, _ in cut]
    assert times == sorted(times)


@given(BODIES, st.lists(st.integers(1, 400), max_size=12))
def test_an_event_arrives_with_the_piece_that_holds_its_end(texts: list[str], cuts: list[int]) -> None:
    raw = plain(events(texts))
    place = raw.index(b"\r\n\r\n") + 4
    for at, data in recording(raw, cuts).answer().events():
        end = raw.index(data, place) + len(data)  # the line's last byte stands at end - 1
        place = end
        assert at == 1.0 + len([cut for cut in set(cuts) if 0 < cut < min(end, len(raw))])
