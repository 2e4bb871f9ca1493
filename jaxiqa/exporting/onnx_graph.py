"""A function of JAX as an ONNX graph, operation by operation.

The function is traced with a batch of unknown size. What depends on weights only is computed here, so a BatchNorm
becomes one product and one sum. A broadcast stays open until an operation needs it, because the operations of ONNX
broadcast by themselves. Equal operations are written once, unused ones are left out.

jax2onnx would do the same for more operations, but it demands an older Orbax than our checkpoints need. This
translator has the operations that the models of jaxiqa use. If a model from outside needs another one, the model is
refused, and the message names the operation.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxiqa.errors import ConfigError

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 10  # read by onnxruntime from 1.18 on
BATCH = "batch"

_SAME = {  # operations that ONNX has under another name, element by element
    "abs": "Abs", "add": "Add", "div": "Div", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater",
    "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul",
    "neg": "Neg", "pow": "Pow", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh", "erf": "Erf",
}  # fmt: skip
_REDUCED = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
_FOLDED = {"add": np.add, "mul": np.multiply, "sub": np.subtract}  # XLA would compile each for each shape
_CALLS = ("checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit")
_PASSED = ("copy", "stop_gradient", "optimization_barrier")


@dataclasses.dataclass
class _Value:
    """A tensor of the graph, or a constant. `real` is its shape, `shape` what it is broadcast to."""

    real: tuple
    shape: tuple
    name: str = ""
    constant: np.ndarray | None = None


def to_model(function: Callable, sides: Sequence[int], input_name: str, outputs: Sequence[str]) -> "onnx.ModelProto":
    """Returns the ONNX model of a function: uint8 (B, *sides) -> a tuple of arrays, named `outputs`.

    Raises:
      ConfigError: the function uses an operation that is not translated.
    """
    from onnx import TensorProto, helper, numpy_helper  # of the extra [export], as everywhere in this room

    (batch,) = jax.export.symbolic_shape("b")
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *sides), np.uint8))
    graph = _Graph(input_name)
    given = _Value((batch, *sides), (batch, *sides), input_name)
    found = graph.run(closed.jaxpr, closed.consts, [given])
    kept = [graph.add("Identity", [graph.filled(value)]) for value in found]
    for name, node in zip(outputs, (graph.made[value] for value in kept), strict=True):
        node.output[0] = name
    sizes = [[BATCH if not isinstance(n, int) else n for n in value.shape] for value in found]
    types = [helper.np_dtype_to_tensor_dtype(np.dtype(var.aval.dtype)) for var in closed.jaxpr.outvars]
    proto = helper.make_graph(
        _used(graph.nodes, outputs),
        "jaxiqa",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, [BATCH, *sides])],
        [helper.make_tensor_value_info(*each) for each in zip(outputs, types, sizes, strict=True)],
    )
    needed = {name for node in proto.node for name in node.input}
    proto.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in graph.arrays.items() if name in needed
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _used(nodes: list, outputs: Sequence[str]) -> list:
    """The nodes that the outputs depend on."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output[0] in needed:
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


