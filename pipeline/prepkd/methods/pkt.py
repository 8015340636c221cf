"""Probabilistic Knowledge Transfer: each sample's neighbours in the batch are those that the teacher sees."""

from pydantic import Field
from torch import Tensor

from prepkd.methods.batch_relation import BatchRelation
from prepkd.methods.term import State
from prepkd.methods.vectors import paired_vectors, unit
from prepkd.models.features import Answers

EPS = 1e-7  # of the authors' code


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """Each sample's share (B,) of mean_ij P_t ln((P_t + 1e-7) / (P_s + 1e-7)), for features (B, D).

    P is (cosine + 1) / 2 between samples i and j, divided by its sum over j, i itself included. The mean of the shares is the
    loss of the batch; it falls as 1 / B. D may differ between the models. Raises InputError for fewer than two samples.
    Source: Passalis, Tefas 2018, arXiv 1803.10837, with cosine similarity; the constants are those of the authors' code.
    """
    own, theirs = (_neighbours(rows) for rows in paired_vectors(student, teacher, "pkt", 2))
    return (theirs * ((theirs + EPS).log() - (own + EPS).log())).mean(dim=1)


def _neighbours(rows: Tensor) -> Tensor:
    """Probabilities (B, B), of each sample to choose another as its neighbour."""
    rows = unit(rows)
    similarities = ((rows @ rows.T + 1) / 2).clamp_min(0)  # a cosine may round to less than -1
    return similarities / similarities.sum(dim=1, keepdim=True)


class ProbabilisticTransfer(BatchRelation):
    """KL divergence of each sample's similarities to the batch's samples, as probabilities."""

    name = "pkt"
    section = "pkt"
    source = "Passalis, Tefas 2018, arXiv 1803.10837"
    equation = "mean_ij P_t ln(P_t / P_s),  P: cosines + 1, rows of sum 1"
    weight: float = Field(default=30000.0, gt=0, description="weight of the term, for batches of 64: it falls as 1 / B")

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Each sample's share, (B,)."""
        return pkt(student[self.feature], teacher[self.feature])
