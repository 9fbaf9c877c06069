"""PCA whitening: fewer dimensions, which all have the same variance; or the same variance within labels.

scikit-learn's PCA(whiten=True) has no shrinkage, and its shrunk_covariance no limit on memory.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable

import numpy as np

from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields

ROWS_AT_ONCE = 4096
_known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # embeddings → what was fitted to them
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


def fit_whitening(
    vectors: np.ndarray, dim: int, *, shrinkage: float = 0.0, groups: np.ndarray | None = None
) -> PCAWhitening:
    """The whitening that gives `vectors` mean 0 and covariance I, in the `dim` directions of largest variance.

    With U the eigenvectors of their covariance and l its eigenvalues, the matrix is U / sqrt((1 - shrinkage) l +
    shrinkage mean(l)). Shrinkage gives less weight to directions of little variance, which are mostly noise; 1 only
    rotates.
    Source: Jégou & Chum 2012, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening", section 3; shrinkage towards a multiple of I as in Ledoit & Wolf 2004, by a share that is given.

    With `groups` it is the covariance within groups that becomes I, before the directions in which all vectors then
    vary most are kept: what items of one group differ in counts less.
    Source: Mikolajczyk & Matas 2007, "Improving descriptors for fast tree matching by optimal linear projection", as
    Radenović et al. 2018 use it (arXiv 1711.02512, section 4.2).

    Args:
      vectors: f32[n, D], of another split than the one that is measured.
      dim: dimensions to keep, below n and at most D.
      shrinkage: 0 to 1.
      groups: i32[n], the group of each vector, such as its label; -1 for none. None: see above.

    Raises:
      UserError: there are too few vectors or dimensions; without shrinkage the vectors vary in fewer than `dim`
        directions; shrinkage is out of range; or no group has two vectors.
    """
    count, dims = vectors.shape
    if not 1 <= dim <= dims:
        raise UserError(f"dim={dim} must be at least 1 and at most {dims}, the dimensions of the vectors")
    if not 0 <= shrinkage <= 1:
        raise UserError(f"shrinkage={shrinkage} must be between 0 and 1: try 0.1")
    if dim >= count:
        raise UserError(f"dim={dim} needs more than {dim} vectors to fit the whitening, but there are {count}")
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    if groups is not None:
        within = _variances(_less_group_means(vectors, groups), shrinkage, dim)
        # Whitened by the covariance within, and turned to the directions of largest variance in all.
        white = np.ascontiguousarray(within[1] / np.sqrt(within[0])[None], np.float32)
        _, turned = _variances((vectors - mean[None]) @ white, 0.0, 1)
        return PCAWhitening(mean, np.ascontiguousarray(white @ turned[:, dims - dim :][:, ::-1].astype(np.float32)))
    variances, directions = _variances(vectors - mean[None], shrinkage, dim)
    kept = slice(dims - dim, None)  # eigenvalues rise
    matrix = directions[:, kept] / np.sqrt(variances[kept])[None]
    return PCAWhitening(mean, np.ascontiguousarray(matrix[:, ::-1], np.float32))


def _variances(vectors: np.ndarray, shrinkage: float, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrunk eigenvalues f64[D], rising, and eigenvectors f64[D, D] of the covariance of vectors f32[n, D] of mean 0.

    Raises UserError if fewer than `dim` of them are more than rounding.
    """
    covariance = np.zeros(2 * vectors.shape[1:])
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        x = vectors[start : start + ROWS_AT_ONCE].astype(np.float64)
        covariance += x.T @ x
    variances, directions = np.linalg.eigh(covariance / len(vectors))
    largest = np.abs(directions).argmax(axis=0)[None]
    directions *= np.sign(np.take_along_axis(directions, largest, axis=0))  # either sign would do: the same everywhere
    shrunk = (1 - shrinkage) * variances + shrinkage * max(variances.mean(), 0)
    varying = int((shrunk > SMALLEST * shrunk[-1]).sum())
    if dim > varying:
        raise UserError(
            f"dim={dim} is more than the {varying} dimensions that the {len(vectors)} vectors vary in: choose at most "
            "that many, or a shrinkage above 0"
        )
    return shrunk, directions


