"""A trained run, used from Python: `ssljax.load` and `ssljax.train` return one.

model = ssljax.load("runs/shop")
model.embed("new_photos").vectors
model.index().search("a_photo.jpg")
model.index().search("a_photo.jpg", text="blue")
"""

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ssljax.data import Folder
from ssljax.data.columns import text
from ssljax.data.decode import BadImage, decode
from ssljax.data.paths import as_path, check_no_address
from ssljax.evaluation import Embeddings, Origin
from ssljax.evaluation.embed import Embedder
from ssljax.evaluation.restore import Restored
from ssljax.search.collection import Collection
from ssljax.search.words import check_weight, checked_text, queries
from ssljax.types import UserError, short

BATCH = 64  # photos embedded at a time

Photo = str | os.PathLike | bytes | Image.Image | np.ndarray
"""A file's path, the bytes of one, a PIL image, or pixels u8[H, W, 3]."""


class Match(NamedTuple):
    """An item of an index that is near to a query."""

    id: str
    score: float
    """the larger, the nearer: the cosine, unless the index has another metric"""
    columns: dict[str, str]
    """what the catalogue says of it"""
    photo: Path | None
    """where its photo is; None if it is no file"""


class Model:
    """The network of a trained run."""

    def __init__(self, restored: Restored, network: str = "student"):
        self._restored, self._network = restored, network
        self._encoder = restored.encoder(network)

    @property
    def run(self) -> Path:
        """The run folder, with results.json, report.html and weights/."""
        return self._restored.run.path

    def embed(self, photos: Photo | Sequence[Photo], titles: Sequence[str] | None = None) -> Embeddings:
        """Embeds photos, with their titles if the network reads those.

        Args:
            photos: an array u8[B, H, W, 3]; or a list of paths, PIL images, bytes of image files, and arrays
                u8[H, W, 3], or one of these alone; or the path of a folder, of which all photos are taken, also those
                in folders within it.
            titles: a text for each photo; None, or "" for one of them, if there is none. Not with a folder.

        Returns:
            Their `vectors`, f32[B, D], not normalised, and `ids`: the paths, or else the numbers from 0 on. Of a folder
            they are in the order of the paths; photos that cannot be read are left out, as many as the experiment's
            `max_bad_share` allows. `save` writes them to a file.

        Raises:
            UserError: there is no photo, one cannot be read, an array has another shape or type, or too many photos of
                a folder are bad.
        """
        if titles is not None:
            self._check_titles(titles)
        if isinstance(photos, str | os.PathLike) and os.path.isdir(photos):
            if titles is not None:
                raise UserError("titles belong to single photos: leave them out with a folder, or list its photos")
            return self._embed_folder(Path(photos))
        given = _listed(photos)
        if titles is not None and len(titles) != len(given):
            raise UserError(f"titles are {len(titles)}, and photos {len(given)}: give one for each, or none at all")
        size = self._encoder.photo_size
        decoded = [_decode(photo, name, size) for name, photo in given.items()]
        vectors = []
        for start in range(0, len(decoded), BATCH):
            images, aspects = zip(*decoded[start : start + BATCH], strict=True)
            own = None if titles is None else titles[start : start + BATCH]
            vectors.append(self._encoder.embed(np.stack(images), np.array(aspects, np.float32), own))
        return Embeddings(text(given), np.concatenate(vectors), origin=self._encoder.origin)

    def embed_titles(self, titles: Sequence[str]) -> np.ndarray:
        """f32[n, D], titles without photos, to be compared with photos; raises UserError if the network reads none."""
        self._check_titles(titles)
        assert self._encoder.embed_titles is not None
        return self._encoder.embed_titles(titles)

    def _check_titles(self, titles: Sequence[str]) -> None:
        if self._encoder.embed_titles is None:
            raise UserError(f"titles: the network of {self.run} reads photos alone")
        if isinstance(titles, str) or not len(titles) or not all(isinstance(title, str) for title in titles):
            raise UserError(f"titles={short(titles)} must be a list of texts, at least one")

    def index(self, where: str | os.PathLike | None = None) -> "PhotoIndex":
        """Opens an index to search by photos.

        Args:
            where: a folder that `ssljax index` or `save_collection` wrote; by default the index of the run's gallery.

        Raises:
            UserError: there is no index, or another network made its embeddings.
        """
        folder = self._restored.run.index if where is None else as_path(where, "where")
        if where is None and not folder.exists():
            raise UserError(f"{self.run} has no index yet: train it to the end first")
        collection = Collection.open(folder)
        try:
            check_origin(collection, self._encoder.origin, self.run)
        except UserError:
            collection.close()
            raise
        return PhotoIndex(self, collection)

    def _embed_folder(self, folder: Path) -> Embeddings:
        items = Folder(str(folder.absolute()), shares=(1.0, 0.0, 0.0), splits=False).load("train")
        spec = self._restored.spec
        embedder = Embedder(spec.experiment, spec.mesh, lambda split: items, titles=self._restored.titles)
        return dataclasses.replace(self._restored, embedder=embedder).embed(["train"], self._network)


