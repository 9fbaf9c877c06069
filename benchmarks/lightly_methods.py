"""lightly's methods, put together from its losses, heads and moving average in the way its documentation's examples do.

One class a method, by the name that it has in `ssljax.methods`: a module whose result for two views is their loss. The
heads are as wide as those of experiments/cifar10. Import torchvision first: see peers.py.
"""

from collections.abc import Callable

import torch
from lightly import loss
from lightly.models import modules
from lightly.models.modules.heads import ProjectionHead, VICRegProjectionHead
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn
from torch.nn import functional as F
from torch_steps import FEATURES, resnet18


class Pairwise(nn.Module):
    """A network whose projections of two views a criterion compares."""

    def __init__(self, head: nn.Module, criterion: nn.Module):
        super().__init__()
        self.network, self.criterion = nn.Sequential(resnet18("cifar"), head), criterion

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        return self.criterion(self.network(view1), self.network(view2))


class SimCLR(Pairwise):
    def __init__(self):
        head = modules.SimCLRProjectionHead(FEATURES, 2048, 256, batch_norm=False)
        super().__init__(head, loss.NTXentLoss(temperature=0.2))


class DCL(Pairwise):
    def __init__(self):
        head = modules.SimCLRProjectionHead(FEATURES, 2048, 256, batch_norm=False)
        super().__init__(head, loss.DCLLoss(temperature=0.1))


class BarlowTwins(Pairwise):
    def __init__(self):
        super().__init__(modules.BarlowTwinsProjectionHead(FEATURES, 2048, 2048), loss.BarlowTwinsLoss())


class VICReg(Pairwise):
    def __init__(self):
        super().__init__(VICRegProjectionHead(FEATURES, 2048, 2048), loss.VICRegLoss())


class WithPredictor(nn.Module):
    """A network with a predictor behind its projector, and no teacher."""

    def __init__(self, projector: nn.Module, predictor: nn.Module, criterion: nn.Module):
        super().__init__()
        self.network, self.predictor = nn.Sequential(resnet18("cifar"), projector), predictor
        self.criterion = criterion

    def views(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both projections, without gradient, and both predictions."""
        z1, z2 = self.network(view1), self.network(view2)
        return z1.detach(), z2.detach(), self.predictor(z1), self.predictor(z2)

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        z1, z2, p1, p2 = self.views(view1, view2)
        return 0.5 * (self.criterion(z1, p2) + self.criterion(z2, p1))


class SimSiam(WithPredictor):
    def __init__(self):
        projector = modules.SimSiamProjectionHead(FEATURES, 2048, 2048)
        super().__init__(projector, modules.SimSiamPredictionHead(2048, 512, 2048), loss.NegativeCosineSimilarity())


class NNCLR(WithPredictor):
    def __init__(self):
        projector = modules.NNCLRProjectionHead(FEATURES, 2048, 256)
        super().__init__(projector, modules.NNCLRPredictionHead(256, 4096, 256), loss.NTXentLoss(temperature=0.2))
        self.bank = modules.NNMemoryBankModule(size=(65536, 256))

    def views(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z1, z2, p1, p2 = super().views(view1, view2)
        return self.bank(z1, update=False), self.bank(z2, update=True), p1, p2


class WithTeacher(nn.Module):
    """A network and its moving average, which moves before each step."""

    def __init__(self, projector: Callable[[], nn.Module], criterion: nn.Module, momentum: float):
        super().__init__()
        self.student, self.teacher = (nn.Sequential(resnet18("cifar"), projector()) for _ in range(2))
        self.teacher.load_state_dict(self.student.state_dict())
        deactivate_requires_grad(self.teacher)
        self.criterion, self.momentum = criterion, momentum

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        update_momentum(self.student, self.teacher, m=self.momentum)
        return self.compare(view1, view2)


class MoCo(WithTeacher):
    """In one direction."""

    def __init__(self):
        criterion = loss.NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128))
        super().__init__(lambda: ProjectionHead([(FEATURES, 128, None, None)]), criterion, 0.99)

    def compare(self, view1: Tensor, view2: Tensor) -> Tensor:
        return self.criterion(self.student(view1), self.teacher(view2))


class BYOL(WithTeacher):
    def __init__(self):
        criterion = loss.NegativeCosineSimilarity()
        super().__init__(lambda: modules.BYOLProjectionHead(FEATURES, 4096, 256), criterion, 0.99)
        self.predictor = modules.BYOLPredictionHead(256, 4096, 256)

    def compare(self, view1: Tensor, view2: Tensor) -> Tensor:
        p1, p2 = self.predictor(self.student(view1)), self.predictor(self.student(view2))
        return 0.5 * (self.criterion(p1, self.teacher(view2)) + self.criterion(p2, self.teacher(view1)))


class DINO(WithTeacher):
    def __init__(self):
        criterion = loss.DINOLoss(output_dim=4096)
        super().__init__(lambda: modules.DINOProjectionHead(FEATURES, 2048, 256, 4096), criterion, 0.9995)

    def compare(self, view1: Tensor, view2: Tensor) -> Tensor:
        views = view1, view2
        return self.criterion([self.teacher(view) for view in views], [self.student(view) for view in views])


class SwAV(nn.Module):
    """With a queue for each view, whose projections are assigned along with the batch."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(resnet18("cifar"), modules.SwaVProjectionHead(FEATURES, 2048, 128))
        self.prototypes, self.criterion = modules.SwaVPrototypes(128, 3000), loss.SwaVLoss()
        self.queues = nn.ModuleList(MemoryBankModule((3840, 128), feature_dim_first=False) for _ in range(2))

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        self.prototypes.normalize()
        z = [F.normalize(self.network(view)) for view in (view1, view2)]
        with torch.no_grad():
            past = [self.prototypes(queue(x, update=True)[1]) for queue, x in zip(self.queues, z, strict=True)]
        return self.criterion([self.prototypes(x) for x in z], [], past)
