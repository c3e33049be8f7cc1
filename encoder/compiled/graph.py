"""The graph of Llama-like decoders, written node by node: no tracing, no torch.

It computes what transformers' Llama, Mistral, Qwen2 and Qwen3 compute with bidirectional attention and without padding:
all texts of a batch have the same number of tokens, so that no mask is needed and no row depends on another.

Shape suffixes: B batch, L tokens, D hidden width, H heads, K key and value heads, C components of a head, P components
of a vector, I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .encoder import IDS, POOL
from .errors import NotCompiledError
from .shape import DecoderShape
from .weights import Weights

DATA_FILE = "weights.bin"
MICROSOFT = "com.microsoft"
OPSET, MICROSOFT_OPSET, IR_VERSION = 23, 1, 10
# Where memory is mapped: a page.
ALIGNMENT = 4096
# Smaller tensors lie in the graph itself.
INLINE_BYTES = 1024


class _Writer:
    """Nodes, and tensors whose numbers go to the data file."""

    def __init__(self, data: IO[bytes], weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._data = data
        self._left = dict(weights)
        self._count = 0

    def node(self, kind: str, inputs: list[str], *, domain: str = "", outputs: int = 1, **settings: Any) -> list[str]:
        self._count += 1
        names = [f"{kind}.{self._count}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **settings))
        return names

    def one(self, kind: str, inputs: list[str], **settings: Any) -> str:
        return self.node(kind, inputs, **settings)[0]

    def take(self, name: str) -> NDArray[np.float32]:
        """Return a weight of the model, which is then in the graph."""
        if name not in self._left:
            raise NotCompiledError(f"it has no tensor {name}")
        return self._left.pop(name)

    def takes(self, name: str) -> bool:
        return name in self._left

    def here(self) -> tuple[int, int]:
        """Return how many nodes and tensors there are."""
        return len(self.nodes), len(self.tensors)

    def close(self) -> None:
        """Raise NotCompiledError for a weight that is left: the model has a part that the graph lacks."""
        if self._left:
            raise NotCompiledError(f"the graph has no place for {next(iter(self._left))}")

    def tensor(self, name: str, value: NDArray[Any], *, kind: int | None = None) -> str:
        """Add a constant; a large one goes to the data file. `kind` names what numpy has no type for."""
        value = np.ascontiguousarray(value)
        tensor = TensorProto(name=name, dims=value.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype) if kind is None else kind
        if value.nbytes < INLINE_BYTES:
            tensor.raw_data = value.tobytes()
        else:
            self._data.write(b"\0" * (-self._data.tell() % ALIGNMENT))
            place = {"location": DATA_FILE, "offset": self._data.tell(), "length": value.nbytes}
            self._data.write(value.data)
            tensor.data_location = TensorProto.EXTERNAL
            for key, said in place.items():
                tensor.external_data.add(key=key, value=str(said))
        self.tensors.append(tensor)
        return name

    def linear(self, states: str, names: list[str], place: str) -> str:
        """Return one product for the linear layers `names`, side by side."""
        weight_IO = np.concatenate([self.take(f"{name}.weight") for name in names]).T
        out = self.one("MatMul", [states, self.tensor(f"{place}.weight", weight_IO)])
        if self.takes(f"{names[0]}.bias"):
            bias_O = np.concatenate([self.take(f"{name}.bias") for name in names])
            out = self.one("Add", [out, self.tensor(f"{place}.bias", bias_O)])
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A model, whole and in parts."""

    whole: onnx.ModelProto
    parts: list[onnx.ModelProto]
    """The token table, each layer alone, and pooling with what follows: there to be proved."""
    known_tokens: int
    """Rows of the token table."""


def build_graph(shape: DecoderShape, weights: Weights, projection: Weights | None, data: IO[bytes]) -> Graph:
    """Return the graph; its weights are written to `data`, which is to become DATA_FILE beside it.

    Raises NotCompiledError when the weights have a part that the graph lacks, or lack one that it has.
    """
    to = _Writer(data, weights)
    known, width = weights["embed_tokens.weight"].shape
    ids, pool = _value(IDS, TensorProto.INT64, "B", "L"), _value(POOL, TensorProto.FLOAT, "B", "L")
    parts: list[onnx.ModelProto] = []

    def part(before: list[onnx.ValueInfoProto], begun: tuple[int, int], after: onnx.ValueInfoProto) -> None:
        nodes, tensors = begun
        parts.append(_model(to.nodes[nodes:], [*to.tensors[: len(shared)], *to.tensors[tensors:]], before, after))

    angles = np.outer(np.arange(shape.context), shape.frequencies)
    shared = [
        to.tensor("cos", np.cos(angles).astype(np.float32)),
        to.tensor("sin", np.sin(angles).astype(np.float32)),
        to.tensor("first", np.zeros(1, dtype=np.int64)),
    ]
    begun = to.here()
    states = _embedded(to, to.take("embed_tokens.weight"))
    before = _value(states, TensorProto.FLOAT, "B", "L", width)
    part([ids], begun, before)
    for number in range(shape.layers):
        begun = to.here()
        states = _layer(to, shape, f"layers.{number}", states)
        after = _value(states, TensorProto.FLOAT, "B", "L", width)
        part([before], begun, after)
        before = after
    begun = to.here()
    vectors, components = _pooled(to, shape, states, projection, width)
    after = _value(vectors, TensorProto.FLOAT, "B", components)
    part([pool, before], begun, after)
    to.close()
    return Graph(whole=_model(to.nodes, to.tensors, [ids, pool], after), parts=parts, known_tokens=known)


