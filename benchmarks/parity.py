"""How far losses and metrics are from other libraries' own: two tables, and results/benchmark_parity.json and _metrics.

The same random arrays (three draws, float32) go through each loss here and in the peer; the value here times the
convention's factor should be the peer's, and so should every gradient. A difference is over the largest absolute number
of the peer's value or gradient. A peer that cannot be imported says so.
`metric_parity` tells how the metrics are compared.

    pip install -e ".[peers]" && pip install --no-deps solo-learn
    python benchmarks/parity.py
    python benchmarks/parity.py --of metrics
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from metric_parity import PEERS as METRIC_PEERS
from metric_parity import compare_metrics
from peers import import_torchvision
from rich.console import Console
from rich.table import Table

from ssljax import losses
from ssljax.data.atomic_files import write_json
from ssljax.training.run_folder import environment

BATCH, FEATURES, CLASSES, KEYS, PROTOTYPES, PATCHES = 32, 16, 8, 64, 12, 9
SIZES = (7, 5)  # numbers of values of two attributes
RADIANS = 0.5
DEGREES = float(np.degrees(RADIANS))


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to compare."""

    of: tuple[Literal["losses", "metrics"], ...] = ("losses", "metrics")
    """what is compared"""
    draws: int = 3
    """random inputs for each loss"""
    searches: int = 200
    """random searches for each metric"""
    output: Path = Path("results/benchmark_parity.json")
    """where the losses' figures go"""
    metrics_output: Path = Path("results/benchmark_metrics.json")
    """where the metrics' figures go"""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One loss here beside one elsewhere: both take the dict that `inputs` makes, of their own kind of arrays."""

    loss: str
    peer: str
    gradients: tuple[str, ...]
    ours: Callable[[dict[str, Any]], Any]
    theirs: Callable[[dict[str, Any]], Any]
    factor: float = 1.0
    note: str = ""


def targets(logits: Any, center: Any) -> Any:
    """What the student learns, of a teacher's logits."""
    return losses.centered_softmax(logits, center, temperature=0.07)