class _Graph:
    """Collects nodes and constants while the operations of a function are walked through."""

    def __init__(self, input_name: str):
        self.input_name = input_name
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, onnx.NodeProto] = {}  # by the name of the output
        self.arrays: dict[str, np.ndarray] = {}
        self._known: dict = {}  # what was added before

    def run(self, jaxpr, constants, values: list[_Value]) -> list[_Value]:
        """Adds the operations of a jaxpr to the graph. Returns its outputs."""
        known = dict(zip(jaxpr.constvars, map(_constant, constants), strict=True))
        known |= dict(zip(jaxpr.invars, values, strict=True))
        value_of = lambda var: _constant(var.val) if hasattr(var, "val") else known[var]  # noqa: E731
        for eqn in _needed(jaxpr):
            if all(map(_is_empty, eqn.outvars)):
                found = [_Value(shape, shape, constant=np.zeros(0)) for shape in (v.aval.shape for v in eqn.outvars)]
            else:
                found = self._one(eqn, [value_of(var) for var in eqn.invars])
            known |= dict(zip(eqn.outvars, found, strict=True))
        return [value_of(var) for var in jaxpr.outvars]

    def _one(self, eqn, values: list[_Value]) -> list[_Value]:
        name, params = eqn.primitive.name, eqn.params
        shapes = [tuple(var.aval.shape) for var in eqn.outvars]
        if name == "platform_index":  # the branch that is for no platform in particular
            return [_constant(np.int32(params["platforms"].index(None)))]
        if name == "cond":
            index = int(_needs_constant(values[0], name))
            inner = params["branches"][index]
            return self.run(inner.jaxpr, inner.consts, values[1:])
        if name in _CALLS:
            inner = params.get("call_jaxpr") or params["jaxpr"]
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values)
        if name == "broadcast_in_dim":
            return [self._broadcast(values[0], shapes[0], params["broadcast_dimensions"])]
        if all(value.constant is not None for value in values) and all(map(_is_known, shapes)):
            arrays = [np.broadcast_to(v.constant, v.shape) for v in values]
            if name in _FOLDED:
                return [_constant(_FOLDED[name](*arrays))]
            if name == "reshape":
                return [_constant(arrays[0].reshape(shapes[0]))]
            try:
                with jax.ensure_compile_time_eval():
                    found = eqn.primitive.bind(*arrays, **params)
            except NotImplementedError as error:  # of the size of the batch
                raise _untranslated(name) from error
            return [_constant(one) for one in (found if eqn.primitive.multiple_results else [found])]
        if name in _PASSED:
            return values
        if name == "unstack":
            return self._unstack(values[0], eqn.params["axis"], shapes)
        if name in _SAME:
            return [self._elementwise(_SAME[name], values, shapes[0])]
        method = getattr(self, f"_{name}", None)
        if method is None and name not in _REDUCED:
            raise _untranslated(name)
        if name in _REDUCED:
            found = self._reduction(_REDUCED[name], values[0], params["axes"])
        else:
            found = method(eqn, *values)
        return [_Value(shapes[0], shapes[0], found) if isinstance(found, str) else found]

    # Nodes and constants

    def add(self, op: str, inputs: Sequence[str], **attributes) -> str:
        """Adds a node, unless the graph has it. Returns the name of its output."""
        from onnx import helper

        key = op, *inputs, *sorted((name, str(value)) for name, value in attributes.items())
        if key not in self._known:
            output = self._known[key] = f"v{len(self.nodes)}"
            unused = [f"{output}_places"] if op == "TopK" else []
            node = helper.make_node(op, list(inputs), [output, *unused], **attributes)
            self.nodes.append(node)
            self.made[output] = node
        return self._known[key]

    def array(self, array: Any, dtype=None) -> str:
        """Adds a constant, unless the graph has it. Returns its name."""
        array = np.asarray(array, dtype)
        key = "", array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = f"c{len(self.arrays)}"
            self.arrays[self._known[key]] = array
        return self._known[key]

    def raw(self, value: _Value) -> str:
        """The name of a value that may still be open to a broadcast."""
        return self.array(value.constant) if value.constant is not None else value.name

    def filled(self, value: _Value) -> str:
        """The name of a value in its whole shape."""
        if value.real == value.shape:
            return self.raw(value)
        if value.constant is not None and _is_known(value.shape):
            return self.array(np.broadcast_to(value.constant, value.shape))
        return self.add("Expand", [self.raw(value), self._sizes(value.shape)])

    def _sizes(self, shape: tuple) -> str:
        """The name of a vector with a shape, whose batch is known at run time only."""
        if _is_known(shape):
            return self.array(shape, np.int64)
        batch = self.add("Shape", [self.input_name], start=0, end=1)
        parts = []
        for n in shape:
            if isinstance(n, int):
                parts.append(self.array([n], np.int64))
            else:
                parts.append(self.add("Mul", [batch, self.array([_times(n)], np.int64)]))
        return self.add("Concat", parts, axis=0)

    def reshaped(self, name: str, shape: tuple) -> str:
        """Another shape of the same elements; at most one side depends on the batch."""
        return self.add("Reshape", [name, self.array([n if isinstance(n, int) else -1 for n in shape], np.int64)])

    def transposed(self, name: str, order: Sequence[int]) -> str:
        order = [int(axis) for axis in order]
        return name if order == sorted(order) else self.add("Transpose", [name], perm=order)

    def sliced(self, name: str, cuts: dict[int, tuple[int, int, int]]) -> str:
        """The part (start, end, step) along each of some axes."""
        if not cuts:
            return name
        numbers = zip(*cuts.values(), strict=True)
        starts, ends, steps = (self.array(column, np.int64) for column in numbers)
        return self.add("Slice", [name, starts, ends, self.array(list(cuts), np.int64), steps])

    # Operations

    def _broadcast(self, value: _Value, shape: tuple, axes: Sequence[int]) -> _Value:
        real = [1] * len(shape)
        for axis, n in zip(axes, value.real, strict=True):
            real[axis] = n
        real = tuple(real)
        if value.constant is not None:
            return _Value(real, shape, constant=value.constant.reshape(real))
        return _Value(real, shape, value.name if real == value.real else self.reshaped(value.name, real))

    def _elementwise(self, op: str, values: list[_Value], shape: tuple, **attributes) -> _Value:
        rank = len(shape)
        sides = [(1,) * (rank - len(value.real)) + value.real for value in values]
        real = tuple(
            next((n for n in column if not (isinstance(n, int) and n == 1)), 1) for column in zip(*sides, strict=True)
        )
        return _Value(real, shape, self.add(op, [self.raw(value) for value in values], **attributes))

    def _reduction(self, op: str, value: _Value, axes: Sequence[int]) -> str:
        return self.add(op, [self.filled(value), self.array(axes, np.int64)], keepdims=0)

    def _square(self, eqn, x):
        return self._elementwise("Mul", [x, x], x.shape)

    def _rsqrt(self, eqn, x):
        return self._elementwise("Reciprocal", [self._elementwise("Sqrt", [x], x.shape)], x.shape)

    def _erfc(self, eqn, x):
        one = _constant(np.ones((), eqn.invars[0].aval.dtype))
        return self._elementwise("Sub", [one, self._elementwise("Erf", [x], x.shape)], x.shape)

    def _integer_pow(self, eqn, x):
        power = _constant(np.asarray(eqn.params["y"], eqn.invars[0].aval.dtype))
        return self._elementwise("Pow", [x, power], x.shape)

    def _round(self, eqn, x):
        if eqn.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
            raise _untranslated("round, halves away from 0")
        return self._elementwise("Round", [x], x.shape)

    def _convert_element_type(self, eqn, x):
        from onnx import helper

        new = np.dtype(eqn.params["new_dtype"])
        if new == np.dtype(eqn.invars[0].aval.dtype):
            return x
        return self._elementwise("Cast", [x], x.shape, to=int(helper.np_dtype_to_tensor_dtype(new)))

    def _select_n(self, eqn, which, if_false, if_true):
        return self._elementwise("Where", [which, if_true, if_false], if_true.shape)

    def _reshape(self, eqn, x):
        return self.reshaped(self.filled(x), eqn.outvars[0].aval.shape)

    def _squeeze(self, eqn, x):
        gone = set(eqn.params["dimensions"])
        real, shape = (tuple(n for i, n in enumerate(sides) if i not in gone) for sides in (x.real, x.shape))
        return _Value(real, shape, self.reshaped(self.raw(x), real))

    def _transpose(self, eqn, x):
        order = eqn.params["permutation"]
        real, shape = (tuple(sides[i] for i in order) for sides in (x.real, x.shape))
        return _Value(real, shape, self.transposed(self.raw(x), order))

    def _concatenate(self, eqn, *parts):
        full = [self.filled(part) for part, var in zip(parts, eqn.invars, strict=True) if not _is_empty(var)]
        return self.add("Concat", full, axis=int(eqn.params["dimension"])) if len(full) > 1 else full[0]

    def _stack(self, eqn, *parts):
        axis = int(eqn.params["axis"])
        columns = [self.add("Unsqueeze", [self.filled(part), self.array([axis], np.int64)]) for part in parts]
        return self.add("Concat", columns, axis=axis)

    def _unstack(self, x: _Value, axis: int, shapes: Sequence[tuple]) -> list[_Value]:
        name = self.filled(x)
        places = [self.array(i, np.int64) for i in range(len(shapes))]
        names = [self.add("Gather", [name, place], axis=int(axis)) for place in places]
        return [_Value(shape, shape, found) for shape, found in zip(shapes, names, strict=True)]

    def _rev(self, eqn, x):
        return self.sliced(self.filled(x), dict.fromkeys(eqn.params["dimensions"], (-1, -(2**31), -1)))

    def _slice(self, eqn, x):
        starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
        steps = eqn.params["strides"] or (1,) * len(starts)
        parts = enumerate(zip(starts, ends, steps, x.shape, strict=True))
        cuts = {axis: cut for axis, (*cut, side) in parts if cut[:2] != [0, side] or cut[2] != 1}
        return self.sliced(self.filled(x), cuts)

    def _pad(self, eqn, x, value):
        low, high, inside = zip(*((int(n) for n in sides) for sides in eqn.params["padding_config"]), strict=True)
        if any(inside) or min(*low, *high) < 0:
            raise _untranslated("pad, between elements")
        fill = self.array(np.asarray(_needs_constant(value, "pad"), eqn.invars[0].aval.dtype))
        return self.add("Pad", [self.filled(x), self.array([*low, *high], np.int64), fill], mode="constant")

    def _sort(self, eqn, x):
        axis = int(eqn.params["dimension"])
        size = self.array([x.shape[axis]], np.int64)
        return self.add("TopK", [self.filled(x), size], axis=axis, largest=0, sorted=1)

    def _gather(self, eqn, x, indices):
        """Slices of constant places: along each axis one place, or places that depend on one axis of the indices."""
        how, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
        places = np.asarray(_needs_constant(indices, "gather"))
        name, moved, cuts = self.filled(x), {}, {}
        for column, axis in enumerate(how.start_index_map):
            along = places[..., column]
            varies = [i for i in range(along.ndim) if (along != along.take([0], i)).any()]
            line = np.moveaxis(along, varies[0], -1).reshape(-1, along.shape[varies[0]])[0] if varies else along.ravel()
            if len(varies) > 1 or (varies and (sizes[axis] != 1 or axis not in how.collapsed_slice_dims)):
                raise _untranslated("gather, of this form")
            if varies:
                moved[axis] = varies[0]
                steps = {*np.diff(line).tolist()}
                if len(steps) == 1 and min(steps) > 0:
                    cuts[axis] = int(line[0]), int(line[-1]) + 1, steps.pop()
                else:
                    name = self.add("Gather", [name, self.array(line, np.int64)], axis=axis)
            else:
                cuts[axis] = int(line[0]), int(line[0]) + sizes[axis], 1
        name = self.sliced(name, cuts)
        # The axes now: those that are left of each slice, and in place of some those of the indices.
        rank = len(eqn.outvars[0].aval.shape)
        left = [axis for axis in range(len(sizes)) if axis not in how.collapsed_slice_dims]
        of_indices = [i for i in range(rank) if i not in how.offset_dims]
        target = {axis: how.offset_dims[i] for i, axis in enumerate(left)}
        target |= {axis: of_indices[index] for axis, index in moved.items()}
        kept = [axis for axis in range(len(sizes)) if axis in target]
        shape = eqn.outvars[0].aval.shape
        if len(kept) != rank:
            raise _untranslated("gather, which repeats an axis")
        if len(kept) != len(sizes):
            name = self.reshaped(name, tuple(shape[target[axis]] for axis in kept))
        return self.transposed(name, np.argsort([target[axis] for axis in kept]))

    def _dot_general(self, eqn, x, y):
        """A matrix product, (batch, M, K) with (batch, K, N); y of two axes takes any number of axes of x."""
        (x_sums, y_sums), (x_batch, y_batch) = eqn.params["dimension_numbers"]
        x_free = [i for i in range(len(x.shape)) if i not in (*x_sums, *x_batch)]
        y_free = [i for i in range(len(y.shape)) if i not in (*y_sums, *y_batch)]
        left = self.transposed(self.filled(x), (*x_batch, *x_free, *x_sums))
        if y.constant is not None:
            y_all = np.broadcast_to(y.constant, y.shape).transpose(*y_batch, *y_sums, *y_free)
            right = self.array(np.ascontiguousarray(y_all))
        else:
            right = self.transposed(self.filled(y), (*y_batch, *y_sums, *y_free))
        batch = [x.shape[i] for i in x_batch]
        rows, columns = [x.shape[i] for i in x_free], [y.shape[i] for i in y_free]
        x_summed, y_summed = [x.shape[i] for i in x_sums], [y.shape[i] for i in y_sums]
        if batch or len(x_sums) != 1:
            left = self._joined(left, batch, [rows, x_summed])
        if batch or len(y_sums) != 1 or len(y_free) != 1:
            right = self._joined(right, batch, [y_summed, columns])
        product = self.add("MatMul", [left, right])
        shape = eqn.outvars[0].aval.shape
        flat = len(batch) + 2 if batch or len(x_sums) != 1 else len(rows) + 1
        return product if flat == len(shape) and len(columns) == 1 else self.reshaped(product, shape)

    def _joined(self, name: str, batch: list, groups: list) -> str:
        """The axes of each group as one."""
        shape = (*batch, *(_product(group) for group in groups))
        if all(len(group) == 1 for group in groups):
            return name
        return self.reshaped(name, shape)

    def _conv_general_dilated(self, eqn, x, kernel):
        params = eqn.params
        if params["batch_group_count"] != 1 or {*params["lhs_dilation"]} != {1}:
            raise _untranslated("conv_general_dilated, transposed")
        how = params["dimension_numbers"]
        weights = np.broadcast_to(_needs_constant(kernel, "conv"), kernel.shape).transpose(how.rhs_spec)
        low, high = zip(*params["padding"], strict=True)
        found = self.add(
            "Conv",
            [self.transposed(self.filled(x), how.lhs_spec), self.array(np.ascontiguousarray(weights))],
            kernel_shape=list(weights.shape[2:]),
            strides=list(params["window_strides"]),
            pads=[*map(int, low), *map(int, high)],
            dilations=list(params["rhs_dilation"]),
            group=params["feature_group_count"],
        )
        return self.transposed(found, np.argsort(how.out_spec))


