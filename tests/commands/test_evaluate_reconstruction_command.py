"""`rig evaluate reconstruction`, from movies and encoders to scores and a page, or to one clear line."""

import json
import re
import shutil

import numpy as np
import pytest

from decoders.commands.evaluate import evaluate
from decoders.datasets.movies import open_movies
from decoders.reconstruction.similarity import compare, smooth
from decoders.reconstruction.stimuli import GRATING_CYCLES_PX, GRATING_HZ
from rig.errors import CheckpointError, ConfigError, CortexrigError, DataError
from tests.rig_command import assert_one_clear_line, rig, rig_json, succeed

QUICK = ("--iterations", 2, "--clips", 1)
MICE = {"simulated-3", "simulated-4"}
ABLATIONS = [
    "ensemble 1",
    "population 50 %",
    "population 25 %",
    "population 12.5 %",
    "no mask",
    "strict mask",
    "noise-free responses",
    "without behaviour",
    "not along the motion",
]


def command(*arguments):
    return succeed(evaluate, "reconstruction", *arguments)


def report_of(*arguments):
    return json.loads(command(*arguments, "--json").stdout)


def changed_at(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A folder with a mask of each mouse."""
    folder = tmp_path_factory.mktemp("masks")
    for mouse, left in zip(sorted(MICE), (10, 20), strict=True):
        mask = np.zeros((36, 64), np.float32)
        mask[6:30, left : left + 30] = 0.8
        mask[10:26, left + 4 : left + 24] = 1.3
        np.save(folder / f"{mouse}.npy", mask)
    return folder


@pytest.fixture(scope="module")
def evaluated(small_mice, masks, tmp_path_factory):
    """Options, report and folder of an evaluation with everything, on the first movie of two mice."""
    out = tmp_path_factory.mktemp("evaluation") / "report"
    asked = (*small_mice.options, *QUICK, "--mask", masks, "--out", out)
    more = ("--ablation", "all", "--maps", "--stimuli", "gratings", "--stimuli-per-cell", 1)
    return asked, report_of(*asked, *more), out


def numbers(content):
    """Every number in a report."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for part in content for number in numbers(part)]
    return [content] if isinstance(content, float | int) else []


def test_the_fixed_keys_by_the_real_command(small_mice):
    report = rig_json("evaluate", "reconstruction", *small_mice.options, "--tier", "oracle", *QUICK)
    assert report["recipe"] == "fast"
    assert report["models"] == [str(path) for path in small_mice.encoders]
    assert report["seconds_per_clip"] > 0
    assert report["clips"] == 2
    for told in (report["correlation"], *report["baselines"].values()):
        assert set(told["mice"]) == MICE
        assert told["mean"] == pytest.approx(np.mean(list(told["mice"].values())))
        assert all(-1 <= value <= 1 for value in told["clips"].values())
    assert set(report["baselines"]) == {"linear", "mean_frame"}, "with one movie there is no other"
    assert set(report["response_fit"]) == {"from_true", "from_reconstruction"}
    assert report["provenance"]["data"] == "simulated"
    assert report["provenance"]["command"].startswith("rig evaluate reconstruction --encoder")
    assert np.isfinite(numbers(report)).all()
    assert {"frame_correlation", "rmse", "psnr_db", "ssim", "correlation_unsmoothed", "motion_energy"} <= set(
        report
    )


def test_a_clip_is_scored_as_published(small_mice, evaluated, masks):
    _, report, out = evaluated
    assert len(report["correlation"]["clips"]) == 2
    for name, correlation in report["correlation"]["clips"].items():
        mouse, trial = name.split("/")
        by_model = sorted((out / "movies" / "all").glob(f"{mouse}-{trial}-model-?.npz"))
        assert len(by_model) == 2
        found = np.mean([np.load(path)["movie"].astype(np.float32) for path in by_model], axis=0)
        video = next(t for m in open_movies(small_mice.data, "sensorium") if m.name == mouse for t in m.trials
                     if t.name == trial).load().video  # fmt: skip
        scored = np.load(masks / f"{mouse}.npy") >= 1
        expected = compare(np.moveaxis(video, -1, 0), smooth(found), scored).correlation
        assert correlation == pytest.approx(expected, abs=1e-6)
    assert report["scored_pixels"] == "320 of 2304 in the mask of the first mouse"


def test_every_ablation_that_is_possible(evaluated):
    _, report, _ = evaluated
    assert list(report["ablations"]) == ABLATIONS
    for told in report["ablations"].values():
        difference = np.mean(list(told["mice"].values())) - report["correlation"]["mean"]
        assert told["difference"]["mean"] == pytest.approx(difference)
    assert report["ablations"]["population 50 %"]["published_difference"] == -0.057
    assert report["ablations"]["without behaviour"]["published"] is None
    means = [report["ablations"][name]["mean"] for name in ABLATIONS]
    assert len(set(means)) == len(means), "each of them changes the movie"


def test_stimuli_and_maps(evaluated):
    _, report, out = evaluated
    surface = report["stimuli"]["gratings"]
    assert surface["space"] == list(GRATING_CYCLES_PX)
    assert surface["time"] == list(GRATING_HZ)
    assert np.shape(surface["correlation"]) == (4, 7)
    assert surface["mouse"] == "simulated-3"
    assert set(report["departures"]) == set(report["correlation"]["clips"])
    for told in report["departures"].values():
        assert told["difference_rms"] > 0
        assert told["spread_mean"] > 0
    assert len(list((out / "maps").glob("*.npz"))) == 2


def test_the_page_needs_nothing_else_and_says_what_the_data_are(evaluated):
    _, report, out = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "report.json").read_text()) == report
    pictures = re.findall(r'<img src="([^"]{22})', page)
    assert pictures == ["data:image/png;base64,"] * 9, (
        "clips, ablations, gratings, two examples, two maps twice"
    )
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", page)
    assert "<script" not in page
    assert "<link" not in page
    assert "simulated data" in page
    for name in (*ABLATIONS, *MICE, "linear (baseline)", "mean frame (baseline)"):
        assert name in page


