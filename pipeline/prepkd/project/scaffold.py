"""A new project's files, derived from this package's own settings and pipelines."""

import io
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from prepkd.data.sources import SOURCES
from prepkd.models.names import split_name
from prepkd.project.schema import json_schema, template
from prepkd.runtime.services import is_remote

CROP_AND_FLIP = [{"crop": {"padding": 4}}, "flip"]
# As the distillation literature trains on CIFAR-100 (Tian et al., arXiv 1910.10699, section 4; RepDistiller, mdistiller).
LITERATURE: dict[str, Any] = {
    "epochs": 240,
    "batch_size": 64,
    "lr": 0.05,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "schedule": "multi-step",
    "milestones": [150, 180, 210],
    "lr_decay": 0.1,
    "precision": "auto",
}
TEMPERATURES = {"kd": {"tau": 4.0}, "dtd": {"tau_0": 4.0}}
LARGE_VIEWS = {"views": 32, "encoding": "u8"}

# Initial values by data set: recipe, teacher, student, `cache` and training; a source without an entry gets those of CIFAR.
CIFAR: dict[str, Any] = {"augment": CROP_AND_FLIP, "training": LITERATURE}
PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"teacher": "resnet8", "student": "convnet8"},
    "cinic10": CIFAR | {"cache": {"views": 32}},
    "tiny-imagenet": {
        "augment": [{"crop": {"padding": 8}}, "flip"],
        "training": LITERATURE,
        "cache": LARGE_VIEWS,
    },
    "folder": {
        "augment": [{"resized-crop": {"size": 224}}, "flip"],
        "teacher": "torchvision:resnet50:IMAGENET1K_V2",
        "student": "torchvision:resnet18",
        "training": LITERATURE | {"epochs": 90, "milestones": [30, 60, 80]},
        "cache": LARGE_VIEWS,
    },
    "h5": CIFAR | {"cache": {"views": 32}},
}
DATASETS = {name: {"raw": source.default_raw} | PRESETS.get(name, CIFAR) for name, source in SOURCES.items()}
# How a user's own raw data come to their place.
PLACING = {
    "folder": "put train/CLASS/ and test/CLASS/ into {raw}",
    "h5": "write {raw}, an HDF5 file with train/images, train/labels, test/images and test/labels",
}
# Shown before the first run.
NOTES = {
    "folder": "images of several formats, or misnamed ones (ImageNet has a PNG named .JPEG), need prepare.mixed_formats"
}

GITIGNORE = """# Outputs of the pipeline: DVC keeps them.
/data/*.h5
/data/lesson.json
/data/lessons/
/data/logits/
/data/asked/
/data/features/*/
/models/
/results/details.json
/results/plots/
/results/report.html
/results/training/
/results/compare/runs/
/results/logs/
/exports/
/dvc_plots/
"""


def project_files(dataset: str, teacher: str | None, student: str | None, raw: str | None) -> dict[str, str]:
    """Return the files of a new project by path; raises KeyError for a data set that is not in `DATASETS`."""
    chosen = {"teacher": "resnet32x4", "student": "resnet8x4"} | DATASETS[dataset]
    chosen |= {key: value for key, value in {"teacher": teacher, "student": student, "raw": raw}.items() if value}
    files = {
        "dvc.yaml": without_our_code(template("pipeline.yaml")),
        "compare/dvc.yaml": without_our_code(template("compare.yaml")),
        ".dvcignore": template("dvcignore"),
        ".gitignore": GITIGNORE + added_rules(chosen["raw"]),
        "params.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "data/raw/README.md": f"The raw files of {dataset}: {chosen['raw']}.\n",
        # DVC depends on the folder, which must exist before anything is cached in it.
        "data/features/README.md": template("features.md"),
        "README.md": readme(dataset, chosen),
        "params.yaml": params_text(dataset, chosen),
    }
    return {name: without_our_pages(text) for name, text in files.items()}


def added_rules(raw: str) -> str:
    """Return the lines of .gitignore for raw data and students of other loops: git must not commit them before `dvc add`.

    DVC's own files stay visible: `NAME.dvc` beside the data, `.gitignore`.
    """
    kept = "", "*.dvc", ".gitignore"
    rules = []
    for folder in ("students", "data/raw"):
        rules += [f"/{folder}/**", *(f"!/{folder}/**/{name}" for name in kept)]
    rules.append("!/data/raw/README.md")
    place = Path(raw)
    own = not is_remote(raw) and not place.is_absolute()
    if own and not place.is_relative_to("data/raw") and not Path("data/raw").is_relative_to(place):
        rules.append("/" + re.sub(r"([\\*?\[ ])", r"\\\1", place.as_posix()))
    return "\n# What `dvc add` keeps: git has DVC's descriptions.\n" + "".join(f"{rule}\n" for rule in rules)


