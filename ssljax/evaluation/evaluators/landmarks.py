"""The retrieval mAP of the Google Landmarks challenge, for a list of predictions.

For embeddings use `Retrieval(depths=(100,))`, which gives the same figure.
"""

from collections.abc import Collection, Mapping, Sequence

from ssljax.types import UserError


def landmarks_map(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Collection[str]], *, depth: int = 100
) -> dict[str, float]:
    """The mean over the solution's queries of sum over i <= depth of P(i) rel_i, over min(R, depth).

    A query without predictions scores 0 and stays in the mean. A repeated item is wrong the second time, and uses up a
    rank. Source: Weyand et al. 2020, "Google Landmarks Dataset v2", and the challenge's code.

    Args:
      predictions: query → the gallery's ids, best first.
      solution: query → the ids that are relevant to it. A query with none is left out.
      depth: ranks that count.

    Returns:
      "map@<depth>-over-min(r,<depth>)"; "queries", those in the mean; "queries_left_out", those with no relevant item;
      "queries_missing", those in the mean without a prediction.

    Raises:
      UserError: the depth is below 1, a prediction is for a query that the solution lacks, or no query has a relevant
        item.
    """
    if depth < 1:
        raise UserError(f"depth={depth} must be at least 1: try 100")
    if unknown := sorted(predictions.keys() - solution.keys()):
        raise UserError(
            f"predictions hold {len(unknown)} queries that are not in the solution: the first is {unknown[0]!r}"
        )
    asked = {query: set(relevant) for query, relevant in solution.items() if relevant}
    if not asked:
        raise UserError(f"none of the solution's {len(solution)} queries has a relevant item: nothing can be measured")
    total = sum(_ap(predictions.get(query, ()), relevant, depth) for query, relevant in asked.items())
    return {
        f"map@{depth}-over-min(r,{depth})": total / len(asked),
        "queries": len(asked),
        "queries_left_out": len(solution) - len(asked),
        "queries_missing": sum(not predictions.get(query) for query in asked),
    }


def _ap(predicted: Sequence[str], relevant: set[str], depth: int) -> float:
    found: set[str] = set()
    precisions = 0.0
    for rank, item in enumerate(predicted[:depth], start=1):
        if item in relevant and item not in found:
            found.add(item)
            precisions += len(found) / rank
    return precisions / min(len(relevant), depth)
