"""Programs for accelerators that are not there, and their reports."""

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import jax
import optax
import pytest

from jaxssl import cli
from jaxssl.aot import accelerators, child, collectives, flops
from jaxssl.aot import compile as aot
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.train import state_init, step
from tests.tasks import TASKS

ROOT = Path(__file__).parent.parent.parent
TINY = "tests/train/tiny.py"


def needs(package, extra):
    there = importlib.util.find_spec(package) is not None
    reason = f"{package} is missing: pip install 'jaxssl[aot-{extra}]'"
    return pytest.mark.skipif(not there, reason=reason)


@pytest.mark.parametrize(
    ("name", "slices", "shape", "text"),
    [
        ("v5e:16x16", 1, (16, 16), "v5e:16x16"),
        ("v4:2x2x4", 2, (2, 2, 4), "2 slices of v4:2x2x4"),
        ("h100:8", 1, (1, 8), "h100:1x8"),
        ("h100:2x8", 1, (2, 8), "h100:2x8"),
    ],
)
def test_topologies_are_read(name, slices, shape, text):
    topology = accelerators.parse(name, slices)
    assert topology.shape == shape
    assert str(topology) == text
    assert topology.chip is accelerators.ACCELERATORS[name.split(":")[0]]


@pytest.mark.parametrize(
    ("name", "slices", "line"),
    [
        ("v5:4x4", 1, "it starts with one of v4, v5e, v5p, v6e, h100.* mean 'v5"),
        ("v5e", 1, "write it as one of v4:2x2x2, v5e:2x4"),
        ("v5e:0x4", 1, "write it as one of"),
        ("v5e:2x2x2", 1, "v5e has 2 axes, as in v5e:2x2"),
        ("v4:4x4", 1, "v4 has 3 axes, as in v4:2x2x2"),
        ("h100:1x2x8", 1, "write it as h100:8 or h100:2x8"),
        ("v5e:2x4", 0, "--slices is 0"),
        ("h100:8", 2, "--slices is 2; .* none for GPUs"),
    ],
)
def test_other_topologies_are_refused(name, slices, line):
    with pytest.raises(UserError, match=line):
        accelerators.parse(name, slices)


OVERFLOWS = {
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
    "space hbm. Used 94.12G of 15.75G hbm. Exceeded hbm capacity by 78.37G.\n\nTotal "
    "hbm usage >= 94.12G:\n": "it needs 94.12GiB of the 15.75GiB of each chip",
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (18.94G) exceeds available HBM (15.75G).": "its temporary arrays "
    "alone need 18.94GiB of the 15.75GiB of each chip",
    "RESOURCE_EXHAUSTED: something new\nmore": "RESOURCE_EXHAUSTED: something new",
}


@pytest.mark.parametrize("message", OVERFLOWS)
def test_an_overflow_is_one_line_that_says_what_to_change(message):
    line = aot.explain_overflow(message, accelerators.parse("v5e:2x4"))
    assert OVERFLOWS[message] in line
    assert "v5e:2x4" in line
    for name in ("train.batch_size", "compute.micro_batches", "mesh.params=fsdp"):
        assert name in line
    assert "\n" not in line


def make_report(**changes):
    topology = accelerators.parse("v5e:2x4")
    report = aot.Report(
        topology=topology,
        mesh={"data": 8, "model": 1},
        sharers=8,
        params="fsdp",
        batch_size=64,
        memory=aot.Memory(2**30, 2**29, 2**31, 2**28, 3 * 2**30),
        work=flops.Work(8 * 197 * 10**9, 4 * 197 * 10**9),
        xla_flops=100e9,
        xla_bytes=819e6,
        traffic={
            "all-reduce": collectives.Traffic(3, 10**8),
            "send": collectives.Traffic(1, 10**8),
        },
        seconds=12.0,
        program="0" * 64,
    )
    return report._replace(**changes)


