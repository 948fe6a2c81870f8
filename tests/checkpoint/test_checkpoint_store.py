import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import xxhash

from jaxssl import errors, trees
from jaxssl.checkpoint import init_from as init_from_lib
from jaxssl.checkpoint import listing, manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.distributed import watchdog
from jaxssl.errors import UserError
from jaxssl.types import TrainState


def _quiet(line):
    del line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with checkpoints of steps 1, 2 and 3 and the states in them."""
    workdir = tmp_path_factory.mktemp("run")
    states = {step: _state(step) for step in (1, 2, 3)}
    with checkpoints.open_store(workdir, keep=3) as store:
        for state in states.values():
            checkpoints.save(store, state)
    return workdir, states


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run[0] / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def _state(step, width=300, classes=4, dtype=jnp.float32):
    rng = np.random.default_rng(step)
    weights = rng.normal(size=(width, 7)).astype(np.float32)
    params = {
        "classifier": {
            "conv": {"kernel": jnp.asarray(weights, dtype)},
            "logits": {"bias": jnp.full((classes,), float(step))},
        },
        "critic": {"logits": {"bias": jnp.full((2,), 7.0 * step)}},
    }
    stats = {"classifier": {"mean": jnp.full((5,), float(step))}, "critic": {}}
    return TrainState(jnp.int32(step), params, stats, {"classifier": {}, "critic": {}})


def _abstract(state):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state
    )


def _folder(workdir, step):
    return workdir / "checkpoints" / str(step)


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _tree(folder):
    return {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_restores_the_bits_that_were_saved(run, bits):
    workdir, states = run
    assert checkpoints.steps(workdir) == [1, 2, 3]
    for step, state in states.items():
        restored = checkpoints.restore(workdir, step, _abstract(state))
        assert type(restored) is TrainState
        assert bits(restored) == bits(state)
    assert not (workdir / "checkpoints" / "saving").exists()


def _with_extra(state):
    """Add a history buffer and averaged weights, as a GAN keeps them."""
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    average = jax.tree.map(lambda x: x / 3, state.params["classifier"])
    extra = {"classifier": {"average": average}, "history": jnp.asarray(images)}
    return state._replace(extra=extra)


def test_extra_is_saved_bit_for_bit(tmp_path, bits):
    state = _with_extra(_state(1))
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, state)
    restored = checkpoints.restore(tmp_path, 1, _abstract(state))
    assert restored.extra["history"].dtype == jnp.uint8
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert bits(restored) == bits(state)
    for other in (_state(1), state._replace(extra={"history": state.extra["history"]})):
        with pytest.raises(errors.DriftError, match=r"extra/classifier/.* absent"):
            checkpoints.restore(tmp_path, 1, _abstract(other))


class _OldState(NamedTuple):
    """The state of version 0.1, which had no ``extra``."""

    step: Any
    params: Any
    stats: Any
    opt_state: Any


def _save_like_version_0_1(workdir, state):
    """Write a checkpoint with the calls of version 0.1."""
    folder, step = workdir / "checkpoints", int(state.step)
    old = _OldState(*state[:4])
    with ocp.CheckpointManager(folder) as manager:
        manager.save(step, args=ocp.args.StandardSave(old))
        manager.wait_until_finished()
    manifest.write(folder / str(step), trees.describe(old), {"count": 3})


@pytest.mark.parametrize("extra", [{}, {"classifier": {}}])
def test_a_checkpoint_of_version_0_1_is_restored(tmp_path, bits, extra):
    state = _state(1)
    _save_like_version_0_1(tmp_path, state)
    assert checkpoints.find_newest(tmp_path) == (1, {})
    wanted = state._replace(extra=extra)
    restored = checkpoints.restore(tmp_path, 1, _abstract(wanted))
    assert restored.extra == extra
    assert jax.tree.structure(restored) == jax.tree.structure(wanted)
    assert bits(restored) == bits(state)
    with pytest.raises(errors.DriftError, match=r"extra/.* is absent there"):
        checkpoints.restore(tmp_path, 1, _abstract(_with_extra(state)))


def test_version_0_1_reads_a_checkpoint_without_extra(tmp_path, bits, run):
    """Orbax compares even empty nodes, so the tree must have no node ``extra``."""
    workdir, states = run
    _save_like_version_0_1(tmp_path, states[1])
    trees_of_both = [
        json.loads((_folder(folder, 1) / "default" / "_METADATA").read_text())
        for folder in (tmp_path, workdir)
    ]
    assert trees_of_both[0] == trees_of_both[1]
    abstract = _OldState(*_abstract(states[1])[:4])
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(_folder(workdir, 1) / "default", abstract)
    assert bits(restored) == bits(_OldState(*states[1][:4]))


def test_keeps_the_newest(tmp_path):
    with checkpoints.open_store(tmp_path, keep=2) as store:
        for step in (5, 6, 7, 8):
            checkpoints.save(store, _state(step))
    assert checkpoints.steps(tmp_path) == [7, 8]


def test_every_flipped_bit_is_found(copy, bits, run, faults):
    """60 bits in all kinds of files; Orbax restores wrong values for most of them."""
    folder = _folder(copy, 3)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    assert len(paths) >= 8
    rng = random.Random(0)
    for number in range(60):
        path = paths[number % len(paths)]
        bit = rng.randrange(8 * path.stat().st_size)
        _flip(path, bit)
        newest, damage = checkpoints.find_newest(copy)
        assert newest == 2, f"bit {bit} of {path}"
        assert list(damage) == [3]
        _flip(path, bit)
        assert checkpoints.find_newest(copy) == (3, {})
    faults.record("F3", injected=60, survived=60)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "has changed"),
        (lambda p: p.write_bytes(bytes(p.stat().st_size)), "has changed"),
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.with_name("more").write_bytes(b""), "was added"),
    ],
)
def test_other_damage_is_named(copy, harm, word, faults):
    largest = max(_folder(copy, 3).rglob("d/*"), key=lambda p: p.stat().st_size)
    harm(largest)
    newest, damage = checkpoints.find_newest(copy)
    assert newest == 2
    assert word in damage[3]
    faults.record("F3", injected=1, survived=1)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"sha256": 1}', "\udcff{"])
def test_a_damaged_manifest_vouches_for_nothing(copy, text, faults):
    path = _folder(copy, 3) / manifest.NAME
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    newest, damage = checkpoints.find_newest(copy)
    assert newest == 2
    assert damage[3] == f"{manifest.NAME} is damaged"
    faults.record("F3", injected=1, survived=1)


@pytest.mark.parametrize(
    ("old", "new"), [('"float32"', '"float16"'), ('"meter": null', '"meter": {}')]
)
def test_a_manifest_with_other_words_vouches_for_nothing(copy, old, new, faults):
    """Leaves and meter stand in no other file, so only the SHA-256 protects them."""
    path = _folder(copy, 3) / manifest.NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    newest, damage = checkpoints.find_newest(copy)
    assert newest == 2
    assert damage[3] == f"{manifest.NAME} is damaged"
    faults.record("F3", injected=1, survived=1)


def test_damaged_checkpoints_are_set_aside_and_an_older_one_goes_on(copy, run, bits):
    lines = []
    for step in (2, 3):
        _flip(next(_folder(copy, step).rglob("d/*")), 99)
    state = checkpoints.restore_newest(copy, _abstract(_state(1)), lines.append)
    assert bits(state) == bits(run[1][1])
    assert checkpoints.steps(copy) == [1]
    names = {path.name for path in (copy / "checkpoints").iterdir()}
    assert names == {"1", "2.corrupt", "3.corrupt"}
    assert [line.split(":")[0] for line in lines] == [
        "CHECKPOINT 3 IS DAMAGED",
        "CHECKPOINT 2 IS DAMAGED",
    ]
    with checkpoints.open_store(copy, keep=3) as store:
        checkpoints.save(store, _state(2))
    assert checkpoints.steps(copy) == [1, 2]
    _flip(next(_folder(copy, 2).rglob("d/*")), 99)
    checkpoints.restore_newest(copy, _abstract(_state(1)), _quiet)
    assert (copy / "checkpoints" / "2.corrupt-2").is_dir()


def test_nothing_good_is_an_error_and_stays_untouched(copy):
    for step in (1, 2, 3):
        _flip(next(_folder(copy, step).rglob("d/*")), 7)
    before = _tree(copy)
    for _ in range(2):  # A second try must not start from scratch either.
        with pytest.raises(errors.NoValidCheckpointError, match=r"3 \(.* changed"):
            checkpoints.restore_newest(copy, _abstract(_state(1)), _quiet)
        assert _tree(copy) == before


def test_only_checkpoints_set_aside_is_an_error_too(copy):
    for step in (1, 2, 3):
        _folder(copy, step).rename(_folder(copy, step).with_name(f"{step}.corrupt"))
    with pytest.raises(errors.NoValidCheckpointError, match=r"1\.corrupt"):
        checkpoints.find_newest(copy)


def test_an_empty_folder_is_a_fresh_start(tmp_path):
    assert checkpoints.restore_newest(tmp_path, _abstract(_state(1)), _quiet) is None


def test_a_save_under_way_is_known_by_its_step(tmp_path, monkeypatch):
    """A save is unfinished until its manifest is written."""
    write, unfinished = manifest.write, []

    def look_first(*args):
        unfinished.append(checkpoints.find_unfinished(tmp_path))
        write(*args)

    monkeypatch.setattr(manifest, "write", look_first)
    with checkpoints.open_store(tmp_path, keep=2) as store:
        for step in (1, 2):
            checkpoints.save(store, _state(step))
    assert unfinished == [1, 2]
    assert checkpoints.find_unfinished(tmp_path) is None


def test_a_save_that_was_cut_short_is_removed(copy, run, bits):
    """The crash came between Orbax's commit and the manifest."""
    (_folder(copy, 3) / manifest.NAME).unlink()
    (copy / "checkpoints" / "saving").write_text("3")
    lines = []
    state = checkpoints.restore_newest(copy, _abstract(_state(1)), lines.append)
    assert bits(state) == bits(run[1][2])
    assert lines == ["checkpoint 3: the save was interrupted; removed."]
    assert checkpoints.steps(copy) == [1, 2]
    assert not (copy / "checkpoints" / "saving").exists()


