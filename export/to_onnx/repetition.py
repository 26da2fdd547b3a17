"""Equal layers are traced once: a graph of the first of each kind, and the others copied from those.

To trace a layer takes a second or two, to copy its nodes none, so that a conversion no longer grows with
the depth. What is copied is what PyTorch's exporter wrote: the nodes that it marks as a layer's own, with the
weights of another layer that has the same modules, shapes and settings. Where that cannot be established the
whole encoder is traced.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import onnx_ir
from torch import nn

if TYPE_CHECKING:
    from ringkas.runtimes.reference import Reference

_SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's note on each node: the modules that it is part of
_SETTINGS = (bool, int, float, str, tuple, type(None))
_OWN_PLACE = ("layer_idx", "training")  # settings of a module that say where it is and not what it does

Trace = Callable[[], onnx_ir.Model]


class _Unlike(Exception):
    """The traced layers are not what copies can be made of."""


@dataclass(frozen=True)
class _Stack:
    """The encoder's layers, where they are, and for each the place of the traced one that it is a copy of."""

    path: str
    layers: nn.ModuleList
    sources: Sequence[int]
    traced: int

    def scope(self, index: int) -> str:
        return f"encoder.{self.path}.{index}"


def trace_repeated(reference: Reference, trace: Trace) -> onnx_ir.Model:
    """What `trace` gives for `reference`, whose equal layers are traced once and copied."""
    stack = _stack(reference.encoder)
    if stack is None:
        return trace()
    with _only_first(reference.encoder, stack):
        model = trace()
    try:
        _repeat(model, stack)
    except _Unlike:
        return trace()
    return model


def _stack(encoder: Any) -> _Stack | None:
    """The encoder's layers, if tracing only some of them saves anything."""
    depth = getattr(encoder.config, "num_hidden_layers", None)
    for path, layers in encoder.named_modules():
        if isinstance(layers, nn.ModuleList) and len(layers) == depth:
            kinds = _kinds(encoder, layers)
            sources = [kinds.index(kind) for kind in kinds]
            traced = 1 + max(sources)
            return _Stack(path, layers, sources, traced) if traced < len(layers) else None
    return None


def _kinds(encoder: Any, layers: nn.ModuleList) -> list[object]:
    """For each layer all that its graph depends on: modules, settings, names and shapes of tensors."""
    kinds_by_config = getattr(encoder.config, "layer_types", None) or [None] * len(layers)
    return [(own, _structure(layer)) for own, layer in zip(kinds_by_config, layers, strict=True)]


def _structure(layer: nn.Module) -> object:
    modules = [
        (
            name,
            type(module),
            sorted((key, repr(value)) for key, value in vars(module).items() if _is_setting(key, value)),
        )
        for name, module in layer.named_modules(remove_duplicate=False)
    ]
    tensors = [
        (name, tuple(tensor.shape), tensor.dtype)
        for found in (layer.named_parameters, layer.named_buffers)
        for name, tensor in found(remove_duplicate=False)
    ]
    return modules, tensors


def _is_setting(key: str, value: object) -> TypeGuard[object]:
    return isinstance(value, _SETTINGS) and key not in _OWN_PLACE


@contextmanager
def _only_first(encoder: nn.Module, stack: _Stack) -> Iterator[None]:
    encoder.set_submodule(stack.path, stack.layers[: stack.traced])
    try:
        yield
    finally:
        encoder.set_submodule(stack.path, stack.layers)