def params_text(dataset: str, chosen: Mapping[str, Any]) -> str:
    """Return params.yaml: the shipped file with its comments, and this data set's values."""
    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    # Teacher and student share no list: an edit of one must not change both.
    yaml.representer.ignore_aliases = lambda _: True
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    params = yaml.load(template("params.yaml"))
    params["prepare"] |= {"dataset": dataset, "raw": chosen["raw"]}
    if "augment" in chosen:
        params["augment"] = [
            {name: _inline(own) for name, own in step.items()} if isinstance(step, dict) else step
            for step in chosen["augment"]
        ]
    trained = params["teachers"]["large"]
    params["teachers"].clear()
    params["teachers"]["teacher"] = trained
    training = chosen.get("training", {})
    _update(trained, {"model": chosen["teacher"]} | training)
    # A pretrained teacher has weights for its own classes; data with other classes needs a short training.
    if split_name(chosen["teacher"])[2]:
        _update(trained, {"epochs": 5, "milestones": [2, 4], "lr": 0.01} if training else {})
    _update(params["distill"], {"teacher": "teacher", "student": chosen["student"]} | training)
    params["compare"] |= {"teachers": ["teacher"], "students": [chosen["student"]]}
    if training:
        params["threads"] = None
        _update(params["distill"], TEMPERATURES | {"seeds": 3})
        _update(params["cache"], {"batch_size": 512})
    _update(params["cache"], chosen.get("cache", {}))
    params.yaml_set_comment_before_after_key("generations", before="\n")
    text = io.StringIO()
    yaml.dump(params, text)
    return f"# yaml-language-server: $schema=params.schema.json\n{text.getvalue()}"


def _update(section: CommentedMap, changes: Mapping[str, Any]) -> None:
    """Set keys, nested ones too, and keep the comments."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _update(section[key], value)
        else:
            section[key] = _inline(value)


def _inline(value: Any) -> Any:
    """Copy a list or mapping in flow style, on one line; a shared object would become a YAML anchor.

    DVC's `-S` edits the file with the same library, which breaks a block-style list with a comment behind its key.
    """
    if isinstance(value, list | dict):
        value = CommentedSeq(value) if isinstance(value, list) else CommentedMap(value)
        value.fa.set_flow_style()
    return value


def without_our_code(pipeline: str) -> str:
    """Remove from a dvc.yaml the dependencies on this package's own files, which a project lacks."""
    return re.sub(r"^ +- (pipeline|stages)/.*\n", "", pipeline, flags=re.MULTILINE)


def without_our_pages(text: str) -> str:
    """Remove from a file's comments the references to this package's documentation, which a project lacks."""
    return re.sub(r" \(docs/[^)]*\)", "", text)


def data_commands(dataset: str, raw: str) -> list[str]:
    """Return the commands that put the raw data under DVC; none for digits, nor for data outside the project."""
    if dataset == "digits" or is_remote(raw) or Path(raw).is_absolute():
        return []
    fetch = ["prepkd prepare --download"] if SOURCES[dataset].archive else []
    return [*fetch, f"dvc add {shlex.quote(raw)}"]


def placing(dataset: str, raw: str, folder: Path = Path()) -> str:
    """Say how the raw data come to `raw` in the project's folder; empty for data that a command fetches, or that a URL names."""
    return PLACING[dataset].format(raw=folder / raw) if dataset in PLACING and not is_remote(raw) else ""


def readme(dataset: str, chosen: Mapping[str, Any]) -> str:
    """Return the project's README: its subject, and the next commands."""
    commands = data_commands(dataset, chosen["raw"])
    bring = "\n".join(f"    {command}" for command in commands)
    put = f"; {placed}" if (placed := placing(dataset, chosen["raw"])) else ""
    first = f"The raw data, in `{chosen['raw']}`, comes first{put}:\n\n{bring}\n\n" if commands else ""
    note = f"Note: {NOTES[dataset]}.\n\n" if dataset in NOTES else ""
    return f"""# Distillation on {dataset}

A prepkd project: `{chosen["teacher"]}` teaches `{chosen["student"]}`. All settings are in params.yaml.

{first}{note}    dvc repro                    # prepare, train the teacher, cache its logits, distill, evaluate
    dvc repro compare/dvc.yaml   # the comparison of methods: results/compare/table.md
    dvc exp run -S distill.method=ka-ps+dtd-flsw
    dvc exp show

After an update of prepkd, `dvc repro` runs nothing again by itself: `dvc repro --force` does.
"""