class PhotoIndex:
    """An open index, and the model that embeds photos and words for it."""

    def __init__(self, model: Model, collection: Collection):
        self._model, self._collection = model, collection

    def __len__(self) -> int:
        return len(self._collection)

    def search(
        self,
        photos: Photo | Sequence[Photo] | Embeddings | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        text_weight: float = 0.5,
    ) -> list[list[Match]]:
        """The `k` items nearest to each photo, the nearest first; fewer if the index holds fewer.

        Args:
            photos: what `Model.embed` takes, or what it returned; None to search by a text alone.
            k: how many items.
            text: words that describe the items, such as "red floral dress"; with photos, each of them is searched by
                together with the words ("like this, but blue"). None to search by photos alone.
            text_weight: with both, how much the text counts, from 0 (the photo alone) to 1 (the text alone): a query
                is norm((1 - w) * norm(photo) + w * norm(text)), where norm scales to unit length.

        Returns:
            A list for each photo, or one list for a text alone.

        Raises:
            UserError: as `Model.embed`, or `k` is below 1, there is neither a photo nor a text, the text is blank, or
                the network reads no titles.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise UserError(f"k={short(k)} must be a whole number of at least 1, such as 10")
        check_weight(text_weight)
        if photos is None and text is None:
            raise UserError("give photos to search by, a text, or both")
        seen, read = None, None
        if photos is not None:
            seen = (photos if isinstance(photos, Embeddings) else self._model.embed(photos)).vectors
        if text is not None:
            read = self._model.embed_titles([checked_text(text, self._model._encoder)])
        vectors = queries(seen, read, text_weight)
        ids, scores = self._collection.search(vectors, int(k))
        return [[self._match(*found) for found in zip(*row, strict=True)] for row in zip(ids, scores, strict=True)]

    def _match(self, id: str, score: float) -> Match:
        item = self._collection.item(id)
        return Match(id, float(score), item.columns, item.photo)


def check_origin(collection: Collection, network: Origin, run: Path) -> None:
    """Raises UserError if a collection was not embedded by this network of a run.

    Vectors of two networks can have equal dimensions and nothing in common: answers would be noise.
    """
    origin = collection.origin
    if origin is not None and origin.network != network.network:
        raise UserError(
            f"network={network.network}: {collection.folder} was embedded by the {origin.network}; leave --network "
            f"out, or search an index of what `ssljax embed --network {network.network}` writes"
        )
    if origin is not None and origin.weights != network.weights:
        raise UserError(
            f"{collection.folder} was embedded by other weights than {run} has now: embed its items and build the "
            "index anew, or name the right run by --run"
        )


def _listed(photos: Any) -> dict[str, Photo]:
    """Id → photo, of what `Model.embed` takes and is no folder."""
    if isinstance(photos, np.ndarray):
        if photos.ndim != 4:
            remedy = "photos[None] is a batch of one" if photos.ndim == 3 else "np.stack(photos) makes one of a list"
            raise UserError(f"photos has the shape {photos.shape}, and must be [B, H, W, 3]: {remedy}")
    elif isinstance(photos, str | os.PathLike | bytes | Image.Image):
        photos = [photos]
    elif not isinstance(photos, list | tuple):
        raise UserError(
            f"photos={short(photos)} must be an array u8[B, H, W, 3], a folder, or a list of paths, images or arrays"
        )
    if not len(photos):
        raise UserError("photos is empty: give at least one")
    files = all(isinstance(photo, str | os.PathLike) for photo in photos)
    names = [os.fspath(photo) if files else str(number) for number, photo in enumerate(photos)]
    if len(set(names)) < len(names):
        raise UserError("photos names a file twice: give each once")
    return dict(zip(names, photos, strict=True))


def _decode(photo: Photo, name: str, size: int) -> tuple[np.ndarray, float]:
    """A photo as `decode` has it; raises UserError if it is none, or cannot be read."""
    if isinstance(photo, str | os.PathLike):
        check_no_address(os.fspath(photo), "photo")
        photo = Path(photo)
    elif isinstance(photo, Image.Image):
        if not all(photo.size):
            raise UserError(f"photo {name} is an empty image of {photo.width} x {photo.height} pixels: leave it out")
        photo = _png(photo)
    elif isinstance(photo, np.ndarray) and not (photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3):
        raise UserError(
            f"photo {name} is {photo.dtype}{list(photo.shape)}, and must be pixels uint8[H, W, 3], 0 to 255"
        )
    elif not isinstance(photo, bytes | np.ndarray):
        raise UserError(
            f"photo {name} is {short(photo)}, and must be a path, a PIL image, bytes or an array u8[H, W, 3]"
        )
    try:
        return decode(photo, size)
    except BadImage as error:
        raise UserError(f"photo {name} cannot be read ({error}): leave it out, or mend it") from None


def _png(image: Image.Image) -> bytes:
    """A PIL image as a file, upright, so that `decode` does with its colours and transparency as with any file's."""
    image = ImageOps.exif_transpose(image)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
