"""The fastest way to run a network here, one step at a time: ONNX Runtime on the CPU, or a CUDA graph.

A network is exported once, when its checkpoint is made; the live process then loads the graph alone and never
imports torch on the CPU. With the same graph, inputs and number of threads the answers are the same bits.
"""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rig.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

Arrays = Sequence[NDArray[np.float32]]
_WARM_UP_RUNS = 3  # the first runs allocate; the first frame must not wait for that


class Engine(Protocol):
    """Runs one step of a network."""

    def __call__(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs of one step, in the order of the network's `forward`; the next step may write over them.

        Inputs may lack leading axes of length 1.
        """
        ...


def export_onnx(module: "nn.Module", examples: Arrays) -> bytes:
    """Trace a module with example inputs into an ONNX graph of fixed shapes, weights included."""
    import torch

    module = module.eval()
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's; the other exporter needs one more package
        inputs = tuple(torch.from_numpy(example) for example in examples)
        torch.onnx.export(module, inputs, file, dynamo=False)  # type: ignore[arg-type]  # a file will do
    return file.getvalue()


class OnnxEngine:
    """ONNX Runtime on the CPU; inputs and outputs keep their places in memory, so a call need not make them anew.

    Raises
    ------
    CheckpointError
        When the graph cannot be loaded; `name` is what the error calls it.
    """

    def __init__(self, graph: bytes, threads: int, name: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are for the rig
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise CheckpointError(
                f"{name}: its network cannot be loaded: {' '.join(str(error).split())}"
            ) from error
        self._binding = self._session.io_binding()
        nodes, results = self._session.get_inputs(), self._session.get_outputs()
        self._inputs = [np.zeros(node.shape, np.float32) for node in nodes]
        named = {node.name: array for node, array in zip(nodes, self._inputs, strict=True)}
        self._outputs: list[NDArray[np.float32]] = self._session.run(None, named)
        value = onnxruntime.OrtValue.ortvalue_from_numpy  # shares the array's memory
        for name, array in named.items():
            self._binding.bind_ortvalue_input(name, value(array))
        for node, array in zip(results, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(node.name, value(array))
        for _ in range(_WARM_UP_RUNS):
            self._session.run_with_iobinding(self._binding)

    def __call__(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run one step; the arrays returned are the ones that every step writes to."""
        for place, value in zip(self._inputs, inputs, strict=True):
            place[...] = value
        self._session.run_with_iobinding(self._binding)
        return self._outputs


class CudaGraphEngine:
    """A step recorded once as a CUDA graph and replayed: one launch instead of one a layer.

    Raises
    ------
    CheckpointError
        When there is no CUDA device.
    """

    def __init__(self, module: "nn.Module", examples: Arrays, name: str) -> None:
        import torch

        if not torch.cuda.is_available():
            raise CheckpointError(f"{name}: device 'cuda' asked for and none found; valid here is 'cpu'")
        self._torch = torch
        module = module.eval().cuda()
        self._inputs = [torch.from_numpy(example).cuda() for example in examples]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                module(*self._inputs)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._outputs = module(*self._inputs)

    def __call__(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run one step."""
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(self._torch.from_numpy(value))
        self._graph.replay()
        return [output.cpu().numpy() for output in self._outputs]
