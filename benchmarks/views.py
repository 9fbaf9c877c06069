"""How fast photos become views, beside torchvision, kornia and Pillow: one table, and results/benchmark_views.json.

    python benchmarks/views.py --sizes 64 --batch-size 64

Photos wait decoded, where each library wants them: ssljax and kornia take a batch at a time on the device, torchvision
and Pillow a photo at a time on the CPU, in as many processes as there are cores (torchvision gives all images of a
batch one and the same distortion). A piece happens to every image, with random amounts; the recipe is that of
`EcommerceViews`, two views of a photo, in which the others lack what they do not have. The median turns are compared.
"""

import dataclasses
import importlib.util
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from memory import memory_mib
from PIL import Image, ImageDraw, ImageEnhance
from rich.console import Console
from rich.table import Table
from steps import Contestant, Step, Team, take_turns

RECIPE = "recipe, two views"
PIECES = ("crop", "colours", "perspective", "rotation", "watermark", "collage", "JPEG", RECIPE)
LEFT_OUT = {
    "kornia": {"watermark": "kornia has none", "collage": "kornia has none"},
    "torchvision": {
        "watermark": "torchvision has none",
        "collage": "torchvision has none",
        "JPEG": "libjpeg as Pillow's; a torch for CPUs cannot load it",
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is done to photos."""

    piece: str
    size: int
    """of a view, px; photos have an eighth more"""
    photos: int

    @property
    def photo_size(self) -> int:
        """px"""
        return self.size + self.size // 8


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    pieces: tuple[str, ...] = PIECES
    """which pieces"""
    sizes: tuple[int, ...] = (64, 224)
    """sides of the views, px"""
    batch_size: int = 64
    """photos a step"""
    rounds: int = 5
    """turns of each library"""
    steps: int = 2
    """steps a turn, after one that does not count; the fastest counts"""
    output: Path = Path("results/benchmark_views.json")
    """where the figures go"""


def photos(case: Case) -> np.ndarray:
    """u8[B, S, S, 3]: smooth shapes and some noise, as photos have."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: case.photo_size, : case.photo_size].astype(np.float32)[:, None, ..., None] / 20
    phase = rng.normal(0, 3, (case.photos, 1, 1, 3))
    noise = rng.normal(0, 8, (case.photos, case.photo_size, case.photo_size, 3))
    return (127 + 60 * np.sin(x + phase) + 50 * np.cos(y * phase) + noise).clip(0, 255).astype(np.uint8)


def in_ssljax(case: Case) -> Step:
    """Compiled, on the device."""
    import jax
    import jax.numpy as jnp

    from ssljax import views
    from ssljax.views.augment import augment

    still = dict(flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
    colours = dict(brightness=0.6, contrast=0.6, saturation=0.8, hue=0.02)
    images, aspect = jnp.asarray(photos(case)), jnp.ones(case.photos)
    pieces = {
        "crop": views.Augmentation(**still | dict(flip=0.5)),
        RECIPE: views.EcommerceViews(hue=0.02, grey=0.0, blur=0.0),
    }
    disturbances = {
        "perspective": views.Perspective(1.0, 0.6),
        "rotation": views.Rotation(1.0, 1.0),
        "watermark": views.Watermark(1.0, 1.0),
        "collage": views.Collage(1.0, 1.0),
        "JPEG": views.JPEG(1.0, 1.0),
    }
    cut = jnp.moveaxis(images[:, : case.size, : case.size], 3, 1) / jnp.float32(255)

    @jax.jit
    def step(rng: Any, images: Any, cut: Any) -> Any:
        if case.piece in ("crop", RECIPE):
            count = 2 if case.piece == RECIPE else 1
            return augment(rng, images, aspect, case.size, pieces[case.piece], count)
        if case.piece in disturbances:
            return disturbances[case.piece](rng, cut)
        amounts = views.colour.draw_jitter(rng, jnp.ones(case.photos, bool), *colours.values())
        return views.colour.jitter(cut, amounts)

    number = iter(range(1_000_000))
    rng = jax.random.PRNGKey(0)

    def run() -> float:
        return float(step(jax.random.fold_in(rng, next(number)), images, cut).ravel()[0])

    def peak_mib() -> float:
        figures = jax.devices()[0].memory_stats()  # None on a CPU
        return figures["peak_bytes_in_use"] / 2**20 if figures else memory_mib("VmHWM")

    return run, peak_mib, {}


def in_torchvision(case: Case) -> Step:
    """A photo at a time."""
    from peers import import_torchvision

    import_torchvision()
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    colours = v2.ColorJitter(0.6, 0.6, 0.8, 0.02)
    crop = [v2.RandomResizedCrop(case.size, (0.2, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    pieces = {
        "crop": v2.Compose(crop),
        "colours": colours,
        "perspective": v2.RandomPerspective(0.3, p=1.0),
        "rotation": v2.RandomRotation(45, v2.InterpolationMode.BILINEAR),
        RECIPE: v2.Compose([*crop, v2.RandomApply([colours], 0.8), v2.RandomPerspective(0.3, p=0.5)]),
    }
    images = torch.from_numpy(photos(case)).permute(0, 3, 1, 2).contiguous()
    images, views = _inputs(case, images)

    def run() -> float:
        for _ in range(views):
            for image in images:
                out = v2.functional.to_dtype(pieces[case.piece](image), torch.float32, scale=True)
        return float(out.sum())

    return run, lambda: memory_mib("VmHWM"), {}


def in_kornia(case: Case) -> Step:
    """A batch at a time, on the device."""
    import kornia.augmentation as K
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    colours = K.ColorJitter(0.6, 0.6, 0.8, 0.02, p=0.8 if case.piece == RECIPE else 1.0)
    crop = [K.RandomResizedCrop((case.size, case.size), (0.2, 1.0)), K.RandomHorizontalFlip()]
    pieces = {
        "crop": torch.nn.Sequential(*crop),
        "colours": colours,
        "perspective": K.RandomPerspective(0.3, p=1.0),
        "rotation": K.RandomRotation(45.0, p=1.0),
        "JPEG": K.RandomJPEG((10.0, 95.0), p=1.0),
        RECIPE: torch.nn.Sequential(*crop, colours, K.RandomPerspective(0.3, p=0.5)),
    }
    images, views = _inputs(case, torch.from_numpy(photos(case)).permute(0, 3, 1, 2).contiguous().to(device))

    def run() -> float:
        with torch.no_grad():
            for _ in range(views):
                out = pieces[case.piece](images.float() / 255)
        return float(out.ravel()[0])

    def peak_mib() -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else memory_mib("VmHWM")

    return run, peak_mib, {}


def _inputs(case: Case, images: Any) -> tuple[Any, int]:
    """Whole photos to crop, or images of a view's size; and how many views are made of each."""
    if case.piece in ("crop", RECIPE):
        return images, 2 if case.piece == RECIPE else 1
    return images[..., : case.size, : case.size].contiguous(), 1


def in_pillow(case: Case) -> Step:
    """A photo at a time."""
    rng, size = np.random.default_rng(0), case.size
    images = [Image.fromarray(photo) for photo in photos(case)]
    mark = Image.new("RGBA", (128, 128))
    ImageDraw.Draw(mark).ellipse((8, 8, 120, 120), (215, 25, 30, 128))

    def crop(image: Image.Image) -> Image.Image:
        side = math.sqrt(rng.uniform(0.2, 1)) * image.width
        left, top = rng.uniform(0, image.width - side, 2)
        image = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image

    def colours(image: Image.Image) -> Image.Image:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.4, 1.6))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.4, 1.6))
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.2, 1.8))
        hue, *others = image.convert("HSV").split()
        turn = rng.integers(-5, 6)
        return Image.merge("HSV", (hue.point(lambda h: (h + turn) % 256), *others)).convert("RGB")

    def perspective(image: Image.Image) -> Image.Image:
        # the coefficients do not matter to the time
        slant = (*rng.uniform(0.9, 1.1, 2), 0, *rng.uniform(0, 0.1, 1), 1, 0, *rng.uniform(0, 1e-3, 2))
        return image.transform((size, size), Image.Transform.PERSPECTIVE, slant, Image.Resampling.BILINEAR)

    def rotation(image: Image.Image) -> Image.Image:
        return image.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)

    def watermark(image: Image.Image) -> Image.Image:
        small = mark.resize((int(rng.uniform(0.15, 0.7) * size),) * 2, Image.Resampling.BILINEAR)
        image = image.copy()
        image.paste(small, tuple(rng.integers(0, size - small.width + 1, 2).tolist()), small)
        return image

    def collage(image: Image.Image) -> Image.Image:
        out, side = Image.new("RGB", (size, size), "white"), size // 2
        for k in range(rng.integers(2, 5)):
            item = (image, *(images[j] for j in rng.integers(0, len(images), 3)))[k]
            out.paste(item.resize((side, side), Image.Resampling.BILINEAR), (k % 2 * side, k // 2 * side))
        return out

    def jpeg(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(10, 96)))
        return Image.open(file).convert("RGB")

    def recipe(image: Image.Image) -> Image.Image:
        image = crop(image)
        for probability, piece in ((0.8, colours), (0.5, perspective), (0.3, watermark), (0.1, collage)):
            image = piece(image) if rng.random() < probability else image
        return image

    pieces = dict(zip(PIECES, (crop, colours, perspective, rotation, watermark, collage, jpeg, recipe), strict=True))
    views = 2 if case.piece == RECIPE else 1
    if case.piece not in ("crop", RECIPE):
        images = [image.crop((0, 0, size, size)) for image in images]

    def run() -> float:
        for _ in range(views):
            for image in images:
                out = np.asarray(pieces[case.piece](image), np.float32) / np.float32(255)
        return float(out.sum())

    return run, lambda: memory_mib("VmHWM"), {}


LIBRARIES: dict[str, tuple[Callable[[Case], Step], str]] = {
    "ssljax": (in_ssljax, "jax"),
    "kornia": (in_kornia, "kornia"),
    "torchvision": (in_torchvision, "torchvision"),
    "Pillow": (in_pillow, "PIL"),
}
ONE_CORE = ("torchvision", "Pillow")


def start(library: str, case: Case) -> Contestant | Team | str:
    """The library's processes, or why there are none."""
    make, package = LIBRARIES[library]
    if why := LEFT_OUT.get(library, {}).get(case.piece):
        return f"not run ({why})"
    if importlib.util.find_spec(package) is None:
        return f"not run ({package} not installed)"
    if library not in ONE_CORE:
        return Contestant(make, case)
    cores = len(os.sched_getaffinity(0))
    return Team(make, dataclasses.replace(case, photos=math.ceil(case.photos / cores)), cores)


def race(case: Case, options: Options) -> dict[str, dict[str, float] | str]:
    """Library → figures, or why there are none."""
    started = {library: start(library, case) for library in LIBRARIES}
    running = {library: its for library, its in started.items() if not isinstance(its, str)}
    turns = take_turns(running.values(), options.rounds, options.steps)
    figures: dict[str, dict[str, float] | str] = dict(started)  # keeps the order
    for library, contestant in running.items():
        contestant.close()
        figures[library] = {
            "images_per_second": case.photos * (2 if case.piece == RECIPE else 1) / turns[contestant].seconds,
            "time_by_ssljax_time": turns[contestant].ratio(turns[running["ssljax"]]),
            "peak_mib": turns[contestant].peak_mib,
        }
    return figures


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share an accelerator
    cases = [Case(piece, size, options.batch_size) for size in options.sizes for piece in options.pieces]
    figures = {f"{case.size} px, {case.piece}": race(case, options) for case in cases}
    table = Table("views", "", "images/s", "time / ssljax's", "peak MiB")
    for case, rows in figures.items():
        for library, row in rows.items():
            values = [row] if isinstance(row, str) else [f"{value:,.4g}" for value in row.values()]
            table.add_row(case, library, *values)
    Console().print(table)
    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment  # only now: it takes hold of the device

    write_json(options.output, {"environment": environment(), "table": figures})


if __name__ == "__main__":
    main()
