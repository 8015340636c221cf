"""`methods --check`: stores that serve a method, their bytes, missing stores, and the commands that make them."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from prepkd.catalogue.requirements import DataShape, Pair, example, untrained_pair
from prepkd.catalogue.rows import method_summary, rows
from prepkd.catalogue.tables import method_table, term_tables
from prepkd.cli import app
from prepkd.distillation.feature_supply import entry_names
from prepkd.errors import InputError
from prepkd.methods.entries import entries_for, make_entry
from prepkd.methods.term import Divergence, FeatureTerm
from prepkd.methods.terms import TERMS
from prepkd.models.features import feature_shapes
from prepkd.project.method_check import open_features, open_store
from prepkd.project.params import Params, load_params
from prepkd.teacher.feature_caching import feature_encoding
from rich.console import Console
from torch import Size

ROOT = Path(__file__).parents[2]
FEATURES = {name: term() for name, term in TERMS.items() if issubclass(term, FeatureTerm)}


@pytest.fixture(scope="module")
def small() -> Pair:
    return untrained_pair("resnet14", "resnet8", DataShape((8, 8), channels=1, classes=10, samples=70, views=9))


def params(folder: Path, *changes: str) -> Params:
    return load_params(ROOT / "params.yaml", [f"cache.features_root={folder}", *changes])


def text(*parts: Any) -> str:
    console = Console(width=200)
    with console.capture() as caught:
        for part in parts:
            console.print(part)
    return " ".join(caught.get().split())


@pytest.mark.parametrize(
    ("method", "listed", "entries"),
    [
        ("rkd", [], ["rkd"]),
        ("rkd+pkt+crd", [], ["pooled"]),
        ("rkd+pkt+at", [], ["at", "pooled"]),
        ("rkd+pkt+crd", ["pkt"], ["pooled", "pkt"]),
        ("rkd+pkt+crd", ["pooled", "pkt"], ["pooled", "pkt"]),
        ("rkd+pkt", ["pkt"], ["rkd", "pkt"]),
        ("fitnet+sp", [], ["fitnet", "sp"]),
        ("at+vid", ["stage1", "stage2", "stage3"], ["stage1", "stage2", "stage3"]),
    ],
)
def test_terms_that_read_a_feature_as_it_is_share_its_entry(method: str, listed: list[str], entries: list[str]) -> None:
    terms = [FEATURES[name] for name in method.split("+")]
    assert sorted(entries_for(terms, listed)) == sorted(entries)


@pytest.mark.parametrize("name", FEATURES)
def test_which_terms_read_features_as_they_are(name: str) -> None:
    """`stores_features` is true exactly for terms whose entries hold unchanged features for every student.

    vid's are unchanged only if both models' maps have one size, so it has an entry of its own.
    """
    term = FEATURES[name]
    sizes = {"stem": (8, 8), "stage1": (8, 8), "stage2": (4, 4), "stage3": (2, 2)}

    def shapes(smaller: int) -> dict[str, Size]:
        found = {}
        for one in term.features_of_teacher:
            sides = sizes.get(one.removesuffix(".pre").removesuffix("/affine"), ())
            found[one] = Size((2, 8)) if one.endswith("/affine") else Size((8, *(side // smaller for side in sides)))
        return found

    asked = [make_entry(name, term, shapes(smaller), shapes(1)).shapes for smaller in (1, 2)]
    unchanged = all(one == {key: shapes(1)[key] for key in term.features_of_teacher} for one in asked)
    assert term.stores_features == unchanged


@pytest.mark.parametrize("method", ["rkd+pkt+crd", "at+rkd+pkt", "nst+fitnet", "ab+ofd", *FEATURES])
def test_bytes_are_those_of_stores_of_the_recommended_entries(method: str, small: Pair, tmp_path: Path) -> None:
    """The recommended entries are those that `distill` reads, and their bytes per row those of the encodings."""
    found = method_summary(method, small)
    project = params(tmp_path, "cache.features=[]")
    settings = project.variant(method)
    assert list(found.entries) == entry_names(settings, project.cache)
    teacher, student = (
        feature_shapes(one, settings.terms.teacher_features, (8, 8)) for one in (small.teacher, small.student)
    )
    made = {
        name: feature_encoding(make_entry(name, term, student, teacher)).bytes_per_row
        for name, term in settings.entry_terms(list(found.entries)).items()
    }
    assert found.entries == made and found.bytes == sum(made.values())
    assert found.as_json()["entries"] == made
    shown = text(method_table(found, small, []))
    assert f"{found.bytes:,} per (view, sample)" in shown and ", ".join(f"{k} {v:,}" for k, v in made.items()) in shown


def test_one_vector_serves_three_terms() -> None:
    found = method_summary("rkd+pkt+crd", example())
    assert found.entries == {"pooled": 1024} and found.bytes == 1024
    shown = text(method_table(method_summary("vid", example()), example(), []))
    assert "3.72 TB for 162 x 50,000" in shown, "in a unit that is read, not 3.72e+03 GB"


@pytest.mark.parametrize("listed", ["[]", "[at]"])
def test_features_that_are_not_cached_are_missing(listed: str, small: Pair, tmp_path: Path) -> None:
    """Missing entries are named with their bytes and the command that adds them."""
    project = params(tmp_path, f"cache.features={listed}")
    with pytest.raises(InputError) as caught:
        open_features(project, "ka-ps+dkd+at", "large", small, str(tmp_path / "large.zarr"))
    add = "run" if listed == "[at]" else "add at to cache.features and run"
    assert str(caught.value) == (
        "method ka-ps+dkd+at needs features of teacher 'large' that are not cached (at: 9 views x 70 samples x 168 bytes = "
        f"0.1 MB, float16 (at/stage1 64, at/stage2 16, at/stage3 4)); {add} `prepkd cache-features large`, or set "
        "distill.source: online"
    )
    with pytest.raises(InputError, match=r"cached \(at; rkd\); add (at, )?rkd to cache\.features and run"):
        open_features(project, "rkd+at", "large", None, str(tmp_path / "large.zarr"))


def test_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`methods --check` works before anything is made and names the commands for missing stores with the teacher."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)

    def missing(*options: str) -> list[str]:
        found = typer.testing.CliRunner().invoke(app, ["methods", "--check", "ka-ps+dkd+at", "--json", *options])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)["missing"]  # type: ignore[no-any-return]

    lines = missing()
    assert any("run `prepkd cache-logits large`" in line for line in lines)
    assert any(
        "not cached (at); add at to cache.features and run `prepkd cache-features large`" in one for one in lines
    )
    assert not any("NAME" in line for line in lines)
    assert not any("cached (" in line for line in missing("-S", "distill.source=online"))


def test_a_missing_stores_command_names_the_teacher(tmp_path: Path) -> None:
    for url in (tmp_path / "none.zarr", tmp_path):
        with pytest.raises(InputError, match="`prepkd cache-logits large`"):
            open_store(str(url), "large", 1)


def test_every_divergence_with_a_temperature_lists_it() -> None:
    listed = {row.name: row for row in rows(example())}
    for name, term in TERMS.items():
        tempered = issubclass(term, Divergence) and term.tempered
        assert ("kd.tau" in listed[name].settings) == tempered, name
    assert list(listed["dkd"].settings) == ["kd.tau", "dkd.alpha", "dkd.beta", "dkd.warmup_epochs"]


def test_weights_of_another_temperature_say_so() -> None:
    notes = {row.name: row.note for row in rows(example()) if row.note}
    said = "the default weights are published for kd.tau {}"
    assert notes == {"ls": said.format(2), "nkd": said.format(1), "wttm": said.format(5)}
    shown = text(*term_tables(rows(example())))
    assert all(note in shown for note in notes.values())
    assert notes["ls"] in text(method_table(method_summary("ls", example()), example(), []))


def test_the_page_on_imports_lists_what_needs_the_logits_zero() -> None:
    page = " ".join((ROOT / "docs/how-to/import.md").read_text().split())
    sentence = page.split("a term that depends on it: ")[1].split(". ")[0]
    named = {part.strip("`,") for part in sentence.split() if part.startswith("`")}
    assert named == {name for name, term in TERMS.items() if term.needs_raw}
