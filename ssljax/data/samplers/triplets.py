"""Triplets: items of three photos, anchor, positive and negative, as `AttributeTriplets` mines them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ssljax.data.items import Items
from ssljax.data.paths import find
from ssljax.data.samplers.attribute_triplets import AttributeTriplets
from ssljax.data.samplers.base import Batches
from ssljax.types import UserError, check_fields

CHECKED = 1000  # anchors of a file that are compared with the data


@dataclasses.dataclass(frozen=True)
class Triplets:
    """Mined triplets: items of three photos, anchor, positive and negative, for views such as `OneCropEach`.

    Every photo that has a triplet is the anchor of one an epoch, drawn from those mined for it. The labels and
    attributes of a batch are the anchors'. A triplet with a photo that cannot be read gives way to another.
    """

    photos: ClassVar[int] = 3
    """Photos of an item."""

    mining: Any = AttributeTriplets()
    """Which triplets."""
    path: str | None = None
    """The .npy file that `AttributeTriplets.mine` wrote for the train split; a relative path is looked up from here,
    then under SSLJAX_DATA. None mines them when training begins, in memory."""
    refresh_every: int | None = None
    """Epochs between minings by the encoder's embeddings, the first of them before training: each negative is then the
    nearest to its anchor of some that are drawn from its level. None mines once, and draws any of the level."""
    among: int = 8
    """How many are drawn, with `refresh_every`."""

    def __post_init__(self):
        check_fields(self, "sampler", refresh_every=1, among=1)
        if self.refresh_every is not None and self.path is not None:
            raise UserError(
                f"sampler.path={self.path!r} would not be used with sampler.refresh_every={self.refresh_every}, which "
                "mines before training begins: choose one of them"
            )

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        mined = self.mining.mine(items) if self.path is None else self._load(items)
        anchors = np.flatnonzero((mined[:, :, 0] >= 0).any(axis=1))
        m = len(anchors)
        return Batches(
            OneEach(anchors, mined, seed).draw,
            m,
            "photos that have a triplet",
            {"photos": m, "items": m, "photos_of_an_item": self.photos},
            batch_size=batch_size,
            seed=seed,
            shard=shard,
            photos=self.photos,
            alike=False,
        )

    def refresh(self, items: Items, embeddings: np.ndarray, again: int, path: Path) -> None:
        """See `RefreshingSampler.refresh`."""
        self.mining.mine(items, path=path, embeddings=embeddings, among=self.among, again=again)

    def reading(self, path: Path) -> "Triplets":
        """See `RefreshingSampler.reading`."""
        return dataclasses.replace(self, path=str(path), refresh_every=None)

    def _load(self, items: Items) -> np.ndarray:
        """i32[n, T, 2]; raises UserError if the file is missing, or is not of this mining of these items."""
        assert self.path is not None
        at = f"sampler.path={self.path!r}"
        try:
            mined = np.lib.format.open_memmap(find(self.path, "sampler.path"), "r")
        except (ValueError, OSError) as error:
            raise UserError(f"{at} holds no triplets ({error}): write it with AttributeTriplets.mine") from None
        shape = (len(items), len(self.mining.pairs), 2)
        if mined.shape != shape or mined.dtype != np.int32:
            raise UserError(f"{at} holds {mined.dtype}{list(mined.shape)}, and sampler.mining makes i32{list(shape)}")
        anchors = np.unique(np.linspace(0, len(items) - 1, CHECKED).astype(np.int64))
        some = mined[anchors]
        photo, t = np.nonzero(some[..., 0] >= 0)
        wrong = some.max() >= len(items)
        for side in (0, 1):
            if not wrong:
                likeness = self.mining.likeness_of(items, anchors[photo], some[photo, t, side])
                wrong = (self.mining.levels_of(likeness) != np.array(self.mining.pairs)[t, side]).any()
        if wrong:
            raise UserError(f"{at} holds triplets of other photos, or of another sampler.mining: mine them again")
        return mined


@dataclasses.dataclass(frozen=True, eq=False)
class OneEach:
    """One of the triplets of each anchor."""

    anchors: np.ndarray
    """i64[m], the rows of photos that have a triplet"""
    mined: np.ndarray
    """i32[n, T, 2], from `AttributeTriplets.mine`; worker processes get a file by its name alone"""
    seed: int
    """decides which"""

    def __reduce__(self) -> tuple[Callable[..., "OneEach"], tuple[Any, ...]]:
        return _one_each, (self.anchors, getattr(self.mined, "filename", self.mined), self.seed)

    def draw(self, items: np.ndarray, batch: int) -> np.ndarray:
        """i64[b, 3], anchor, positive and negative, for items i64[b], which are numbers of anchors."""
        return np.stack([self._draw_one(item, batch) for item in items])

    def _draw_one(self, item: int, batch: int) -> np.ndarray:
        mined = self.mined[self.anchors[item]]
        rng = np.random.default_rng((self.seed, batch, item))
        return np.array([self.anchors[item], *rng.choice(mined[mined[:, 0] >= 0])])


def _one_each(anchors: np.ndarray, mined: np.ndarray | str | Path, seed: int) -> OneEach:
    if not isinstance(mined, np.ndarray):
        mined = np.lib.format.open_memmap(mined, "r")
    return OneEach(anchors, mined, seed)
