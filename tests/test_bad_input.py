"""Test layer: bad arrays. What just works whatever its layout, what is refused: each error's class and words.

Every message says what was expected, what came, where, and what to do; fragments of all that are checked.
"""

from __future__ import annotations

import array as stdlib_array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from numpy.typing import NDArray
from refusals import BATCH, CLASSES, LABELS, WIDTH, network, refused, samples
from vgcore import _arrays

# --- layouts that just work --------------------------------------------------------------------------------


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    x = x.copy()
    x.flags.writeable = False
    return x


def misaligned(x: NDArray[Any]) -> NDArray[Any]:
    raw = np.empty(x.nbytes + 1, np.uint8)
    shifted = raw[1:].view(x.dtype).reshape(x.shape)
    shifted[:] = x
    assert x.itemsize == 1 or not shifted.flags.aligned
    return shifted


class HasArray:
    def __init__(self, x: NDArray[Any]) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.x if dtype is None else self.x.astype(dtype)


class HasDlpack:
    def __init__(self, x: NDArray[Any]) -> None:
        self.x = x

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


LAYOUTS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "fortran order": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.T.copy().T,
    "read-only": read_only,
    "misaligned": misaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "little-endian": lambda x: x.astype(x.dtype.newbyteorder("<")),
    "big-endian misaligned": lambda x: misaligned(x.astype(x.dtype.newbyteorder(">"))),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "subclass": lambda x: x.view(np.matrix),
    "__array__": HasArray,
    "__dlpack__": HasDlpack,
    "memoryview": lambda x: memoryview(np.ascontiguousarray(x)),
    "list of rows": lambda x: list(x),
    "tuple of lists": lambda x: tuple(x.tolist()),
    "unmasked masked array": lambda x: np.ma.masked_array(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layout_just_works_and_changes_nothing(layout: str, dtype: str) -> None:
    net, x = network(dtype), samples(dtype)
    if layout == "broadcast":
        x = np.repeat(x[:1], BATCH, axis=0)
    given = LAYOUTS[layout](x)
    assert np.array_equal(net.forward(given), net.forward(x))
    target = np.ascontiguousarray(x[:, :CLASSES])
    given_target = LAYOUTS[layout](target)
    assert net.loss(x, given_target, "mse") == net.loss(x, target, "mse")
    flow, same = net.probe(x, cotangent=given_target), net.probe(x, cotangent=target)
    assert np.array_equal(flow.log10_grad_norm, same.log10_grad_norm)


@pytest.mark.parametrize("layout", ["strided", "big-endian", "misaligned", "read-only"])
def test_labels_of_any_layout_and_integer_type(layout: str) -> None:
    net, x = network(), samples()
    expected = net.loss(x, LABELS, "cross_entropy")
    for kind in (np.int8, np.uint8, np.int32, np.uint64, np.int64):
        y = LABELS.astype(kind)
        if layout == "strided":
            given: Any = np.repeat(y, 2)[::2]
        else:
            given = LAYOUTS[layout](y)
        assert net.loss(x, given, "cross_entropy") == expected
    assert net.loss(x, LABELS.tolist(), "cross_entropy") == expected


def test_stdlib_array_is_a_buffer() -> None:
    net = vg.mlp(depth=1, width=2, rng=0)
    flat = stdlib_array.array("f", [1.0, 2.0])
    assert np.array_equal(net.forward([flat]), net.forward(np.array([[1.0, 2.0]], np.float32)))


def test_input_is_never_written_to() -> None:
    net, x, y = network(), samples(), samples()[:, :CLASSES]
    kept_x, kept_y = x.copy(), y.copy()
    net.step(x, y, "mse", lr=0.1)
    net.gradients(x, cotangent=y)
    assert np.array_equal(x, kept_x)
    assert np.array_equal(y, kept_y)


def test_float32_widens_exactly() -> None:
    net, x = network("float64"), samples("float32")
    assert np.array_equal(net.forward(x), net.forward(x.astype("float64")))


def test_python_floats_take_the_networks_type() -> None:
    net, x = network(), samples()
    assert np.array_equal(net.forward(x.tolist()), net.forward(x))


# --- element types -----------------------------------------------------------------------------------------

DTYPES: dict[str, tuple[Callable[[NDArray[Any]], Any], list[str]]] = {
    "int64": (lambda x: x.astype("int64"), ["int64", 'x.astype("float32")']),
    "uint8": (lambda x: x.astype("uint8"), ["uint8", 'x.astype("float32")']),
    "bool": (lambda x: x > 0, ["bool", 'x.astype("float32")']),
    "complex64": (lambda x: x.astype("complex64"), ["complex", 'x.real.astype("float32")']),
    "float16": (lambda x: x.astype("float16"), ["float16", 'x.astype("float32")']),
    "longdouble": (lambda x: x.astype("longdouble"), ['x.astype("float32")']),
    "object": (lambda x: x.astype(object), ["object", 'x.astype("float32")']),
    "text": (lambda x: x.astype(str), ["<U", 'x.astype("float32")']),
    "dates": (lambda x: x.astype("int64").astype("datetime64[s]"), ["datetime64"]),
    "structured": (lambda x: np.zeros(BATCH, dtype=[("a", "f4")]), ["expected float32"]),
    "list of ints": (lambda x: [[1, 2, 3, 4]], ["int64", 'numpy.asarray(x, dtype="float32")']),
    "None": (lambda x: None, ["None", "expected float32"]),
    "a string": (lambda x: "hello", ["'hello' (str)"]),
    "a dict": (lambda x: {"a": 1}, ["dict"]),
    "a set": (lambda x: {1.0}, ["set"]),
    "a generator": (lambda x: (row for row in x), ["generator"]),
}


@pytest.mark.parametrize("case", DTYPES)
def test_wrong_element_type_says_how_to_convert(case: str) -> None:
    make, words = DTYPES[case]
    with refused(vg.DTypeError, "x: expected float32, got", *words):
        network().forward(make(samples()))


@pytest.mark.parametrize("name", ["y", "cotangent"])
def test_wrong_element_type_of_targets(name: str) -> None:
    net, x = network(), samples()
    wrong = np.ones((BATCH, CLASSES), np.int64)
    with refused(vg.DTypeError, f"{name}: expected float32, got int64", f'{name}.astype("float32")'):
        net.probe(x, **({"y": wrong, "loss": "mse"} if name == "y" else {"cotangent": wrong}))


def test_float64_does_not_narrow_silently() -> None:
    net = network()
    for given in (samples("float64"), list(samples("float64")), [np.float64(1.0)] * WIDTH):
        with refused(vg.DTypeError, "float64", 'dtype="float64"', "float32"):
            net.forward(given)
    with refused(vg.DTypeError, "float32 or float64", "float16"):
        network("float64").forward(samples("float16"))


def test_numbers_that_numpy_does_not_know_are_converted_like_others() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with refused(vg.DTypeError, 'expected float32, got bfloat16; convert with x.astype("float32")'):
        network().forward(samples().astype(ml_dtypes.bfloat16))


def test_an_array_that_is_large_in_its_copy_alone_is_refused_before_it_is_read() -> None:
    huge = np.broadcast_to(np.float32(np.nan), (10**11, WIDTH))
    words = ["x: an array of shape (100000000000, 4) in float32 needs about 1.5 TiB, but ", "are available"]
    with refused(vg.MemoryBudgetError, *words, "take fewer samples at a time"):
        network().forward(huge)


@pytest.mark.parametrize("shape", [(10, 4), (3, 5, 4), (1, 40), (40,)])
def test_values_are_looked_at_in_parts_and_reported_as_one(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.zeros(shape)
    whole.flat[[17, 25, 39]] = np.nan, np.inf, -np.inf
    where = ", ".join(str(int(i)) for i in np.unravel_index(17, shape))
    expected = f"got 3 of {whole.size} that are not (1 NaN, 2 inf); the first, nan, is at x[{where}]"
    for most in (10**6, 20, 7, 1):
        monkeypatch.setattr(_arrays, "MOST_AT_ONCE", most)
        with refused(vg.NonFiniteError, expected):
            _arrays.check_finite(whole, "x")
        _arrays.check_finite(np.zeros(shape), "x")


def test_masked_entries_are_not_dropped() -> None:
    masked = np.ma.masked_array(samples(), mask=np.zeros((BATCH, WIDTH), bool))
    masked[1, 2] = np.ma.masked
    with refused(vg.ArgumentError, "1 masked", "x.filled(0.0)"):
        network().forward(masked)


def test_unreadable_objects() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            raise RuntimeError("requires grad")

    with refused(vg.ArgumentError, "x: expected an array", "Broken", "requires grad"):
        network().forward(Broken())


# --- shapes ------------------------------------------------------------------------------------------------

SHAPES: list[tuple[str, tuple[int, ...], list[str]]] = [
    ("one sample", (WIDTH,), ["(batch, 4)", "(4,)", "x.reshape(1, -1)"]),
    ("transposed", (WIDTH, BATCH), ["(batch, 4)", "(4, 6)", "x.T"]),
    ("images", (BATCH, 2, 2), ["(6, 2, 2)", "x.reshape(len(x), -1)"]),
    ("wrong width", (BATCH, 7), ["(batch, 4)", "(6, 7)"]),
    ("no samples", (0, WIDTH), ["empty", "(0, 4)"]),
    ("no features", (BATCH, 0), ["(6, 0)"]),
    ("0-d", (), ["()", "2 axes"]),
]


@pytest.mark.parametrize(("shape", "words"), [c[1:] for c in SHAPES], ids=[c[0] for c in SHAPES])
def test_wrong_shape_of_x(shape: tuple[int, ...], words: list[str]) -> None:
    with refused(vg.ShapeError, "x: expected", "got", *words):
        network().forward(np.ones(shape, np.float32))


def test_ragged_lists() -> None:
    with refused(vg.ShapeError, "x: expected rows of equal length"):
        network().forward([[1.0, 2.0], [3.0]])


def test_one_column_targets() -> None:
    net = vg.mlp(depth=1, width=2, out_features=1, rng=0)
    x = np.ones((BATCH, 2), np.float32)
    with refused(vg.ShapeError, "y: expected shape (6, 1), got (6,)", "y.reshape(-1, 1)"):
        net.loss(x, np.ones(BATCH, np.float32), "mse")


@pytest.mark.parametrize("shape", [(BATCH, CLASSES + 1), (BATCH - 1, CLASSES), (CLASSES,), ()])
def test_wrong_shape_of_targets(shape: tuple[int, ...]) -> None:
    net, x, wrong = network(), samples(), np.ones(shape, np.float32)
    with refused(vg.ShapeError, "y: expected shape (6, 3), got"):
        net.loss(x, wrong, "mse")
    with refused(vg.ShapeError, "cotangent: expected shape (6, 3), got"):
        net.gradients(x, cotangent=wrong)


def test_a_row_is_a_cotangent_for_one_sample() -> None:
    net, x = network(), samples()[:1]
    row = np.ones(CLASSES, np.float32)
    a, b = net.gradients(x, cotangent=row), net.gradients(x, cotangent=row[None])
    assert all(np.array_equal(a[name], b[name]) for name in a)


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "1 NaN, 0 inf"), (np.inf, "0 NaN, 1 inf"), (-np.inf, "0 NaN, 1")]
)
def test_non_finite_input_says_where(value: float, words: str) -> None:
    net, x = network(), samples()
    x[2, 3] = value
    with refused(vg.NonFiniteError, "x: expected finite values, got 1 of 24", words, "x[2, 3]", "nan_to_num"):
        net.forward(x)
    y = samples()[:, :CLASSES].copy()
    y[1, 0] = value
    with refused(vg.NonFiniteError, "y: ", words, "y[1, 0]"):
        net.loss(samples(), y, "mse")
    with refused(vg.NonFiniteError, "cotangent: ", words, "cotangent[1, 0]"):
        net.probe(samples(), cotangent=y)


