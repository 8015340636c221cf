"""SHA-256 fingerprints of view streams, rendered pixels and a project's results, to compare two commits bit for bit.

    python benchmarks/fingerprints.py [PROJECT] > found.txt

One line per fingerprint; `diff` shows where two commits differ. PROJECT is a folder after `make demo`.
Only the public API is used, so that the interpreter of an older commit can run this file to fingerprint that commit.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from prepkd import ViewPlan
from safetensors.numpy import load_file

SAMPLES, VIEWS, SIDE, SEED = 64, 5, 32, 7
RECIPES: dict[str, list[object]] = {
    "no step": [],
    "crop": [{"crop": {"padding": 4}}],
    "flip": ["flip"],
    "resized-crop": ["resized-crop"],
    "resized-crop to 24": [{"resized-crop": {"size": 24}}],
    "erase": ["erase"],
    "randaugment": ["randaugment"],
    "trivial-augment": ["trivial-augment"],
    "mixup": ["mixup"],
    "cutmix": ["cutmix"],
    "crop, flip": [{"crop": {"padding": 4}}, "flip"],
    "resized-crop, flip, randaugment, erase": [{"resized-crop": {"size": 24}}, "flip", "randaugment", "erase"],
    "crop, flip, trivial-augment, mixup": [{"crop": {"padding": 4}}, "flip", "trivial-augment", "mixup"],
    "crop, flip, cutmix": [{"crop": {"padding": 4}}, "flip", "cutmix"],
}
MIXING = {"mixup", "cutmix"}  # these have no exhaustive plan
# Files of a project by kind of hash: of the tensors without the file's metadata, which holds settings, or of all bytes.
TENSORS = (
    "models/teachers/*/model.safetensors",
    "models/student/*/model.safetensors",
    "results/compare/runs/**/*.safetensors",
)
BYTES = ("results/compare/table.md",)


def main(arguments: list[str] | None = None) -> None:
    """Print the fingerprints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", nargs="?", type=Path, help="a project folder after `make demo`")
    project = parser.parse_args(arguments).project
    torch.set_num_threads(1)
    for name, recipe in RECIPES.items():
        for subject, found in views(recipe, exhaustive=not MIXING & set(map(str, recipe))):
            print(f"{found}  views, {name}: {subject}")
    if project:
        for subject, found in results(project):
            print(f"{found}  {subject}")


def views(recipe: list[object], *, exhaustive: bool) -> Iterator[tuple[str, str]]:
    """Fingerprints of a recipe's plans, parameters and pixels."""
    images = made_up_images()
    for kind in (VIEWS, "all") if exhaustive else (VIEWS,):
        try:
            plan = ViewPlan(recipe, kind, SEED, SAMPLES)
        except ValueError:  # the message's wording may differ between commits
            yield f"{kind} views", "refused".ljust(64)
            continue
        shown = [*range(min(VIEWS, plan.views)), np.arange(SAMPLES) % plan.views]  # the last: a view per sample
        rows = [plan.parameters(view) for view in shown]
        yield f"{kind} views, plan", plan.fingerprint
        yield f"{kind} views, parameters", hashed(*rows)
        yield f"{kind} views, pixels", hashed(*(rendered(plan, images, torch.from_numpy(row)) for row in rows))


def rendered(plan: ViewPlan, images: torch.Tensor, rows: torch.Tensor) -> np.ndarray:
    """Render every image under its row."""
    partners = plan.partners(rows)
    others = () if partners is None else (images[partners],)
    return np.ascontiguousarray(plan.render(images, rows, *others).numpy())


def made_up_images() -> torch.Tensor:
    """Return fixed images uint8 (SAMPLES, 3, SIDE, SIDE), from a hash: libraries' random streams may change by version."""
    shape = (SAMPLES, 3, SIDE, SIDE)
    content = hashlib.shake_256(b"images").digest(SAMPLES * 3 * SIDE * SIDE)
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())


def results(project: Path) -> Iterator[tuple[str, str]]:
    """Fingerprints of a project's stores, weights, test logits and table, by path."""
    for store in sorted(project.glob("data/logits/*.zarr")):
        entries = json.loads((store / "manifest.json").read_text())
        name = store.relative_to(project)
        yield f"{name}: chunks", hashed(*(f"{key} {entries[key]}" for key in sorted(entries) if "/c/" in key))
        yield f"{name}: all files", hashed(*(f"{key} {entries[key]}" for key in sorted(entries)))
    for pattern in TENSORS:
        for path in sorted(project.glob(pattern)):
            tensors = load_file(path)
            parts = (part for key in sorted(tensors) for part in (key, tensors[key]))
            yield str(path.relative_to(project)), hashed(*parts)
    for pattern in BYTES:
        for path in sorted(project.glob(pattern)):
            yield str(path.relative_to(project)), hashed(path.read_bytes())


def hashed(*parts: np.ndarray | str | bytes) -> str:
    """Return the SHA-256 of the parts in order; arrays are hashed by dtype, shape and content."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            content = np.ascontiguousarray(part).tobytes()
            head = f"{part.dtype.str} {part.shape} "
        else:
            content = part.encode() if isinstance(part, str) else part
            head = f"{len(content)} "
        digest.update(head.encode())
        digest.update(content)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
