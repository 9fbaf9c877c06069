"""How often watermarks are found, how well they are removed, and how often one is seen where there is none.

One table, and results/benchmark_watermarks.json. Sellers are made of Fashion's and Grocery's photos, and stamped with
one of `Watermark`'s drawn marks at one place, at a size of .3, .45 or .6 of the shorter side; then each photo is saved
as a JPEG of a quality of 75 to 90. The original is the photo before that. Without a mark, sellers are also made of what
is most alike: one kind of item, one brand, one brand's items of one kind, photos of one product. Seeds are fixed.

- found: the share of sellers in which a mark was found;
- photos: of these sellers' photos, the share that was cleaned;
- iou: of the mask and the pixels that the mark changes by more than 3 %;
- before, after: PSNR in dB against the original on those pixels, mean over the cleaned photos.

    python benchmarks/watermarks.py        needs fashion and grocery under SSLJAX_DATA, and some minutes
    python benchmarks/watermarks.py --run runs/claims_robust_imported_0

The second line measures only how many styles of marked photos a run's network finds (cmc@1), beside the share of all
photos that were cleaned (photos). Its figures go to results/benchmark_unmarked.json.
"""

import dataclasses
import functools
import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

import ssljax
from ssljax.data import Catalogue, Grocery, Items
from ssljax.data.atomic_files import write_json
from ssljax.data.decode import decode, decode_whole
from ssljax.data.watermark_removal import find_mark
from ssljax.evaluation import Embeddings, Retrieval, raw_pixels
from ssljax.training.run_folder import environment
from ssljax.views import Watermark

QUALITIES = (75, 90)
SIZES = (0.3, 0.45, 0.6)
CHANGED = 0.03  # opacity from which on a pixel counts as marked


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    photos: tuple[int, ...] = (5, 10, 20, 50, 100)
    """photos of a seller"""
    opacities: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """of the marks"""
    sellers: int = 16
    """for each row of Fashion's, and a third of them of Grocery's larger photos"""
    run: Path | None = None
    """a complete run: only its retrieval of styles is measured; by default all else, with raw pixels"""

    @property
    def output(self) -> Path:
        """Where the figures go."""
        return Path("results") / ("benchmark_unmarked.json" if self.run else "benchmark_watermarks.json")


Photos = list[np.ndarray]  # u8[h, w, 3] each


