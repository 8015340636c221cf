"""CRD's adapter: both models' embeddings, and a bank of those of every training sample."""

from math import inf, log

import torch
from torch import Tensor, nn

from prepkd.methods.kl import upcast
from prepkd.methods.vectors import unit

ESTIMATED = 1024  # negatives per sample that estimate Z: enough for the estimate, at a negligible cost


class Embeddings(nn.Module):
    """A linear layer per model to vectors of length 1."""

    def __init__(self, student: int, teacher: int, dim: int) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student, dim), nn.Linear(teacher, dim)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return both models' embeddings, (2, B, dim), of their features (B, D)."""
        return unit(torch.stack([self.student(upcast(student)), self.teacher(upcast(teacher))]))


class Bank(Embeddings):
    """Stores both embeddings of each training sample, a moving average over the batches that showed it, with its label.

    Its buffers are checkpointed with the run, and are not part of the student.
    """

    rows: Tensor  # of the student and of the teacher, (2, N, dim); random until a sample is shown
    labels: Tensor  # int64 (N,); -1 until then
    log_z: Tensor  # ln Z against the rows of either model, (2,); infinite before the first batch

    def __init__(self, student: int, teacher: int, dim: int, samples: int) -> None:
        super().__init__(student, teacher, dim)
        bound = (3 / dim) ** 0.5
        self.register_buffer("rows", torch.empty(2, samples, dim).uniform_(-bound, bound))
        self.register_buffer("labels", torch.full((samples,), -1))
        self.register_buffer("log_z", torch.full((2,), inf))
        # Never compiled: in the backward pass torch may recompute values from a buffer that the forward pass has changed since
        # it read them; the gradients are silently wrong (PyTorch's pull request 197039). Not a decorator: it would import Dynamo.
        self._uncompiled = torch.compiler.disable(Bank._compare)  # type: ignore[no-untyped-call]

    def compare(
        self, embeddings: Tensor, index: Tensor, labels: Tensor, *, count: int, temperature: float, momentum: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `scores` of a batch, then `remember` its embeddings."""
        return self._uncompiled(self, embeddings, index, labels, count, temperature, momentum)  # type: ignore[no-any-return]

    def _compare(
        self, embeddings: Tensor, index: Tensor, labels: Tensor, count: int, temperature: float, momentum: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = self.scores(embeddings, index, labels, count, temperature)
        self.remember(embeddings, index, labels, momentum)
        return found

    def scores(
        self, embeddings: Tensor, index: Tensor, labels: Tensor, count: int, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ln h of each sample's own row in the other model's bank, (2, B), and of `count` drawn rows, (2, B, count).

        The third value marks the drawn rows of other classes, bool (B, count). `embeddings` are (2, B, dim). The rows are drawn
        once for the batch: a draw per sample would copy B times as many. Z is N times the mean of the first batch's scores.
        """
        drawn = torch.randint(len(self.labels), (count,), device=index.device)
        others = (self.labels[drawn] != labels.unsqueeze(1)) & (drawn != index.unsqueeze(1))
        anchors = embeddings.flip(0) / temperature  # the teacher against the student's rows, and the reverse
        positive = (anchors * self.rows[:, index]).sum(dim=-1)
        negatives = anchors @ self.rows[:, drawn].transpose(1, 2)
        with torch.no_grad():
            found = torch.cat([positive.unsqueeze(-1), negatives[..., :ESTIMATED]], dim=-1).flatten(1)
            mean = found.logsumexp(dim=1) - log(found.shape[1])
            self.log_z.copy_(torch.where(self.log_z.isinf(), mean + log(len(self.labels)), self.log_z))
        return positive - self.log_z[:, None], negatives - self.log_z[:, None, None], others

    @torch.no_grad()
    def remember(self, embeddings: Tensor, index: Tensor, labels: Tensor, momentum: float) -> None:
        """Move the samples' rows towards their embeddings (2, B, dim), keeping a share `momentum` of the old rows."""
        moved = momentum * self.rows[:, index] + (1 - momentum) * embeddings
        self.rows.index_copy_(1, index, unit(moved))
        self.labels.index_copy_(0, index, labels)
