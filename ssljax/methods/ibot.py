"""iBOT (Zhou et al. 2022, arXiv 2111.07832): DINO whose student also tells what the teacher makes of hidden patches.

DINOv2's additions (Oquab et al. 2023, arXiv 2304.07193) are options: `centering="sinkhorn"` and `koleo=.1`.
With Sinkhorn-Knopp all patches are spread over the prototypes, not the hidden ones alone.
"""

import dataclasses
import functools
from typing import Any

import jax

from ssljax.losses import dino, embedding_std, ibot, koleo
from ssljax.methods.base.network import item_by_item
from ssljax.methods.base.teachers import TeacherState
from ssljax.methods.dino import DINO
from ssljax.models import DINOHead, ViT
from ssljax.schedules import value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, PyTree, UserError, short


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

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        if "masks" not in batch:
            raise UserError("IBOT needs masks of patches: wrap the views, as in views=Masked(MultiCrop())")
        if not getattr(self.encoder, "mask_token", False):
            raise UserError(f"method.encoder={short(self.encoder)} must be a ViT with mask_token=True")
        images, patches = batch["views"][0], batch["masks"][0].shape[1]
        encode = functools.partial(self.encoder.init_with_output, train=False, method="tokens")
        tokens = jax.eval_shape(encode, jax.random.PRNGKey(0), images)[0][1]
        if tokens.shape[1] != patches:
            raise UserError(
                f"views.patch makes masks of {patches} patches and method.encoder.patch makes {tokens.shape[1]} of a "
                "view: set both to the same"
            )

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`: [CLS] and patches have a center each."""
        params, aux = super().init(rng, batch)
        return params, dataclasses.replace(aux, center={"cls": aux.center, "patches": aux.center})

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Equations 2 and 3: the [CLS] tokens as in DINO, and the patches that were hidden from the student."""
        shown, local = batch["views"][:2], batch["views"][2:]
        masks, teacher, center = item_by_item(batch["masks"]), aux.teacher, aux.center
        global_rng, local_rng = jax.random.split(rng)
        temperature = value_at(self.student_temperature, progress)
        params = self.network.cast(params)
        (embedding, cls, patches), stats = self._tokens(params, aux.stats, shown, masks, global_rng)
        with jax.named_scope("teacher"):
            (_, teacher_cls, teacher_patches), teacher_stats = self._tokens(teacher.params, teacher.stats, shown)
        sizes, local_stats = self.network.train_sizes(params, stats, local, local_rng)
        student = [x.swapaxes(0, 1) for x in (cls, *sizes["projector"])]
        targets = self.targets(teacher_cls, center["cls"], progress)
        patch_targets = self.targets(teacher_patches, center["patches"], progress)
        patch_loss = ibot(patches, patch_targets, masks, student_temperature=temperature)
        loss = dino(student, targets.swapaxes(0, 1), student_temperature=temperature) + self.patch_weight * patch_loss
        if self.koleo:
            loss += self.koleo * sum(koleo(embedding[:, i]) for i in range(len(shown)))
        center = {
            "cls": self.moved(center["cls"], teacher_cls),
            "patches": self.moved(center["patches"], teacher_patches),
        }
        teacher = TeacherState(teacher.params, teacher_stats)
        aux = dataclasses.replace(aux, stats=stats | local_stats, teacher=teacher, center=center)
        figures = {"embedding_std": embedding_std(embedding[:, 0]), "patch_loss": patch_loss}
        return loss, (aux, figures | self.spread(targets))

    def _tokens(
        self,
        params: Params,
        stats: PyTree,
        views: tuple[Array, ...],
        masks: Array | None = None,
        rng: Array | None = None,
    ) -> tuple[tuple[Array, Array, Array], PyTree]:
        """[CLS] tokens f32[B, V, F], their logits f32[B, V, K], those of the patches f32[B V, N, K]; new statistics."""
        train = functools.partial(self.network.train_module, params=params)
        (cls, patches), encoder = train(
            "encoder", stats=stats, x=item_by_item(views), rng=rng, mask=masks, method="tokens"
        )
        logits, head = train("projector", stats=stats, x=cls)
        patch_logits, head = train("projector", stats={"projector": head}, x=patches.reshape(-1, patches.shape[-1]))
        embedding = cls.reshape(-1, len(views), cls.shape[-1])
        logits = logits.reshape(-1, len(views), logits.shape[-1])
        tokens = embedding, logits, patch_logits.reshape(*patches.shape[:2], -1)
        return tokens, {"encoder": encoder, "projector": head}
