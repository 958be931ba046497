"""ONNX Runtime on the CPU: fixed padded batches, the same bits in every run.

The runtime releases the interpreter's lock while it computes, so that a thread that runs a batch stops no lane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.packages.card import Card
from pipeline.errors import BadInput, MissingExtra, StateError
from pipeline.messages import Float32

BATCH_AXIS = "B"
"""Name of the free first dimension of all graphs; a session binds it to the card's batch."""
_LONGEST = 300


class Session:
    """A model ready to run. Not bound to a thread; several may call `run` at once.

    Args:
        model: `model.onnx`, as bytes, so that what runs is what was hashed.
        card: of the model.
        threads: that share the work of one run.
        alone: whether each row runs in a batch of its own, because rows change bits with their position.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        StateError: the runtime cannot load the model.
        BadInput: the graph's inputs or outputs are not those of the card.
    """

    def __init__(self, model: bytes, card: Card, threads: int = 1, alone: bool = False) -> None:
        self.card, self.threads, self.alone = card, threads, alone
        self._name = f"model '{card.name}' {card.version}"
        self._session = _open(model, card, threads, self._name)
        self._outputs = [output.name for output in card.outputs]
        self._check_graph()
        self._zeros: Float32 = np.zeros((card.batch, *card.input.shape), np.float32)
        self._call(self._zeros)  # the first run allocates and packs; whoever comes next shall not wait for it

    def run(self, x: NDArray[np.floating[Any]]) -> dict[str, Float32]:
        """Apply the model to rows.

        Args:
            x: shape (n, …) with the card's input shape behind n; any n, finite.

        Returns:
            Output name → float32, shape (n, …).

        Raises:
            BadInput: another shape, or numbers that are not finite.
            StateError: the runtime failed.
        """
        if x.shape[1:] != self.card.input.shape or x.ndim == 0:
            raise BadInput("shape", f"{self._name} reads rows of shape {self.card.input.shape}, not {x.shape[1:]}")
        if x.dtype.kind != "f":
            raise BadInput("kind", f"{self._name} reads floating-point rows, not {x.dtype}")
        x = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(x).all():
            raise BadInput("not_finite", f"{self._name}: rows hold infinite or not-a-number values")
        step = 1 if self.alone else self.card.batch
        parts = [self._padded(x[n : n + step]) for n in range(0, len(x), step)]
        if not parts:
            return {o.name: np.empty((0, *o.shape), np.float32) for o in self.card.outputs}
        return {name: np.concatenate(rows) for name, rows in zip(self._outputs, zip(*parts, strict=True), strict=True)}

    def first(self, x: NDArray[np.floating[Any]]) -> Float32:
        """The first output of `run`, by which a card's kind is judged: an encoder's tokens, a head's logits."""
        return self.run(x)[self._outputs[0]]

    def batch(self, x: Float32) -> list[Float32]:
        """One full batch as it is, without checks; outputs in the card's order. For the package's own checks."""
        return self._call(x)

    def _padded(self, rows: Float32) -> list[Float32]:
        if len(rows) == self.card.batch:
            return self._call(rows)
        x = self._zeros.copy()
        x[: len(rows)] = rows
        return [y[: len(rows)] for y in self._call(x)]

    def _call(self, x: Float32) -> list[Float32]:
        try:
            result: list[Float32] = self._session.run(self._outputs, {self.card.input.tensor: x})
        except Exception as error:  # its exceptions have no common base of their own
            raise StateError(f"{self._name}: the runtime failed: {_bounded(error)}") from error
        for y, output in zip(result, self.card.outputs, strict=True):
            if y.shape != (self.card.batch, *output.shape):
                wanted = (self.card.batch, *output.shape)
                raise BadInput("shape", f"{self._name}: '{output.name}' has shape {y.shape}, its card says {wanted}")
        return result

    def _check_graph(self) -> None:
        told = {i.name: (i.type, tuple(i.shape[1:])) for i in self._session.get_inputs()}
        if told != {self.card.input.tensor: ("tensor(float)", self.card.input.shape)}:
            wanted = f"float32 '{self.card.input.tensor}' {self.card.input.shape}"
            raise BadInput("shape", f"{self._name}: its card says one input, {wanted}; the graph has {told}"[:_LONGEST])
        types = {o.name: o.type for o in self._session.get_outputs()}
        for name in self._outputs:
            if types.get(name) != "tensor(float)":
                raise BadInput("shape", f"{self._name}: the graph gives no float32 '{name}'; it gives {sorted(types)}")


def _open(model: bytes, card: Card, threads: int, name: str) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("models", "running a model package") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting must not burn a shard's core
    options.add_free_dimension_override_by_name(BATCH_AXIS, card.batch)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        raise StateError(f"{name}: the runtime refuses the graph: {_bounded(error)}") from error


def _bounded(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST]