def our_dino(x: dict[str, Any]) -> Any:
    """DINO on the teacher's centered logits."""
    return losses.dino(x["views"], targets(x["teacher"], x["center"]), student_temperature=0.1)


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Random arrays for all losses; the labels are items of 8 classes, 4 of each, in random order."""
    rng = np.random.default_rng(seed)
    shapes = {
        "z1": (BATCH, FEATURES),
        "z2": (BATCH, FEATURES),
        "p1": (BATCH, FEATURES),
        "p2": (BATCH, FEATURES),
        "queue": (KEYS, FEATURES),
        "weights": (CLASSES, FEATURES),
        "centers": (CLASSES, 3, FEATURES),
        "views": (4, BATCH, PROTOTYPES),
        "teacher": (2, BATCH, PROTOTYPES),
        "center": (PROTOTYPES,),
        "patches": (BATCH, PATCHES, PROTOTYPES),
        "teacher_patches": (BATCH, PATCHES, PROTOTYPES),
        "attribute0": (BATCH, SIZES[0]),
        "attribute1": (BATCH, SIZES[1]),
    }
    x = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    attributes = np.stack([rng.integers(-1, size, BATCH) for size in SIZES], axis=1)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), BATCH // CLASSES))
    mask = rng.random((BATCH, PATCHES)) < 0.4
    return x | {
        "attributes": attributes,
        "labels": labels,
        "mask": mask,
        "memory_labels": rng.integers(0, CLASSES, KEYS),
        "triplets": np.stack([rng.permutation(BATCH)[:3] for _ in range(40)]),
    }


def from_lightly() -> Iterator[Comparison]:
    """lightly's."""
    import_torchvision()
    from lightly import loss as lightly
    from torch.nn.functional import normalize

    row = functools.partial(Comparison, peer="lightly")
    both = functools.partial(row, gradients=("z1", "z2"))

    def dino(x: dict[str, Any]) -> Any:
        loss = lightly.DINOLoss(PROTOTYPES, teacher_temp=0.07, student_temp=0.1)
        loss.center = x["center"].reshape(1, 1, -1)
        return loss(list(x["teacher"]), list(x["views"]))

    def ibot(x: dict[str, Any]) -> Any:
        loss = lightly.IBOTPatchLoss(PROTOTYPES, teacher_temp=0.07, student_temp=0.1)
        loss.center.center = x["center"][None]
        mask = x["mask"]
        return loss(x["teacher_patches"][mask], x["patches"][mask], mask[:, None])

    def info_nce(x: dict[str, Any]) -> Any:
        loss = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(KEYS, FEATURES))
        loss.memory_bank.bank = normalize(x["queue"], dim=1)
        return loss(x["z1"], x["z2"])

    def negative_cosine(x: dict[str, Any]) -> Any:
        return lightly.NegativeCosineSimilarity()(x["p1"], x["z2"].detach())

    def swav(x: dict[str, Any]) -> Any:
        return lightly.SwaVLoss(temperature=0.1)(list(x["teacher"]), [])[0]

    def our_swav(x: dict[str, Any]) -> Any:
        a, b = (losses.sinkhorn(scores, epsilon=0.05, iterations=3) for scores in x["teacher"])
        first, second = x["teacher"]
        return (losses.swav(first, b, temperature=0.1) + losses.swav(second, a, temperature=0.1)) / 2

    yield both(
        loss="nt_xent",
        ours=lambda x: losses.nt_xent(x["z1"], x["z2"], temperature=0.2),
        theirs=lambda x: lightly.NTXentLoss(temperature=0.2)(x["z1"], x["z2"]),
    )
    yield both(
        loss="decoupled",
        ours=lambda x: losses.decoupled(x["z1"], x["z2"], temperature=0.2),
        theirs=lambda x: lightly.DCLLoss(temperature=0.2)(x["z1"], x["z2"]),
    )
    yield both(
        loss="decoupled, sigma .5",
        ours=lambda x: losses.decoupled(x["z1"], x["z2"], temperature=0.2, sigma=0.5),
        theirs=lambda x: lightly.DCLWLoss(temperature=0.2, sigma=0.5)(x["z1"], x["z2"]),
    )
    yield both(
        loss="barlow_twins",
        ours=lambda x: losses.barlow_twins(x["z1"], x["z2"], lambd=5e-3),
        theirs=lambda x: lightly.BarlowTwinsLoss(lambda_param=5e-3)(x["z1"], x["z2"]),
    )
    yield both(
        loss="vicreg",
        ours=lambda x: losses.vicreg(x["z1"], x["z2"], invariance=25, variance=25, covariance=1),
        theirs=lambda x: lightly.VICRegLoss(lambda_param=25, mu_param=25, nu_param=1)(x["z1"], x["z2"]),
    )
    yield row(
        loss="koleo",
        gradients=("z1",),
        ours=lambda x: losses.koleo(x["z1"]),
        theirs=lambda x: lightly.KoLeoLoss()(x["z1"]),
    )
    yield row(
        loss="negative_cosine",
        gradients=("p1",),
        ours=lambda x: losses.negative_cosine(x["p1"], x["z2"]),
        theirs=negative_cosine,
        note="the peer leaves the stop-gradient to its caller",
    )
    yield row(
        loss="dino",
        gradients=("views",),
        ours=our_dino,
        theirs=dino,
    )
    yield row(
        loss="ibot",
        gradients=("patches",),
        ours=lambda x: losses.ibot(
            x["patches"], targets(x["teacher_patches"], x["center"]), x["mask"], student_temperature=0.1
        ),
        theirs=ibot,
    )
    yield row(
        loss="swav with sinkhorn",
        gradients=("teacher",),
        ours=our_swav,
        theirs=swav,
        note="mean of the two swaps",
    )
    yield row(
        loss="info_nce",
        gradients=("z1",),
        ours=lambda x: losses.info_nce(x["z1"], x["z2"], x["queue"], temperature=0.2),
        theirs=info_nce,
        note="the peer's memory bank as the queue",
    )


