"""Content keys, the results store, the merge of a sweep, and its netCDF files."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from riron.errors import InputError
from riron.lab.addressing import address, canonical, cast, declared
from riron.lab.store import Store, merge, read_dataset, read_datatree, write_dataset, write_datatree

KEY = address({"a": 1})
names = st.text(max_size=8).filter(lambda name: not name.startswith("__"))
numbers = st.integers() | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
mappings = st.dictionaries(names, values, max_size=4)


@given(mappings)
def test_canonical_text_gives_the_values_back(mapping):
    assert json.loads(canonical(mapping)) == mapping  # floats by repr are exact


@given(mappings, st.randoms(use_true_random=False))
def test_address_does_not_depend_on_order(mapping, random):
    items = list(mapping.items())
    random.shuffle(items)
    assert address(dict(items)) == address(mapping)


@given(mappings, mappings)
def test_different_texts_have_different_addresses(a, b):
    assert (address(a) == address(b)) == (canonical(a) == canonical(b))


@given(st.floats(allow_nan=False))
def test_numpy_scalars_and_arrays_of_no_dimension_are_numbers(number):
    assert address({"x": np.float64(number)}) == address({"x": number}) == address({"x": np.array(number)})


def test_address_is_the_same_in_every_process():
    """Golden value: a change here throws all stored results away, so it must be meant."""
    mapping = {"study": "s", "x": [1, -0.0, 0.1, None, True], "data": np.arange(3.0), "nested": {"b": "é", "a": 1e22}}
    assert canonical(mapping) == (
        '{"data":{"__array__":["<f8",[3],"b0c45303f7f11848cb5e6e5b2af2fb2aecd0b72c28748b88b583ab6bb76df174"]},'
        '"nested":{"a":1e+22,"b":"\\u00e9"},"study":"s","x":[1,0.0,0.1,null,true]}'
    )
    assert address(mapping) == "3ea6d496bf891d05ab30ecebf0ffd88ed5e62c3dbd2167d6971eb99caa0ae79b"


def test_arrays_by_type_shape_and_content():
    keys = [
        address({"x": array})
        for array in (np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros(4, int), np.ones(4), [0.0] * 4)
    ]
    assert len(set(keys)) == len(keys)
    assert address({"x": -np.zeros(4)}) == keys[0]
    assert address({"x": np.zeros(8)[::2]}) == keys[0]
    assert address({"x": np.arange(4.0)}) == address({"x": np.arange(4.0).astype(">f8")})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "value.x is NaN; NaN equals nothing"),
        (np.array([1, math.nan, math.nan]), "value.x holds 2 NaN"),
        ({1: 2}, "value.x has the key 1; use text"),
        ({"__array__": 2}, "value.x has the key '__array__'"),
        ([1, object()], r"value.x\[1\] is a object, which has no canonical form"),
        (np.array([object()]), "value.x is an array of object"),
    ],
)
def test_what_has_no_key_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        address({"x": value})


@dataclasses.dataclass
class Fields:
    rate: float
    batch: int
    sizes: tuple[float, ...] = ()
    seed: int | None = None
    kind: Literal["a", "b"] = "a"
    flag: bool = False


def test_one_and_one_point_zero_are_told_apart_by_the_declared_type_only():
    assert address({"rate": 1}) != address({"rate": 1.0})
    assert address(declared(Fields(1, 2.0, (1, 2)))) == address(
        declared(Fields(np.float32(1), np.int64(2), [1.0, 2.0]))
    )
    assert declared(Fields(1, 2.0)) == {"rate": 1.0, "batch": 2, "sizes": (), "seed": None, "kind": "a", "flag": False}
    assert type(declared(Fields(1, 2.0))["rate"]) is float


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (2.5, int, "must be a whole number, got 2.5"),
        (math.inf, int, "must be a whole number"),
        ("x", float, "must be a number, got 'x'"),
        (True, float, "must be a number, got True"),
        (1, bool, "must be true or false, got 1"),
        (1, str, "must be text, got 1"),
        ((1, "x"), tuple[float, ...], r"value\[1\] must be a number"),
        ((1,), tuple[float, float], "must have 2 entries and has 1"),
        ("x", int | None, "must be a whole number"),
    ],
)
def test_a_cast_that_would_change_the_value_is_refused(value, kind, message):
    with pytest.raises(InputError, match=message):
        cast(value, kind)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, report=(said := []).append), said


array_types = st.sampled_from(["f8", "f4", "i8", "u1", "?", "c16", "U3"])


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(names.filter(str.isidentifier), st.tuples(array_types, st.integers(0, 3)), max_size=3))
def test_store_gives_back_what_was_put(tmp_path_factory, kinds):
    store = Store(tmp_path_factory.mktemp("store"))
    arrays = {
        name: np.arange(4).astype(kind).reshape([2, 2] if dim == 2 else [-1]) for name, (kind, dim) in kinds.items()
    }
    store.put(KEY, arrays, {"k": [1, None, "x"], "inf": math.inf})
    record = store.get(KEY)
    assert record.attrs == {"k": [1, None, "x"], "inf": math.inf}
    assert set(record.arrays) == set(arrays)
    for name, array in arrays.items():
        assert record.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(record.arrays[name], array)


def test_equal_content_is_equal_bytes_and_numpy_can_read_it(store):
    store, _ = store
    other = address({"a": 2})
    store.put(KEY, {"x": np.arange(3), "y": np.eye(2)}, {"a": 1, "b": 2})
    store.put(other, {"y": np.eye(2), "x": np.arange(3)}, {"b": 2, "a": 1})
    assert store.path(KEY).read_bytes() == store.path(other).read_bytes()
    np.testing.assert_array_equal(np.load(store.path(KEY))["x"], [0, 1, 2])
    assert list(store) == sorted([KEY, other])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_moved_aside_and_reported(store, damage):
    store, said = store
    path = store.put(KEY, {"x": np.arange(100)})
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[200] ^= 1
    path.write_bytes({"cut": content[:-50], "flip": content, "empty": b""}[damage])
    assert KEY not in store
    assert len(said) == 1
    assert "was damaged" in said[0]
    assert not path.exists()
    assert path.with_suffix(".damaged").exists()
    with pytest.raises(KeyError):
        store.get(KEY)
    store.put(KEY, {"x": np.arange(100)})
    assert KEY in store
    assert store.missing([KEY, address({})]) == [address({})]


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process lives, by signal 0")
def test_temporaries_of_dead_processes_only_are_removed(tmp_path):
    from riron.lab.files import temporary_beside

    store = Store(tmp_path)
    folder = store.put(KEY, {}).parent
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours = temporary_beside(folder / "x.npz")
    theirs = folder / ours.name.replace(f".{os.getpid()}.", f".{dead.pid}.")
    abroad = folder / f".x.npz.elsewhere.{dead.pid}.0123abcd"
    for path in (ours, theirs, abroad):
        path.touch()
    Store(tmp_path)
    assert sorted(path.name for path in folder.glob(".*")) == sorted([ours.name, abroad.name])


def test_a_store_that_cannot_be_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the results folder .* cannot be written"):
        Store()
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "new"))
    assert Store().root == tmp_path / "new"
    with pytest.raises(InputError, match=r"'\.\./x' is not a content key"):
        Store().get("../x")
    with pytest.raises(InputError, match="the result 'x' is an array of Python objects"):
        Store().put(KEY, {"x": [object()]})


def results(point, seeds, seconds=0.0):
    epochs = np.array([0.5, 1.0, 2.0])
    loss = point + np.add.outer(np.asarray(seeds), 0.1 * epochs)
    return xr.Dataset(
        {"train_loss": (("seed", "epoch"), loss, {"units": "label^2"}), "count": ("seed", np.asarray(seeds) + 7)},
        {"epoch": epochs, "step": ("epoch", [1, 2, 4]), "seed": list(seeds), "step_size": 0.1 * point},
        {"complete": True, "seconds": seconds, "note": None, "sizes": [1, 2]},
    )


def test_a_dataset_comes_back_without_the_clock(store):
    store, _ = store
    path = store.put_dataset(KEY, results(1, [0, 1], seconds=1.0))
    content = path.read_bytes()
    assert store.put_dataset(KEY, results(1, [0, 1], seconds=2.0)).read_bytes() == content
    expected = results(1, [0, 1])
    del expected.attrs["seconds"]
    xr.testing.assert_identical(store.get_dataset(KEY), expected)


def test_merge_lays_blocks_at_their_labels_and_says_what_is_missing(store):
    store, _ = store
    places = {address({"p": p, "s": s}): {"point": p, "seed": range(s, s + 2)} for p in (0, 1) for s in (0, 2)}
    keys = list(places)
    for key in (keys[0], keys[1], keys[2]):
        store.put_dataset(key, results(places[key]["point"], places[key]["seed"]))
    store.fail(keys[3], "ValueError: no")
    merged = merge(store, places)
    assert dict(merged.sizes) == {"point": 2, "seed": 4, "epoch": 3}
    np.testing.assert_array_equal(merged.train_loss.sel(point=0), results(0, range(4)).train_loss)
    np.testing.assert_array_equal(merged.train_loss.sel(point=1, seed=[0, 1]), results(1, range(2)).train_loss)
    assert np.isnan(merged.train_loss.sel(point=1, seed=[2, 3])).all()
    assert merged.train_loss.attrs == {"units": "label^2"}
    np.testing.assert_array_equal(merged.status, [["done"] * 4, ["done", "done", "failed", "failed"]])
    np.testing.assert_array_equal(merged.error.sel(point=1), ["", "", "ValueError: no", "ValueError: no"])
    np.testing.assert_allclose(merged.step_size, [0.0, 0.1])
    assert merged.attrs == {"complete": False}
    assert {"step", "step_size"} <= set(merged.coords)
    store.put_dataset(keys[3], results(1, [2, 3]))
    whole = merge(store, places)
    assert (whole.status == "done").all()
    assert whole.attrs == {"complete": True}
    assert whole["count"].dtype == np.int64
    store.put_dataset(keys[3], results(1, [2, 3]).assign_coords(epoch=[0.5, 1.0, 3.0]))
    with pytest.raises(InputError, match="differ in their axis 'epoch'"):
        merge(store, places)


def test_netcdf_files_come_back_and_are_the_same_bytes_each_time(tmp_path):
    dataset = results(1, [0, 1])
    tree = {"dots": {64: dataset, 16: results(0, [0])}, "line": {64: dataset.drop_vars("count"), 0.5: dataset}}
    for name in ("a", "b"):
        write_dataset(tmp_path / f"{name}.nc", dataset)
        write_datatree(tmp_path / f"{name}-tree.nc", tree)
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()
    assert (tmp_path / "a-tree.nc").read_bytes() == (tmp_path / "b-tree.nc").read_bytes()
    back = read_dataset(tmp_path / "a.nc")
    xr.testing.assert_equal(back, dataset)
    assert back.attrs["complete"] == 1
    assert json.loads(back.attrs["sizes"]) == [1, 2]
    assert dataset.attrs["complete"] is True
    groups = read_datatree(tmp_path / "a-tree.nc")
    assert {kind: set(sizes) for kind, sizes in groups.items()} == {"dots": {64, 16}, "line": {64, 0.5}}
    xr.testing.assert_equal(groups["line"][64], tree["line"][64])
    assert xr.open_datatree(tmp_path / "a-tree.nc", engine="h5netcdf")["/dots/16"].sizes["seed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-tree.nc", "a.nc", "b-tree.nc", "b.nc"]
    with pytest.raises(InputError, match="there is no file"):
        read_dataset(tmp_path / "none.nc")


def test_a_netcdf_file_that_could_not_be_written_leaves_the_old_one(tmp_path):
    write_dataset(tmp_path / "a.nc", results(1, [0]))
    before = (tmp_path / "a.nc").read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_dataset(tmp_path / "a.nc", xr.Dataset({"x": ("k", np.array([object(), 1], dtype=object))}))
    assert (tmp_path / "a.nc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]
