"""The suite `gradsim`: facts of a benchmark compared with each other, block by block.

A row is one fact of a block with the block's other facts; the rows together are the upper half of
the Gram matrix, as cosines.
"""

from collections.abc import Generator

from editing.datasets.facts import GramBlock, Statement
from editing.metrics.gradsim import GradSim, Inner, Scope, gram, similarities
from editing.step import Step

from .catalogue import Json
from .scene import Scene

_TEXT = 80  # characters of a text that a row keeps


def measure(scene: Scene, block: GramBlock) -> Generator[Step, None, list[Json]]:
    """The rows of one block. Raises BadRequest."""
    scope = Scope.of(scene.view, scene.options.scope)
    rows = [statement.fact for statement in block.rows]
    columns = [statement.fact for statement in block.columns]
    compare = gram(scene.view, rows, scope) if block.diagonal else None
    found = yield from compare or similarities(scene.view, rows, columns, scope)
    return [
        _row(block, number, statement, found, depth=scene.view.facts.layers)
        for number, statement in enumerate(block.rows)
    ]


def _row(
    block: GramBlock, number: int, statement: Statement, found: GradSim, *, depth: int
) -> Json:
    """One fact; its means by layer and kind leave out the fact itself."""
    others = [at for at, other in enumerate(block.columns) if other.number != statement.number]

    def mean(inner: Inner) -> float | None:
        return float(inner.cosine[number, others].mean()) if others else None

    layers, kinds = found.by_layer, found.by_kind
    row: Json = {
        "fact": statement.number,
        "from": block.columns[0].number,
        "cosines": found.cosine[number].tolist(),
        "others": len(others),
        "layers": [mean(layers[at]) if at in layers else None for at in range(depth)],
        "kinds": {kind: mean(inner) for kind, inner in kinds.items()},
    }
    if block.diagonal:
        row |= {
            "question": statement.question[:_TEXT],
            "answer": statement.answer[:_TEXT],
            "subject": statement.subject[:_TEXT],
            "relation": statement.relation,
            "norm": float(found.whole.left[number].sqrt()),
        }
    return row
