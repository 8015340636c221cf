"""The package: the files of its wheel, light imports, public names, pinned dependencies and no registry names."""

import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import prepkd

ROOT = Path(__file__).parents[1]


def test_packages_list_is_the_tree() -> None:
    """`packages` is listed by hand because stages/ is shipped as prepkd.stages; it must name every folder."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    library = ROOT / "pipeline"
    found = {p.parent.relative_to(library).as_posix().replace("/", ".") for p in library.glob("prepkd/**/__init__.py")}
    assert listed == found | {"prepkd.stages"}


def test_wheel_holds_every_module(tmp_path: Path) -> None:
    import zipfile

    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    for name in tracked.stdout.splitlines():
        if name.startswith(("pipeline/", "stages/")) or name in {"pyproject.toml", "README.md", "LICENSE"}:
            if (ROOT / name).is_symlink() or not (ROOT / name).exists():
                continue
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in files if name.endswith(".py")}
    for templates in ("html_report/templates", "project/templates"):
        named = (ROOT / "pipeline/prepkd" / templates).iterdir()
        assert {f"prepkd/{templates}/{one.name}" for one in named if not one.is_symlink()} <= files
    library = {p.relative_to(source / "pipeline").as_posix() for p in (source / "pipeline/prepkd").rglob("*.py")}
    stages = {f"prepkd/stages/{p.name}" for p in (source / "stages").glob("*.py")}
    assert shipped == library | stages


def test_import_is_light_and_public_names_are_there() -> None:
    code = "import prepkd, sys; assert not {'torch', 'numpy', 'zarr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in prepkd.__all__:
        assert getattr(prepkd, name) is not None
    assert issubclass(prepkd.InputError, ValueError)
    for name in (
        "kl_divergence",
        "probability_shift",
        "label_smooth",
        "flsw_weights",
        "cwsm_weights",
        "dynamic_temperature",
    ):
        assert callable(getattr(prepkd.losses, name))


def test_help_and_dir_list_the_public_names() -> None:
    """Every public name has a line of its own in help() and in the package's docstring."""
    lines = [line.strip() for line in pydoc.plain(pydoc.render_doc(prepkd)).splitlines()]
    public = [name for name in prepkd.__all__ if name != "__version__"]
    assert set(public) <= set(dir(prepkd))
    assert dir(prepkd.losses) == prepkd.losses.__all__  # without the methods' modules
    described = {name: next((line for line in lines if line.startswith(f"{name} ")), "") for name in public}
    assert all(len(line.removeprefix(name).strip()) > 20 for name, line in described.items()), described
    assert {line.split()[0] for line in prepkd.__doc__.splitlines() if line.startswith("    ")} == set(public)


def test_no_file_names_a_registry() -> None:
    tracked = subprocess.run(
        ["git", "grep", "-nIE", "index-url|find-links|pypi\\.org|/simple/"], cwd=ROOT, text=True, stdout=-1
    )
    hits = [line for line in tracked.stdout.splitlines() if not line.startswith("tests/test_package.py")]
    assert not hits, hits


def test_constraints_pin_every_dependency() -> None:
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    names = {re.split(r"[<>=~\[]", text)[0].lower() for text in [*project["dependencies"], *extras]} - {"prepkd"}
    assert {name.replace("_", "-") for name in names} <= {name.replace("_", "-") for name in pinned}