def test_non_finite_counts_and_first_position() -> None:
    x = samples()
    x[4, 1] = np.inf
    x[5, 0] = np.nan
    x[5, 3] = np.nan
    with refused(vg.NonFiniteError, "got 3 of 24", "2 NaN, 1 inf", "the first, inf, is at x[4, 1]"):
        network().forward(x)


def test_python_floats_beyond_float32_do_not_become_infinite() -> None:
    with refused(vg.NonFiniteError, "once held as float32", "x[0, 0]"):
        network().forward([[1e300, 0.0, 0.0, 0.0]])


# --- labels and probabilities ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 3, 0, 1, 2], ["got 3 at y[2]", "0..2 (3 classes", "1 of 6"]),
        ([0, 1, -1, -1, 1, 2], ["got -1 at y[2]", "2 of 6", "ignore"]),
        ([1, 2, 3, 1, 2, 3], ["got 3 at y[2]", "labels count from 0: y - 1"]),
        ([0, 1, 2**62, 0, 1, 2], [str(2**62)]),
    ],
)
def test_labels_out_of_range(labels: list[int], words: list[str]) -> None:
    with refused(vg.LabelError, "y: expected class labels", *words):
        network().loss(samples(), labels, "cross_entropy")


def test_unsigned_labels_do_not_wrap() -> None:
    with refused(vg.LabelError, str(2**64 - 1)):
        network().loss(samples(), np.array([0, 1, 2**64 - 1, 0, 1, 2], np.uint64), "cross_entropy")


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (LABELS.astype("float32"), vg.DTypeError, ["integer class labels", "float32", 'y.astype("int64")']),
        (LABELS > 0, vg.DTypeError, ["integer class labels", "bool", 'y.astype("int64")']),
        (LABELS[:, None], vg.ShapeError, ["(6,)", "(6, 1)", "y.ravel()"]),
        (LABELS[:, None].astype("float32"), vg.ShapeError, ["(6, 1)", "y.ravel()"]),
        (np.eye(3, dtype=int)[LABELS], vg.ShapeError, ["(6, 3)", "y.argmax(axis=1)"]),
        (LABELS[:5], vg.ShapeError, ["(6,)", "(5,)"]),
        (np.int64(1), vg.ShapeError, ["(6,)", "()"]),
        (np.array([], int), vg.ShapeError, ["6 class labels", "empty"]),
        (["a"] * 6, vg.DTypeError, ["expected float32", "<U1"]),
        (np.full((6, 3), 0.5, "float32"), vg.ArgumentError, ["sum to 1", "1.5 in row 0", "keepdims=True"]),
        (np.array([[1.5, -0.5, 0]] * 6, "float32"), vg.ArgumentError, ["probabilities", "-0.5 at y[0, 1]"]),
    ],
)
def test_class_targets_that_are_none(y: Any, error: type[Exception], words: list[str]) -> None:
    with refused(error, "y: expected", *words):
        network().loss(samples(), y, "cross_entropy")


def test_targets_of_bce_are_within_zero_and_one() -> None:
    y = np.ones((BATCH, CLASSES), np.float32)
    y[3, 1] = 1.5
    with refused(vg.ArgumentError, "[0, 1]", "1.5 at y[3, 1]"):
        network().loss(samples(), y, "bce_with_logits")
