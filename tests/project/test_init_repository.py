"""`prepkd init` in an existing repository, and the raw data that git sees: in this process, with the real git."""

import os
import subprocess
from pathlib import Path

import pytest
from commands import run
from prepkd.errors import InputError
from prepkd.project.create import create_project
from prepkd.project.scaffold import project_files

# A stand-in with the effects of `dvc init` that git sees; the real one takes seconds and runs in test_init.py.
DVC = (
    "#!/bin/sh\nmkdir .dvc && echo /tmp > .dvc/.gitignore && touch .dvc/config .dvcignore && git add .dvc .dvcignore\n"
)


def git(command: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=folder, text=True, stdout=-1, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository with a commit; `dvc` is the stand-in and the current folder lies elsewhere."""
    executable(tmp_path / "bin" / "dvc", DVC)
    for variable in [name for name in os.environ if name.startswith("GIT")]:
        monkeypatch.delenv(variable)
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{who}_{what}", "a@b.c")
    monkeypatch.setattr("prepkd.runtime.dvc.DVC", (str(tmp_path / "bin" / "dvc"),))
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("code.py", "kept.py"):
        (folder / name).write_text("1\n")
    git("git init -q -b main && git add -A && git commit -qm theirs", folder)
    return folder


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make(folder: Path, *, dataset: str = "digits", raw: str | None = None) -> list[str]:
    """Make a project; return the steps that are left to the user."""
    return create_project(folder, dataset, teacher=None, student=None, raw=raw, git=True)[1]


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file outside `.git`."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_it_commits_its_own_files_and_leaves_the_users_changes_as_they_are(repository: Path) -> None:
    (repository / "code.py").write_text("2\n")
    (repository / "secret.key").write_text("staged by hand\n")
    git("git add -A", repository)
    (repository / "kept.py").write_text("not staged\n")
    (repository / "notes.txt").write_text("unknown to git\n")
    before = git("git status --porcelain", repository)
    assert before == "M  code.py\n M kept.py\nA  secret.key\n?? notes.txt\n"
    assert make(repository) == []
    assert git("git status --porcelain", repository) == before
    committed = set(git("git show --pretty= --name-only", repository).split())
    assert committed == {".dvc/.gitignore", ".dvc/config", *project_files("digits", None, None, None)}
    # A second project inside the first one, whose DVC settings have changed since.
    with (repository / ".dvc/config").open("a") as config:
        config.write("# mine\n")
    before = git("git status --porcelain", repository)
    assert make(repository / "below") == []
    assert git("git status --porcelain", repository) == before


def test_git_shows_what_dvc_add_writes_and_no_weights(repository: Path) -> None:
    make(repository)
    for folder in ("students/mine/seed0", "weights/promoted", "data/raw/images/a"):
        (repository / folder).mkdir(parents=True)
        (repository / folder / "model.safetensors").write_text(folder)
    assert git("git status --porcelain -uall", repository) == "?? weights/promoted/model.safetensors\n"
    run("dvc add -q students/mine weights/promoted data/raw/images", repository)
    git("git add -A", repository)
    added = {"students/mine.dvc", "students/.gitignore", "weights/promoted.dvc", "weights/.gitignore"}
    added |= {"data/raw/images.dvc", "data/raw/.gitignore"}
    assert set(git("git diff --cached --name-only --diff-filter=A", repository).split()) == added


def test_settings_of_dvc_that_are_there_are_the_users(repository: Path) -> None:
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").write_text("[core]\n")
    git("git add -A && git commit -qm dvc", repository)
    (repository / ".dvc/config").write_text("[cache]\n")
    make(repository)
    assert git("git status --porcelain", repository) == " M .dvc/config\n"
    assert (repository / ".dvc/config").read_text() == "[cache]\n"


def test_a_commit_that_git_refuses_is_explained(repository: Path) -> None:
    executable(repository / ".git/hooks/pre-commit", "#!/bin/sh\necho no commit on Sundays >&2; exit 1\n")
    (left,) = make(repository)
    assert left == (
        "nothing is committed yet, which experiments need: git says 'no commit on Sundays', then `git commit`"
    )


def test_during_a_merge_the_commit_is_left_to_the_user(repository: Path) -> None:
    git("git checkout -q -b other && echo 2 > code.py && git commit -qam two", repository)
    git("git checkout -q main && echo 3 > code.py && git commit -qam three; git merge -q other || true", repository)
    (left,) = make(repository)
    assert "git says 'fatal: cannot do a partial commit during a merge.'" in left


def test_files_that_git_ignores_stop_it_and_nothing_is_left(repository: Path) -> None:
    (repository / ".git/info/exclude").write_text("params.yaml\n")
    before = files(repository)
    for folder in (repository, repository / "below"):
        with pytest.raises(InputError, match=r"`git add -- .*` failed: The following paths are ignored"):
            make(folder)
        assert files(repository) == before and git("git status --porcelain", repository) == ""
    assert not (repository / "below").exists() and not (repository / ".dvc").exists()


def test_where_dvc_fails_no_repository_is_left(repository: Path, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "dvc", "#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(InputError, match="dvc init --quiet --force` failed: broken"):
        make(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("raw", ["data/raw/images", "data/raw/a/b", "my images; 1#[2]", "data"])
def test_git_add_before_dvc_add_stages_no_image(raw: str, repository: Path) -> None:
    folder = repository / "project"
    make(folder, dataset="folder", raw=raw)
    images = folder / raw / "train" / "cat"
    images.mkdir(parents=True)
    (images / "1.png").write_bytes(b"png")
    (folder / f"{raw}.dvc").write_text("outs: []\n")
    git("git add -A", folder)
    staged = set(git("git diff --cached --name-only --relative -z", folder).split("\0")) - {""}
    ours = {f"{raw}.dvc"}
    # `data` as a whole can't be ignored, because it holds files of the project.
    assert staged == (ours | {"data/train/cat/1.png"} if raw == "data" else ours)
    assert "data/raw/README.md" in git("git ls-files", folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"teacher": "torchvision:resnet18"},
            "--teacher with --dataset digits: model 'torchvision:resnet18' takes 3 channels",
        ),
        (
            {"student": "torchvision:resnet18:DEFAULT"},
            "--student with --dataset digits: model 'torchvision:resnet18:DEFAULT'",
        ),
        (
            {"teacher": "timm:vit_tiny_patch16_224"},
            "fails on its images, 8 x 8 with 1 channels: Input height (8) doesn't",
        ),
        (
            {"dataset": "cifar10", "student": "timm:vit_tiny_patch16_224"},
            "--student with --dataset cifar10: model 'timm:vit",
        ),
    ],
)
def test_models_that_cannot_take_the_data_sets_images_are_refused_at_once(
    options: dict[str, str], message: str, tmp_path: Path
) -> None:
    chosen = {"dataset": "digits", "teacher": None, "student": None, **options}
    with pytest.raises(InputError) as caught:
        create_project(tmp_path, raw=None, git=False, **chosen)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
