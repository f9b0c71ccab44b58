import subprocess
import sys

import numpy as np
import pytest
import torch

from decoders.behavior.model import BehaviorNetwork, NetworkConfig, Step, step_inputs
from decoders.runtime import CudaGraphEngine, OnnxEngine, export_onnx
from decoders.training import TrainingConfig, fix_seeds, train
from rig.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("restore_torch")
CONFIG = NetworkConfig(height_px=32, width_px=40, hidden=8)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = BehaviorNetwork(CONFIG).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # untrained statistics would hide a mistake
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    network.readout[-1].weight.data.normal_(0.0, 3.0)
    return network


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(size=(40, 32, 40)).astype(np.float32)


def run(engine, frames):
    hidden, logits = step_inputs(CONFIG)[1], []
    for frame in frames:
        logit, hidden = engine(frame[None, None], hidden)
        logits.append(logit[0])
    return np.array(logits)


@pytest.mark.parametrize("threads", [1, 2])
def test_exported_steps_are_the_sequence(network, frames, threads):
    engine = OnnxEngine(export_onnx(Step(network), step_inputs(CONFIG)), threads, "test")
    with torch.no_grad():
        sequence = network(torch.from_numpy(frames)[None], network.start(1))[0][0].numpy()
    assert sequence.std() > 0.1
    np.testing.assert_allclose(run(engine, frames), sequence, atol=1e-4)


def test_two_engines_give_the_same_bits(network, frames):
    graph = export_onnx(Step(network), step_inputs(CONFIG))
    first, second = (run(OnnxEngine(graph, 1, "test"), frames) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_a_graph_that_is_none(network):
    with pytest.raises(CheckpointError, match=r"a\.npz: its network cannot be loaded"):
        OnnxEngine(b"nothing of the kind", 1, "a.npz")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(network):
    with pytest.raises(CheckpointError, match="'cuda' asked for and none found; valid here is 'cpu'"):
        CudaGraphEngine(Step(network), step_inputs(CONFIG), "a.npz")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_is_the_sequence(network, frames):
    with torch.no_grad():
        sequence = network(torch.from_numpy(frames)[None], network.start(1))[0][0].numpy()
    engine = CudaGraphEngine(Step(network), step_inputs(CONFIG), "test")
    np.testing.assert_allclose(run(engine, frames), sequence, atol=1e-3)


def test_importing_live_decoders_is_light():
    code = (
        "import sys, decoders.behavior.live, decoders.reconstruction.live, decoders.commands.train,"
        "decoders.commands.evaluate, decoders.commands.explain, decoders.commands.data, decoders.worker;"
        "sys.exit(', '.join({'torch', 'onnxruntime', 'sklearn', 'scipy', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loading_the_run_rest_decoder_is_light():
    code = (
        "import sys; from decoders.behavior.live import CausalBehavior; from rig.messages import FrameStream;"
        "config = CausalBehavior.Config(decoder='causal', camera='w');"
        "at = {'bregma': (64.0, 46.0), 'lambda': (64.0, 94.0)};"
        "CausalBehavior('b', config).load(FrameStream('w', 128, 128, 'uint16', 30.0, 0.0, landmarks_px=at));"
        "sys.exit(', '.join({'torch', 'sklearn', 'scipy', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def losses_of(network, fail_at=None):
    data = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))

    def losses(epoch):
        if epoch == fail_at:
            raise KeyboardInterrupt
        for _ in range(4):
            yield (network(data + 0.1 * torch.randn(8, 3)) - data.sum(1, keepdim=True)).square().mean()

    return losses


def trained(resume, fail_at=None):
    config = TrainingConfig(epochs=4, threads=1, learning_rate=0.05)
    fix_seeds(config)
    network = torch.nn.Linear(3, 1)
    return train(network, losses_of(network, fail_at), 4, config, resume), network.weight.detach().numpy()


def test_training_learns_and_repeats(tmp_path):
    history, weights = trained(None)
    assert history[-1] < history[0] / 2
    assert trained(None)[1].tobytes() == weights.tobytes()


def test_a_training_broken_off_goes_on_to_the_same_weights(tmp_path):
    expected, weights = trained(None)
    resume = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        trained(resume, fail_at=2)
    assert resume.exists()
    history, resumed = trained(resume)
    assert history == expected
    assert resumed.tobytes() == weights.tobytes()
    assert not resume.exists()


def test_a_broken_resume_file(tmp_path):
    (tmp_path / "state").write_text("no state")
    with pytest.raises(CheckpointError, match="cannot be resumed from; delete it"):
        trained(tmp_path / "state")