def test_a_cut_first_save_is_a_fresh_start(copy):
    for step in (1, 2):
        shutil.rmtree(_folder(copy, step))
    (_folder(copy, 3) / manifest.NAME).unlink()
    (copy / "checkpoints" / "saving").write_text("3")
    assert checkpoints.restore_newest(copy, _abstract(_state(1)), _quiet) is None


def test_a_lost_manifest_is_damage(copy, run, bits):
    (_folder(copy, 3) / manifest.NAME).unlink()
    state = checkpoints.restore_newest(copy, _abstract(_state(1)), _quiet)
    assert bits(state) == bits(run[1][2])
    assert (copy / "checkpoints" / "3.corrupt").is_dir()


def test_leftovers_of_orbax_go_away(copy):
    leftover = copy / "checkpoints" / "9.orbax-checkpoint-tmp"
    leftover.mkdir()
    (leftover / "_CHECKPOINT_METADATA").write_text("{}")
    with checkpoints.open_store(copy, keep=3) as store:
        checkpoints.save(store, _state(4))
    assert not leftover.exists()
    assert checkpoints.steps(copy) == [2, 3, 4]


def test_a_failed_save_is_heard(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(manifest, "write", fail)
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, _state(1))
        with pytest.raises(OSError, match="no space left"):
            checkpoints.save(store, _state(2))