def _less_group_means(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """f32[m, D], the vectors of groups of two or more, each less the mean of its group; UserError if there is none."""
    names, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rows = np.flatnonzero((groups >= 0) & (sizes[members] > 1))
    if not len(rows):
        raise UserError("no two items are of one group: name a column of labels that items share")
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, members[rows], vectors[rows])
    return vectors[rows] - sums[members[rows]] / sizes[members[rows], None].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Whitening:
    """Whitens queries and gallery by a PCA of the split `fit`, and scales them to unit length: see `fit_whitening`.

    With `labels` it is a linear projection by labels, in closed form: `Whitening(dim=256, labels="listing")`. It is
    fitted to the unit vectors as they were embedded, so it must be the first step.

    With `parts` each part of the vectors is whitened by itself first, without labels, and scaled to unit length, so
    that none outweighs the others: `Whitening(dim=512, shrinkage=0.1, parts=encoder.parts)` for an encoder with
    `levels`.
    """

    dim: int
    """Dimensions to keep."""
    shrinkage: float = 0.0
    """0 to 1: how much less directions of little variance count."""
    fit: str = "train"
    """The split that it is fitted to."""
    labels: str | tuple[str, ...] | None = None
    """Columns of that split: what items that agree in all of them differ in counts less. None: no labels are used."""
    parts: tuple[int, ...] = ()
    """Lengths of the parts that the vectors are joined from; () for vectors of one part."""

    def __post_init__(self):
        check_fields(self, "Whitening", dim=1, parts=1)
        if not 0 <= self.shrinkage <= 1:
            raise UserError(f"Whitening.shrinkage={self.shrinkage} must be between 0 and 1: try 0.1")

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        whiten = self.fitted(embed)
        return whiten(queries), whiten(gallery)

    def fitted(self, embed: Embed) -> Callable[[np.ndarray], np.ndarray]:
        """What whitens vectors of unit length, f32[n, D] to f32[n, dim] of unit length.

        If `embed` gives the same embeddings again, it is not fitted again. Raises UserError as `fit_whitening`.
        """
        fit = embed(self.fit)
        known = _known.setdefault(fit, {})
        if repr(self) not in known:
            try:
                known[repr(self)] = self._fitted_to(fit)
            except UserError as error:
                raise UserError(f"Whitening of split {self.fit!r}: {error}") from None
        return functools.partial(self._apply, known[repr(self)])

    def _fitted_to(self, fit: Embeddings) -> list[PCAWhitening]:
        """The whitening of each part, if there are parts, and that of the whole."""
        groups = None if self.labels is None else relevance(self.labels, fit, field="Whitening.labels")[0]
        units = normalise(fit.vectors)
        if self.parts and sum(self.parts) != units.shape[1]:
            raise UserError(
                f"parts={self.parts} have {sum(self.parts)} dimensions in all, but the vectors have {units.shape[1]}: "
                "give the lengths of the parts that they are joined from"
            )
        parts = [fit_whitening(part, part.shape[1], shrinkage=self.shrinkage) for part in self._split(units)]
        whole = fit_whitening(self._white_parts(parts, units), self.dim, shrinkage=self.shrinkage, groups=groups)
        return [*parts, whole]

    def _apply(self, fitted: list[PCAWhitening], vectors: np.ndarray) -> np.ndarray:
        *parts, whole = fitted
        return normalise(whole(self._white_parts(parts, vectors)))

    def _white_parts(self, fitted: list[PCAWhitening], vectors: np.ndarray) -> np.ndarray:
        """The same vectors with each of their parts whitened, and of unit length."""
        parts = [normalise(white(part)) for white, part in zip(fitted, self._split(vectors), strict=True)]
        return np.concatenate(parts, axis=1) if parts else vectors

    def _split(self, vectors: np.ndarray) -> list[np.ndarray]:
        return np.split(vectors, np.cumsum(self.parts)[:-1], axis=1) if self.parts else []

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        if self.dim >= len(embed(self.fit)):
            raise UserError(
                f"Whitening.dim={self.dim} needs more than {self.dim} vectors to be fitted to, but split {self.fit!r} "
                f"has {len(embed(self.fit))}"
            )
        if self.labels is not None:
            relevance(self.labels, embed(self.fit), field="Whitening.labels")
