"""Processors read from recorded texts, and topologies from made-up trees."""

from pathlib import Path

import pytest

from inference_node.contract.settings import Precision
from inference_node.engine.cpu import NumaNode, parse_cpu_list, parse_cpuinfo, read_numa_nodes
from inference_node.engine.hardware_table import TABLE, hardware_class

RECORDED = Path(__file__).parents[3] / "support" / "cpuinfo"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


class TestParseCpuinfo:
    @pytest.mark.parametrize(
        ("name", "model"),
        [
            ("granite_rapids", "Intel(R) Xeon(R) 6972P"),
            ("zen3", "AMD Ryzen 9 5950X 16-Core Processor"),
            ("neoverse_n2", "Arm Neoverse N2"),
            ("graviton2", "Arm Neoverse N1"),
        ],
    )
    def test_names_the_processor(self, name: str, model: str) -> None:
        assert parse_cpuinfo(recorded(name)).model == model

    def test_an_arm_part_we_do_not_know_is_told_by_number(self) -> None:
        text = recorded("graviton2").replace("0xd0c", "0xfff")
        assert parse_cpuinfo(text).model == "Arm, implementer 0x41, part 0xfff"

    def test_what_only_some_cores_have_does_not_count(self) -> None:
        first, second = recorded("granite_rapids").split("\n\n")
        mixed = parse_cpuinfo("\n\n".join((first, second.replace(" amx_tile", ""))))
        assert "amx_tile" not in mixed.features and "amx_bf16" in mixed.features

    def test_of_an_empty_text_nothing_is_known(self) -> None:
        assert parse_cpuinfo("") == parse_cpuinfo("processor : 0\n")
        assert hardware_class(parse_cpuinfo("").features).name == "other"


class TestHardwareTable:
    @pytest.mark.parametrize(
        ("recording", "name"),
        [
            ("granite_rapids", "x86-amx"),
            ("zen4", "x86-avx512-bf16"),
            ("cascade_lake", "x86-avx512-vnni"),
            ("skylake_server", "x86-avx512"),
            ("arrow_lake", "x86-avx-vnni"),
            ("zen3", "x86-avx2"),
            ("neoverse_n2", "arm-i8mm"),
            ("graviton2", "arm-dotprod"),
        ],
    )
    def test_recorded_machines_are_in_their_class(self, recording: str, name: str) -> None:
        assert hardware_class(parse_cpuinfo(recorded(recording)).features).name == name

    def test_every_class_can_be_reached(self) -> None:
        """No row hides a later one whole."""
        assert [hardware_class(each.needs) for each in TABLE] == list(TABLE)

    def test_every_class_names_candidates(self) -> None:
        assert all(each.small_batch and each.large_batch and each.kv and each.note for each in TABLE)

    def test_no_bf16_where_nothing_multiplies_it(self) -> None:
        for each in TABLE:
            if Precision.BF16 in (*each.small_batch, *each.large_batch):
                # The engine takes no GPU that is older than Ampere, the first to multiply bf16.
                assert any("bf16" in need or need == "cuda" for need in each.needs)


def tree(root: Path, nodes: dict[int, str], siblings: dict[int, str], free_kb: dict[int, int]) -> Path:
    for number, cpus in nodes.items():
        folder = root / f"node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")
        (folder / "meminfo").write_text(f"Node {number} MemTotal: 9 kB\nNode {number} MemFree: {free_kb[number]} kB\n")
    for cpu, shared in siblings.items():
        folder = root / f"cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(shared + "\n")
    return root


class TestReadNumaNodes:
    def test_two_nodes_with_two_threads_a_core(self, tmp_path: Path) -> None:
        siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
        root = tree(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, siblings, {0: 100, 1: 200})
        assert read_numa_nodes(range(8), root) == (
            NumaNode(0, ((0, 4), (1, 5)), 100 * 1024),
            NumaNode(1, ((2, 6), (3, 7)), 200 * 1024),
        )

    def test_only_what_this_process_may_use(self, tmp_path: Path) -> None:
        siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
        root = tree(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, siblings, {0: 1, 1: 1})
        assert [node.cores for node in read_numa_nodes({4, 1, 5}, root)] == [((1, 5), (4,))]

    def test_where_the_system_does_not_tell(self, tmp_path: Path) -> None:
        assert read_numa_nodes({0, 3}, tmp_path) == (NumaNode(0, ((0,), (3,))),)


class TestParseCpuList:
    def test_ranges_and_single_ones(self) -> None:
        assert parse_cpu_list("0-2,7, 9-9\n") == {0, 1, 2, 7, 9}
        assert parse_cpu_list("") == set()

    @pytest.mark.parametrize("text", ["a", "1-", "-1", "1-b"])
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            parse_cpu_list(text)
