"""A node killed at any moment while it saves its settings finds the last ones that it acknowledged, or newer ones."""

import random
import subprocess
import sys
from pathlib import Path

from inference_node.agent.store import NodeStore

KILLS = 20
# Prints each generation once it is saved, as a node acknowledges it then.
WRITER = """
import itertools, sys
from pathlib import Path
from inference_node.agent.store import NodeStore, StoredSettings
from inference_node.contract.settings import EngineSettings
store = NodeStore(Path(sys.argv[1]))
for generation in itertools.count(int(sys.argv[2])):
    settings = EngineSettings(max_queue=generation)
    store.save_settings(StoredSettings(settings=settings, generation=generation, config_hash="x" * (generation % 4000)))
    print(generation, flush=True)
"""


class TestKilledWhileSaving:
    def test_nothing_acknowledged_is_lost(self, tmp_path: Path) -> None:
        source = random.Random(7)
        store, generation = NodeStore(tmp_path), 1
        for _ in range(KILLS):
            with subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(generation)], stdout=subprocess.PIPE, text=True
            ) as writer:
                assert writer.stdout is not None
                acknowledged = [int(next(writer.stdout)) for _ in range(source.randint(1, 12))]
                writer.kill()
                acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
            stored = store.load_settings()
            assert stored is not None
            assert stored.generation in (acknowledged[-1], acknowledged[-1] + 1)
            assert stored.settings.max_queue == stored.generation
            generation = stored.generation + 1
