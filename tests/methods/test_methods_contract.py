"""Contract of every public function of two models: no gradient for the teacher, no broadcasting of unequal shapes."""

import inspect
from collections.abc import Callable

import pytest
import torch
from prepkd import losses
from prepkd.errors import InputError
from torch import Tensor

B, K = 4, 6
LABELS = torch.tensor([0, 1, 2, 3])


def of(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


S, T, MAP, OTHER = of(B, K, seed=0), of(B, K, seed=1), of(B, 3, 4, 4, seed=2), of(B, 3, 4, 4, seed=3)
KERNEL = losses.selectivity_kernel(OTHER)
TEMPERATURES = [1.0, 4.0]
TWO = {"tau": 4.0, "same_view": 2.0, "cross_view": 0.5, "weak_threshold": 0.0, "strong_threshold": 0.0}
# The loss as a function of the student's and the teacher's tensor, then these two tensors.
Case = tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]
CASES: dict[str, Case] = {
    "kl_divergence": (lambda s, t: losses.kl_divergence(s, target_logits=t, tau=4.0), S, T),
    "kl_divergence of probabilities": (
        lambda s, t: losses.kl_divergence(s, target_probs=t, tau=4.0),
        S,
        torch.softmax(T, 1),
    ),
    "dist": (lambda s, t: losses.dist(s, t, tau=4.0, beta=1.0, gamma=1.0), S, T),
    "dkd": (lambda s, t: losses.dkd(s, t, LABELS, tau=4.0, alpha=1.0, beta=8.0), S, T),
    "logit_mse": (losses.logit_mse, S, T),
    "luminet": (lambda s, t: losses.luminet(s, t, tau=4.0, alpha=33.0), S, T),
    "nkd": (lambda s, t: losses.nkd(s, t, LABELS, tau=4.0, gamma=1.5), S, T),
    "rld": (lambda s, t: losses.rld(s, t, LABELS, tau=4.0, tau_a=1.0, alpha=1.0, beta=8.0), S, T),
    "sld": (lambda s, t: losses.sld(s, t, LABELS, temperatures=TEMPERATURES), S, T),
    "wttm": (lambda s, t: losses.wttm(s, t, gamma=0.25), S, T),
    "mlkd": (lambda s, t: losses.mlkd(s, t, S, T, temperatures=TEMPERATURES), S, T),
    "mlkd, strong view": (lambda s, t: losses.mlkd(S, T, s, t, temperatures=TEMPERATURES), S, T),
    "crld": (lambda s, t: losses.crld(s, t, S, T, **TWO), S, T),
    "crld, strong view": (lambda s, t: losses.crld(S, T, s, t, **TWO), S, T),
    "activation_boundary": (lambda s, t: losses.activation_boundary(s, t > 0, margin=1.0), MAP, OTHER),
    "attention_transfer": (losses.attention_transfer, *map(losses.attention_map, (MAP, OTHER))),
    "correlation_congruence": (lambda s, t: losses.correlation_congruence(s, t, gamma=0.4, order=2), S, T),
    "flow_difference": (losses.flow_difference, *(losses.flow(one, one) for one in (MAP, OTHER))),
    "hint": (losses.hint, MAP, OTHER),
    "neuron_selectivity": (losses.neuron_selectivity, MAP, KERNEL),
    "overhaul": (losses.overhaul, MAP, OTHER),
    "pkt": (losses.pkt, S, T),
    "relational": (lambda s, t: losses.relational(s, t, distance=25.0, angle=50.0), S, T),
    "similarity_preserving": (losses.similarity_preserving, S, T),
    "variational_information": (
        lambda s, t: losses.variational_information(s, torch.ones(3).double(), t),
        MAP,
        OTHER,
    ),
}
TRAINED = {"info_nce": (lambda s, t: losses.info_nce(s, t, LABELS, temperature=0.07), S, T)}
ANY_WIDTH = {"correlation_congruence", "pkt", "relational", "similarity_preserving"}  # of two models
OF_ONE_SIDE = {  # functions of one model's tensors or of labels: no teacher tensor
    *("attention_map", "cross_entropy", "disturbed_labels", "dynamic_temperature", "cwsm_weights", "flow"),
    *("label_revision", "label_smooth", "margin_relu", "negative_mean", "noisy_logits", "probability_shift"),
    *("selectivity_kernel", "standardise", "teacher_wrong", "virtual_teacher_loss", "noise_contrastive"),
}