def _repeat(model: onnx_ir.Model, stack: _Stack) -> None:
    """Puts the layers that were not traced between the last one that was and what follows it.

    Raises:
        _Unlike: the nodes of a layer or its input cannot be told, or more than its hidden state leaves it.
    """
    graph = model.graph
    owned = _owned(graph, stack)
    left = [_left(graph, nodes) for nodes in owned]
    entered = [_entered(owned[0], left[0]), *left]
    end, last = owned[-1][-1], left[-1]
    following = [(use.node, use.idx) for use in last.uses()]
    value = last
    for index in range(stack.traced, len(stack.layers)):
        source = stack.sources[index]
        copy = _Copy(graph, stack, index, {entered[source]: value})
        nodes = [copy.node(node) for node in owned[source]]
        graph.insert_after(end, nodes)
        end, value = nodes[-1], copy.value(left[source])
    for node, place in following:
        node.replace_input_with(place, value)
    for place, output in enumerate(graph.outputs):
        if output is last:
            value.name, last.name = last.name, f"{last.name}.traced"
            value.shape, value.type = last.shape, last.type
            graph.outputs[place] = value


def _owned(graph: onnx_ir.Graph, stack: _Stack) -> list[list[onnx_ir.Node]]:
    """The nodes of each traced layer; constants belong to none, since the exporter shares them."""
    places = {stack.scope(index): index for index in range(stack.traced)}
    owned: list[list[onnx_ir.Node]] = [[] for _ in places]
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        index = next((places[scope] for scope in scopes if scope in places), None)
        if index is not None and node.op_type != "Constant":
            owned[index].append(node)
    if not all(owned):
        raise _Unlike
    return owned


def _entered(nodes: Sequence[onnx_ir.Node], left: onnx_ir.Value) -> onnx_ir.Value:
    """The one value of the shape of a layer's output that the layer is given: its hidden state."""
    inside = set(nodes)
    given = {
        value
        for node in nodes
        for value in node.inputs
        if value is not None and value.producer() not in inside and not value.is_initializer()
    }
    alike = [value for value in given if value.shape is not None and value.shape == left.shape]
    if len(alike) != 1:
        raise _Unlike
    return alike[0]


def _left(graph: onnx_ir.Graph, nodes: Sequence[onnx_ir.Node]) -> onnx_ir.Value:
    """The one value of a layer that is used outside it."""
    inside = set(nodes)
    leaving = [
        value
        for node in nodes
        for value in node.outputs
        if value in graph.outputs or any(use.node not in inside for use in value.uses())
    ]
    if len(leaving) != 1:
        raise _Unlike
    return leaving[0]


@dataclass(frozen=True)
class _Copy:
    """Makes layer `index` from the nodes of its source; `made` holds what stands for each value of those."""

    graph: onnx_ir.Graph
    stack: _Stack
    index: int
    made: dict[onnx_ir.Value, onnx_ir.Value]

    def node(self, node: onnx_ir.Node) -> onnx_ir.Node:
        inputs = [None if given is None else self.value(given) for given in node.inputs]
        copy = onnx_ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(node.attributes.values()),
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
            metadata_props=dict(node.metadata_props),
        )
        for before, after in zip(node.outputs, copy.outputs, strict=True):
            after.name, after.shape, after.type = f"{before.name}.{self.index}", before.shape, before.type
            self.made[before] = after
        return copy

    def value(self, value: onnx_ir.Value) -> onnx_ir.Value:
        """What stands for `value`: a copied output, this layer's own weight, or itself where it is shared."""
        if value not in self.made:
            scope = f"{self.stack.scope(self.stack.sources[self.index])}."
            name = str(value.name)
            own = name.startswith(scope) and value.is_initializer()
            self.made[value] = self._weight(value, name.removeprefix(scope)) if own else value
        return self.made[value]

    def _weight(self, value: onnx_ir.Value, path: str) -> onnx_ir.Value:
        owner, _, field = path.rpartition(".")
        tensor = getattr(self.stack.layers[self.index].get_submodule(owner), field)
        name = f"{self.stack.scope(self.index)}.{path}"
        weight = onnx_ir.Value(
            name=name,
            shape=value.shape,
            type=value.type,
            const_value=onnx_ir.tensor_adapters.TorchTensor(tensor, name=name),
        )
        self.graph.register_initializer(weight)
        return weight