def test_a_failed_last_save_is_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "write", lambda *args: 1 / 0)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(checkpoints.open_store(tmp_path, keep=2))
        checkpoints.save(store, _state(1))
        leave = stack.pop_all()
    with pytest.raises(ZeroDivisionError):
        leave.close()


def test_a_save_may_take_as_long_as_the_watchdog_allows(tmp_path):
    with checkpoints.open_store(tmp_path, keep=2) as store:
        background = store.manager._checkpointer._async_manager
        assert background._timeout_secs == watchdog.LONG_SECONDS == 7200


def test_a_step_is_saved_once(tmp_path):
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, _state(2))
        with pytest.raises(RuntimeError, match="did not save step 1"):
            checkpoints.save(store, _state(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 301}, r"classifier/conv/kernel is float32\[300, 7\] there"),
        ({"dtype": jnp.bfloat16}, r"float32\[300, 7\] there, .* bfloat16\[300, 7\]"),
        ({"dtype": jnp.float16}, r"float32\[300, 7\] there, .* float16\[300, 7\]"),
        ({"dtype": jnp.int32}, r"float32\[300, 7\] there, .* int32\[300, 7\]"),
        ({"dtype": jnp.uint8}, r"float32\[300, 7\] there, .* uint8\[300, 7\]"),
        ({"classes": 9}, r"logits/bias is float32\[4\] there, .* float32\[9\]"),
    ],
)
def test_another_architecture_is_named(copy, changes, message, faults):
    before = _tree(copy)
    with pytest.raises(errors.DriftError, match=message):
        checkpoints.restore_newest(copy, _abstract(_state(1, **changes)), _quiet)
    assert _tree(copy) == before
    faults.record("F8" if "dtype" in changes else "F7", injected=1, survived=1)


