"""Every loss and figure, with settings and inputs that suit it: those that take labels, and those of two arrays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from labelled import vectors

from ssljax import losses
from ssljax.losses import References
from ssljax.losses.checks import check_array

ITEMS, CLASSES = 8, 4
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, -1])
Z, WEIGHTS, MEMORY = vectors(ITEMS, 5), vectors(CLASSES, 5, seed=1), vectors(ITEMS, 5, seed=2)
ANGULAR = {"scale": 8.0, "margin": 0.2}

PAIRS = {
    "triplet": partial(losses.triplet, margin=0.4, mining="semi_hard"),
    "triplet batch_hard": partial(losses.triplet, margin=0.4, mining="batch_hard"),
    "contrastive_pairs": partial(losses.contrastive_pairs, positive_margin=0.0, negative_margin=1.2, squared=False),
    "multi_similarity": partial(losses.multi_similarity, alpha=2.0, beta=10.0, base=0.5),
    "lifted_structure": partial(losses.lifted_structure, margin=1.0),
    "sup_con": partial(losses.sup_con, temperature=0.2),
}


def probabilities(x):
    """The softmax of what a loss would take for an array of numbers."""
    return jax.nn.softmax(check_array("p", x))


def across(loss, z, labels):
    """Against a memory in which all but the first place were written."""
    own = jnp.full(ITEMS, -1)
    return losses.cross_batch(loss, z, labels, MEMORY, jnp.arange(ITEMS) % CLASSES, jnp.arange(ITEMS) > 0, own)


def remembered(loss, z, labels):
    """The labels are the memory's."""
    references = References(MEMORY, labels, jnp.full(ITEMS, -1))
    return loss(z, jnp.arange(ITEMS) % CLASSES, references=references)


def column(labels):
    """The labels as those of one attribute."""
    return labels[:, None] if hasattr(labels, "shape") else [[x] for x in labels]


EQUAL = {  # labels of any size
    **PAIRS,
    **{f"cross_batch {name}": partial(across, loss) for name, loss in PAIRS.items()},
    **{f"references {name}": partial(remembered, loss) for name, loss in PAIRS.items()},
    "cross_batch's memory": lambda z, labels: losses.cross_batch(
        PAIRS["triplet"], z, LABELS, MEMORY, labels, np.ones(ITEMS, bool), np.full(ITEMS, -1)
    ),
    "n_pairs": losses.n_pairs,
    "label_cosines": lambda z, labels: sum(losses.label_cosines(z, labels)),
    "active_triplets": partial(losses.active_triplets, margin=0.2),
}
CLASS = {  # labels below CLASSES
    "arcface": lambda z, labels: losses.arcface(z, WEIGHTS, labels, **ANGULAR),
    "arcface by class": lambda z, labels: losses.arcface(z, WEIGHTS, labels, scale=8.0, margin=jnp.full(CLASSES, 0.2)),
    "cosface": lambda z, labels: losses.cosface(z, WEIGHTS, labels, **ANGULAR),
    "sub_center_arcface": lambda z, labels: losses.sub_center_arcface(
        z, jnp.stack([WEIGHTS, -WEIGHTS], 1), labels, **ANGULAR
    ),
    "proxy_nca": lambda z, labels: losses.proxy_nca(z, WEIGHTS, labels),
    "proxy_anchor": lambda z, labels: losses.proxy_anchor(z, WEIGHTS, labels, **ANGULAR),
    "masked_attributes": lambda z, labels: losses.masked_attributes([z[:, :CLASSES]], column(labels)),
}
ALL = EQUAL | CLASS


OTHERS = [  # of two arrays
    partial(losses.nt_xent, temperature=0.1),
    partial(losses.decoupled, temperature=0.1),
    partial(losses.in_batch_info_nce, temperature=0.1),
    lambda a, b: losses.info_nce(a, b, a, temperature=0.1),
    lambda a, b: losses.re_ssl(a, b, b, student_temperature=0.1, teacher_temperature=0.04),
    partial(losses.siglip, scale=10.0, bias=-10.0),
    partial(losses.swav, temperature=0.1),
    partial(losses.barlow_twins, lambd=0.1),
    partial(losses.vicreg, invariance=25.0, variance=25.0, covariance=1.0),
    losses.negative_cosine,
    partial(losses.knowledge_distillation, temperature=1.0),
    losses.alignment,
    lambda a, b: sum(losses.view_cosines(a, b)),
    lambda a, b: losses.koleo(a),
    lambda a, b: losses.embedding_std(a),
    lambda a, b: losses.uniformity(a),
    lambda a, b: losses.entropy(probabilities(a)),
    lambda a, b: losses.kl_to_uniform(probabilities(a)),
    lambda a, b: losses.centered_softmax(a, b[0], temperature=0.04)[0, 0],
    lambda a, b: losses.vae(a, b, a, b, beta=1.0),
    lambda a, b: losses.dino([a, b], [probabilities(a), probabilities(b)], student_temperature=0.1),
    lambda a, b: losses.sinkhorn(a, epsilon=0.05, iterations=3)[0, 0],
    lambda a, b: losses.l2_normalise(a)[0, 0],
]