@functools.cache
def drawn(shape: tuple[int, int], size: float, tiled: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mark in photos h x w: its opacity f32[h, w, 1], and its colours times that, f32[h, w, 3]."""
    mark = Watermark(opacity=(1.0, 1.0), scale=(size, size), tiled=float(tiled))
    black, white = (
        np.moveaxis(np.asarray(stamper(mark)(jax.random.PRNGKey(seed), jnp.full((1, 3, *shape), value)))[0], 0, 2)
        for value in (0.0, 1.0)
    )
    return 1 - (white - black).mean(axis=-1, keepdims=True), black


@functools.cache
def stamper(mark: Watermark) -> Callable[..., jax.Array]:
    """The mark over photos f32[1, 3, h, w], as a key decides."""
    return jax.jit(lambda key, photos: mark.disturb(key, photos, jnp.ones(1)))


def stamp(photos: Photos, opacity: float, tiled: bool, seed: int) -> tuple[Photos, np.ndarray]:
    """A seller's photos, of one size, with a mark, as JPEG leaves them; and where it is, bool[h, w]."""
    rng = np.random.default_rng(seed)
    size = float(rng.choice(SIZES))
    covered, colours = (opacity * x for x in drawn(photos[0].shape[:2], size, tiled, seed))
    marked = [np.round(photo * (1 - covered) + 255 * colours).astype(np.uint8) for photo in photos]
    return [jpeg(photo, rng) for photo in marked], covered[..., 0] > CHANGED


def jpeg(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The photo after a round of JPEG."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=int(rng.integers(*QUALITIES, endpoint=True)))
    return np.asarray(Image.open(file))


class Sellers:
    """Sellers drawn from a data set: n photos of one value in a column, all of the same size."""

    def __init__(self, items: Items, keys: np.ndarray):
        self._items, self._rows = items, defaultdict(list)
        for row, key in enumerate(keys):
            self._rows[key].append(row)

    def __call__(self, n: int, seed: int) -> Photos:
        """Of one value that has enough."""
        rng = np.random.default_rng(seed)
        large = [key for key, rows in self._rows.items() if len(rows) >= min(1.5 * n, n + 20)]
        rows = rng.permutation(self._rows[large[rng.integers(len(large))]])
        found = defaultdict(list)
        for row in rows:
            photo = decode_whole(self._items.photos[row])[0]
            found[photo.shape].append(photo)
            if len(found[photo.shape]) == n:
                break
        return max(found.values(), key=len)


def psnr(photo: np.ndarray, original: np.ndarray, where: np.ndarray) -> float:
    """In dB."""
    error = (photo[where].astype(np.float32) - original[where]) / 255
    return float(-10 * np.log10(np.mean(error**2) + 1e-9))


def removal(sellers: Sellers, n: int, opacity: float, count: int, tiled: bool = False) -> dict[str, float | int | None]:
    """The figures of marked sellers."""
    found, photos, overlap, before, after = [], [], [], [], []
    for seed in range(count):
        originals = sellers(n, seed)
        marked, where = stamp(originals, opacity, tiled, seed)
        mark = find_mark(marked)
        found.append(mark is not None)
        if mark is None:
            continue
        cleaned = [k for k, photo in enumerate(marked) if mark.is_on(photo)]
        photos.append(len(cleaned) / n)
        overlap.append((mark.mask & where).sum() / (mark.mask | where).sum())
        before += [psnr(marked[k], originals[k], where) for k in cleaned]
        after += [psnr(mark.remove(marked[k]), originals[k], where) for k in cleaned]
    figures = {"photos": photos, "iou": overlap, "before": before, "after": after}
    means = {name: float(np.mean(values)) if values else None for name, values in figures.items()}
    return {"sellers": count, "found": float(np.mean(found))} | means


def mistakes(sellers: Sellers, n: int, count: int) -> dict[str, float | int]:
    """Marks that are found where there is none."""
    found = [find_mark(sellers(n, 1000 + seed)) is not None for seed in range(count)]
    return {"sellers": count, "found": float(np.mean(found))}


def by_raw_pixels(photos: Photos) -> np.ndarray:
    """f32[n, 32 * 32 * 3]."""
    return raw_pixels(np.stack([decode(photo, 32)[0] for photo in photos]))


def retrieval(
    items: Items, embed: Callable[[Photos], np.ndarray] = by_raw_pixels, sellers: int = 50
) -> dict[str, dict[str, float]]:
    """CMC@1 of styles by embeddings, with the photos dealt to sellers at random, each with a mark of its own."""
    originals = [decode_whole(photo)[0] for photo in items.photos]
    owner = np.random.default_rng(0).integers(0, sellers, len(originals))
    opacity = np.random.default_rng(1).choice((0.4, 0.6, 0.8), sellers)
    marked, removed, cleaned = list(originals), list(originals), 0
    for seller in range(sellers):
        for shape in {originals[row].shape for row in np.flatnonzero(owner == seller)}:
            rows = [row for row in np.flatnonzero(owner == seller) if originals[row].shape == shape]
            stamped, _ = stamp([originals[row] for row in rows], float(opacity[seller]), False, seller)
            mark = find_mark(stamped)
            for row, photo in zip(rows, stamped, strict=True):
                marked[row] = photo
                is_on = mark is not None and mark.is_on(photo)
                removed[row], cleaned = (mark.remove(photo) if is_on else photo), cleaned + is_on
    evaluate = Retrieval("productDisplayName", ks=(1,))
    figures = {}
    for name, photos in (("originals", originals), ("marked", marked), ("marks removed", removed)):
        embeddings = Embeddings.of(items, embed(photos))
        figures[name] = {"cmc@1": evaluate(lambda _, e=embeddings: e)["test/cmc@1"]}
    figures["marks removed"]["photos"] = cleaned / len(originals)
    return figures


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    styles = Catalogue("fashion/styles.csv").load("test")
    if options.run is not None:
        model = ssljax.load(options.run)
        found = retrieval(styles, lambda photos: model.embed(photos).vectors)
        table = {f"styles of Fashion's test split, {options.run.name}": found}
    else:
        table = marks(options) | {"styles of Fashion's test split, raw pixels": retrieval(styles)}

    printed = Table("", *(columns := ("sellers", "found", "photos", "iou", "before", "after", "cmc@1")))
    for group, rows in table.items():
        printed.add_row(group, style="bold")
        for row, figures in rows.items():
            cells = [figures.get(name) for name in columns]
            printed.add_row(row, *("" if value is None else f"{value:.3g}" for value in cells))
    Console().print(printed)
    write_json(options.output, {"environment": environment(), "table": table})


def marks(options: Options) -> dict[str, dict[str, dict]]:
    """How often marks are found, and how well they are removed; and how often one is found where there is none."""
    fashion = Catalogue("fashion/styles.csv").load_all()
    grocery = Grocery().load("train")
    names, kinds = fashion.columns["productDisplayName"], fashion.columns["articleType"]
    brands = np.array([name.partition(" ")[0] for name in names], object)
    pools = {
        "Fashion, 60 x 80": (Sellers(fashion, np.zeros(len(fashion))), options.sellers),
        "Grocery, shorter side 160": (Sellers(grocery, np.zeros(len(grocery))), options.sellers // 3),
    }
    alike = {
        "Fashion, any items": (pools["Fashion, 60 x 80"][0], options.sellers),
        "Fashion, one kind of item": (Sellers(fashion, kinds), options.sellers),
        "Fashion, one brand": (Sellers(fashion, brands), options.sellers),
        "Fashion, one brand and kind": (Sellers(fashion, brands + " " + kinds), options.sellers),
        "Grocery, any items": (pools["Grocery, shorter side 160"][0], options.sellers // 3),
        "Grocery, one product": (Sellers(grocery, grocery.columns["product"]), options.sellers // 3),
    }
    table: dict[str, dict[str, dict]] = defaultdict(dict)
    for group, (sellers, count) in pools.items():
        for n in options.photos:
            for opacity in options.opacities:
                table[group][f"{n} photos, opacity {opacity:g}"] = removal(sellers, n, opacity, count)
        for n in options.photos[-3:]:
            table[group][f"{n} photos, opacity .4, tiled"] = removal(sellers, n, 0.8, count, tiled=True)  # half of it
    for group, (sellers, count) in alike.items():
        for n in (10, 15, 20, 40):
            if not (group == "Grocery, one product" and n == 40):  # there are not so many
                table[f"no mark: {group}"][f"{n} photos"] = mistakes(sellers, n, 2 * count)
    return table


if __name__ == "__main__":
    main()