def _embedded(to: _Writer, table: NDArray[np.float32]) -> str:
    """Return the states of the token table; as bf16, where that loses nothing, it takes half the room."""
    bits = table.view(np.uint32)
    if (bits & 0xFFFF).any():
        return to.one("Gather", [to.tensor("table", table), IDS])
    half = to.tensor("table", (bits >> 16).astype(np.uint16), kind=TensorProto.BFLOAT16)
    return to.one("Cast", [to.one("Gather", [half, IDS])], to=TensorProto.FLOAT)


def _layer(to: _Writer, shape: DecoderShape, name: str, states: str) -> str:
    """Return the states after a decoder layer: attention and a gated feed-forward part, each after a norm."""
    normed = _norm(to, shape, states, f"{name}.input_layernorm")
    states = to.one("Add", [states, _attention(to, shape, f"{name}.self_attn", normed)])
    normed = _norm(to, shape, states, f"{name}.post_attention_layernorm")
    both = to.linear(normed, [f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"], f"{name}.gate_up")
    sizes = to.tensor(f"{name}.gate_up.sizes", np.array([shape.inner, shape.inner]))
    gate, up = to.node("Split", [both, sizes], outputs=2, axis=-1)
    # x * sigmoid(1.0 * x), which is SiLU.
    gated = to.one("Mul", [to.one("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0), up])
    return to.one("Add", [states, to.linear(gated, [f"{name}.mlp.down_proj"], f"{name}.down")])


def _attention(to: _Writer, shape: DecoderShape, name: str, states: str) -> str:
    both = to.linear(states, [f"{name}.{part}_proj" for part in "qkv"], f"{name}.qkv")
    query, rest = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sizes = to.tensor(f"{name}.qkv.sizes", np.array([query, rest, rest]))
    q, k, v = to.node("Split", [both, sizes], outputs=3, axis=-1)
    turned = []
    for part, projected, heads in (("q", q, shape.heads), ("k", k, shape.kv_heads)):
        normed = _head_norm(to, shape, projected, f"{name}.{part}_norm", heads)
        turned.append(to.one("RotaryEmbedding", [normed, "first", "cos", "sin"], domain=MICROSOFT, num_heads=heads))
    out = to.one(
        "Attention",
        [*turned, v],
        q_num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        is_causal=0,
    )
    return to.linear(out, [f"{name}.o_proj"], f"{name}.out")


def _norm(to: _Writer, shape: DecoderShape, states: str, name: str) -> str:
    weight = to.tensor(f"{name}.weight", to.take(f"{name}.weight"))
    return to.one("SimplifiedLayerNormalization", [states, weight], axis=-1, epsilon=shape.epsilon)


def _head_norm(to: _Writer, shape: DecoderShape, states: str, name: str, heads: int) -> str:
    """Return the states of each head normalised by itself where the model does so (Qwen3)."""
    if not to.takes(f"{name}.weight"):
        return states
    apart = to.one("Reshape", [states, to.tensor(f"{name}.apart", np.array([0, 0, heads, shape.head_dim]))])
    normed = _norm(to, shape, apart, name)
    return to.one("Reshape", [normed, to.tensor(f"{name}.joined", np.array([0, 0, heads * shape.head_dim]))])


def _pooled(to: _Writer, shape: DecoderShape, states: str, projection: Weights | None, width: int) -> tuple[str, int]:
    """Return the pooled states, projected, and how many components they have."""
    normed = _norm(to, shape, states, "norm")
    axis = to.tensor("pool.axis", np.array([1]))
    pooled = to.one("Squeeze", [to.one("MatMul", [to.one("Unsqueeze", [POOL, axis]), normed]), axis])
    if projection is not None:
        inputs = [pooled, to.tensor("projection.weight", projection["linear.weight"])]
        if "linear.bias" in projection:
            inputs.append(to.tensor("projection.bias", projection["linear.bias"]))
        pooled, width = to.one("Gemm", inputs, transB=1), len(projection["linear.weight"])
    return pooled, width


def _value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    tensors: list[TensorProto],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, MICROSOFT_OPSET)]
    graph = helper.make_graph(nodes, "searchctl", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
