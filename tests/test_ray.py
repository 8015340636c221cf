"""`--engine ray` on a real Ray cluster of two nodes, one of which is killed, writes the same files as this machine alone.

The model in the project's folder kills its node during a pass, with kill -9 (docs/how-to/cluster.md).
"""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, enter, environment, run
from commands import prepkd as prepkd_here
from prepkd.runtime.signals import Interrupted

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 8}
augment: [{crop: {padding: 1}}]
teachers:
  large: {model: convnet4, epochs: 1, batch_size: 16, lr: 0.02, precision: float32}
  mortal: {model: "mortal:Mortal", epochs: 1, batch_size: 16, lr: 0.02, precision: float32}
cache: {views: 4, batch_size: 16, chunk: 16}
distill:
  {teacher: large, student: convnet4, epochs: 6, seeds: 2, batch_size: 16, lr: 0.02, precision: float32, checkpoint_every: 1}
compare: {runs: [kd, 'ka-lsr,ka.lsr_weight=1/tau'], students: [convnet4], teachers: [large]}
"""
# A model that notes its batches. On the second node it kills that node at batch DIES_AT (or asks its own process to end at
# ENDS_AT). On the head node it waits for that, after the five batches with which a worker tries its teacher.
MORTAL = """
import hashlib, os, signal, time
from pathlib import Path
from prepkd import build_model
from torch import nn

