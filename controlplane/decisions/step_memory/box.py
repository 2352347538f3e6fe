"""The one least-squares problem of three unknowns that step memories ask for, solved exactly and the same on every machine.

Plain Python on purpose: a linear-algebra library may round otherwise on another processor, and a controller that takes over must
go on bit for bit.
"""

from itertools import product

Vector = tuple[float, float, float]
# Upper triangle of a symmetric matrix: 00, 01, 02, 11, 12, 22.
Symmetric = tuple[float, float, float, float, float, float]

_PLACE = ((0, 1, 2), (1, 3, 4), (2, 4, 5))


def times(matrix: Symmetric, vector: Vector) -> Vector:
    rows = [sum(matrix[_PLACE[i][j]] * vector[j] for j in range(3)) for i in range(3)]
    return rows[0], rows[1], rows[2]


def dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def minimum(matrix: Symmetric, aim: Vector, least: float, most: float) -> Vector:
    """The x with `least` <= x <= `most` that minimises x'Mx / 2 - aim'x; the matrix is positive definite.

    Within the box the minimum of a convex function is the stationary point of one of its faces: those that lie in the box are
    compared. Mostly the first, with all three free, is it.
    """
    free = _stationary(matrix, aim, (None, None, None))
    if free is not None and all(least <= value <= most for value in free):
        return free
    best: tuple[float, Vector] | None = None
    for held in product((None, least, most), repeat=3):
        found = _stationary(matrix, aim, held)
        if found is None or not all(least <= value <= most for value in found):
            continue
        height = dot(found, times(matrix, found)) / 2 - dot(aim, found)
        if best is None or height < best[0]:
            best = height, found
    assert best is not None, "the corners of the box are always in it"
    return best[1]


def _stationary(matrix: Symmetric, aim: Vector, held: tuple[float | None, ...]) -> Vector | None:
    """With some unknowns held, by elimination over the others; None where those are not told apart."""
    free = [i for i in range(3) if held[i] is None]
    system = [
        [matrix[_PLACE[i][j]] for j in free]
        + [aim[i] - sum(matrix[_PLACE[i][j]] * (held[j] or 0.0) for j in range(3) if held[j] is not None)]
        for i in free
    ]
    solved = _eliminate(system)
    if solved is None:
        return None
    rest = iter(solved)
    values = [next(rest) if value is None else value for value in held]
    return values[0], values[1], values[2]


def _eliminate(system: list[list[float]]) -> list[float] | None:
    """Gauss without pivoting, which a positive definite matrix does not need."""
    size = len(system)
    for i in range(size):
        if not system[i][i] > 0:
            return None
        for below in range(i + 1, size):
            factor = system[below][i] / system[i][i]
            for column in range(i, size + 1):
                system[below][column] -= factor * system[i][column]
    values = [0.0] * size
    for i in reversed(range(size)):
        known = sum(system[i][j] * values[j] for j in range(i + 1, size))
        values[i] = (system[i][size] - known) / system[i][i]
    return values
