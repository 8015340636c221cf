"""Run the files of recipes/cluster (docs/how-to/cluster.md) with stand-ins for Slurm's commands and real torchrun and prepkd."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import ROOT, environment, run
from ruamel.yaml import YAML

RECIPES = ROOT / "recipes" / "cluster"
PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 8}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 300, batch_size: 16, lr: 0.02, precision: float32, checkpoint_every: 300}}
cache: {views: 4, batch_size: 16, chunk: 16}
distill: {teacher: large, student: convnet4, epochs: 1, batch_size: 16, lr: 0.02, precision: float32}
compare: {runs: [kd]}
"""
SRUN = 'exec "$@"\n'
SCONTROL = 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> requeued; fi\n'


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stand-ins for Slurm's commands."""
    folder = tmp_path_factory.mktemp("slurm")
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    run("prepkd prepare", tmp_path)
    return tmp_path


def variables(slurm: Path, **others: str) -> dict[str, str]:
    base = environment(OMP_NUM_THREADS="1")
    return base | {"PATH": f"{slurm}{os.pathsep}{base['PATH']}", "SLURM_JOB_ID": "7"} | others


def test_tasks_of_the_array_cache_one_store(project: Path, slurm: Path) -> None:
    run("prepkd train-teacher large -S teachers.large.epochs=1", project)
    script = ["bash", str(RECIPES / "cache-logits.slurm"), "large"]
    tasks = [subprocess.Popen(script, cwd=project, env=variables(slurm)) for _ in range(3)]
    assert [task.wait(timeout=300) for task in tasks] == [0, 0, 0]
    assert "intact" in run("prepkd verify data/logits/large.zarr --integrity", project)
    done = subprocess.run(script[:2], cwd=project, env=variables(slurm), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "name a teacher" in done.stderr


def test_the_pods_of_the_job_run_what_the_page_says(project: Path) -> None:
    job = YAML(typ="safe").load(RECIPES / "cache-logits.kubernetes.yaml")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] > 1
    [_, failing] = job["spec"]["podFailurePolicy"]["rules"]
    run(" ".join(container["command"]), project, code=failing["onExitCodes"]["values"][0])  # there is no teacher
    run("prepkd train-teacher large -S teachers.large.epochs=1", project)
    run(" ".join(container["command"]), project)
    assert (project / "data/logits/large.zarr/manifest.json").is_file()


def test_a_job_that_must_end_saves_its_epoch_and_queues_again(project: Path, slurm: Path) -> None:
    """The batch shell gets SIGTERM, as from Slurm before the time limit, while torchrun trains in two processes."""
    nodes = {"SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "here", "SLURM_GPUS_ON_NODE": "2"}
    script = ["bash", str(RECIPES / "train.slurm"), "train-teacher", "large"]
    with (project / "output").open("w") as output:
        job = subprocess.Popen(
            script, cwd=project, env=variables(slurm, **nodes), stdout=output, stderr=subprocess.STDOUT
        )
        _wait_until(lambda: "large: epoch 60/300" in (project / "output").read_text(), job)
        job.send_signal(signal.SIGTERM)
        said = f"{job.wait(timeout=200)}\n{(project / 'output').read_text()}"
    assert (project / "requeued").read_text() == "requeue 7\n", said
    assert "run the same command again to continue" in said
    [checkpoint] = (project / ".prepkd-scratch").glob("*/checkpoint.pt")  # written on SIGTERM: checkpoint_every is 300
    again = run("prepkd train-teacher large 2>&1", project)
    assert "test top-1" in again and not checkpoint.exists()


def _wait_until(happened: "object", job: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 200
    while not happened():  # type: ignore[operator]
        assert job.poll() is None and time.monotonic() < ends
        time.sleep(0.05)