def from_pytorch_metric_learning() -> Iterator[Comparison]:
    """pytorch-metric-learning's."""
    import torch
    from pytorch_metric_learning import losses as pml
    from pytorch_metric_learning import miners

    labelled = functools.partial(Comparison, peer="pytorch-metric-learning", gradients=("z1",))
    classified = functools.partial(Comparison, peer="pytorch-metric-learning", gradients=("z1", "weights"))
    margins = {"scale": 16.0, "margin": RADIANS}

    def with_weights(loss: Any, name: str, weights: Any) -> Any:
        """The class vectors in place of the loss's own parameter, so that they get the gradient."""
        delattr(loss, name)
        setattr(loss, name, weights)
        return loss

    def pairs(x: dict[str, Any]) -> tuple[Any, Any]:
        place = torch.arange(BATCH)
        return torch.cat([x["z1"], x["z2"]]), torch.cat([place, place])

    def mined(miner: Any, **settings: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda x: pml.TripletMarginLoss(margin=0.2, **settings)(
            x["z1"], x["labels"], miner(x["z1"], x["labels"])
        )

    def triplet(mining: Any, **settings: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda x: losses.triplet(x["z1"], x["labels"], margin=0.2, mining=mining, **settings)

    def cross_batch(x: dict[str, Any]) -> Any:
        memory = pml.CrossBatchMemory(pml.ContrastiveLoss(pos_margin=0.1, neg_margin=1.2), FEATURES, KEYS + BATCH)
        memory.add_to_memory(x["queue"], x["memory_labels"], KEYS)
        return memory(x["z1"], x["labels"])

    def our_cross_batch(x: dict[str, Any]) -> Any:
        return losses.cross_batch(
            losses.contrastive_pairs,
            x["z1"],
            x["labels"],
            jnp.concatenate([x["queue"], x["z1"]]),
            jnp.concatenate([x["memory_labels"], x["labels"]]),
            jnp.ones(KEYS + BATCH, bool),
            KEYS + jnp.arange(BATCH),
            positive_margin=0.1,
            negative_margin=1.2,
            squared=False,
        )

    yield Comparison(
        "nt_xent",
        "pytorch-metric-learning",
        ("z1", "z2"),
        lambda x: losses.nt_xent(x["z1"], x["z2"], temperature=0.2),
        lambda x: pml.NTXentLoss(temperature=0.2)(*pairs(x)),
        note="with each item's two views as a class of their own",
    )
    yield labelled(
        loss="sup_con",
        ours=lambda x: losses.sup_con(x["z1"], x["labels"], temperature=0.2),
        theirs=lambda x: pml.SupConLoss(temperature=0.2)(x["z1"], x["labels"]),
    )
    for mining in ("all", "semi_hard", "hard"):
        yield labelled(
            loss=f"triplet, {mining}",
            ours=triplet(mining),
            theirs=mined(miners.TripletMarginMiner(margin=0.2, type_of_triplets=mining.replace("_", ""))),
        )
    for mining, miner in [
        ("easy", miners.TripletMarginMiner(margin=0.2, type_of_triplets="easy")),
        ("batch_hard", miners.BatchHardMiner()),
    ]:
        yield labelled(
            loss=f"triplet, {mining}, soft",
            ours=triplet(mining, soft=True),
            theirs=mined(miner, smooth_loss=True),
        )
    yield labelled(loss="triplet, batch_hard", ours=triplet("batch_hard"), theirs=mined(miners.BatchHardMiner()))
    yield labelled(
        loss="triplet_from_indices",
        ours=lambda x: losses.triplet_from_indices(x["z1"], x["triplets"], margin=0.2),
        theirs=lambda x: pml.TripletMarginLoss(margin=0.2)(x["z1"], indices_tuple=x["triplets"].unbind(1)),
    )
    yield labelled(
        loss="contrastive_pairs",
        ours=lambda x: losses.contrastive_pairs(
            x["z1"], x["labels"], positive_margin=0.1, negative_margin=1.2, squared=False
        ),
        theirs=lambda x: pml.ContrastiveLoss(pos_margin=0.1, neg_margin=1.2)(x["z1"], x["labels"]),
    )
    yield labelled(
        loss="multi_similarity",
        ours=lambda x: losses.multi_similarity(x["z1"], x["labels"], alpha=2, beta=50, base=0.5),
        theirs=lambda x: pml.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)(x["z1"], x["labels"]),
    )
    yield labelled(
        loss="n_pairs",
        ours=lambda x: losses.n_pairs(losses.l2_normalise(x["z1"]), x["labels"]),
        theirs=lambda x: pml.NPairsLoss()(x["z1"], x["labels"]),
        note="the peer normalises, the paper does not",
    )
    yield labelled(
        loss="lifted_structure",
        ours=lambda x: losses.lifted_structure(x["z1"], x["labels"], margin=1.0),
        theirs=lambda x: pml.LiftedStructureLoss(neg_margin=1, pos_margin=0)(x["z1"], x["labels"]),
    )
    yield labelled(
        loss="cross_batch, contrastive_pairs",
        ours=our_cross_batch,
        theirs=cross_batch,
    )
    yield classified(
        loss="arcface",
        ours=lambda x: losses.arcface(x["z1"], x["weights"], x["labels"], **margins),
        theirs=lambda x: with_weights(
            pml.ArcFaceLoss(CLASSES, FEATURES, margin=DEGREES, scale=16), "W", x["weights"].T
        )(x["z1"], x["labels"]),
        note="the peer's margin is in degrees",
    )
    yield classified(
        loss="cosface",
        ours=lambda x: losses.cosface(x["z1"], x["weights"], x["labels"], scale=16.0, margin=0.35),
        theirs=lambda x: with_weights(pml.CosFaceLoss(CLASSES, FEATURES, margin=0.35, scale=16), "W", x["weights"].T)(
            x["z1"], x["labels"]
        ),
    )
    yield Comparison(
        "sub_center_arcface",
        "pytorch-metric-learning",
        ("z1", "centers"),
        lambda x: losses.sub_center_arcface(x["z1"], x["centers"], x["labels"], **margins),
        lambda x: with_weights(
            pml.SubCenterArcFaceLoss(
                num_classes=CLASSES, embedding_size=FEATURES, margin=DEGREES, scale=16, sub_centers=3
            ),
            "W",
            x["centers"].reshape(-1, FEATURES).T,
        )(x["z1"], x["labels"]),
        note="the peer's margin is in degrees",
    )
    yield classified(
        loss="proxy_nca",
        ours=lambda x: losses.proxy_nca(x["z1"], x["weights"], x["labels"]),
        theirs=lambda x: with_weights(pml.ProxyNCALoss(CLASSES, FEATURES), "proxies", x["weights"])(
            x["z1"], x["labels"]
        ),
    )
    yield classified(
        loss="proxy_anchor",
        ours=lambda x: losses.proxy_anchor(x["z1"], x["weights"], x["labels"], scale=32.0, margin=0.1),
        theirs=lambda x: with_weights(pml.ProxyAnchorLoss(CLASSES, FEATURES), "proxies", x["weights"])(
            x["z1"], x["labels"]
        ),
    )


def solo_module(name: str) -> ModuleType:
    """A file of solo-learn's losses by itself: the package as a whole needs its trainer."""
    package = importlib.util.find_spec("solo")
    if package is None:
        raise ModuleNotFoundError("No module named 'solo'")
    path = Path(package.origin).parent / "losses" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"solo_losses_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_solo_learn() -> Iterator[Comparison]:
    """solo-learn's."""
    names = ("barlow", "byol", "dino", "moco", "nnclr", "ressl", "simclr", "simsiam", "swav", "vicreg")
    solo = {name: solo_module(name) for name in names}
    from torch.nn.functional import normalize

    row = functools.partial(Comparison, peer="solo-learn")
    both = functools.partial(row, gradients=("z1", "z2"))

    def dino(x: dict[str, Any]) -> Any:
        loss = solo["dino"].DINOLoss(PROTOTYPES, 0.07, 0.07, 0, 1, num_large_crops=len(x["views"]))
        loss.center = x["center"][None]
        return loss(x["views"].reshape(-1, PROTOTYPES), x["teacher"].reshape(-1, PROTOTYPES))

    def swav(x: dict[str, Any]) -> Any:
        return solo["swav"].swav_loss_func(list(x["views"][:2]), list(x["teacher"].softmax(2)), temperature=0.1)

    def our_swav(x: dict[str, Any]) -> Any:
        a, b = jax.nn.softmax(x["teacher"])
        first, second = x["views"][:2]
        return (losses.swav(first, b, temperature=0.1) + losses.swav(second, a, temperature=0.1)) / 2

    def ressl(student: Any, x: dict[str, Any]) -> Any:
        student, teacher, queue = (normalize(a, dim=1) for a in (student, x["z2"], x["queue"]))
        return solo["ressl"].ressl_loss_func(student, teacher, queue, temperature_q=0.1, temperature_k=0.04)

    relations = {"student_temperature": 0.1, "teacher_temperature": 0.04}

    yield both(
        loss="nt_xent",
        ours=lambda x: losses.nt_xent(x["z1"], x["z2"], temperature=0.2),
        theirs=lambda x: solo["simclr"].simclr_loss_func(x["z1"], x["z2"], temperature=0.2),
    )
    yield both(
        loss="info_nce",
        ours=lambda x: losses.info_nce(x["z1"], x["z2"], x["queue"], temperature=0.2),
        theirs=lambda x: solo["moco"].moco_loss_func(
            normalize(x["z1"], dim=1), normalize(x["z2"], dim=1), normalize(x["queue"], dim=1).T, temperature=0.2
        ),
        note="the peer leaves the normalisation to its caller",
    )
    yield row(
        loss="in_batch_info_nce",
        gradients=("z1", "p2"),
        ours=lambda x: losses.in_batch_info_nce(x["z1"], x["p2"], temperature=0.2),
        theirs=lambda x: solo["nnclr"].nnclr_loss_func(x["z1"], x["p2"], temperature=0.2),
        note="NNCLR's, without its look-up",
    )
    yield row(
        loss="re_ssl",
        gradients=("z1",),
        ours=lambda x: losses.re_ssl(x["z1"], x["z2"], x["queue"], **relations),
        theirs=lambda x: ressl(x["z1"], x),
        note="the peer leaves the normalisation to its caller",
    )
    yield row(
        loss="similarity_distillation",
        gradients=("p1",),
        ours=lambda x: losses.similarity_distillation(x["p1"], x["z2"], x["queue"], **relations),
        theirs=lambda x: ressl(x["p1"], x),
        note="ReSSL's: the same but for what is in the queue",
    )
    yield row(
        loss="swav",
        gradients=("views",),
        ours=our_swav,
        theirs=swav,
        note="mean of the two swaps",
    )
    yield row(
        loss="negative_cosine",
        gradients=("p1",),
        ours=lambda x: losses.negative_cosine(x["p1"], x["z2"]),
        theirs=lambda x: solo["simsiam"].simsiam_loss_func(x["p1"], x["z2"]),
    )
    yield row(
        loss="byol",
        gradients=("p1", "p2"),
        ours=lambda x: losses.byol(x["p1"], x["z2"], x["p2"], x["z1"]),
        theirs=lambda x: solo["byol"].byol_loss_func(x["p1"], x["z2"]) + solo["byol"].byol_loss_func(x["p2"], x["z1"]),
        note="the peer's is one direction; two are summed",
    )
    yield row(
        loss="dino",
        gradients=("views",),
        ours=our_dino,
        theirs=dino,
    )
    yield both(
        loss="barlow_twins",
        ours=lambda x: losses.barlow_twins(x["z1"], x["z2"], lambd=5e-3),
        theirs=lambda x: solo["barlow"].barlow_loss_func(x["z1"], x["z2"], lamb=5e-3, scale_loss=0.025),
        factor=0.025,
        note="the peer's scale_loss",
    )
    yield both(
        loss="vicreg",
        ours=lambda x: losses.vicreg(x["z1"], x["z2"], invariance=25, variance=50, covariance=1),
        theirs=lambda x: solo["vicreg"].vicreg_loss_func(x["z1"], x["z2"]),
        note="the peer's variance of 25 is 50 here: it sums over the views",
    )


def from_torch() -> Iterator[Comparison]:
    """PyTorch's own functions."""
    import torch
    from torch.nn import functional as F

    row = functools.partial(Comparison, peer="torch")

    def distillation(x: dict[str, Any]) -> Any:
        student, teacher = x["views"][0], x["teacher"][0].detach()
        return 16 * F.kl_div(F.log_softmax(student / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean")

    def attributes(x: dict[str, Any]) -> Any:
        columns = [(x[f"attribute{i}"], x["attributes"][:, i]) for i in range(len(SIZES))]
        return sum(F.cross_entropy(scores, values, ignore_index=-1) for scores, values in columns) / len(SIZES)

    def vae(x: dict[str, Any]) -> Any:
        posterior = torch.distributions.Normal(x["z1"], torch.exp(x["z2"] / 2))
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
        return (F.mse_loss(x["p1"], x["p2"], reduction="sum") / 2 + 4 * kl.sum()) / BATCH

    yield row(
        loss="knowledge_distillation",
        gradients=("views",),
        ours=lambda x: losses.knowledge_distillation(x["views"][0], x["teacher"][0], temperature=4.0),
        theirs=distillation,
        note="kl_div x temperature²",
    )
    yield row(
        loss="masked_attributes",
        gradients=("attribute0", "attribute1"),
        ours=lambda x: losses.masked_attributes([x["attribute0"], x["attribute1"]], x["attributes"]),
        theirs=attributes,
        note="mean of cross_entropy with ignore_index=-1",
    )
    yield row(
        loss="vae",
        gradients=("z1", "z2", "p1"),
        ours=lambda x: losses.vae(x["p1"], x["p2"], x["z1"], x["z2"], beta=4.0),
        theirs=vae,
        note="mse_loss(sum) / 2 + beta x kl_divergence",
    )
    yield row(
        loss="siglip",
        gradients=("z1", "z2"),
        ours=lambda x: losses.siglip(x["z1"], x["z2"], scale=10.0, bias=-10.0),
        theirs=lambda x: (
            -F.logsigmoid(
                (2 * torch.eye(BATCH) - 1) * (10 * F.normalize(x["z1"], dim=1) @ F.normalize(x["z2"], dim=1).T - 10)
            ).sum()
            / BATCH
        ),
        note="algorithm 1 of the paper with torch's logsigmoid; no library of the three has it",
    )


PEERS = {
    "lightly": from_lightly,
    "pytorch-metric-learning": from_pytorch_metric_learning,
    "solo-learn": from_solo_learn,
    "torch": from_torch,
}


def compare(row: Comparison, draws: int) -> dict[str, Any]:
    """The row of the table: the largest relative differences in value and in gradient over the draws."""
    import torch

    value_difference = gradient_difference = 0.0
    for seed in range(draws):
        x = inputs(seed)
        ours = {name: jnp.asarray(array) for name, array in x.items()}
        wanted = {name: ours[name] for name in row.gradients}
        value, grads = jax.value_and_grad(lambda some, ours=ours: row.ours(ours | some))(wanted)
        theirs = {name: torch.tensor(array) for name, array in x.items()}
        for name in row.gradients:
            theirs[name].requires_grad_()
        their_value = row.theirs(theirs)
        their_value.backward()
        value_difference = max(value_difference, relative(row.factor * value, their_value.detach()))
        for name in row.gradients:
            difference = relative(row.factor * grads[name], theirs[name].grad)
            gradient_difference = max(gradient_difference, difference)
    return {
        "convention_factor": row.factor,
        "difference_in_value": value_difference,
        "difference_in_gradient": gradient_difference,
        "convention": row.note,
    }


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference over the largest number of theirs."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def compare_losses(draws: int) -> dict[str, dict[str, Any]]:
    """Peer → loss → row of the table."""
    figures = {}
    for peer, comparisons in PEERS.items():
        try:
            rows = list(comparisons())  # imports the peer
        except (ImportError, RuntimeError) as error:  # RuntimeError: builds of torch and torchvision that do not fit
            figures[peer] = {"": f"not run ({error})"}
        else:
            figures[peer] = {row.loss: compare(row, draws) for row in rows}
    return figures


def main() -> None:
    """Compares, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    if "losses" in options.of:
        show(options.output, compare_losses(options.draws), PEERS)
    if "metrics" in options.of:
        show(options.metrics_output, compare_metrics(options.searches), METRIC_PEERS)


def show(output: Path, figures: dict[str, dict[str, Any]], peers: Iterable[str]) -> None:
    """Prints a table of peer → row → cells and writes it, with the peers' versions."""
    names = next(row for rows in figures.values() for row in [*rows.values(), {}] if isinstance(row, dict))
    table = Table("peer", "", *(name.replace("_", " ") for name in names))
    for peer, rows in figures.items():
        for name, row in rows.items():
            table.add_row(peer, name, *([row] if isinstance(row, str) else map(cell, row.values())))
    Console().print(table)
    versions = {peer: version(peer) for peer in peers}
    write_json(output, {"environment": environment() | {"peers": versions}, "table": figures})


def cell(value: float | str | None) -> str:
    """A cell of the table."""
    return value if isinstance(value, str) else "" if value is None else f"{value:.3g}"


def version(package: str) -> str | None:
    """What is installed of it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