def test_the_same_command_goes_on_in_its_folder(evaluated, tmp_path):
    asked, first, out = evaluated
    own = shutil.copytree(out, tmp_path / "report")
    missing = next((own / "movies" / "population-25").iterdir())
    missing.unlink()  # as if it had been broken off
    before = changed_at(own / "movies")
    here = (*asked[:-1], own)
    again = report_of(*here, "--ablation", "all", "--maps", "--stimuli", "gratings", "--stimuli-per-cell", 1)
    for part in ("correlation", "ablations", "baselines", "stimuli", "departures", "response_fit"):
        assert numbers(again[part]) == pytest.approx(numbers(first[part]), abs=1e-4)
    after = changed_at(own / "movies")
    assert {path: after[path] for path in before} == before
    assert missing.exists()
    with pytest.raises(DataError, match=r"report: an evaluation with other iterations \(2, not 3\)"):
        report_of(*here, "--iterations", 3)


def test_another_blur_is_another_score_of_the_same_movies(evaluated, tmp_path):
    asked, first, out = evaluated
    own = shutil.copytree(out, tmp_path / "report")
    before = changed_at(own / "movies")
    sharp = report_of(*asked[:-1], own, "--smoothing", 0)
    assert changed_at(own / "movies") == before
    assert sharp["correlation"]["mean"] == pytest.approx(first["correlation_unsmoothed"]["mean"])


def test_the_published_recipe_and_its_ensemble_by_gradients(small_mice, tmp_path):
    asked = (
        "--encoder",
        *small_mice.encoders,
        "--data",
        small_mice.data / "simulated-4",
        "--layout",
        "sensorium",
    )
    report = report_of(*asked, "--threads", 1, *QUICK, "--recipe", "published", "--ablation", "gradient-ensembling",
                       "--ablation", "ensemble")  # fmt: skip
    assert report["recipe"] == "published"
    assert list(report["ablations"]) == ["gradient ensembling", "ensemble 1"]
    assert report["ablations"]["gradient ensembling"]["published"] == 0.552