def _needed(jaxpr) -> list:
    """The operations that the outputs depend on: the others may have shapes that no graph can hold."""
    needed, kept = {var for var in jaxpr.outvars if not hasattr(var, "val")}, []
    for eqn in reversed(jaxpr.eqns):
        if not needed.isdisjoint(eqn.outvars):
            if not all(map(_is_empty, eqn.outvars)):
                needed.update(var for var in eqn.invars if not hasattr(var, "val"))
            kept.append(eqn)
    return kept[::-1]


def _constant(value: Any) -> _Value:
    array = np.asarray(value)
    return _Value(array.shape, array.shape, constant=array)


def _is_empty(var) -> bool:
    return any(isinstance(n, int) and n == 0 for n in var.aval.shape)


def _is_known(shape: tuple) -> bool:
    return all(isinstance(n, int) for n in shape)


def _times(size) -> int:
    """The number of elements along an axis for each image of the batch."""
    (batch,) = jax.export.symbolic_shape("b", scope=size.scope)
    return int(size // batch)


def _product(sizes: Sequence):
    product = 1
    for size in sizes:
        product = product * size
    return product


def _untranslated(what: str) -> ConfigError:
    return ConfigError(
        f'the model uses the operation "{what}" of JAX, which has no translation to ONNX here; use --format stablehlo',
        code="unknown",
        key="--format",
    )


def _needs_constant(value: _Value, name: str) -> np.ndarray:
    if value.constant is None:
        raise _untranslated(f"{name}, by computed places or weights")
    return value.constant
