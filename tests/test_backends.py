"""Sweeps over processes: what is done is kept whatever dies, and what was resumed equals what was never disturbed."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import backend_tasks
import numpy as np
import pytest

from riron.errors import InputError
from riron.lab import memory
from riron.lab import threads as threads_module
from riron.lab.backends import Summary, run_tasks
from riron.lab.store import Store, address

posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def contents(root):
    return {path.name: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


@pytest.mark.parametrize("engine", ["serial", "loky"])
def test_runs_what_is_missing_and_nothing_else(store, engine):
    tasks = backend_tasks.sweep(6)
    first = dict(list(tasks.items())[:2])
    assert run_tasks(backend_tasks.square, first, store=store, engine="serial").computed == 2
    seen = []
    summary = run_tasks(
        backend_tasks.square, tasks, store=store, engine=engine, workers=2, progress=lambda *call: seen.append(call)
    )
    assert summary.done == list(tasks)
    assert (summary.computed, summary.failed, summary.missing, summary.stopped) == (4, {}, [], False)
    assert [done for done, _, _ in seen] == [2, 3, 4, 5, 6]
    assert seen[-1] == (6, 6, "tasks")
    expected = np.random.default_rng(3).normal(size=50) ** 2
    record = store.get(list(tasks)[3])
    np.testing.assert_array_equal(record.arrays["square"], expected)
    assert record.attrs == {"k": 3}
    again = run_tasks(backend_tasks.square, tasks, store=store, engine=engine)
    assert (again.computed, again.rounds) == (0, 0)


@posix
def test_a_task_that_kills_its_worker_fails_alone(store):
    tasks = backend_tasks.sweep(10)
    names = list(tasks)
    summary = run_tasks(backend_tasks.troublesome, tasks, store=store, workers=2)
    assert set(summary.failed) == {names[2], names[5], names[7]}
    assert "SIGKILL" in summary.failed[names[2]]
    assert "out of memory" in summary.failed[names[2]]
    assert "EXIT(3)" in summary.failed[names[5]]
    assert summary.failed[names[7]] == "ValueError: seven is odd"
    assert len(summary.done) == 7
    assert not summary.missing
    assert str(summary) == "7 of 10 are kept, 3 failed"
    assert not [path for path in store.root.iterdir() if path.name.startswith(".")]


def test_a_failure_is_recorded_and_tried_again_by_the_next_run(store):
    tasks = {address({"k": 7}): {"k": 7}}
    (name,) = tasks
    assert run_tasks(backend_tasks.troublesome, tasks, store=store, engine="serial").failed == {
        name: "ValueError: seven is odd"
    }
    assert store.failure(name) == "ValueError: seven is odd"
    assert run_tasks(backend_tasks.square, tasks, store=store, engine="serial").done == [name]
    assert store.failure(name) is None


def test_a_worker_has_one_thread(store, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tasks = backend_tasks.sweep(1)
    summary = run_tasks(backend_tasks.threads, tasks, store=store, workers=1)
    assert store.get(summary.done[0]).arrays["threads"][0] == 1


def test_dask(store):
    pytest.importorskip("distributed")
    tasks = backend_tasks.sweep(6)
    summary = run_tasks(backend_tasks.troublesome, tasks, store=store, engine="dask", workers=1)
    names = list(tasks)
    assert set(summary.failed) == {names[2], names[5]}
    assert summary.done == [names[0], names[1], names[3], names[4]]


def run_script(root):
    script = Path(backend_tasks.__file__)
    return subprocess.Popen(
        [sys.executable, script, root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_results(root, count, process):
    deadline = time.monotonic() + 60
    while len(list(Path(root).glob("??/*.npz"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def running(group):
    """The processes of a group that have not ended; those that wait for their parent to take note have."""
    lines = subprocess.run(["ps", "-eo", "pgid=,stat=,pid="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()]
    return [pid for owner, state, pid in rows if int(owner) == group and not state.startswith("Z")]


@posix
def test_killed_three_times_then_resumed_equals_undisturbed(tmp_path):
    tasks = backend_tasks.sweep(40, sleep=0.03)
    undisturbed = Store(tmp_path / "undisturbed")
    for name, task in tasks.items():
        undisturbed.put(name, *backend_tasks.square({"k": task["k"]}))
    root, rng = tmp_path / "killed", random.Random(0)
    for attempt in range(3):
        process = run_script(root)
        wait_for_results(root, 10 * attempt + rng.randint(1, 9), process)
        time.sleep(rng.uniform(0, 0.03))
        kill = os.killpg if attempt == 1 else os.kill  # the whole group once, else the parent only
        kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)  # ends when the last orphan has let go of the pipe
    kept = len(list(root.glob("??/*.npz")))
    assert 20 < kept < 40
    process = run_script(root)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "40 of 40 are kept\n", "")
    assert contents(root) == contents(undisturbed.root)


@posix
@pytest.mark.parametrize("stop", ["Ctrl-C", "SIGTERM"])
def test_stopped_keeps_what_is_done_and_leaves_no_process(tmp_path, stop):
    process = run_script(tmp_path)
    wait_for_results(tmp_path, 4, process)
    if stop == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    done = int(out.split(" of 40 are kept, ")[0])
    assert 4 <= done < 40
    assert out == f"{done} of 40 are kept, {40 - done} are missing\n"
    deadline = time.monotonic() + 20
    while running(process.pid):  # loky's resource tracker tidies up for a moment
        assert time.monotonic() < deadline, running(process.pid)
        time.sleep(0.05)


def test_interrupt_by_progress_function(store):
    def stop(done, total, label):
        if done == 2:
            raise KeyboardInterrupt

    summary = run_tasks(backend_tasks.square, backend_tasks.sweep(5), store=store, engine="serial", progress=stop)
    assert summary.stopped
    assert (len(summary.done), len(summary.missing)) == (2, 3)


def test_bad_input_is_one_sentence(store):
    run = lambda **options: run_tasks(backend_tasks.square, backend_tasks.sweep(1), store=store, **options)
    with pytest.raises(InputError, match=r"no engine is called 'locky'.*did you mean 'loky'"):
        run(engine="locky")
    with pytest.raises(InputError, match="workers=0 must be at least 1"):
        run(workers=0)
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(InputError, match="engine 'ray' is not installed; pip install ray"):
            run(engine="ray")
    lock = threading.Lock()
    with pytest.raises(InputError, match="a task cannot be sent to another process"):
        run_tasks(lambda task: lock, backend_tasks.sweep(1), store=store, workers=1)
    assert str(Summary()) == "0 of 0 are kept"


def test_thread_limits_leave_the_users_settings_alone():
    environ = {"OMP_NUM_THREADS": "4", "XLA_FLAGS": "--xla_dump_to=/x"}
    threads_module.limit(1, environ)
    assert environ["OMP_NUM_THREADS"] == "4"
    assert environ["OPENBLAS_NUM_THREADS"] == environ["MKL_NUM_THREADS"] == environ["NPROC"] == "1"
    assert environ["XLA_FLAGS"] == "--xla_dump_to=/x --xla_cpu_multi_thread_eigen=false"
    before = dict(environ)
    threads_module.limit(1, environ)
    assert environ == before


def test_a_cap_set_by_riron_is_not_taken_for_the_users(monkeypatch):
    environ = {}
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(threads_module, "cores", lambda: 8)
    monkeypatch.setattr(threads_module, "_set_here", {})
    assert threads_module.cap() == 8
    assert environ["OMP_NUM_THREADS"] == "8"
    assert threads_module.cap(workers=3) == 2
    assert threads_module.environment(1)["OMP_NUM_THREADS"] == "1"
    environ["OMP_NUM_THREADS"] = "5"
    assert "OMP_NUM_THREADS" not in threads_module.environment(1)


def test_memory(monkeypatch):
    assert memory.available() > 1e6
    assert 1 <= threads_module.cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(memory, "available", lambda: 4_000_000_000)
    assert memory.budget(0.25) == 1_000_000_000
    assert [memory.amount(size) for size in (12, 1500, 999_999, 2.5e9)] == ["12 bytes", "1.5 kB", "1 MB", "2.5 GB"]
    memory.require(3e9, "the closure", do="")
    with pytest.raises(InputError, match=r"the full closure needs about 12 GB of memory and 4 GB are free; use the"):
        memory.require(12e9, "the full closure", do="use the diagonal one")