def test_every_function_is_here() -> None:
    found = {name.partition(" ")[0].rstrip(",") for name in CASES} | TRAINED.keys() | OF_ONE_SIDE | {"flsw_weights"}
    assert found == set(losses.__all__)


@pytest.mark.parametrize("name", CASES)
def test_no_gradient_flows_into_the_teacher(name: str) -> None:
    loss, student, teacher = CASES[name]
    own, theirs = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss(own, theirs).sum().backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None and own.grad.abs().max() > 0 and theirs.grad is None


def test_embeddings_are_both_trained() -> None:
    loss, student, teacher = TRAINED["info_nce"]
    own, theirs = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss(own, theirs).sum().backward()  # type: ignore[no-untyped-call]
    assert (
        own.grad is not None and theirs.grad is not None and "both trained" in (inspect.getdoc(losses.info_nce) or "")
    )


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("name", "dim"),
    [
        (name, dim)
        for name in (*CASES, *TRAINED, "flsw_weights")
        for dim in (0, -1)
        if dim == 0 or name not in ANY_WIDTH
    ],
)
def test_unequal_shapes_are_refused_in_one_line(name: str, dim: int, side: int) -> None:
    """Without the check, a single row or column would be broadcast to the other side's shape silently."""
    flsw: Case = (lambda s, t: losses.flsw_weights(s, t, gamma=1.0), S, T)
    loss, *tensors = {**CASES, **TRAINED, "flsw_weights": flsw}[name]
    tensors[side] = tensors[side].narrow(dim, 0, 1)
    with pytest.raises(InputError) as caught:
        loss(*tensors)
    assert "expected" in str(caught.value) and "\n" not in str(caught.value)


def test_other_tensors_belong_to_the_logits_as_well() -> None:
    one = LABELS[:1]
    calls: list[Callable[[], object]] = [
        lambda: losses.dkd(S, T, one, tau=4.0, alpha=1.0, beta=8.0),
        lambda: losses.nkd(S, T, one, tau=4.0, gamma=1.5),
        lambda: losses.rld(S, T, one, tau=4.0, tau_a=1.0, alpha=1.0, beta=8.0),
        lambda: losses.sld(S, T, one, temperatures=TEMPERATURES),
        lambda: losses.info_nce(S, T, one, temperature=0.07),
        lambda: losses.cross_entropy(S, one),
        lambda: losses.label_revision(T, one, eta=0.8),
        lambda: losses.label_smooth(T, one, tau=4.0, eps=0.1),
        lambda: losses.probability_shift(T, one),
        lambda: losses.teacher_wrong(T, one),
        lambda: losses.virtual_teacher_loss(S, one, alpha=0.1, tau=20.0, correct=0.99),
        lambda: losses.disturbed_labels(LABELS, one),
        lambda: losses.noisy_logits(T, T[:1]),
        lambda: losses.margin_relu(MAP, torch.zeros(1)),
        lambda: losses.noise_contrastive(T[:1, 0], T, 100),
        lambda: losses.noise_contrastive(T[:, 0], T, 100, T[:1] > 0),
        lambda: losses.noise_contrastive(T[:, 0], T[:, :0], 100),
        lambda: losses.variational_information(MAP, torch.ones(1), OTHER),
        lambda: losses.kl_divergence(S[:1], target_logits=T[:1], tau=torch.ones(3)),
        lambda: losses.kl_divergence(S, target_logits=T, tau=torch.ones(B, 1)),
    ]
    for call in calls:
        with pytest.raises(InputError, match="expected"):
            call()


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (LABELS[:1], "a batch of one sample; expected two or more"),
        (torch.ones(B, dtype=torch.int64), "a batch of one class; expected two or more"),
    ],
)
def test_info_nce_needs_something_to_tell_apart(labels: Tensor, line: str) -> None:
    count = len(labels)
    with pytest.raises(InputError, match=line):
        losses.info_nce(S[:count], T[:count], labels, temperature=0.07)
    with pytest.raises(InputError, match="a batch of one sample"):
        losses.dist(S[:1], T[:1], tau=4.0, beta=1.0, gamma=1.0)


def test_a_map_of_another_size_is_no_selectivity_kernels() -> None:
    with pytest.raises(InputError, match=r"shapes \(4, 4, 4\) and \(4, 16, 16\) of student and teacher; expected"):
        losses.neuron_selectivity(torch.nn.functional.avg_pool2d(MAP, 2), KERNEL)
