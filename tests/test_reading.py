"""Reading: awkward files are read rightly and it is said how; everything else is refused in one sentence."""

import csv
import gzip
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riron.errors import InputError
from riron.forecast.tables.raw_bytes import LINE_BYTES
from riron.forecast.tables.reading import read_table
from riron.forecast.tables.text import decode, find_separator

ROWS = 60
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def lines(rows=ROWS, *, target=lambda k: k % 2):
    """A small sound table as CSV text: columns a, b, y."""
    rng = np.random.default_rng(0)
    body = [f"{rng.integers(0, 9999)},{rng.normal():.6f},{target(k)}" for k in range(rows)]
    return "a,b,y\n" + "\n".join(body) + "\n"


def write(tmp_path, content, name="data.csv"):
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def restored(table):
    """All rows of a table, in the order of its source."""
    order = np.argsort(np.concatenate([table.train_rows, table.test_rows]))
    return np.concatenate([table.X, table.X_test])[order], np.concatenate([table.y, table.y_test])[order]


def refused(call, *words):
    """The sentence of the InputError that `call` raises; it is one line and holds the words."""
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence
    return sentence


def sentence_of(call):
    """What the InputError of `call` says; empty if it raises none."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------------------------------------- what is read


@st.composite
def dialects(draw):
    separator = draw(st.sampled_from(",;\t|"))
    return {
        "separator": separator,
        "decimal": draw(st.sampled_from(".,")),
        "thousands": draw(st.booleans()),
        "newline": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp932"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "gzip": draw(st.booleans()),
        "trailing": draw(st.sampled_from(["", "newline", "blank lines"])),
    }


def number(value, digits, dialect):
    text = f"{value:,.{digits}f}" if dialect["thousands"] else f"{value:.{digits}f}"
    return text if dialect["decimal"] == "." else text.translate(str.maketrans(",.", ".,"))


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(dialect=dialects(), seed=st.integers(0, 10**6))
def test_random_tables_in_random_dialects_are_read_back(tmp_path, dialect, seed):
    rng = np.random.default_rng(seed)
    real = np.round(rng.normal(size=ROWS) * 10.0 ** rng.integers(0, 6), 2)
    whole = rng.integers(-(10**6), 10**6, ROWS)
    colour = rng.choice(["赤", "青 い", 'gr"ün,;|' if dialect["encoding"] != "cp932" else 'm"idori,;|'], ROWS)
    y = np.round(rng.normal(size=ROWS) * 100, 2)
    stream = io.StringIO(newline="")
    writer = csv.writer(
        stream, delimiter=dialect["separator"], lineterminator=dialect["newline"], quoting=dialect["quoting"]
    )
    writer.writerow(["real", " 値段 ", "colour", "y"])
    for k in range(ROWS):
        row = [number(real[k], 2, dialect), number(whole[k], 0, dialect), colour[k], number(y[k], 2, dialect)]
        writer.writerow(row)
    text = stream.getvalue()
    if not dialect["trailing"]:
        text = text.removesuffix(dialect["newline"])
    elif dialect["trailing"] == "blank lines":
        text += 3 * dialect["newline"]
    data = text.encode(dialect["encoding"])
    file = write(tmp_path, gzip.compress(data) if dialect["gzip"] else data, "table.bin")
    table = read_table(file, target="y", test=0.5, seed=seed, task="regression")
    X, back = restored(table)
    assert table.columns[:2] == ["real", "値段"]
    np.testing.assert_allclose(X[:, 0], real, rtol=1e-15)
    np.testing.assert_array_equal(X[:, 1], whole)
    np.testing.assert_allclose(back, y, rtol=1e-15)
    for j, name in enumerate(table.columns[2:], 2):
        np.testing.assert_array_equal(X[:, j], colour == name.removeprefix("colour_"))


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
        st.text(alphabet='0123456789.,;\t\n\r"ab -', max_size=300).map(str.encode),
        st.binary(max_size=60).map(lambda b: b"PK\x03\x04" + b),
        st.binary(max_size=60).map(lambda b: b"\x1f\x8b\x08" + b),
        st.binary(max_size=60).map(lambda b: b"PAR1" + b + b"PAR1"),
    ),
    header=st.booleans(),
    impute=st.booleans(),
)
def test_garbage_raises_nothing_but_input_errors(tmp_path, data, header, impute):
    file = write(tmp_path, data)
    assert "\n" not in sentence_of(lambda: read_table(file, target="1", header=header, impute=impute))


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(kind=st.sampled_from(["npz", "parquet", "gzip"]), where=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_a_changed_byte_in_a_binary_file_raises_nothing_but_input_errors(tmp_path, kind, where, byte):
    data = bytearray(_binary(kind))
    data[int(where * len(data))] = byte
    file = write(tmp_path, bytes(data))
    assert "\n" not in sentence_of(lambda: read_table(file, target="y"))


def _binary(kind):
    stream = io.BytesIO()
    y = np.arange(ROWS) % 2
    if kind == "npz":
        np.savez(stream, X=np.linspace(0, 1, 3 * ROWS).reshape(ROWS, 3) ** 2, y=y)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        pd.DataFrame({"a": np.linspace(0, 1, ROWS) ** 2, "y": y}).to_parquet(stream)
    else:
        return gzip.compress(lines().encode())
    return stream.getvalue()


def test_a_plain_file_says_what_was_assumed(tmp_path):
    table = read_table(write(tmp_path, lines()), target="y")
    assert (table.n, len(table.X_test), table.columns, table.classes) == (30, 30, ["a", "b"], [0, 1])
    assert any("separated by commas" in note for note in table.notes)
    assert any("The task is classification" in note for note in table.notes)
    assert any("30 of 60 rows are held out" in note for note in table.notes)
    assert {record["column"] for record in table.cleaning} == {"a", "b"}
    assert all(set(record) == {"column", "action", "detail"} for record in table.cleaning)


def test_dialects_are_said(tmp_path):
    text = lines().replace(".", "#").replace(",", ";").replace("#", ",")
    table = read_table(write(tmp_path, gzip.compress(text.encode("utf-16"))), target="y")
    said = " ".join(table.notes)
    for word in ("semicolons", "UTF-16", "decimal commas", "gzip"):
        assert word in said


def test_trailing_separators_shift_no_names(tmp_path):
    plain = read_table(write(tmp_path, lines()), target="y")
    rows = lines().splitlines()
    without_header = "\n".join([rows[0], *(row + "," for row in rows[1:])])
    with_header = "\n".join(row + "," for row in rows)
    for text in (without_header, with_header):
        table = read_table(write(tmp_path, text, "trailing.csv"), target="y")
        np.testing.assert_array_equal(table.X, plain.X)
        assert table.columns == ["a", "b"]


def test_no_header_numbers_the_columns(tmp_path):
    file = write(tmp_path, lines().split("\n", 1)[1])
    refused(lambda: read_table(file, target="y"), "numbers only", "--no-header")
    table = read_table(file, target="3", header=False)
    assert (table.columns, table.target, table.n) == (["1", "2"], "3", 30)
    refused(
        lambda: read_table(write(tmp_path, lines()), target="3", header=False), "(a, b, y)", "leave --no-header out"
    )


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234", "12", "999", "1,234,567"], [1234, 12, 999, 1234567]),
        (["0,38", "1,5", "12", "1,500"], [0.38, 1.5, 12, 1.5]),
        (["1.234,5", "2,25", "10", "-0,5"], [1234.5, 2.25, 10, -0.5]),
        (["5%", "12.5%", "0%", "99%"], [5, 12.5, 0, 99]),
        (["$2", "-$1,200.50", "$3", "$4"], [2, -1200.5, 3, 4]),
        (["12", "３.5", "−4", "5"], [12, 3.5, -4, 5]),
        (["1 234", "12 345 678", "7", "1\u00a0000"], [1234, 12345678, 7, 1000]),
        (["1'234.5", "7", "12'000", "1"], [1234.5, 7, 12000, 1]),
        (["1e3", "2.5E-2", "+7", ".5"], [1000, 0.025, 7, 0.5]),
        (["18446744073709551617", "2", "3", "4"], [2.0**64, 2, 3, 4]),
    ],
)
def test_numbers_in_text(tmp_path, cells, expected):
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow(["x", "z", "y"])
    for k in range(ROWS):
        writer.writerow([cells[k % 4], k * k % 7, k * k % 11 + 0.5])
    X, _ = restored(read_table(write(tmp_path, stream.getvalue()), target="y"))
    np.testing.assert_array_equal(X[:4, 0], expected)


def test_a_comma_that_can_mean_two_things_is_asked_about(tmp_path):
    text = "x;z;y\n" + "\n".join(f"{k % 9 + 1},{k * k % 900 + 100};{k * k % 7};{k % 2}" for k in range(ROWS))
    file = write(tmp_path, text)
    refused(lambda: read_table(file, target="y"), "'x'", "--decimal")
    as_fraction, _ = restored(read_table(file, target="y", decimal=","))
    as_thousands, _ = restored(read_table(file, target="y", decimal="."))
    np.testing.assert_allclose(as_thousands[:, 0], 1000 * as_fraction[:, 0], rtol=1e-15)
    assert as_fraction[0, 0] == 1.1


def test_points_group_thousands_where_the_file_has_decimal_commas(tmp_path):
    text = "x;z;y\n" + "\n".join(f"{k % 9 + 1}.{k * k % 900 + 100};{k * k % 7},5;{k % 2}" for k in range(ROWS))
    X, _ = restored(read_table(write(tmp_path, text), target="y"))
    np.testing.assert_array_equal(X[:3], [[1100, 0.5], [2101, 1.5], [3104, 4.5]])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("名前,値", "cp932"), ("男\n女", "cp932"), ("prénom,crédit,Zoë", "cp1252"), ("Müller,Größe", "cp1252")],
)
def test_encodings_without_a_mark(text, encoding):
    decoded, said = decode(text.encode(encoding), "'x'")
    assert decoded == text
    assert encoding in said


@pytest.mark.parametrize(
    ("sample", "separator"),
    [
        ("a;b\n1,5;2,5\n", ";"),
        ("1,5;2,5\n3,5;4,5\n", ";"),
        ("a,b\n1,x;y\n2,z\n", ","),
        ('a,b\n"1;2",3\n"4;5",6\n', ","),
        ("a\tb\n1,2\t3\n", "\t"),
        ("only\n1\n2\n", ","),
        ("a|b\n1|2\n", "|"),
    ],
)
def test_separators(sample, separator):
    assert find_separator(sample) == separator


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(lines().encode())))
    assert read_table("-", target="y").n == 30


def test_npz_parquet_frames_and_pairs_agree(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.read_csv(io.StringIO(lines()))
    X, y = frame[["a", "b"]].to_numpy(), frame.y.to_numpy()
    frame.to_parquet(tmp_path / "data.parquet")
    np.savez(tmp_path / "data.npz", X=X, y=y, spare=y)
    np.savez(tmp_path / "other.npz", X=X, label=y)
    plain = read_table(write(tmp_path, lines()), target="y")
    for source, target in (
        (tmp_path / "data.parquet", "y"),
        (tmp_path / "data.npz", None),
        (tmp_path / "other.npz", "label"),
        (frame, "y"),
        ((X, y), None),
        ((X, np.eye(2)[y]), None),
        ((frame[["a", "b"]], frame.y), None),
    ):
        table = read_table(source, target=target)
        np.testing.assert_array_equal(table.X, plain.X)
        np.testing.assert_array_equal(table.y_test, plain.y_test)


def test_images_are_laid_out_flat():
    rng = np.random.default_rng(0)
    assert read_table((rng.random((50, 4, 3)), np.arange(50) % 2)).X.shape == (20, 12)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_sklearn_sets(name):
    table = read_table(f"sklearn:{name}")
    assert (table.classes is None) == (name == "diabetes")
    assert np.isfinite(table.X).all()


def test_digits_keep_their_labels():
    assert read_table("sklearn:digits").classes == list(range(10))
    assert read_table("sklearn:iris").classes == ["setosa", "versicolor", "virginica"]


def test_held_out_rows_from_a_file(tmp_path):
    train, test = (
        write(tmp_path, lines(), "train.csv"),
        write(tmp_path, lines(12).replace("a,b,y", "y,b,a"), "test.csv"),
    )
    table = read_table(train, target="y", test=write(tmp_path, lines(12), "t.csv"))
    assert (table.n, len(table.X_test), table.total_rows) == (60, 12, 72)
    np.testing.assert_array_equal(table.test_rows, np.arange(60, 72))
    moved = read_table(train, target="b", test=test)
    np.testing.assert_array_equal(moved.y_test, moved.y[:12])
    missing = write(tmp_path, "a,y\n1,0\n2,1\n", "short.csv")
    refused(lambda: read_table(train, target="y", test=missing), "no column 'b'", "same columns")
    refused(lambda: read_table(train, target="y", test=str(tmp_path / "none.csv")), "no file is called")
    strange = write(tmp_path, "a,b,y\n1,0,7\n2,1,0\n", "strange.csv")
    refused(lambda: read_table(train, target="y", test=strange), "class '7'", "held-out")


def test_the_split_is_drawn_by_the_seed_and_keeps_proportions():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 2)), (np.arange(400) % 4 == 0).astype(int)
    first, again, other = (read_table((X, y), seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.array_equal(first.test_rows, other.test_rows)
    assert (len(first.X_test), first.y_test.sum()) == (80, 20)
    assert set(first.train_rows) | set(first.test_rows) == set(range(400))


# ---------------------------------------------------------------------------------------------- what is refused


MAGIC = [
    (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    (b"%PDF-1.7 ...", "a PDF"),
    (b"\x89PNG\r\n\x1a\n....", "PNG"),
    (b"\xff\xd8\xff\xe0 JFIF", "JPEG"),
    (pickle.dumps([1, 2, 3]), "pickle"),
    (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}", "savez"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"SQLite format 3\x00", "SQLite"),
    (b'{"a": [1, 2]}', "JSON"),
    (b"PK\x05\x06" + bytes(18), "zip archive"),
    (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
    (b"PAR1 and then nothing", "Parquet"),
    (bytes(257) + b"ustar" + bytes(300), "tar"),
    (b"a,b\x00c\n1,2\n", "not text"),
    (b"", "is empty"),
    (b"\n\n   \n", "is empty"),
    (b"a,b,y\n", "a header and no rows"),
    (b"a,b,y\n1,2\n3,4,5\n", "line 2"),
    (b"a,b,y\n1,2,3\n\n3,4,5,6\n", "line 4"),
    (b'a,b,y\n1,"2,3\n3,4,5\n', "line"),
    (b"a,b,a,y\n1,2,3,4\n", "2 columns of"),
    (b"\xff\xfe\x00\xd8", "UTF-8"),
]


@pytest.mark.parametrize(("content", "word"), MAGIC, ids=[word for _, word in MAGIC])
def test_what_is_no_table_is_named(tmp_path, content, word):
    refused(lambda: read_table(write(tmp_path, content), target="y"), word)


@pytest.mark.parametrize("member", ["xl/workbook.xml", "archive/data.pkl", "notes.txt"])
def test_zip_files_are_told_apart(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, b"x")
    word = {"xl/workbook.xml": "Excel", "archive/data.pkl": "PyTorch", "notes.txt": "zip archive"}[member]
    refused(lambda: read_table(str(tmp_path / "a.zip"), target="y"), word)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "objects.npz", X=np.array([[Trap()]] * 60, dtype=object), y=np.arange(60))
    refused(lambda: read_table(str(tmp_path / "objects.npz")), "array 'X'", "objects", "never opens")
    for name in ("model.pkl", "model.joblib", "model.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        refused(lambda name=name: read_table(str(tmp_path / name), target="y"), "pickle", "never")
    (tmp_path / "hidden.csv").write_bytes(pickle.dumps(Trap()))
    refused(lambda: read_table(str(tmp_path / "hidden.csv"), target="y"), "pickle")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("url", ["https://example.org/data.csv", "file:///etc/passwd", "s3://bucket/key", "www.a.b/c"])
def test_a_url_is_not_opened(url):
    refused(lambda: read_table(url, target="y"), "URL", "download")


def test_missing_files_and_folders(tmp_path):
    write(tmp_path, lines(), "houses.csv")
    refused(lambda: read_table(str(tmp_path / "house.csv"), target="y"), "no file", "did you mean 'houses.csv'")
    refused(lambda: read_table(str(tmp_path), target="y"), "folder")
    refused(lambda: read_table("a\0b", target="y"), "no file")
    refused(lambda: read_table("x" * 5000, target="y"), "no file")
    refused(lambda: read_table(7, target="y"), "no table")


def test_bombs_are_refused_before_they_are_read(tmp_path):
    big = str(write(tmp_path, lines(5000), "big.csv"))
    refused(lambda: read_table(big, target="y", max_bytes=1000), "limit is 1000 bytes")
    packed = write(tmp_path, gzip.compress(bytes(10**7)), "bomb.csv.gz")
    refused(lambda: read_table(packed, target="y", max_bytes=10**6), "limit")
    np.savez_compressed(tmp_path / "bomb.npz", X=np.zeros((60, 10**5)), y=np.arange(60))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**5
    refused(lambda: read_table(str(tmp_path / "bomb.npz"), max_bytes=10**7), "unpack to 45.8 MiB", "limit is 9.5 MiB")
    long = write(tmp_path, b"a,b\n" + b"1" * (LINE_BYTES + 10), "long.csv")
    refused(lambda: read_table(long, target="b"), "line of more than 16.0 MiB")
    endless = gzip.compress(b"1" * (2 * LINE_BYTES))
    refused(lambda: read_table(write(tmp_path, endless, "long.gz"), target="b"), "line of more than")
    cell = write(tmp_path, "a,b\n" + "x" * 200_000 + ",2\n", "cell.csv")
    refused(lambda: read_table(cell, target="b"), "line 2", "131 072")


def test_a_parquet_bomb_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": np.zeros(10**6), "y": np.zeros(10**6)}).to_parquet(tmp_path / "bomb.parquet")
    refused(lambda: read_table(str(tmp_path / "bomb.parquet"), target="y", max_bytes=10**6), "unpack to 15.3 MiB")


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("X.npy", stream.getvalue())
        archive.writestr("y.npy", stream.getvalue())
    refused(lambda: read_table(str(tmp_path / "lie.npz")), "array 'X'", "claims")


def test_npz_faults(tmp_path):
    def saved(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return str(tmp_path / "a.npz")

    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    refused(lambda: read_table(saved(X=X, y=y[:50])), "60 rows", "y has 50")
    refused(lambda: read_table(saved(x=X, y=y)), "no array 'X'", "did you mean 'x'")
    refused(lambda: read_table(saved(X=X, labels=y)), "no array 'y'", "labels")
    refused(lambda: read_table(saved(X=X, y=X)), "y of", "3 columns")
    refused(lambda: read_table(saved(X=X + 1j, y=y)), "complex")
    refused(lambda: read_table(saved(X=X[:0], y=y[:0])), "empty")
    refused(
        lambda: read_table(saved(X=X * np.where(np.arange(60) == 7, np.nan, 1)[:, None], y=y)), "3 missing", "row 8"
    )


def test_names_that_are_not_there(tmp_path):
    file = write(tmp_path, lines())
    refused(lambda: read_table(file), "no target", "--target", "a, b, y")
    refused(lambda: read_table(file, target="Y"), "no column is called 'Y'", "did you mean 'y'")
    refused(lambda: read_table(file, target="price"), "no column is called 'price'", "a, b, y", "--target")
    refused(lambda: read_table("sklearn:digit"), "digits")
    refused(lambda: read_table("sklearn:linnerud"), "three targets")


def test_options_are_checked(tmp_path):
    file = write(tmp_path, lines())
    refused(lambda: read_table(file, target="y", decimal=";"), "--decimal")
    refused(lambda: read_table(file, target="y", task="ranking"), "task")
    refused(lambda: read_table(file, target="y", seed=-1), "--seed")
    for share in (0, 1.5, -0.2, "2", float("nan")):
        refused(lambda share=share: read_table(file, target="y", test=share), "--test", "between 0 and 1")
    refused(lambda: read_table(file, target="y", test=0.95), "leaves", "--test")


def test_networks_fail_in_one_sentence(monkeypatch):
    import sklearn.datasets

    def unreachable(**_):
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", unreachable)
    refused(lambda: read_table("openml:61"), "openml:61", "network", "Name or service not known")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(lambda: read_table("hf:scikit-learn/iris", target="y"), "pip install datasets")
    old = types.SimpleNamespace(__version__="2.10.0")
    monkeypatch.setitem(sys.modules, "datasets", old)
    refused(lambda: read_table("hf:scikit-learn/iris", target="y"), "datasets 3", "run code")
    new = types.SimpleNamespace(__version__="3.2.0", load_dataset=lambda *_, **__: unreachable())
    monkeypatch.setitem(sys.modules, "datasets", new)
    refused(lambda: read_table("hf:scikit-learn/iris", target="y"), "hf:scikit-learn/iris", "network")
    refused(lambda: read_table("hf:", target="y"), "names no data set")


def test_networks_that_answer(monkeypatch):
    import sklearn.datasets

    frame = pd.read_csv(io.StringIO(lines()))
    bunch = types.SimpleNamespace(frame=frame, target=frame.y, details={"version": "1"})
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: bunch)
    assert read_table("openml:61").target == "y"
    data = types.SimpleNamespace(dataset_size=10, to_pandas=lambda: frame)
    module = types.SimpleNamespace(__version__="4.0.0", load_dataset=lambda name, split: data)
    monkeypatch.setitem(sys.modules, "datasets", module)
    assert read_table("hf:me/mine", target="y").n == 30
    data.dataset_size = 2**40
    refused(lambda: read_table("hf:me/mine", target="y"), "1024.0 GiB")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(lambda: read_table(write(tmp_path, b"PAR1....PAR1"), target="y"), "pyarrow", "riron[data]")
