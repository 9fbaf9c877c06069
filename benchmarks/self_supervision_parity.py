"""Losses of self-supervision beside those of lightly, solo-learn and torch."""

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from loss_parity import BATCH, FEATURES, KEYS, PROTOTYPES, SIZES, Comparison
from peers import import_torchvision

from ssljax import losses


def targets(logits: Any, center: Any) -> Any:
    """What the student learns, of a teacher's logits."""
    return losses.centered_softmax(logits, center, temperature=0.07)


def our_dino(x: dict[str, Any]) -> Any:
    """DINO on the teacher's centered logits."""
    return losses.dino(x["views"], targets(x["teacher"], x["center"]), student_temperature=0.1)


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
