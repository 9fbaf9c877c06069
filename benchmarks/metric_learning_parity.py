"""Losses of metric learning beside those of pytorch-metric-learning."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
from loss_parity import BATCH, CLASSES, DEGREES, FEATURES, KEYS, RADIANS, Comparison

from ssljax import losses


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
