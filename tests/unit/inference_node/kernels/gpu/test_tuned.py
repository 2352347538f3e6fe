"""Which card's table a card takes."""

from dataclasses import replace

from inference_node.kernels.gpu.tuned import WIDE, Table, every, nearest

(H200,) = (table for table in every() if table.card == "NVIDIA H200")


def card(name: str, capability: tuple[int, int], processors: int) -> Table:
    return replace(H200, card=name, capability=capability, multiprocessors=processors)


TABLES = [H200, card("NVIDIA H100 PCIe", (9, 0), 114), card("NVIDIA L4", (8, 9), 58), card("NVIDIA A100", (8, 0), 108)]


def test_a_card_takes_its_own() -> None:
    assert all(nearest(TABLES, t.card, t.capability, t.multiprocessors) is t for t in TABLES)


def test_a_card_without_one_takes_the_nearest_of_its_architecture() -> None:
    assert nearest(TABLES, "NVIDIA H100 80GB HBM3", (9, 0), 132).card == "NVIDIA H200"
    assert nearest(TABLES, "NVIDIA H800 PCIe", (9, 0), 114).card == "NVIDIA H100 PCIe"
    assert nearest(TABLES, "NVIDIA GeForce RTX 4090", (8, 9), 128).card == "NVIDIA L4"
    assert nearest(TABLES, "NVIDIA GeForce RTX 3090", (8, 6), 82).card == "NVIDIA L4"
    assert nearest(TABLES, "a card to come", (12, 0), 160).card == "NVIDIA H200"


def test_every_table_has_what_kernels_ask_for() -> None:
    for table in every():
        for kind in ("fp8", "int8", "int4"):
            assert table.row(kind, WIDE) is table.rows[kind]
            assert table.row(kind, WIDE + 1) is table.rows[f"{kind}, wide"]
        assert "listed" in table.dense
        for inputs, outputs in ((4096, 4096), (WIDE + 1, 4096), (4096, 60_000)):
            assert all(table.dense_for(inputs, outputs, skips=skips).columns >= 16 for skips in (False, True))
        for rows in (1, 2, 3, 512):
            assert table.tiles(narrow=False, rows=rows).tile >= 16
            assert table.tiles(narrow=True, rows=rows).tile >= 16
