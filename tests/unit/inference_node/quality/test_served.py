from collections.abc import Callable

from inference_node.contract.served import LENGTH_CLASSES, ServedWatch
from inference_node.quality.served import ServedText
from inference_node.quality.texts import WINDOW_TOKENS


def watch(*, share: float = 0.5, least: int = 2, most: int = 6) -> ServedWatch:
    return ServedWatch(generation=1, share=share, least=least, most=most)


def drawing(*values: float) -> ServedText:
    left = list(values)
    return ServedText(draw=lambda: left.pop(0))


def serve(text: ServedText, count: int) -> None:
    for number in range(count):
        text.finished([number, 1, 2], 2, cut=False)


def waiting(text: ServedText) -> list[int]:
    found = []
    while (window := text.take()) is not None:
        found.append(window[0])
    return found


class TestTaking:
    def test_nothing_is_held_while_nobody_watches(self) -> None:
        text = drawing()
        serve(text, 3)
        assert text.take() is None

    def test_the_least_are_taken_one_after_the_other_and_then_a_share(self) -> None:
        text = drawing(0.6, 0.4, 0.5, 0.1)
        text.begin(watch(share=0.5, least=2))
        serve(text, 6)
        assert waiting(text) == [0, 1, 3, 5]

    def test_with_the_most_it_is_over(self) -> None:
        text = drawing()
        text.begin(watch(least=3, most=3))
        serve(text, 9)
        assert waiting(text) == [0, 1, 2]

    def test_what_cannot_be_scored_soon_is_not_held(self) -> None:
        text = drawing()
        text.begin(watch(least=200, most=200))
        serve(text, 100)
        assert len(waiting(text)) == 16
        serve(text, 2)
        assert len(waiting(text)) == 2

    def test_of_a_long_one_its_end_is_held(self) -> None:
        text = drawing()
        text.begin(watch())
        text.finished(list(range(1000)), 10, cut=False)
        assert text.take() == tuple(range(1000 - WINDOW_TOKENS, 1000))

    def test_one_token_predicts_nothing(self) -> None:
        text = drawing()
        text.begin(watch())
        text.finished([7], 1, cut=True)
        assert text.take() is None

    def test_the_end_of_a_watch_forgets_all_texts(self) -> None:
        ends: tuple[Callable[[ServedText], object], ...] = (ServedText.close, lambda text: text.begin(watch()))
        for end in ends:
            text = drawing()
            text.begin(watch())
            serve(text, 2)
            end(text)
            assert text.take() is None

    def test_after_the_end_nothing_is_taken(self) -> None:
        text = drawing()
        text.begin(watch())
        text.close()
        serve(text, 2)
        assert text.take() is None


class TestMix:
    def test_answers_are_counted_by_end_and_by_length(self) -> None:
        text = drawing()
        for generated, cut in ((1, False), (3, False), (2, True), (10_000, True)):
            text.finished([1, 2], generated, cut=cut)
        mix = text.mix
        assert (mix.stopped, mix.cut, mix.total) == (2, 2, 4)
        assert mix.lengths[:3] == (1, 2, 0)
        assert mix.lengths[LENGTH_CLASSES - 1] == 1

    def test_a_watch_counts_anew_and_tells_what_was_before(self) -> None:
        text = drawing()
        serve(text, 3)
        before = text.begin(watch())
        serve(text, 1)
        assert (before.total, text.mix.total) == (3, 1)

    def test_counting_goes_on_after_a_watch(self) -> None:
        text = drawing()
        text.begin(watch())
        serve(text, 2)
        text.close()
        serve(text, 1)
        assert text.mix.total == 3
