"""Where a request goes, by loads and by what each replica is thought to have cached."""

from inference_node.scheduling.placing import PrefixHomes, choose_replica


def chain(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


class TestPrefixHomes:
    def test_knows_the_leading_blocks_of_each_replica(self) -> None:
        homes = PrefixHomes(2)
        homes.settle(chain("a", "ab", "abc"), 0)
        homes.settle(chain("a", "ax"), 1)
        assert homes.blocks_at(chain("a", "ab", "abd")) == [2, 1]
        assert homes.blocks_at(chain("a", "ax", "axy")) == [1, 2]
        assert homes.blocks_at(chain("z")) == homes.blocks_at([]) == [0, 0]

    def test_a_block_behind_a_gap_does_not_count(self) -> None:
        homes = PrefixHomes(1)
        homes.settle(chain("ab"), 0)
        assert homes.blocks_at(chain("a", "ab")) == [0]

    def test_forgets_the_ends_of_the_oldest_first(self) -> None:
        homes = PrefixHomes(1, most_blocks=3)
        homes.settle(chain("a", "ab"), 0)
        homes.settle(chain("x", "xy"), 0)
        assert len(homes) == 3
        assert homes.blocks_at(chain("a", "ab")) == [1] and homes.blocks_at(chain("x", "xy")) == [2]


class TestChooseReplica:
    def test_takes_the_least_loaded(self) -> None:
        assert choose_replica([3, 1, 2], [0.0, 0.0, 0.0]) == 1

    def test_of_equals_the_one_that_knows_the_prefix_then_the_first(self) -> None:
        assert choose_replica([2, 2], [0.0, 0.5]) == 1
        assert choose_replica([2, 2], [0.0, 0.0]) == 0

    def test_a_prefix_is_worth_less_than_a_request(self) -> None:
        assert choose_replica([1, 0], [0.9, 0.0]) == 1
        assert choose_replica([1, 1], [0.9, 0.0]) == 0

    def test_one_that_all_share_is_spread(self) -> None:
        """32 requests of one prefix on two replicas that both come to know it: half and half."""
        loads = [0, 0]
        for _ in range(32):
            loads[choose_replica(loads, [0.95 * (load > 0) for load in loads])] += 1
        assert loads == [16, 16]