def test_all_presentations_of_a_movie(small_mice):
    one_mouse = small_mice.with_one_encoder(small_mice.data / "simulated-3")
    report = report_of(*one_mouse.options, "--iterations", 1, "--repeats", "all")
    assert report["clips"] == 4
    assert set(report["baselines"]) == {"linear", "mean_frame", "mismatched"}
    assert len(report["correlation"]["interval"]) == 2


def test_a_session_of_ours(small_session, tmp_path):
    out = tmp_path / "report"
    report = report_of(*small_session.options, *QUICK, "--maps", "--out", out)
    assert list(report["correlation"]["mice"]) == ["tuesday"]
    assert report["provenance"]["data"] == "simulated", "the session says so itself"
    assert "linear" in report["baselines"]
    assert report["departures"]["tuesday/0"]["spread_mean"] is None, "one model has no spread"
    assert "simulated data" in (out / "report.html").read_text(encoding="utf-8")


def test_tables_for_people_are_not_cut(evaluated, tmp_path):
    asked, _, out = evaluated
    own = shutil.copytree(out, tmp_path / "report")
    shown = command(*asked[:-1], own, "--ablation", "all").stdout
    assert "fast recipe, 2 models, 2 clips, simulated data" in shown
    for words in (
        *ABLATIONS,
        "correlation",
        "difference",
        "0.512 (-0.057)",
        f"report: {own / 'report.html'}",
    ):
        assert words in shown


# --- what cannot be evaluated ---


@pytest.fixture
def mouse(small_mice, tmp_path):
    """One mouse's folder that may be damaged."""
    return shutil.copytree(small_mice.data / "simulated-3", tmp_path / "simulated-3")


def options(small_mice, data):
    return (*small_mice.with_one_encoder(data).options, *QUICK)


def oracle(folder, kind):
    """File of the first presentation that is evaluated."""
    tiers = np.load(folder / "meta" / "trials" / "tiers.npy")
    return folder / "data" / kind / f"{np.flatnonzero(tiers == 'oracle')[0]}.npy"


def fill_responses(folder, value):
    file = oracle(folder, "responses")
    np.save(file, np.full_like(np.load(file), value))


def cut_frames(folder, frames):
    for kind in ("videos", "responses", "behavior", "pupil_center"):
        file = oracle(folder, kind)
        np.save(file, np.load(file)[..., :frames])


def cut_file(folder, kind):
    file = oracle(folder, kind)
    file.write_bytes(file.read_bytes()[:-50])


def drop_neurons(folder):
    for file in (
        *(folder / "data" / "responses").glob("*.npy"),
        folder / "meta/statistics/responses/all/std.npy",
    ):
        np.save(file, np.load(file)[:20])


