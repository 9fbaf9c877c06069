"""PCA whitening: fewer dimensions, which all have the same variance.

scikit-learn's PCA(whiten=True) has no shrinkage, and its shrunk_covariance no limit on memory.
"""

import dataclasses

import numpy as np

from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields

ROWS_AT_ONCE = 4096
SMALLEST = 1e-6  # of the largest variance: below it a direction varies by rounding in float32 only


@dataclasses.dataclass(frozen=True, eq=False)
class PCAWhitening:
    """x → (x - mean) @ matrix."""

    mean: np.ndarray
    """f32[D]"""
    matrix: np.ndarray
    """f32[D, dim], the directions of largest variance first"""

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """f32[n, dim] of vectors f32[n, D], not normalised; raises UserError if they have another D."""
        if vectors.shape[1] != len(self.mean):
            raise UserError(
                f"whitening was fitted to {len(self.mean)} dimensions, but the vectors have {vectors.shape[1]}: "
                "make it the first step"
            )
        return (vectors - self.mean[None]) @ self.matrix


def fit_whitening(vectors: np.ndarray, dim: int, *, shrinkage: float = 0.0) -> PCAWhitening:
    """The whitening that gives `vectors` mean 0 and covariance I, in the `dim` directions of largest variance.

    With U the eigenvectors of their covariance and l its eigenvalues, the matrix is U / sqrt((1 - shrinkage) l +
    shrinkage mean(l)). Shrinkage gives less weight to directions of little variance, which are mostly noise; 1 only
    rotates.
    Source: Jégou & Chum 2012, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening", section 3; shrinkage towards a multiple of I as in Ledoit & Wolf 2004, by a share that is given.

    Args:
      vectors: f32[n, D], of another split than the one that is measured.
      dim: dimensions to keep, below n and at most D.
      shrinkage: 0 to 1.

    Raises:
      UserError: there are too few vectors or dimensions; without shrinkage the vectors vary in fewer than `dim`
        directions; or shrinkage is out of range.
    """
    count, dims = vectors.shape
    if not 1 <= dim <= dims:
        raise UserError(f"dim={dim} must be at least 1 and at most {dims}, the dimensions of the vectors")
    if not 0 <= shrinkage <= 1:
        raise UserError(f"shrinkage={shrinkage} must be between 0 and 1: try 0.1")
    if dim >= count:
        raise UserError(f"dim={dim} needs more than {dim} vectors to fit the whitening, but there are {count}")
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((dims, dims))
    for start in range(0, count, ROWS_AT_ONCE):
        x = (vectors[start : start + ROWS_AT_ONCE] - mean[None]).astype(np.float64)
        covariance += x.T @ x
    variances, directions = np.linalg.eigh(covariance / count)
    shrunk = (1 - shrinkage) * variances + shrinkage * max(variances.mean(), 0)
    varying = int((shrunk > SMALLEST * shrunk[-1]).sum())
    if dim > varying:
        raise UserError(
            f"dim={dim} is more than the {varying} dimensions that the {count} vectors vary in: choose at most that "
            "many, or a shrinkage above 0"
        )
    kept = slice(dims - dim, None)  # eigenvalues rise
    matrix = directions[:, kept] / np.sqrt(shrunk[kept])[None]
    return PCAWhitening(mean, np.ascontiguousarray(matrix[:, ::-1], np.float32))


@dataclasses.dataclass(frozen=True)
class Whitening:
    """Whitens queries and gallery by a PCA of the split `fit`, and scales them to unit length: see `fit_whitening`.

    It is fitted to the unit vectors as they were embedded, so it must be the first step.
    """

    dim: int
    """Dimensions to keep."""
    shrinkage: float = 0.0
    """0 to 1: how much less directions of little variance count."""
    fit: str = "train"
    """The split that it is fitted to."""

    def __post_init__(self):
        check_fields(self, "Whitening", dim=1)
        if not 0 <= self.shrinkage <= 1:
            raise UserError(f"Whitening.shrinkage={self.shrinkage} must be between 0 and 1: try 0.1")

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        try:
            whiten = fit_whitening(normalise(embed(self.fit).vectors), self.dim, shrinkage=self.shrinkage)
        except UserError as error:
            raise UserError(f"Whitening of split {self.fit!r}: {error}") from None
        return normalise(whiten(queries)), normalise(whiten(gallery))

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        if self.dim >= len(embed(self.fit)):
            raise UserError(
                f"Whitening.dim={self.dim} needs more than {self.dim} vectors to be fitted to, but split {self.fit!r} "
                f"has {len(embed(self.fit))}"
            )
