"""Training of DwiseNeuro as published: a batch that processes share, and teachers that answer for the other mice."""

from dataclasses import replace

import pytest
import torch

from decoders.datasets.movies import open_movies
from decoders.peers import ALONE, Peer
from decoders.reconstruction import load_encoder
from decoders.reconstruction.distillation import Teachers
from decoders.reconstruction.dwiseneuro import DwiseNeuro, initialise
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder_clips import correlation
from decoders.reconstruction.encoder_training import EncoderOptions
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.published_training import PublishedRecipe, _Course, _losses, save_published
from decoders.reconstruction.train import train_encoder
from rig.errors import CheckpointError, ConfigError
from tests.unit.movie_phantom import write_phantom

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "core_features": (4,),
    "spatial_strides": (8,),
    "expansion_ratio": 1,
    "se_reduce_ratio": 4,
    "cortex_features": (12,),
}
SHORT = {**SIZES, "epochs": 1, "warm_up_epochs": 0, "samples": 6, "batch": 3}


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    """Two mice of different sizes."""
    folder = tmp_path_factory.mktemp("mice")
    for seed, (name, neurons) in enumerate([("a", 4), ("b", 3)]):
        write_phantom(folder / name, neurons, clips=3, frames=60, seed=seed)
    return open_movies(folder, "sensorium")


def network_of(mice, seed=0):
    """In evaluation mode, whose responses differ from frame to frame."""
    torch.manual_seed(seed)
    network = DwiseNeuro(PublishedRecipe(**SIZES).network(tuple(mouse.neurons for mouse in mice)))
    initialise(network)
    for readout in network.readouts:
        torch.nn.init.normal_(readout.layer[1].weight, 0.0, 5.0)
    windows = torch.randn(2, 16, 64, 64, 5) * torch.tensor([100.0, 1.0, 1.0, 1.0, 1.0])
    network.train()
    for _ in range(20):
        network.features(windows)
    return network.eval()