DAMAGES = {
    "the behaviour of a trial is missing": (
        lambda folder: oracle(folder, "behavior").unlink(),
        r"data/behavior/\d+\.npy: missing, as behavior of 1 trials",
    ),
    "a trial is all NaN": (
        lambda folder: fill_responses(folder, np.nan),
        r"data/responses/\d+\.npy: all NaN; valid is a trial that was recorded",
    ),
    "a clip is shorter than what is dropped of it": (
        lambda folder: cut_frames(folder, 20),
        r"simulated-3: trial '\d+' has 20 frames, of which the first 30 are not scored; valid is 32 or more",
    ),
    "a file of responses was cut short": (
        lambda folder: cut_file(folder, "responses"),
        r"data/responses/\d+\.npy: cut short",
    ),
    "a file of a movie was cut short": (
        lambda folder: cut_file(folder, "videos"),
        r"data/videos/\d+\.npy: cut short",
    ),
    "responses are out of all range": (
        lambda folder: fill_responses(folder, 1e30),
        r"simulated-3: trial '\d+': the loss became (inf|nan) at iteration 0; check responses and behavior",
    ),
    "the neurons are of another number": (
        drop_neurons,
        r"encoder-0\.npz: does not know mouse 'simulated-3' with 20 neurons; it knows simulated-3 \(24\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_data_that_cannot_be_used_are_named_on_one_line(small_mice, mouse, damage):
    spoil, told = DAMAGES[damage]
    spoil(mouse)
    with pytest.raises(CortexrigError, match=told) as refused:
        report_of(*options(small_mice, mouse))
    assert "\n" not in str(refused.value)


def test_bad_input_by_the_real_command(small_mice, mouse, tmp_path):
    renamed = mouse.rename(tmp_path / "wednesday")
    done = rig("evaluate", "reconstruction", *options(small_mice, renamed))
    assert_one_clear_line(
        done, "encoder-0.npz: does not know mouse 'wednesday' with 24 neurons; it knows simulated-3"
    )
    assert done.stdout == ""


def test_options_that_cannot_be_are_named(small_mice, tmp_path):
    asked = options(small_mice, small_mice.data / "simulated-3")
    nowhere = (*asked[:3], tmp_path / "nowhere", *asked[4:])
    bad = [
        (("--tier", "orakel"), DataError, r"simulated-3: no trial of tier 'orakel'; it has oracle, train"),
        (("--recipe", "quick"), DataError, "recipe 'quick' is unknown; valid is 'fast' or 'published'"),
        (("--maps",), ConfigError, "--maps needs a folder to write them to; give --out"),
        (("--out", tmp_path / "a" / "b"), DataError, r"a/b: there is no folder"),
    ]
    for more, error, told in bad:
        with pytest.raises(error, match=told):
            report_of(*asked, *more)
    early = [
        (("--ablation", "noise"), ConfigError, "--ablation noise: unknown; valid: ensemble, population"),
        (("--ablation", "ensemble"), ConfigError, "--ablation ensemble: needs two encoders or more"),
        (("--ablation", "strict-mask"), ConfigError, "--ablation strict-mask: needs a mask; give --mask"),
        (
            ("--preview", tmp_path / "preview.npz", "--ablation", "population"),
            ConfigError,
            "--ablation population: is of a preview that knows all neurons; leave out --preview",
        ),
        (
            ("--recipe", "published", "--ablation", "motion"),
            ConfigError,
            "--ablation motion: is of the fast recipe, not of 'published'; give --recipe fast",
        ),
        (("--stimuli", "bars"), ConfigError, "--stimuli bars: unknown; valid: noise, gratings"),
        (
            ("--encoder", asked[1]),
            ConfigError,
            r"encoder-0\.npz: given twice; an ensemble is of different encoders",
        ),
    ]
    for more, error, told in early:  # refused before any data are looked for
        with pytest.raises(error, match=told):
            report_of(*nowhere, *more)
    with pytest.raises(ConfigError, match="--encoder is missing; make one with `rig train encoder`"):
        report_of(*asked[2:])


def test_files_that_are_no_encoder_or_no_mask_are_named(small_mice, tmp_path):
    asked = options(small_mice, small_mice.data / "simulated-3")
    (tmp_path / "x.npz").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"x\.npz: damaged, or not a checkpoint"):
        report_of("--encoder", tmp_path / "x.npz", *asked[2:])
    with pytest.raises(CheckpointError, match=r"y\.npz: no such encoder; make one with `rig train encoder`"):
        report_of("--encoder", tmp_path / "y.npz", *asked[2:])
    np.save(tmp_path / "small.npy", np.ones((30, 64), np.float32))
    with pytest.raises(DataError, match=r"small\.npy: mask is 30 x 64; valid is 36 x 64 or 64 x 64"):
        report_of(*asked, "--mask", tmp_path / "small.npy")
    with pytest.raises(DataError, match=r"simulated-3\.npy: not a mask"):
        report_of(*asked, "--mask", tmp_path)
