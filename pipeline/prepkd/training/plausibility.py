"""Plausibility of a teacher: its accuracy on training images, the order of its classes, the accuracy that its file claims."""

import torch

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import Normalised, pretrained
from prepkd.models.agreement import LabelAgreement, agreement
from prepkd.models.weight_claims import WeightClaims, order_problem
from prepkd.models.weights import LoadedWeights
from prepkd.training.evaluation import predict_some

MIN_IMAGES, PER_CLASS = 1000, 10  # training images to check a teacher on: at least, and per class


def check_class_order(model: str, loaded: LoadedWeights | None, dataset: Dataset, where: object) -> None:
    """Raise InputError if the classes of final weights are the data's in another order."""
    known = pretrained(model)
    names = loaded.claims.class_names if loaded else known.class_names if known else None
    if wrong := order_problem(names, dataset.class_names):
        raise InputError(
            f"{where}: {wrong}; prepare the data with the classes in the weights' order, or save the weights with the "
            "classifier's rows in the data's"
        )


def training_agreement(model: Normalised, dataset: Dataset) -> LabelAgreement:
    """Compare the model's predictions with the labels on a fixed random subset of the training images, unaugmented."""
    samples = dataset.samples
    count = min(len(samples), max(MIN_IMAGES, PER_CLASS * dataset.classes))
    drawn = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[:count].to(samples.device)
    return agreement(predict_some(model, samples, drawn), samples.labels[drawn])


def warnings(
    where: str,
    trained: bool,
    on_train: LabelAgreement,
    on_test: LabelAgreement,
    claims: WeightClaims,
    model: Normalised,
) -> list[str]:
    """Return one line per reason to doubt a teacher, with the likely causes."""
    lines = []
    if on_train.out_of_order:
        lines.append(
            f"warning: {where} is right on {on_train.top1:.1%} of {on_train.samples:,} training images, and on "
            f"{on_train.permuted:.1%} with the classes in another order: its classes are not in the data's order"
        )
    elif on_train.poor:
        causes = (
            "lr, epochs or label noise"
            if trained
            else "preprocessing (mean, std, size), the order of the classes, other data, or other weights in the file"
        )
        lines.append(
            f"warning: {where} is right on {on_train.top1:.1%} of {on_train.samples:,} training images, chance is "
            f"{on_train.chance:.1%}; likely causes: {causes}"
        )
    if not trained and claims.top1 is not None and on_test.below(claims.top1):
        lines.append(
            f"warning: {where} is right on {on_test.top1:.1%} of the test images, its file claims {claims.top1:.1%}; likely "
            "causes: preprocessing (mean, std, size), other data, or other weights in the file"
        )
    stated = claims.preprocessing
    if stated is not None and stated != model.preprocessing.describe():
        lines.append(
            f"warning: {where} preprocesses otherwise than its file's card says; set preprocessing to {dict(stated)}"
        )
    return lines