@pytest.mark.parametrize("missing", ["critic", "extra"])
def test_another_set_of_leaves_is_named(copy, missing):
    wanted = _state(1)
    if missing == "critic":
        del wanted.params["critic"]
    else:
        wanted.params["extra"] = {"kernel": jnp.zeros(1)}
    with pytest.raises(UserError, match=rf"params/{missing}/.* is .*absent"):
        checkpoints.restore_newest(copy, _abstract(wanted), _quiet)


HEADS = {"classifier": ("logits",)}


def test_players_come_from_another_run(copy, bits):
    fresh, lines = _state(50), []
    state = init_from_lib.restore_players(
        copy, ["classifier"], fresh, HEADS, lines.append
    )
    theirs = _state(3)
    assert bits(state.params["classifier"]) == bits(theirs.params["classifier"])
    assert bits(state.stats["classifier"]) == bits(theirs.stats["classifier"])
    assert bits(state.params["critic"]) == bits(fresh.params["critic"])
    assert int(state.step) == 50
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert lines == [f"classifier: initialised from step 3 of {copy}."]


def test_a_head_of_another_size_stays_fresh(copy, bits):
    fresh, lines = _state(50, classes=9), []
    state = init_from_lib.restore_players(
        copy, ["classifier"], fresh, HEADS, lines.append
    )
    params = state.params["classifier"]
    assert bits(params["conv"]) == bits(_state(3).params["classifier"]["conv"])
    assert bits(params["logits"]) == bits(fresh.params["classifier"]["logits"])
    assert "logits/bias keeps its fresh values: it was float32[4] there." in lines[-1]


def test_a_trunk_without_head_is_filled(copy, bits):
    fresh = _state(50)
    del fresh.params["classifier"]["logits"]
    state = init_from_lib.restore_players(copy, ["classifier"], fresh, HEADS, _quiet)
    assert list(state.params["classifier"]) == ["conv"]
    theirs = _state(3).params["classifier"]["conv"]
    assert bits(state.params["classifier"]["conv"]) == bits(theirs)


def test_players_that_do_not_fit_are_refused(copy, tmp_path):
    with pytest.raises(
        UserError, match=r"conv/kernel is float32\[300, 7\] in .*\[4, 7"
    ):
        init_from_lib.restore_players(
            copy, ["classifier"], _state(1, width=4), HEADS, _quiet
        )
    with pytest.raises(
        UserError, match="no player 'painter'; it has classifier, critic"
    ):
        init_from_lib.restore_players(copy, ["painter"], _state(1), HEADS, _quiet)
    other = _state(1)
    other.params["painter"] = other.params["critic"]
    with pytest.raises(UserError, match=r"3 has no player 'painter'"):
        init_from_lib.restore_players(copy, ["painter"], other, HEADS, _quiet)
    with pytest.raises(UserError, match="has no checkpoint; train that run first"):
        init_from_lib.restore_players(
            tmp_path / "none", ["critic"], _state(1), HEADS, _quiet
        )


def test_tables_for_people(copy, tmp_path):
    good = "         1  good\n         2  good\n         3  good"
    assert listing.verify_text(copy) == (good, True)
    _flip(next(_folder(copy, 2).rglob("d/*")), 5)
    text, good = listing.verify_text(copy)
    assert not good
    assert re.match(r" +2  DAMAGED: .* has changed$", text.splitlines()[1])
    _folder(copy, 1).rename(_folder(copy, 1).with_name("1.corrupt"))
    lines = listing.list_text(copy).splitlines()
    assert [line.split()[0] for line in lines] == ["step", "2", "3", "1"]
    assert "no checkpoints yet" in listing.list_text(tmp_path / "none")
    assert listing.verify_text(tmp_path / "none")[1]


def test_a_checkpoint_that_a_run_removes_meanwhile_is_left_out(copy, monkeypatch):
    """Orbax removes the oldest checkpoint file by file, and its folder last."""
    real, folder = manifest.examine, _folder(copy, 1)

    def examine(path):
        if path == folder:
            next(folder.rglob("d/*")).unlink()
            threading.Timer(0.3, shutil.rmtree, [folder]).start()
        return real(path)

    monkeypatch.setattr(manifest, "examine", examine)
    good = "         2  good\n         3  good"
    assert listing.verify_text(copy) == (good, True)