@pytest.fixture(scope="module")
def teacher(mice, tmp_path_factory):
    """File of an encoder that knows both mice, in another order."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    save_published(DwiseNeuroEncoder(network_of(mice[::-1], 1), mice=("b", "a")), path, {})
    return path


def course_of(mice, teachers=(), peer=ALONE, **settings):
    recipe = PublishedRecipe(**SHORT | settings)
    student = DwiseNeuroEncoder(network_of(mice))
    return _Course.of(mice, recipe, EncoderOptions("", teachers=tuple(teachers)), student, peer)


def gradients_of(network, course, batches=None):
    """Of the mean loss of the first batches, by weight; weights without are left out."""
    network.zero_grad()
    losses = list(_losses(network, course, (0, 0)))[:batches]
    sum(losses).backward()
    return {name: v.grad.clone() for name, v in network.named_parameters() if v.grad is not None}, losses


@pytest.mark.parametrize("taught", [False, True])
def test_the_parts_of_a_batch_make_the_batch(mice, teacher, taught):
    network, teachers = network_of(mice), [teacher] if taught else []
    whole, losses = gradients_of(network, course_of(mice, teachers, samples=4))
    parts = [gradients_of(network, course_of(mice, teachers, Peer(k, 2), samples=4)) for k in (0, 1)]
    assert [len(each) for _, each in parts] == [
        2,
        2,
    ]  # the second process has nothing to do in the second batch
    for name, value in whole.items():
        halves = [part.get(name, torch.zeros_like(value)) for part, _ in parts]
        torch.testing.assert_close(sum(halves) / 2, value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))
    means = [sum(each[k].detach() for _, each in parts) / 2 for k in (0, 1)]
    torch.testing.assert_close(means, [loss.detach() for loss in losses], rtol=1e-4, atol=1e-3)


def test_a_teachers_answers_weigh_their_share_and_reach_the_other_mouse(mice, teacher):
    network, one = network_of(mice), {"samples": 1, "batch": 1}
    recorded, (alone,) = gradients_of(network, course_of(mice, **one))
    taught, (mixed,) = gradients_of(network, course_of(mice, [teacher], distilled_share=0.25, **one))
    _, (other,) = gradients_of(network, course_of(mice, [teacher], distilled_share=1.0, **one))
    torch.testing.assert_close(mixed, 0.75 * alone + 0.25 * other)
    weights = [f"readouts.{mouse}.layer.1.weight" for mouse in (0, 1)]
    assert len(recorded.keys() & set(weights)) == 1
    assert all(taught[name].abs().max() > 0 for name in weights)


def test_two_teachers_answer_with_their_mean(mice, teacher, tmp_path):
    student = DwiseNeuroEncoder(network_of(mice))
    save_published(DwiseNeuroEncoder(network_of(mice, 2), mice=("a", "b")), tmp_path / "other.pth", {})
    windows = torch.randn(2, 16, 64, 64, 5) * 10
    first, second, both = (
        Teachers.load(paths, mice, student).respond(windows)
        for paths in ([teacher], [tmp_path / "other.pth"], [teacher, tmp_path / "other.pth"])
    )
    assert [answer.shape for answer in both] == [(2, 16, 4), (2, 16, 3)]
    for mouse in (0, 1):
        torch.testing.assert_close(both[mouse], (first[mouse] + second[mouse]) / 2)
        assert not torch.allclose(first[mouse], second[mouse])


def test_a_mouse_that_only_the_teacher_knows_is_learnt(mice, teacher):
    knows, student = load_encoder(teacher), network_of(mice)
    student.core.load_state_dict(knows.network.core.state_dict())
    student.cortex.load_state_dict(knows.network.cortex.state_dict())
    trial = mice[0].trials[0].load()
    clip = trial.video, trial.behavior, trial.pupil_center

    def alike():
        answers = (
            DwiseNeuroEncoder(student).predict(*clip, 1),
            knows.predict(*clip, 0),
        )  # there it is the first
        return float(correlation(*answers).mean())

    course = course_of(mice, [teacher], distilled_share=1.0, samples=120)
    course = replace(course, clips=course.clips[:1])  # every sample is of the other mouse
    optimiser = torch.optim.Adam(student.readouts[1].parameters(), 0.5)
    begun = alike()
    for loss in _losses(student, course, (0, 0)):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert begun < 0.5
    assert alike() > 0.9


def test_a_share_of_nothing_is_no_teacher(mice, teacher, tmp_path):
    states = []
    for name, teachers, settings in [("none", (), {}), ("nothing", (teacher,), {"distilled_share": 0})]:
        path = tmp_path / f"{name}.pth"
        options = EncoderOptions(tmp_path / "c", threads=1, settings=SHORT | settings, teachers=teachers)
        train_encoder(mice, "published", options, path, {})
        states.append(load_encoder(path).network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_who_cannot_teach_is_told(mice, teacher, tmp_path):
    student, network = DwiseNeuroEncoder(network_of(mice)), network_of(mice)
    save_published(DwiseNeuroEncoder(network, mice=("a", "c")), tmp_path / "stranger.pth", {})
    save_published(DwiseNeuroEncoder(network, 8, 2, mice=("a", "b")), tmp_path / "short.pth", {})
    light = LightEncoder(LightNetwork(LightConfig((4, 3), stride_px=6, features=4, hidden=2)), ("a", "b"))
    light.checkpoint({}).save(tmp_path / "light.npz")
    for name, says in [
        ("stranger.pth", r"stranger\.pth: does not know mouse 'b' with 3 neurons; it knows a \(4\), c \(3\)"),
        ("short.pth", r"short\.pth: cannot teach; valid is DwiseNeuro on windows of 16 frames, one in 2"),
        ("light.npz", r"light\.npz: cannot teach; valid"),
        ("none.pth", "no such encoder"),
    ]:
        with pytest.raises(CheckpointError, match=says):
            Teachers.load([teacher, tmp_path / name], mice, student)


@pytest.mark.parametrize(
    ("count", "changes", "says"),
    [
        (1, {"teachers": ("t",)}, "--teacher: .* there is one; valid is 2 or more"),
        (2, {"settings": {"distilled_share": 0.5}}, "distilled_share: valid with --teacher"),
        (2, {"settings": {"distilled_share": 2}, "teachers": ("t",)}, "distilled_share=2: valid is a number"),
        (
            2,
            {"settings": {"cortex_features": [0]}},
            r"cortex_features=\[0\]: valid is a list of whole numbers above",
        ),
        (2, {"settings": {"core_features": []}}, "do not fit: .* must not be empty"),
        (2, {"settings": {"spatial_strides": [2]}}, "do not fit: .* valid is one stride a block"),
        (2, {"settings": {"cortex_features": [7]}}, "are 256, 7; valid are multiples of 2, the groups"),
        (2, {"settings": {"se_reduce_ratio": 1000}}, "leaves nothing of 64 core_features, 7 times expanded"),
        (2, {"settings": {"batch": 2}, "processes": 3}, "batch=2: valid is one sample or more for each"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_begins(mice, tmp_path, count, changes, says):
    with pytest.raises(ConfigError, match=says):
        train_encoder(mice[:count], "published", EncoderOptions(tmp_path, **changes), tmp_path / "x", {})


@pytest.mark.parametrize("changes", [{"processes": 2}, {"teachers": ("t",)}])
def test_the_light_encoder_is_trained_alone(mice, tmp_path, changes):
    with pytest.raises(ConfigError, match="--processes and --teacher: valid with --preset published alone"):
        train_encoder(mice, "light", EncoderOptions(tmp_path, **changes), tmp_path / "x", {})


def test_more_gpus_than_there_are(mice, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--processes 3: each takes a GPU, and there are 2 here"):
        train_encoder(
            mice, "published", EncoderOptions(tmp_path, device="cuda", processes=3), tmp_path / "x", {}
        )