class Mortal(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.inner, self.seen = build_model("convnet4", num_classes, in_channels=in_channels), 0

    def forward(self, pixels):
        self.seen += 1
        with open("batches", "a") as file:
            file.write(f"{hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16]} {os.getpid()}\\n")
        until = time.monotonic() + 300
        while "WAITS" in os.environ and self.seen > 5 and not Path("died").exists():
            assert time.monotonic() < until, "the other node lives"
            time.sleep(0.01)
        if self.seen == int(os.environ.get("ENDS_AT", 0)) and not Path("died").exists():
            Path("died").write_text(f"{os.getpid()}")
            os.kill(os.getpid(), signal.SIGTERM)
        if self.seen == int(os.environ.get("DIES_AT", 0)) and not Path("died").exists():
            Path("died").write_text(f"{os.getpid()}")
            assert Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "raylet"
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(pixels)
"""
# By default Ray's workers have the lowest priority: the other tests would slow them down.
QUICK = {
    "worker_niceness": 0,
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """A cluster on this machine: a head node and a second node that may die."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
                "_system_config": QUICK,
                "env_vars": {"WAITS": "1"},
            },
        )

    def second(self, cpus: int = 1, gpus: int = 0, **variables: str) -> None:
        """Add the second node or replace it; its processes get the environment variables."""
        for node in list(self.cluster.worker_nodes):
            self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=cpus, num_gpus=gpus, env_vars=variables)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Ray
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("PYTHONWARNINGS", "ignore")
            found = Nodes()
            yield found
            found.cluster.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its stores and its comparison, made without Ray."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "mortal.py").write_text(MORTAL)
    teachers = " && ".join(f"prepkd train-teacher {name} && prepkd cache-logits {name}" for name in ("large", "mortal"))
    runs = " && ".join(f"prepkd compare --run {name}" for name in ("kd", "ka-lsr,ka.lsr_weight=1/tau"))
    run(f"prepkd prepare && {teachers} && prepkd gather --teachers large && {runs} && prepkd compare", folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` without gathered lessons and results."""
    for name in ("data", "models"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.rmtree(tmp_path / "data/lessons")
    for name in ("params.yaml", "mortal.py"):
        shutil.copy(made / name, tmp_path)
    return tmp_path


def on_ray(nodes: Nodes, command: str, folder: Path, code: int = 0) -> str:
    return run(f"prepkd {command} --engine ray 2>&1", folder, code=code, RAY_ADDRESS=nodes.cluster.address)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_node_dies_while_its_actor_caches(nodes: Nodes, made: Path, project: Path) -> None:
    shutil.rmtree(project / "data/logits/mortal.zarr")
    nodes.second(DIES_AT="9")
    said = on_ray(nodes, "cache-logits mortal", project)
    assert "2 workers, each with 1 CPUs" in said and (project / "died").exists(), said
    assert tree(project / "data/logits") == tree(made / "data/logits")
    assert not any((project / ".prepkd-scratch").iterdir())
    seen = Counter(line.split()[1] for line in (project / "batches").read_text().splitlines())
    computed = sum(max(0, batches - 5) for batches in seen.values())  # the first 5 of a worker try its teacher
    assert 1 <= computed - 4 * 5 <= 2, "the dead actor's chunks in flight, and no others, are computed again"


@pytest.mark.parametrize("end", ["DIES_AT", "ENDS_AT"])
def test_a_node_dies_while_it_trains(end: str, nodes: Nodes, made: Path, project: Path) -> None:
    """A node killed with kill -9, or a task ended by SIGTERM (a preempted node), resumes from its checkpoint elsewhere."""
    options = "-S distill.student=mortal:Mortal -S compare.students=[mortal:Mortal] --run kd"
    here = project / "here"
    shutil.copytree(project, here, ignore=shutil.ignore_patterns("here"))
    run(f"prepkd compare {options}", here)
    nodes.second(**{end: "20"})
    said = on_ray(nodes, f"compare {options}", project)
    assert (project / "died").exists(), said
    assert tree(project / "results") == tree(here / "results")
    seen = Counter(line.split()[1] for line in (project / "batches").read_text().splitlines())
    seen.pop((project / "died").read_text())
    again, whole = sorted(seen.values())
    assert again < whole, "it went on from the checkpoint of an epoch"


def test_the_grid_is_what_dvc_would_write(nodes: Nodes, made: Path, project: Path) -> None:
    nodes.second()
    broken = 'compare.runs=[kd,"kd,weights=none.pth,seeds=1","ka-lsr,ka.lsr_weight=1/tau"]'
    said = on_ray(nodes, f"compare -S '{broken}'", project, code=2)
    lines = [line for line in said.splitlines() if line.startswith("kd,weights=none.pth,seeds=1, seed 0: ")]
    assert len(lines) == 1 and "error: 1 of 5 trainings have failed" in said, said
    runs = "results/compare/runs"
    assert tree(project / runs) == tree(made / runs)
    said = on_ray(nodes, "compare", project)
    assert "2 of 2 runs are finished" in said, said
    assert tree(project / "results") == tree(made / "results")
    assert tree(project / "data/lessons") == tree(made / "data/lessons")


def test_two_tasks_share_a_gpu(nodes: Nodes, made: Path, project: Path) -> None:
    """Ray is told of one GPU; the tasks compute on the CPU."""
    nodes.second(cpus=2, gpus=1)
    said = on_ray(nodes, "cache-logits large --num-gpus 0.5 -S cache.root=data/again", project)
    assert "2 workers, each with 1 CPUs and 0.5 GPUs" in said, said
    assert tree(project / "data/again/large.zarr") == tree(made / "data/logits/large.zarr")
    said = on_ray(nodes, "compare --run kd --num-gpus 0.5", project)
    assert "warning" not in said and tree(project / "results/compare/runs/large/convnet4") == {
        "kd.safetensors": (made / "results/compare/runs/large/convnet4/kd.safetensors").read_bytes()
    }
    assert "a fraction of one GPU" in on_ray(nodes, "compare --run kd --replace --num-gpus 1.5", project, code=2)


def test_the_recipe_submits_a_command(
    nodes: Nodes, made: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """recipes/cluster/ray.sh submits its command; a stand-in for `ray job submit` runs the words after `--`."""
    shutil.rmtree(project / "data/logits/large.zarr")
    ray = tmp_path_factory.mktemp("bin") / "ray"
    ray.write_text('#!/usr/bin/env bash\n[ "$1 $2 $3" = "job submit --" ] || exit 9\ncd / && exec "${@:4}"\n')
    ray.chmod(0o755)
    variables = environment(RAY_ADDRESS=nodes.cluster.address)
    variables["PATH"] = f"{ray.parent}{os.pathsep}{variables['PATH']}"
    script = ["bash", str(ROOT / "recipes/cluster/ray.sh")]
    subprocess.run([*script, "cache-logits", "large", "--workers", "1"], cwd=project, env=variables, check=True)
    assert tree(project / "data/logits/large.zarr") == tree(made / "data/logits/large.zarr")
    done = subprocess.run(script, cwd=project, env=variables, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "name a command" in done.stderr


def test_options_that_do_not_fit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(project, monkeypatch)
    assert "add --engine ray" in prepkd_here("cache-logits", "large", "--workers", "2", code=2)
    assert "add --engine ray" in prepkd_here("compare", "--num-gpus", "0.5", code=2)
    assert "-S devices=1" in prepkd_here("compare", "--engine", "ray", code=2, devices=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["compare"], ["cache-logits", "large"]):
        said = prepkd_here(*command, "--engine", "ray", code=2)
        assert said == "error: --engine ray: Ray is not installed; pip install 'prepkd[ray]'\n"
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "torchrun" in prepkd_here("cache-logits", "large", "--engine", "ray", code=2)


def test_sigterm_while_ray_connects_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    on_ray = pytest.importorskip("prepkd.engines.on_ray", reason="the ray extra is not installed")
    for code, expected in ((signal.SIGTERM, Interrupted), (3, SystemExit)):

        def end(code: int = code, **_: object) -> None:
            sys.exit(code)  # as Ray's handler of SIGTERM does

        monkeypatch.setattr(on_ray.ray, "init", end)
        with pytest.raises(expected) as caught, on_ray.connected():
            pass
        assert caught.value.args == (code,)
