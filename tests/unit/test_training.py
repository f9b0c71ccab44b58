import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from decoders.training import BestEpoch, TrainingConfig, _step, fix_seeds, read_ahead, train

CONFIG = TrainingConfig(epochs=4, learning_rate=0.05, threads=1)


def losses_of(network, broken_in=None):
    def losses(epoch):
        for step in range(5):
            if epoch == broken_in and step == 3:
                raise KeyboardInterrupt
            inputs = torch.randn(8, 3)
            yield (network(inputs).squeeze(-1) - inputs.sum(1)).square().mean()

    return losses


def made(config=CONFIG):
    fix_seeds(config)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def scripted(network, values):
    """A validation that says what it is told, and notes the weights it was asked about."""
    seen, left = [], iter(values)

    def validate():
        seen.append(network[0].weight.detach().clone())
        return next(left)

    return BestEpoch(validate), seen


def test_the_epoch_with_the_smallest_validation_loss_is_kept():
    network = made()
    best, seen = scripted(network, [0.5, 0.2, 0.4, 0.3])
    train(network, losses_of(network), 5, CONFIG, best=best)
    assert best.losses == [0.5, 0.2, 0.4, 0.3]
    assert torch.equal(network[0].weight, seen[1])
    assert not torch.equal(network[0].weight, seen[3])


def test_a_loss_that_is_no_number_chooses_nothing():
    network = made()
    best, seen = scripted(network, [float("nan")] * 4)
    train(network, losses_of(network), 5, CONFIG, best=best)
    assert torch.equal(network[0].weight, seen[3])


def test_a_broken_off_training_goes_on_to_the_same_choice(tmp_path):
    whole = made()
    best, _ = scripted(whole, [0.5, 0.2, 0.4, 0.3])
    history = train(whole, losses_of(whole), 5, CONFIG, best=best)

    resume, broken = tmp_path / "state", made()
    best, _ = scripted(broken, [0.5, 0.2])
    with pytest.raises(KeyboardInterrupt):
        train(broken, losses_of(broken, broken_in=2), 5, CONFIG, resume, best)
    resumed = made()
    best, _ = scripted(resumed, [0.4, 0.3])
    assert train(resumed, losses_of(resumed), 5, CONFIG, resume, best) == history
    assert best.losses == [0.5, 0.2, 0.4, 0.3]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert not resume.exists()


@pytest.mark.parametrize(("decay_biases", "shrinks"), [(True, True), (False, False)])
def test_weight_decay_may_leave_biases_and_batch_norms_out(decay_biases, shrinks):
    config = TrainingConfig(
        epochs=1, learning_rate=0.1, weight_decay=1.0, schedule="constant", decay_biases=decay_biases
    )
    network = made(config)
    nn.init.ones_(network[0].bias)
    before = network[0].weight.detach().clone()

    def losses(epoch):
        yield sum(value.sum() for value in network.parameters()) * 0.0  # no gradient: decay alone moves them

    train(network, losses, 1, config)
    torch.testing.assert_close(network[0].weight.detach(), 0.9 * before)
    assert bool((network[0].bias < 1).all()) is shrinks
    assert bool((network[1].weight < 1).all()) is shrinks


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_training_of_few_steps_runs(steps):
    config = TrainingConfig(epochs=1, warm_up_share=0.25)
    network = made(config)
    assert (
        len(
            train(
                network,
                lambda epoch: (network(torch.randn(4, 3)).mean() for _ in range(steps)),
                steps,
                config,
            )
        )
        == 1
    )


def test_what_is_read_ahead_comes_in_order():
    def read(k):
        time.sleep(0.01 * (k % 3))  # the later ones are ready before the earlier ones
        return 10 * k

    for device in ("cpu", "cuda"):
        assert list(read_ahead(read, range(40), device)) == [10 * k for k in range(40)]


def test_reading_ahead_stops_with_the_training_and_hides_no_error():
    started = []

    def read(k):
        started.append(k)
        if k == 30:
            raise ValueError("cannot be read")
        return k

    ahead = read_ahead(read, range(1000), "cuda")
    assert next(ahead) == 0
    ahead.close()
    assert len(started) < 100
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_ahead(read, range(1000), "cuda"))


def test_a_training_may_be_all_warm_up():
    config = replace(CONFIG, epochs=1, schedule="warm-up-cosine", warm_up_share=1.0)
    network = made(config)
    before = network[0].weight.detach().clone()
    train(network, losses_of(network), 5, config)
    assert not torch.equal(network[0].weight, before)


def test_a_gradient_that_overflowed_changes_no_weight_and_is_told():
    network = nn.Linear(2, 1)
    optimiser, scaler = torch.optim.SGD(network.parameters(), 0.1), torch.amp.GradScaler("cpu")
    steps = []
    for factor in (torch.inf, 1.0):
        before = network.weight.detach().clone()
        optimiser.zero_grad()
        scaler.scale(network(torch.ones(1, 2)).sum() * factor).backward()
        told = _step(network, optimiser, scaler, None)
        steps.append((told, not torch.equal(network.weight, before)))
    assert steps == [(False, False), (True, True)]