def test_checkpoints_set_aside_alone_are_not_good(copy):
    for step in (1, 2, 3):
        _folder(copy, step).rename(_folder(copy, step).with_name(f"{step}.corrupt"))
    text, good = listing.verify_text(copy)
    assert not good
    assert text.splitlines()[0] == "         1  set aside as 1.corrupt"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 350])
def test_each_block_of_a_file_has_its_checksum(tmp_path, monkeypatch, size):
    monkeypatch.setattr(manifest, "BLOCK", 100)
    monkeypatch.setattr(manifest, "PIECE", 30)
    data = random.Random(size).randbytes(size)
    folder = tmp_path / "3"
    folder.mkdir()
    (folder / "file").write_bytes(data)
    manifest.write(folder, {})
    blocks = [data[i : i + 100] for i in range(0, max(size, 1), 100)]
    wanted = [xxhash.xxh3_128_hexdigest(block) for block in blocks]
    stored = json.loads((folder / manifest.NAME).read_text())["files"]["file"]
    assert stored == {"size": size, "xxh3_128": wanted}
    assert manifest.find_damage(folder) is None
    for bit in range(0, 8 * size, 41):
        _flip(folder / "file", bit)
        assert manifest.find_damage(folder) == "file has changed"
        _flip(folder / "file", bit)


@pytest.mark.parametrize("clock", [0, 4e9])
def test_a_clock_that_jumps_changes_no_choice(copy, clock, faults):
    """The newest checkpoint is that of the largest step, whatever its files' times."""
    os.utime(_folder(copy, 3), (clock, clock))
    for path in _folder(copy, 3).rglob("*"):
        os.utime(path, (clock, clock))
    assert checkpoints.find_newest(copy) == (3, {})
    assert len(listing.list_text(copy).splitlines()) == 4
    faults.record("F16", injected=1, survived=1)


@pytest.mark.parametrize("number", [1, 3, "new"])
def test_another_format_is_told_and_not_taken_for_damage(copy, number, faults):
    path = _folder(copy, 3) / manifest.NAME
    body = json.loads(path.read_text())
    del body["sha256"]
    body["format"] = number
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**body, "sha256": digest}))
    before = _tree(copy)
    with pytest.raises(UserError, match=rf"format {number!r} and this .* reads 2;"):
        checkpoints.restore_newest(copy, _abstract(_state(1)), _quiet)
    assert _tree(copy) == before
    faults.record("F17", injected=1, survived=1)


def test_a_save_under_way_is_not_damage(copy):
    """An evaluation may look between Orbax's rename and the manifest."""
    (_folder(copy, 3) / manifest.NAME).unlink()
    (copy / "checkpoints" / "saving").write_text("3")
    before = _tree(copy)
    assert checkpoints.find_newest(copy) == (2, {})
    text, good = listing.verify_text(copy)
    assert good
    assert text.splitlines()[-1] == f"         3  {listing.UNFINISHED}"
    assert listing.list_text(copy).endswith(text.splitlines()[-1])
    assert _tree(copy) == before


def test_a_save_that_begins_while_steps_are_listed_is_not_damage(copy, monkeypatch):
    """The run writes its marker while another process lists the steps."""
    (_folder(copy, 3) / manifest.NAME).unlink()
    saving, real = copy / "checkpoints" / "saving", pathlib.Path.iterdir

    def iterdir(folder):
        saving.write_text("3")
        return real(folder)

    monkeypatch.setattr(pathlib.Path, "iterdir", iterdir)
    assert checkpoints.steps(copy) == [1, 2]


def test_another_run_that_this_process_does_not_see_is_told(tmp_path):
    """Process 0 found the checkpoint, but this process does not see its folder."""
    with pytest.raises(UserError, match="a folder on a disk that all processes share"):
        init_from_lib._read_leaves(tmp_path / "3")


def test_the_manifest_lists_every_leaf_and_file(run):
    workdir, states = run
    folder = _folder(workdir, 3)
    body = json.loads((folder / manifest.NAME).read_text())
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(body["files"]) == files - {manifest.NAME}
    assert body["leaves"]["params/classifier/conv/kernel"] == ["float32", [300, 7]]
    assert len(body["leaves"]) == len(jax.tree.leaves(states[3]))
    assert os.stat(folder / manifest.NAME).st_mode & 0o777 == 0o644


