"""A model at the start of its training: with random weights, the pretrained ones in its name, or those of a file or folder."""

from collections.abc import Mapping

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import Normalised, load_weights, pretrained
from prepkd.models.checkpoint import JSON
from prepkd.models.given_folder import check_folder, folder_card, preprocessing_of
from prepkd.models.new import new_model, untrained_model
from prepkd.models.weight_files import weights_file
from prepkd.models.weights import LoadedWeights
from prepkd.runtime.files import file_sha256
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.training.settings import Training


def initial_model(
    name: str, settings: Training, dataset: Dataset, seed: int, purpose: Purpose
) -> tuple[Normalised, LoadedWeights | None]:
    """Build a model, initialised from the purpose's stream of `seed` or with given weights, and return `load_given`'s result.

    If training follows, weights for other classes get a new classifier. Raises InputError as `new_model` and `load_weights` do.
    """
    model = new_model(
        name,
        dataset,
        torch_seed(seed, purpose.stream()),
        preprocessing_of(settings.weights, settings.own_preprocessing),
    )
    return model, load_given(model, name, settings, dataset)


def untrained_from(name: str, settings: Training, dataset: Dataset) -> Normalised:
    """Build an untrained model with the preprocessing of the settings or of the weights that they name.

    Raises InputError as `untrained_model` does, and for a folder of weights without a checkpoint.
    """
    return untrained_model(name, dataset, preprocessing_of(settings.weights, settings.own_preprocessing))


def load_given(model: Normalised, name: str, settings: Training, dataset: Dataset) -> LoadedWeights | None:
    """Load the weights that the settings name into a model, in place, and describe them; None if the settings name none.

    A folder must hold a checkpoint of the model `name`, and one for the data's classes unless training follows. Raises
    InputError.
    """
    if settings.weights is None:
        return None
    if settings.weights.is_dir():
        check_folder(settings.weights, name, None if settings.epochs else dataset.class_names)
    classes = dataset.classes if settings.epochs else None
    return load_weights(model.body, weights_file(settings.weights), settings.weights_key, classes=classes)


def given_weights(settings: Training, name: str, where: str = "teachers.NAME") -> dict[str, JSON]:
    """The origin of given weights: a library's source, or a file's SHA-256; raises InputError.

    Part of the run's inputs, so that a changed file is a different run.
    """
    if known := pretrained(name):
        return {"given_weights": known.source}
    if settings.weights is None:
        return {}
    if settings.weights.is_dir():
        folder_card(settings.weights)
    file = weights_file(settings.weights)
    if not file.is_file():
        raise InputError(f"{file}: no such file; set {where}.weights to a file of weights, or remove it")
    return {"given_weights": file_sha256(file)}


def weights_from(settings: Training, inputs: Mapping[str, JSON], loaded: LoadedWeights | None) -> dict[str, JSON]:
    """The card's entry for given weights: a library's `source`, or a `file`, its `sha256`, `format` and `key`; else nothing."""
    if "given_weights" not in inputs:
        return {}
    if settings.weights is None or loaded is None:
        return {"weights_from": {"source": inputs["given_weights"]}}
    found = {"file": str(settings.weights), "sha256": inputs["given_weights"], "format": loaded.form}
    return {"weights_from": found | ({"key": loaded.key} if loaded.key else {})}


def loading_notes(settings: Training, loaded: LoadedWeights | None, where: str) -> list[str]:
    """Return notes on the other weights in a file, and on a classifier that was not loaded."""
    if loaded is None:
        return []
    notes = []
    if loaded.others:
        notes.append(
            f"note: {settings.weights} also holds {', '.join(loaded.others)}: a part of the same weights, such as an average "
            f"without batch norm's statistics; {where} starts from {loaded.key or 'the whole set'}"
        )
    if loaded.unnamed:
        notes.append(
            f"note: {settings.weights} also holds {', '.join(loaded.unnamed)}: tensors of the parameters' shapes without names, "
            f"such as torch_ema's average, which can't be loaded; {where} starts from {loaded.key or 'the whole set'}; to start "
            "from the others, copy them to the model (torch_ema's copy_to) and save its state dict"
        )
    if loaded.classifier:
        notes.append(
            f"note: {settings.weights} is for other classes; {where} gets a new classifier ({', '.join(loaded.classifier)})"
        )
    return notes
