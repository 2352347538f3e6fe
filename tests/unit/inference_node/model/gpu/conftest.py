from tests.support.triton_interpreter import HAS_TRITON, enter_interpreter

enter_interpreter()
if not HAS_TRITON:
    collect_ignore = ["test_forward.py", "test_runner.py", "test_steps.py"]
