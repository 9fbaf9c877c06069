"""Teachers, and what methods with one share: `EMA` follows the student, `FrozenTeacher` stays as its file has it."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ssljax.methods.base.checks import check_predictor
from ssljax.methods.base.network import Network, variables_of
from ssljax.methods.base.one_network import OneNetwork
from ssljax.models import MLP, Pretrained
from ssljax.schedules import Cosine, check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Params, Progress, PyTree, Scheduled, UserError, pytree, short


@pytree
class TeacherState:
    """The teacher's parameters and batch statistics, by module: encoder and projector."""

    params: PyTree
    stats: PyTree


class Teacher(abc.ABC):
    """What a student learns from: an encoder and a projector. No gradient reaches them."""

    @abc.abstractmethod
    def network(self, student: Network) -> Network:
        """The teacher's modules; `student` has those of the student."""

    @abc.abstractmethod
    def init(self, rng: Array, student: Network, params: Params, stats: PyTree, images: Array) -> TeacherState:
        """The teacher before the first step; raises UserError if it does not suit the student."""

    @jax.named_scope("teacher")
    def keys(self, student: Network, state: TeacherState, views: Sequence[Array]) -> tuple[list[Array], TeacherState]:
        """Its projections f32[B, D] of each view, without gradient, and its state after the forward passes."""
        outputs, stats = self.network(student).train_views(state.params, state.stats, views)
        return [stop_gradient(output["projector"]) for output in outputs], TeacherState(state.params, stats)

    def after_update(self, state: TeacherState, params: Params, progress: Progress) -> TeacherState:
        """The teacher after the student's update."""
        return state


@dataclasses.dataclass(frozen=True)
class EMA(Teacher):
    """A teacher whose parameters are an exponential moving average of the student's (MoCo, He et al. 2020, eq. 2)."""

    momentum: Scheduled = Cosine(0.99, 1.0)
    """The teacher keeps this share of itself at each step: a number or a schedule."""

    def network(self, student: Network) -> Network:
        """The student's modules, of which the teacher has the encoder and the projector."""
        return student

    def init(self, rng: Array, student: Network, params: Params, stats: PyTree, images: Array) -> TeacherState:
        """A copy of the student."""
        check_schedule("method.teacher.momentum", self.momentum, least=0, most=1)
        return jax.tree.map(jnp.copy, TeacherState(_followed(params), _followed(stats)))

    def after_update(self, state: TeacherState, params: Params, progress: Progress) -> TeacherState:
        """`momentum` x teacher + (1 - momentum) x student; batch statistics are the teacher's own."""
        momentum = value_at(self.momentum, progress)
        average = jax.tree.map(lambda t, s: momentum * t + (1.0 - momentum) * s, state.params, _followed(params))
        return TeacherState(average, state.stats)


@dataclasses.dataclass(frozen=True)
class FrozenTeacher(Teacher):
    """A teacher of any architecture that stays as its file has it, in evaluation mode."""

    encoder: Any
    """`Pretrained(ResNet(depth=50), "runs/large/weights/teacher.safetensors")`."""
    projector: Any
    """Of the same file: `Pretrained(MLP(hidden=(2048,)), ..., part="projector")`."""

    def network(self, student: Network) -> Network:
        """The teacher's own modules."""
        return Network("method.teacher", encoder=self.encoder, projector=self.projector)

    def init(self, rng: Array, student: Network, params: Params, stats: PyTree, images: Array) -> TeacherState:
        """As in the file; raises UserError if it is not there, or its projections have another width."""
        for field in ("encoder", "projector"):
            if not isinstance(module := getattr(self, field), Pretrained):
                raise UserError(f"method.teacher.{field}={short(module)} is untrained: wrap it in Pretrained")
        network = self.network(student)
        state = TeacherState(*network.init(rng, images))
        width = student.width("projector", params, stats, images)
        wanted = network.width("projector", state.params, state.stats, images)
        if width != wanted:
            raise UserError(
                f"method.projector makes {width} numbers and method.teacher.projector {wanted}, which are compared: "
                f"set method.projector.out={wanted}"
            )
        return state

    @jax.named_scope("teacher")
    def keys(self, student: Network, state: TeacherState, views: Sequence[Array]) -> tuple[list[Array], TeacherState]:
        outputs = [self.network(student).evaluate(state.params, state.stats, view) for view in views]
        return [stop_gradient(output["projector"]) for output in outputs], state


def _followed(tree: PyTree) -> PyTree:
    """Of parameters or statistics by module, those of the modules that a moving average follows."""
    return {name: tree[name] for name in ("encoder", "projector")}


@dataclasses.dataclass(frozen=True)
class WithTeacher(OneNetwork):
    """A student (encoder, projector, and what a method adds) beside a teacher."""

    teacher: Teacher = EMA()
    """What the student learns from."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        if not isinstance(self.teacher, Teacher):
            raise UserError(f"method.teacher={short(self.teacher)} must be a teacher, such as EMA(momentum=0.99)")
        params, aux = super().init(rng, batch)
        teacher = self.teacher.init(rng, self.network, params, aux.stats, batch["views"][0])
        return params, dataclasses.replace(aux, teacher=teacher)

    def train_both(
        self, params: Params, aux: Aux, batch: Batch, rng: Array
    ) -> tuple[list[dict[str, Array]], list[Array], Aux]:
        """Of each view the student's outputs and the teacher's projection f32[B, D], no gradient; and the state."""
        students, stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        keys, teacher = self.teacher.keys(self.network, aux.teacher, batch["views"])
        return students, keys, dataclasses.replace(aux, stats=stats, teacher=teacher)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """The teacher follows the student, if it does."""
        return dataclasses.replace(aux, teacher=self.teacher.after_update(aux.teacher, params, progress))

    def embed_teacher(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `TeacherMethod.embed_teacher`: the teacher's encoder."""
        network = self.teacher.network(self.network)
        return network.embed(aux.teacher.params, aux.teacher.stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`: a teacher that is frozen has its file already."""
        saved = super().weights(params, aux)
        if isinstance(self.teacher, EMA):
            saved["teacher"] = variables_of(aux.teacher.params, aux.teacher.stats)
        return saved


@dataclasses.dataclass(frozen=True)
class WithPredictor(WithTeacher):
    """A student with a predictor beside a teacher without: each view is the student's and the teacher's."""

    predictor: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps the student's projection to the teacher's; `Identity()` leaves it out."""

    @property
    def network(self) -> Network:
        """Encoder, projector and predictor; the teacher has the first two."""
        return Network(encoder=self.encoder, projector=self.projector, predictor=self.predictor)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        check_predictor(self.network, params, aux.stats, batch["views"][0])
        return params, aux