def test_a_report_adds_up():
    report = make_report()
    assert report.memory.total == 3.75 * 2**30
    assert report.spare == pytest.approx(1 - 3.75 / 16)
    least = report.least()
    assert least["compute"] == pytest.approx(1e-3)  # 197 GFLOP at 197 TFLOP/s.
    assert least["HBM"] == pytest.approx(1.5 * 2**30 / 819e9)  # In, and out.
    assert least["links"] == pytest.approx(3e8 / 200e9)  # A reduction goes both ways.
    text = aot.render(report)
    assert "1.00 arguments + 0.50 outputs + 2.00 temporaries + 0.25 code = 3.75" in text
    assert "77% spare" in text
    assert "bodies of loops once (multiplied out: x 2.00)" in text
    assert "3 all-reduce, 100.00 MB; 1 send, 100.00 MB" in text
    assert "ESTIMATE from data sheets, not measured" in text
    assert "intensity: 122.1 FLOP a byte, or more" in text
    assert "at least 1.967 ms (HBM)" in text
    assert (
        json.loads(json.dumps(aot.to_json(report)))["memory"]["total"] == 3.75 * 2**30
    )


def test_numbers_that_a_compiler_does_not_count_are_left_out():
    report = make_report(xla_flops=None, xla_bytes=None, traffic={})
    text = aot.render(report)
    assert "XLA counts" not in text
    assert "intensity" not in text
    assert "collectives of a chip and step: none" in text
    busier = report._replace(memory=report.memory._replace(peak=15 * 2**30))
    assert busier.spare == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [("libtpu", "v5e:2x2", "tpu"), ("jax_cuda12_plugin", "h100:8", "gpu")],
)
def test_a_missing_compiler_says_what_to_install(monkeypatch, package, name, extra):
    original = importlib.util.find_spec

    def find_spec(asked, *rest):
        return None if asked == package else original(asked, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(UserError, match=rf"pip install 'jaxssl\[aot-{extra}\]'"):
        aot.find_devices(accelerators.parse(name))


def test_noise_of_compilers_stays_away(capfd):
    with aot.quiet():
        os.write(2, b"noise")
    os.write(2, b"words")
    assert capfd.readouterr().err == "words"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--topology=v5e:2x2", "--config is missing"),
        (f"--config={TINY}", "--topology is missing"),
        (f"--config={TINY} --topology=v9:2", "--topology is 'v9:2'"),
        (f"--config={TINY} --topology=v5e:2x2 --mesh=date=4", "mean 'data'"),
        (f"--config={TINY} --topology=v5e:2x2 --mesh=data=x", "data is 'x'"),
        (f"--config={TINY} --topology=v5e:2x2 --mesh=model=0", "--mesh: model is 0"),
        (f"--config={TINY} --topology=v5e:2x2 --json=no/a", "--json: there is no fol"),
    ],
)
def test_mistakes_are_one_line_before_any_work(words, line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["aot", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert line in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("number", "line"),
    [(11, "a fault of its own; try another --config"), (9, "where memory runs out")],
)
def test_a_compiler_that_crashes_is_one_line(monkeypatch, capsys, number, line):
    class Dead(subprocess.Popen):
        def __init__(self, words):
            assert words[1:3] == ["-m", "jaxssl.cli.compiler"]
            super().__init__(["sh", "-c", f"kill -{number} $$"])

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(subprocess, "Popen", Dead)
    assert cli.main(["aot", f"--config={TINY}", "--topology=v6e:4x4"]) == 2
    err = capsys.readouterr().err
    assert f"the compiler for v6e:4x4 was ended by signal {number}, " in err
    assert line in err
    assert err.count("\n") == 1


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "jaxssl.cli", "aot", f"--config={TINY}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    # `import jax` itself says this where the plugin for GPUs is installed.
    lines = done.stderr.splitlines()
    errors = [line for line in lines if not re.search("cudart|InitializeLog", line)]
    return done.returncode, done.stdout, errors


@needs("libtpu", "tpu")
def test_a_step_for_four_tpu_chips(tmp_path, faults):
    target = tmp_path / "aot.json"
    code, out, errors = run("--topology=v5e:2x2", "--mesh=data=4", f"--json={target}")
    assert (code, errors) == (0, [])
    assert "v5e:2x2: mesh data 4 x model 1, replicated, batch 8" in out
    report = json.loads(target.read_text())
    assert report["memory"]["total"] > 0
    # Gradients of 48 x 8 + 8 x 3 + 3 numbers, the statistics of 48, two metrics.
    assert report["collectives"].keys() == {"all-reduce"}
    sent = report["collectives"]["all-reduce"]["size"]
    assert 4 * (411 + 48) <= sent <= 4 * (411 + 48) + 64
    again = run("--topology=v5e:2x2", "--mesh=data=4", "--lower")
    assert report["program"] in again[1]
    faults.record("F19", injected=1, survived=1)


@needs("libtpu", "tpu")
def test_tpus_get_stock_operations():
    """Grouped convolutions stay whole; on CPU they are split, in a loop or not."""
    task, batch = TASKS["classify"](lambda _: optax.sgd(1e-2), 16)
    spec = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
    layout = meshes.MeshConfig(data=4)
    lowered = aot.lower_step(task, spec, layout, accelerators.parse("v5e:2x2"))
    text = lowered.program.as_text()
    assert "feature_group_count = 2" in text
    *_, here = lower_here(task, spec, layout)
    assert "feature_group_count = 2" not in here.as_text()
    assert "feature_group_count = 1" in here.as_text()


def lower_here(task, spec, layout):
    mesh = meshes.make_mesh(layout)
    abstract = state_init.make_abstract(task, spec, mesh, layout)
    traced, _ = step.trace(task, abstract, spec, mesh)
    return traced, traced.lower()


@needs("libtpu", "tpu")
def test_two_slices_and_a_step_that_does_not_fit(faults):
    code, out, errors = run("--topology=v5e:2x2", "--slices=2", "--mesh=data=8")
    assert (code, errors) == (0, [])
    assert "2 slices of v5e:2x2: mesh data 8 x model 1" in out
    huge = "--config.train.batch_size=400000000"
    code, _, errors = run("--topology=v5e:2x2", "--mesh=data=4", huge)
    assert code == 2
    (line,) = errors
    assert "jaxssl: the step does not fit: " in line
    assert "smaller train.batch_size" in line
    faults.record("F19", injected=2, survived=2)


@needs("libtpu", "tpu")
def test_a_topology_that_the_compiler_does_not_know(faults):
    code, _, (line,) = run("--topology=v5e:3x5", "--mesh=data=15")
    assert code == 2
    assert "jaxssl: --topology=v5e:3x5 is none that the compiler knows" in line
    faults.record("F19", injected=1, survived=1)


@needs("jax_cuda12_plugin", "gpu")
def test_a_step_for_eight_gpus(tmp_path, faults):
    target = tmp_path / "aot.json"
    words = ("--topology=h100:8", "--mesh=data=8,params=fsdp", f"--json={target}")
    code, _, errors = run(*words)
    assert (code, errors) == (0, [])
    report = json.loads(target.read_text())
    assert report["mesh"] == {"data": 8, "model": 1}
    assert report["xla"] == {"flops": None, "bytes": None}
    assert "all-reduce" in report["collectives"]
    faults.record("F19", injected=1, survived=1)


@needs("jax_cuda12_plugin", "gpu")
def test_gpus_divide_grouped_convolutions():
    """One sum of gradients and statistics, as everywhere; no image is gathered."""
    task, batch = TASKS["classify"](lambda _: optax.sgd(1e-2), 16)
    spec = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
    layout, eight = meshes.MeshConfig(data=8), accelerators.parse("h100:8")
    report = aot.compile_step(task, spec, layout, eight)
    assert report.traffic.keys() == {"all-reduce"}
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    leaves = jax.tree.leaves((state.params, state.stats))
    wanted = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert wanted <= report.traffic["all-reduce"].size <= 1.05 * wanted


@needs("jax_cuda12_plugin", "gpu")
def test_a_step_that_does_not_fit_gpus_is_refused(faults):
    huge = "--config.train.batch_size=2000000000"
    code, _, (line,) = run("--topology=h100:2", "--mesh=data=2", huge)
    assert code == 2
    assert "the step does not fit: it needs" in line
    assert "of the 59.32 GiB of each chip of h100:1x2" in line
    faults.record("F19", injected=1, survived=1)


def test_the_compiler_gets_a_deep_stack():
    """As far as the system allows, and this process keeps its own limit."""
    before = resource.getrlimit(resource.RLIMIT_STACK)
    with child.deep_stack():
        shown = subprocess.check_output(["sh", "-c", "ulimit -s"], text=True).strip()
    assert resource.getrlimit(resource.RLIMIT_STACK) == before
    hard = before[1]
    wanted = "unlimited" if hard == resource.RLIM_INFINITY else str(hard // 1024)
    assert shown == wanted
