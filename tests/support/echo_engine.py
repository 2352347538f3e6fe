"""A peer's engine without a model, run behind the door as a script: answers a prompt's own ids, one a step.

argv: the folder of `pipe.py`.
"""

import sys

sys.path.insert(0, sys.argv[1])

from pipe import Pipe


def main() -> None:
    pipe = Pipe(lambda text: list(text.encode()), lambda token: chr(token) if token else "")
    # What a library prints must not reach the door.
    sys.stdout.write("loading ...\n")
    sys.stdout.flush()
    running: dict[int, list[int]] = {}
    while True:
        for request in pipe.requests(wait=not running):
            running[request.number] = [request.prompt[i % len(request.prompt)] for i in range(request.max_tokens)]
        pieces = []
        for number, left in list(running.items()):
            pieces.append((number, [left.pop(0)], not left))
            if not left:
                del running[number]
        pipe.send(pieces)


if __name__ == "__main__":
    main()
