"""What is made of a cluster's variables: a Slurm step, half of one, none."""

import os

import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.meeting import cluster

STEP = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "node[007-010]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def slurm(monkeypatch):
    """Sets these variables of Slurm, and no others of a cluster."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_slurm_step_says_who_this_is(slurm):
    slurm(STEP)
    place = cluster.found()
    assert place.coordinator.startswith("node007:")
    assert place[1:3] == (4, 2)
    assert "SLURM_STEP_NODELIST=node[007-010]" in place.source


BATCH = {name: value for name, value in STEP.items() if name != "SLURM_STEP_NODELIST"}
ALLOCATION = {name: STEP[name] for name in ("SLURM_JOB_ID", "SLURM_NTASKS")}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (BATCH, r"SLURM_PROCID=2, .*without SLURM_STEP_NODELIST: .*no Slurm step.*srun.*--coord"),
        (ALLOCATION, "SLURM_NTASKS=4, without SLURM_STEP_NODELIST, SLURM_PROCID, SLURM_LOCALID"),
        ({"SLURM_CONF": "/etc"}, "others of Slurm alone, without SLURM_JOB_ID, .*srun"),
        (STEP | {"SLURM_NTASKS": "four"}, "cannot be read .invalid literal.*SLURM_NTASKS=four"),
        (STEP | {"SLURM_PROCID": "7"}, "process 7 of 4; Slurm's variables are .*SLURM_PROCID=7"),
        ({}, "no cluster that JAX knows .*launcher, or give --coordinator, --processes and"),
    ],
    ids=["batch script", "allocation", "leftover", "no number", "beyond", "nothing"],
)
def test_half_a_cluster_is_refused_with_what_was_found(slurm, variables, told):
    slurm(variables)
    with pytest.raises(UsageError, match=told) as caught:
        cluster.found()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("tasks", "lines"), [("3", 1), ("1", 0), (None, 0)])
def test_tasks_that_do_not_join_are_warned(slurm, monkeypatch, tasks, lines):
    slurm({} if tasks is None else {"SLURM_STEP_NUM_TASKS": tasks})
    said = []
    monkeypatch.setattr(cluster.logger, "warning", lambda text, *values: said.append(text % values))
    cluster.warn_of_tasks()
    assert len(said) == lines
