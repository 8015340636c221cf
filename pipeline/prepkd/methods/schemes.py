"""Schemes: chains of teachers, each distilled from the one before, with their settings of `generations` and `distill`."""

from dataclasses import dataclass

MEANING = "A chain of teachers, set in `generations`; not a term, its methods are made of terms."
EACH, LAST = "generations.NAME", "distill"


@dataclass(frozen=True)
class Scheme:
    """A scheme: its chain in one sentence, the settings that make it, source, and how the authors' own runs differ."""

    name: str
    chain: str
    settings: dict[str, object]
    source: str
    deviation: str


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "ban",
            "Born-again networks: each generation has the teacher's architecture, another seed, and learns from the outputs "
            "of the generation before, at temperature 1 and without labels.",
            {f"{EACH}.method": "kd", f"{EACH}.ce_weight": 0.0, f"{EACH}.kd.tau": 1.0},
            "Furlanello et al. 2018, arXiv 1805.04770",
            "The form with the labels' loss (ce_weight above 0) has no published weights here; public code has CE 0.8 beside "
            "a KL at tau 20 without tau^2, averaged over the classes as well.",
        ),
        Scheme(
            "takd",
            "Teacher, assistant, student: the assistant's size lies between theirs.",
            {
                f"{EACH}.method": "kd",
                f"{EACH}.ce_weight": 0.5,
                f"{EACH}.kd.tau": 5.0,
                f"{LAST}.method": "kd",
                f"{LAST}.ce_weight": 0.85,
                f"{LAST}.kd.tau": 5.0,
            },
            "Mirzadeh et al. 2020, arXiv 1902.03393; values of its code for resnet110, resnet20, resnet8",
            "Their KL is also averaged over the classes, K times weaker; their assistant is the best epoch on test, here the "
            "last one, or the best on val (early_stop).",
        ),
        Scheme(
            "label-refinery",
            "Each generation learns from the answers of the one before to the same crop, without labels and temperature.",
            {f"{EACH}.method": "kd", f"{EACH}.ce_weight": 0.0, f"{EACH}.kd.tau": 1.0},
            "Bagherinezhad et al. 2018, arXiv 1805.02641",
            "Their refinery runs in training mode (statistics of the batch, dropout); a store holds the teacher in evaluation "
            "mode.",
        ),
        Scheme(
            "tf-kd",
            "Self-distillation: the teacher is the student's own architecture, trained first with labels.",
            {f"{LAST}.method": "kd", f"{LAST}.ce_weight": 0.05, f"{LAST}.kd.tau": 6.0},
            "Yuan et al. 2020, arXiv 1909.11723 (Tf-KD_self); values of its code for resnet18",
            "Their KL is averaged over the classes and multiplied by 50: at 100 classes its weight is half of the one here.",
        ),
    )
}
