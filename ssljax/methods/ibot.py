"""iBOT (Zhou et al. 2022, arXiv 2111.07832): DINO whose student also tells what the teacher makes of hidden patches.

DINOv2's additions (Oquab et al. 2023, arXiv 2304.07193) are options: `centring="sinkhorn"` and `koleo=.1`.
With Sinkhorn-Knopp all patches are spread over the prototypes, not the hidden ones alone.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.losses import embedding_std, ibot, koleo
from ssljax.methods.base.network import item_by_item
from ssljax.methods.dino import DINO, DINOAux
from ssljax.models import DINOHead, ViT
from ssljax.schedules import value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, PyTree, UserError, pytree, short


@pytree
class IBOTAux(DINOAux):
    """And the centre of the teacher's logits of patches, f32[K], or None."""

    patch_center: Array | None


@dataclasses.dataclass(frozen=True)
class IBOT(DINO):
    """iBOT; its views are `Masked`, and the encoder is a ViT with a mask token. The head serves [CLS] and patches."""

    encoder: Any = ViT(variant="S", patch=16, mask_token=True, drop_path=0.1)
    """Maps images to [CLS] and patch tokens."""
    projector: Any = DINOHead(out=8192)
    """Maps tokens to logits over prototypes."""
    patch_weight: float = 1.0
    """Weight of the loss at the hidden patches."""
    koleo: float = 0.0
    """Weight of KoLeo, which spreads the [CLS] tokens of each global view; .1 in DINOv2."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if "masks" not in batch:
            raise UserError("IBOT needs masks of patches: wrap the views, as in views=Masked(MultiCrop())")
        if not getattr(self.encoder, "mask_token", False):
            raise UserError(f"method.encoder={short(self.encoder)} must be a ViT with mask_token=True")
        tokens = jax.eval_shape(
            lambda: self.encoder.init_with_output(rng, batch["views"][0], train=False, method="tokens")[0][1]
        )
        if tokens.shape[1] != batch["masks"][0].shape[1]:
            raise UserError(
                f"views.patch makes masks of {batch['masks'][0].shape[1]} patches and method.encoder.patch makes "
                f"{tokens.shape[1]} of a view: set both to the same"
            )
        params, aux = super().init(rng, batch)
        return params, IBOTAux(**vars(aux), patch_center=aux.center)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Equations 2 and 3: the [CLS] tokens as in DINO, and the patches that were hidden from the student."""
        shown, local = batch["views"][:2], batch["views"][2:]
        masks = item_by_item(batch["masks"])
        global_rng, local_rng = jax.random.split(rng)
        (embedding, cls, patches), stats = self._tokens(params, aux.stats, shown, masks, global_rng)
        (_, teacher_cls, teacher_patches), teacher_stats = self._tokens(aux.teacher, aux.teacher_stats, shown)
        crops, local_stats = self.network.train_crops(params, stats, local, local_rng)
        student = jnp.concatenate([cls, *(crop["projector"][None] for crop in crops)])
        view_loss, figures = self.view_loss(student, teacher_cls, aux.center, progress)
        patch_loss = ibot(
            patches,
            self.targets(teacher_patches, aux.patch_center, progress),
            masks,
            jnp.zeros(patches.shape[-1]),
            student_temperature=value_at(self.student_temperature, progress),
            teacher_temperature=1.0,
        )
        loss = view_loss + self.patch_weight * patch_loss
        if self.koleo:
            loss += self.koleo * sum(koleo(embedding[:, i]) for i in range(len(shown)))
        aux = dataclasses.replace(
            aux,
            stats=stats | local_stats,
            teacher_stats=teacher_stats,
            center=self.moved(aux.center, teacher_cls),
            patch_center=self.moved(aux.patch_center, teacher_patches),
        )
        return loss, (aux, {"embedding_std": embedding_std(embedding[:, 0]), "patch_loss": patch_loss, **figures})

    def _tokens(
        self,
        params: Params,
        stats: PyTree,
        views: tuple[Array, ...],
        masks: Array | None = None,
        rng: Array | None = None,
    ) -> tuple[tuple[Array, Array, Array], PyTree]:
        """[CLS] tokens f32[B, V, F], their logits f32[V, B, K], those of the patches f32[B V, N, K]; new statistics."""
        train = functools.partial(self.network.train_module, params=params)
        (cls, patches), encoder = train(
            "encoder", stats=stats, x=item_by_item(views), rng=rng, mask=masks, method="tokens"
        )
        logits, head = train("projector", stats=stats, x=cls)
        patch_logits, head = train("projector", stats={"projector": head}, x=patches.reshape(-1, patches.shape[-1]))
        embedding = cls.reshape(-1, len(views), cls.shape[-1])
        logits = logits.reshape(-1, len(views), logits.shape[-1]).swapaxes(0, 1)
        tokens = embedding, logits, patch_logits.reshape(*patches.shape[:2], -1)
        return tokens, {"encoder": encoder, "projector": head}
