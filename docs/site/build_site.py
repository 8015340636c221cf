"""Build the documentation as a site that needs no network: `make site` -> site/VERSION/, site/index.html.

README.md is the first page, docs/README.md the navigation. Versions that were built before stay, and can be chosen.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import site_check
import site_pages

HERE = Path(__file__).parent
VERSION = tomllib.loads((site_pages.ROOT / "pyproject.toml").read_text())["project"]["version"]
# The theme's script would load what these pages do not use (diagrams, a Python interpreter) from other hosts.
ELSEWHERE = re.compile(r"https://(?!www\.w3\.org/)[\w.-]+/")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
REDIRECT = """<!doctype html>
<meta charset="utf-8">
<title>prepkd</title>
<link rel="icon" href="{0}/assets/images/favicon.png">
<meta http-equiv="refresh" content="0; url={0}/index.html">
"""


def build(folder: Path) -> Path:
    """Build the site in an empty folder; return the folder of its HTML. Warnings and broken links end the program."""
    site_pages.write(folder / "pages")
    for file in ("style.css", "iframe-worker.js"):
        target = folder / "pages/site" / file
        target.parent.mkdir(exist_ok=True)
        shutil.copy(HERE / file, target)
    settings = (HERE / "zensical.toml").read_text()
    (folder / "zensical.toml").write_text(
        settings.replace("[project]\n", f"[project]\nnav = {toml(site_pages.navigation())}\n")
    )
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    made = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        sys.exit(COLOURS.sub("", made.stdout).partition("Traceback")[0])
    for script in (folder / "html/assets").rglob("*.js"):
        script.write_text(ELSEWHERE.sub("not-here:", script.read_text()))
    write_versions(folder, [VERSION])
    if faults := site_check.faults(folder / "html"):
        sys.exit("\n".join(faults))
    return folder / "html"


def toml(value: site_pages.Nav | str) -> str:
    """Return a navigation as TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    entries = [f"{{{toml(title)} = {toml(inner)}}}" for entry in value for title, inner in entry.items()]
    return f"[{', '.join(entries)}]"


def publish(html: Path, site: Path, version: str) -> None:
    """Make a built site one of the versions of a folder; the newest is opened first."""
    site.mkdir(exist_ok=True)
    if (site / version).exists():
        if not (site / version / "search.js").exists():
            sys.exit(
                f"{site / version}: expected a version of this site, found other files. Move them, or take another --site"
            )
        shutil.rmtree(site / version)
    shutil.move(html, site / version)
    versions = sorted((inner.parent.name for inner in site.glob("*/index.html")), key=numbers, reverse=True)
    write_versions(site, versions)
    (site / "index.html").write_text(REDIRECT.format(versions[0]))


def write_versions(site: Path, versions: list[str]) -> None:
    """Write the script that every page of every version loads: a choice between versions, newest first."""
    script = (HERE / "versions.js").read_text()
    (site / "versions.js").write_text(script.replace("VERSIONS = []", f"VERSIONS = {json.dumps(versions)}"))


def named(version: str) -> str:
    """Return a version's name if it can be a folder's."""
    if not re.fullmatch(r"\w[\w.-]*", version):
        raise argparse.ArgumentTypeError(f"expected letters, digits, dots and dashes, as 0.2.0, found {version!r}")
    return version


def numbers(version: str) -> list[tuple[int, str]]:
    """Return the key that puts 0.9 before 0.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.-]", version)]


def main() -> None:
    """Build one version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=named, default=VERSION, help="the version's name, default: the package's")
    parser.add_argument("--site", type=Path, default=site_pages.ROOT / "site", help="the folder of all versions")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.site.parent, prefix=".site-") as folder:
        publish(build(Path(folder)), given.site, given.version)
    sys.stdout.write(f"{given.site / 'index.html'}: version {given.version}\n")


if __name__ == "__main__":
    main()
