"""Samples as a file that speedscope opens, and that our own page draws.

Format: https://www.speedscope.app/file-format-schema.json, profiles of the type "sampled".
"""

from typing import Any

from inference_node.profiling.sampler import Frame, Samples


def to_speedscope(samples: Samples, name: str, exporter: str) -> dict[str, Any]:
    """One profile a thread, the busiest first. Equal stacks are one sample: order within a thread means nothing."""
    numbers: dict[Frame, int] = {}
    profiles = []
    for thread, stacks in sorted(samples.threads.items(), key=lambda item: -sum(item[1].values())):
        heaviest = sorted(stacks.items(), key=lambda item: -item[1])
        profiles.append(
            {
                "type": "sampled",
                "name": thread,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(stacks.values()),
                "samples": [[numbers.setdefault(f, len(numbers)) for f in stack] for stack, _ in heaviest],
                "weights": [seconds for _, seconds in heaviest],
            }
        )
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": exporter,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": f.name, "file": f.file, "line": f.line} for f in numbers]},
        "profiles": profiles,
        # Not of the format, and ignored by its readers.
        "trimtab": {"duration_s": samples.duration_s, "is_cpu_time": samples.is_cpu_time},
    }
