"""What a project's students see: the training samples, their views, the settings of the teacher's logits."""

from prepkd.data.prepared.file import describe
from prepkd.data.samples.read import TrainingViews
from prepkd.project.params import Params
from prepkd.provenance.students import TrainedOn
from prepkd.stages._project import data_file
from prepkd.views import parse_recipe


def trained_on(params: Params) -> TrainedOn:
    """Return what students that are trained now would see; raises InputError if the data are missing."""
    info, cache = describe(data_file(params)), params.cache
    views = TrainingViews(parse_recipe(params.augment), cache.views, cache.seed, parse_recipe(params.augment_strong))
    plan = views.plan(info.splits["train"])
    return TrainedOn(info.split_fingerprints["train"], plan.fingerprint, cache, len(info.class_names))