def _forget_step(folder):
    """Write the manifest as versions did whose manifests held no step."""
    body = json.loads((folder / manifest.NAME).read_text())
    del body["sha256"], body["step"]
    signed = {**body, "sha256": manifest._digest(body)}
    (folder / manifest.NAME).write_text(json.dumps(signed))


@pytest.mark.parametrize("old", [False, True])
def test_steps_that_were_swapped_are_found_and_training_goes_on(copy, bits, run, old):
    for step in (1, 2, 3):
        if old:
            _forget_step(_folder(copy, step))
    assert checkpoints.find_newest(copy) == (3, {})
    _folder(copy, 3).rename(copy / "aside")
    _folder(copy, 2).rename(_folder(copy, 3))
    (copy / "aside").rename(_folder(copy, 2))
    text, good = listing.verify_text(copy)
    assert not good
    assert [line.split(maxsplit=1)[1] for line in text.splitlines()] == [
        "good", "DAMAGED: it is step 3", "DAMAGED: it is step 2",
    ]  # fmt: skip
    lines = []
    abstract = _abstract(run[1][1])
    state = checkpoints.restore_newest(copy, abstract, lines.append)
    assert bits(state) == bits(run[1][1])
    assert len(lines) == 2
    with checkpoints.open_store(copy, keep=3) as store:
        checkpoints.save(store, run[1][2])
    assert checkpoints.steps(copy) == [1, 2]
    assert checkpoints.set_aside(copy) == ["2.corrupt", "3.corrupt"]


@pytest.mark.parametrize(
    "name", ["\N{ARABIC-INDIC DIGIT THREE}", "003", "\u00b2", "x_9"]
)
def test_a_folder_that_only_orbax_takes_for_a_step_is_set_aside(copy, run, name):
    shutil.copytree(_folder(copy, 2), copy / "checkpoints" / name)
    assert checkpoints.steps(copy) == [1, 2, 3]
    text, good = listing.verify_text(copy)
    assert good
    assert f"{name}  no step has this name" in text
    lines = []
    checkpoints.restore_newest(copy, _abstract(run[1][3]), lines.append)
    assert lines == [
        f"CHECKPOINT {name} IS DAMAGED: no step has this name. Set aside as "
        f"{name}.corrupt; going on from step 3."
    ]
    with checkpoints.open_store(copy, keep=4) as store:
        checkpoints.save(store, _state(4))
    assert checkpoints.steps(copy) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "content",
    ["", "3\0", "\udcff", "../..", "3" * 5000, "\N{ARABIC-INDIC DIGIT THREE}"],
)
def test_a_damaged_note_of_a_save_is_no_obstacle(copy, run, content):
    note = copy / "checkpoints" / "saving"
    note.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert checkpoints.find_newest(copy) == (3, {})
    assert "3" in listing.list_text(copy)
    assert listing.verify_text(copy)[1]
    checkpoints.restore_newest(copy, _abstract(run[1][3]), _quiet)
    assert not note.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink(p, p)])
def test_a_note_of_a_save_that_is_no_file_is_no_obstacle(copy, run, make):
    note = copy / "checkpoints" / "saving"
    make(note)
    assert listing.verify_text(copy)[1]
    checkpoints.restore_newest(copy, _abstract(run[1][3]), _quiet)
    assert not os.path.lexists(note)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink(p, p)])
@pytest.mark.parametrize("name", [manifest.NAME, "default/_METADATA", "default/more"])
def test_what_is_no_file_in_a_checkpoint_is_damage(copy, make, name):
    path = _folder(copy, 3) / name
    path.unlink(missing_ok=True)
    make(path)
    newest, damage = checkpoints.find_newest(copy)
    assert (newest, list(damage)) in [(2, [3]), (3, [])]
    assert newest == 2 or (make is os.mkdir and name.endswith("more"))


def test_a_manifest_that_is_nested_too_deep_is_damaged(copy):
    (_folder(copy, 3) / manifest.NAME).write_text("[" * 200_000)
    assert checkpoints.find_newest(copy) == (2, {3: f"{manifest.NAME} is damaged"})


def test_a_file_in_place_of_the_checkpoints_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="checkpoints is no folder"):
        checkpoints.exists(tmp_path)


def test_the_run_that_gives_first_arrays_is_looked_for_first(copy, tmp_path):
    init_from_lib.check({"classifier": str(copy)})
    with pytest.raises(UserError, match=r"init_from: .*none has no checkpoint"):
        init_from_lib.check({"classifier": str(copy), "critic": str(tmp_path / "none")})
