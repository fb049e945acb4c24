"""Export to ONNX: one node per recurrent layer, built from the NumPy weights.

Inputs are ``ids`` (T, B) int64 and ``state`` (L, S, B, H) float32; outputs are ``logits``
(T, B, V) and ``new_state`` (L, S, B, H). T and B are symbolic. ``state`` and ``new_state`` are
laid out as in ``net.engine``: start a text with zeros, and pass ``new_state`` to the next call. The
graph of a list's model does not set h and c to zero itself: start each item with zeros and the id
``end`` of the metadata.

ONNX has three recurrent operators. Each cell is mapped to one of them:

- ``lstm`` and ``peephole`` are LSTM. ONNX's gate order is input, output, forget, candidate.
- ``coupled`` is LSTM with the forget rows negated as its input rows, since i = 1 - sigma(z) =
  sigma(-z). Runtimes disagree about the attribute ``input_forget``.
- ``lstm-1997`` is LSTM with a forget bias of 30: sigma(30) is 1 in float32.
- ``gru`` is GRU with ``linear_before_reset``, torch's convention. ONNX's gate order is update,
  reset, candidate.
- ``rnn`` is RNN.

Source: the ONNX operator specification, opset 17.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.net.spec import CELLS, CellSpec, layer_prefix
from charlstm.runs.checkpoint import ModelFile
from charlstm.show.printable import printable

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[np.float32]

OPSET, IR_VERSION = 17, 8
"""The oldest pair that current runtimes support."""
OPEN_FORGET_GATE = 30.0
"""As a bias: sigma(30) is 1 in float32."""
LIMIT = 1 << 31
"""Maximum size in bytes of a Protocol Buffers file."""
ORDER = {
    "LSTM": ("input", "output", "forget", "candidate"),
    "GRU": ("update", "reset", "candidate"),
    "RNN": ("candidate",),
}
"""Order of the row blocks in each ONNX operator."""
OPERATORS = {"gru": "GRU", "rnn": "RNN"}
"""Operators of the cells that are not LSTMs."""


def to_onnx(file: ModelFile, version: str) -> bytes:
    """The content of a ``.onnx`` file.

    The metadata holds ``symbols`` (a JSON list, indexed by id), ``kind`` (characters or bytes),
    ``cell``, ``run`` and charlstm's ``version``; for a list, also ``separator`` and the id ``end``.

    Raises:
        CharlstmError: the package onnx is not installed, or the model exceeds the format's 2 GiB.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise CharlstmError(
            "the package onnx is not installed", "run: pip install 'charlstm[onnx]'"
        ) from None
    config, weights = file.config, file.weights
    if sum(array.nbytes for array in weights.values()) >= LIMIT:
        raise CharlstmError(
            f"the model has {config.parameters:,} parameters; an ONNX file is limited to 2 GiB",
            "export a smaller model",
        )
    spec, layers, size = CELLS[config.cell], config.layers, config.hidden_size
    states = len(spec.states)
    constants: dict[str, NDArray[Any]] = {
        "embedding": weights["embedding"],
        "output_weight": np.ascontiguousarray(weights["output_weight"].T),
        "output_bias": weights["output_bias"],
        "first": np.array([0]),
        "second": np.array([1]),
    }
    nodes: list[NodeProto] = []

    def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        name = f"{operator}:{outputs[0]}"
        nodes.append(helper.make_node(operator, inputs, outputs, name, **attributes))

    node("Gather", ["embedding", "ids"], ["x"])
    below, total = "x", ""
    for layer in range(layers):
        prefix = layer_prefix(layer)
        constants[f"{prefix}index"] = np.array(layer)
        arrays = {
            name.removeprefix(prefix): array
            for name, array in weights.items()
            if name.startswith(prefix)
        }
        operator, packed, attributes = _recurrent(spec, arrays)
        constants |= {f"{prefix}{name}": array for name, array in packed.items()}
        # (S, B, H), one (1, B, H) for each state.
        node("Gather", ["state", f"{prefix}index"], [f"{prefix}state"], axis=0)
        before = [f"{prefix}{name}" for name in spec.states]
        after = [f"{prefix}{name}_next" for name in spec.states]
        if states == 1:
            before = [f"{prefix}state"]
        else:
            node("Split", [f"{prefix}state"], before, axis=0)
        inputs = [below, f"{prefix}W", f"{prefix}R", f"{prefix}B", "", *before]
        if "P" in packed:
            inputs.append(f"{prefix}P")
        node(operator, inputs, [f"{prefix}all", *after], hidden_size=size, **attributes)
        if states == 1:
            new = after[0]
        else:
            new = f"{prefix}new_state"
            node("Concat", after, [new], axis=0)
        node("Unsqueeze", [new, "first"], [f"{prefix}new"])
        below = f"{prefix}output"
        node("Squeeze", [f"{prefix}all", "second"], [below])
        if layer:
            node("Add", [total, below], [f"{prefix}total"])
        total = f"{prefix}total" if layer else below
    node("MatMul", [total, "output_weight"], ["scores"])
    node("Add", ["scores", "output_bias"], ["logits"])
    news = [f"{layer_prefix(layer)}new" for layer in range(layers)]
    node("Concat", news, ["new_state"], axis=0)
    state_shape = (layers, states, "B", size)
    graph = helper.make_graph(
        nodes,
        "charlstm",
        inputs=[
            helper.make_tensor_value_info("ids", TensorProto.INT64, ("T", "B")),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, state_shape),
        ],
        outputs=[
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ("T", "B", config.vocab_size)
            ),
            helper.make_tensor_value_info("new_state", TensorProto.FLOAT, state_shape),
        ],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="charlstm",
        producer_version=version,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    metadata = {
        "symbols": json.dumps(list(file.vocab.symbols)),
        "kind": file.vocab.kind,
        "cell": config.cell,
        "run": printable(file.training.get("run", ""), keep=""),
        "version": version,
    }
    if config.end is not None:
        metadata |= {"separator": file.vocab.separator or "", "end": str(config.end)}
    helper.set_model_props(model, metadata)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _recurrent(
    spec: CellSpec, arrays: dict[str, Array]
) -> tuple[str, dict[str, Array], dict[str, int]]:
    """The operator of a layer, its inputs W, R, B and perhaps P, and its attributes."""
    operator = OPERATORS.get(spec.name, "LSTM")
    w, r = spec.split(arrays["weight_input"]), spec.split(arrays["weight_hidden"])
    bias = spec.split(arrays["bias"])
    hidden_bias = {name: np.zeros_like(values) for name, values in bias.items()}
    attributes: dict[str, int] = {}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
        hidden_bias |= spec.split(arrays["bias_hidden"], "bias_hidden")
    elif operator == "LSTM" and "input" not in w:
        for blocks in (w, r, bias):
            blocks["input"] = -blocks["forget"]
    elif operator == "LSTM" and "forget" not in w:
        for blocks in (w, r, bias):
            blocks["forget"] = np.zeros_like(blocks["input"])
        bias["forget"] = np.full_like(bias["forget"], OPEN_FORGET_GATE)

    def pack(*parts: dict[str, Array]) -> Array:
        rows = np.concatenate(
            [
                blocks.get(name, np.zeros_like(bias["candidate"]))
                for blocks in parts
                for name in ORDER[operator]
            ]
        )
        return rows[None]  # one direction

    packed = {"W": pack(w), "R": pack(r), "B": pack(bias, hidden_bias)}
    if "weight_peephole" in arrays:
        peepholes = spec.split(arrays["weight_peephole"], "weight_peephole")
        packed["P"] = np.concatenate([peepholes[name] for name in ("input", "output", "forget")])[
            None
        ]
    return operator, packed, attributes
