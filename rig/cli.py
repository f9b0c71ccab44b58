"""The `rig` command. Reports go to standard output, everything else to standard error; bad input is exit code 2.

What a command works with is imported when it is asked for: together it takes more than a second.
"""

import itertools
import json
import logging
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from rig import registry, terminal
from rig.acquisition.states import FinishReason
from rig.errors import ConfigError, CortexrigError
from rig.simulation.visual_parameters import ResponseParameters

if TYPE_CHECKING:
    from rig.acquisition.engine import Engine
    from rig.acquisition.run import RunReport
    from rig.config import RigConfig
    from rig.messages import Prediction
    from rig.replay.compare import Decisions

BAD_INPUT = 2
INCOMPLETE = 1
_SCHEMA = Path("hardware_configs/schema.json")
_PROBE_S = 3.0
_USUAL_RESPONSES = ResponseParameters()

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Config = Annotated[Path, typer.Argument(help="The rig's YAML.")]
Session = Annotated[Path, typer.Argument(help="A session file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Session file to write; never overwritten.")
]


def _say_version(asked: bool) -> None:
    if not asked:
        return
    from rig.recording.provenance import provenance

    told = provenance()
    commit = f" ({told['commit']})" if told["commit"] else ""
    typer.echo(f"{told['program']} {told['version']}{commit}, Python {told['python']}, {told['platform']}")
    raise typer.Exit


@app.callback()
def _of_all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print versions, for reports, and leave.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Record, decode and close the loop at the microscope; replay and check what was recorded."""


@app.command()
def run(
    config: Config,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")] = None,
    gui: Annotated[bool, typer.Option(help="Show the live window.")] = True,
    output: Output = None,
    wait: Annotated[bool, typer.Option(help="Begin when the window's start button is pressed.")] = False,
    screenshots: Annotated[
        Path | None, typer.Option(help="Draw the window offscreen and save pictures of it here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a rig: record, decode, close the loop. Ctrl-C stops cleanly."""
    from rig.acquisition.engine import Engine
    from rig.acquisition.plan import plan
    from rig.acquisition.run import LiveSource, RunOptions
    from rig.config import load_config

    rig = load_config(config)
    plan(rig)
    if wait and not gui:
        raise ConfigError("--wait needs the window's start button; valid without --no-gui")
    output = output or _default_output(rig)
    _make_folder(output.parent)
    options = RunOptions(output, duration, gui, _pictures(gui, screenshots, output), wait)
    _finish(_run(Engine(rig, LiveSource(), options)), as_json)


@app.command()
def replay(
    session: Session,
    speed: Annotated[str, typer.Option(help="1 for real time, N times faster, or max.")] = "1",
    output: Output = None,
    gui: Annotated[bool, typer.Option(help="Show the live window.")] = False,
    screenshots: Annotated[
        Path | None, typer.Option(help="Draw the window offscreen and save pictures of it here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a recorded session through the same pipeline, and compare the decisions with the live ones."""
    at_speed = _speed(speed)
    from rig.acquisition.engine import Engine
    from rig.acquisition.run import RunOptions
    from rig.replay.sources import ReplaySource

    replayed: dict[str, Decisions] = {}
    with ReplaySource(session, at_speed) as source:
        pictures = _pictures(gui, screenshots, output or session.with_name(f"{session.stem}_replay.nwb"))
        engine = Engine(source.config, source, RunOptions(output, None, gui, pictures))
        engine.on_prediction = lambda p: _note_decision(replayed, p)
        report = _run(engine)
        comparison = source.compare(replayed, engine.predictions)
    _finish(report, as_json, {"compared": {name: c.as_dict() for name, c in comparison.items()}})


def _note_decision(decisions: "dict[str, Decisions]", prediction: "Prediction") -> None:
    if prediction.answers_frame:
        of_decoder = decisions.setdefault(prediction.stream, {})
        of_decoder[prediction.source_index] = prediction.values, prediction.status


@app.command()
def check(
    config: Config,
    open_devices: Annotated[
        bool, typer.Option("--open", help="Also open every device and measure its rate.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a rig's YAML, load its decoders and say what a run will need, without opening a device."""
    from rig.acquisition.plan import plan
    from rig.acquisition.readiness import decoder_problems
    from rig.config import load_config

    rig = load_config(config)
    if problems := decoder_problems(rig):
        for problem in problems:
            _say(f"rig: {config}: {problem}")
        raise typer.Exit(BAD_INPUT)
    report: dict[str, Any] = {"config": str(config), "valid": True, "plan": plan(rig).as_dict()}
    if open_devices:
        report["measured"] = _measured(rig)
    _report(report, as_json)


def _measured(rig: "RigConfig") -> dict[str, Any]:
    """Open every device and count what comes in some seconds."""
    from rig.acquisition.engine import Engine
    from rig.acquisition.run import LiveSource, RunOptions

    alone = rig.model_copy(update={"decoders": {}, "closed_loop": []})
    probe = Engine(alone, LiveSource(), RunOptions(None, _PROBE_S, window=False)).run()
    if probe.finish_reason is not FinishReason.COMPLETED:
        raise CortexrigError(probe.errors[0])
    return {
        name: {"rate_hz": round(s["received"] / _PROBE_S, 2), "lost": s["lost"]}
        for name, s in probe.streams.items()
    }


@app.command()
def schema(
    path: Annotated[Path, typer.Argument(help="File to write.")] = _SCHEMA,
    stale: Annotated[bool, typer.Option("--check", help="Only say whether the file is up to date.")] = False,
) -> None:
    """Write the JSON schema of a rig's YAML, for completion in editors."""
    from rig.config import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if not stale:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path} is out of date; write it again with: rig schema {path}")


@app.command()
def simulate(
    config: Config,
    out: Annotated[Path, typer.Option("--out", help="Folder for the session files.")],
    mice: Annotated[int, typer.Option(min=1, help="How many mice.")] = 5,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions of each mouse, of the same brain.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.05, max=1440, help="Length of each session.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first mouse; the others follow.")] = 100,
    movie_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Show other movies: the same neurons (the rig's seed), this seed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write session files of simulated mice, faster than real time, to train decoders on."""
    from rig.config import load_config
    from rig.simulation.sessions import simulate_session

    rig = load_config(config)
    planned = {}
    for k, session in itertools.product(range(mice), range(sessions)):
        suffix = f"-{session}" if sessions > 1 else ""
        mouse = _simulated(rig, seed + k, session, movie_seed + k if movie_seed is not None else None)
        planned[out / f"{rig.rig}-{seed + k}{suffix}.nwb"] = mouse
    _make_folder(out)
    count = int(minutes * 60 * max(camera.rate_hz for camera in rig.cameras.values())) * len(rig.cameras)
    for k, (file, mouse) in enumerate(planned.items()):
        with terminal.bar(f"session {k + 1} of {len(planned)}", count) as advance:
            simulate_session(file, mouse, minutes * 60, advance)
    _report({"sessions": [str(file) for file in planned]}, as_json)


@app.command()
def simulate_movies(
    out: Annotated[Path, typer.Option("--out", help="Folder for the mice; each gets a folder of its own.")],
    mice: Annotated[int, typer.Option(min=1, help="How many mice.")] = 1,
    neurons: Annotated[int, typer.Option(min=1, help="Neurons of each mouse.")] = 1000,
    clips: Annotated[int, typer.Option(min=1, max=100_000, help="Clips shown once, tier train.")] = 90,
    oracle_clips: Annotated[
        int, typer.Option(min=0, help="Other clips, shown repeatedly, tier oracle.")
    ] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="How often each oracle clip is shown.")] = 10,
    frames: Annotated[int, typer.Option(min=30, help="Frames of a clip, at 30 Hz.")] = 300,
    screen_share: Annotated[
        tuple[float, float],
        typer.Option(
            min=0.05, max=1, help="Shares of the screen's height and width that one field's neurons look at."
        ),
    ] = _USUAL_RESPONSES.screen_share,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first mouse; the others follow.")] = 1,
    as_json: Json = False,
) -> None:
    """Write responses of simulated visual cortex to movies, as Sensorium 2023 does, with the truth beside them."""
    from rig.simulation.movie_responses import MovieSession, simulate_movie_responses

    parameters = replace(_USUAL_RESPONSES, screen_share=screen_share)
    made = []
    for k in range(mice):
        session = MovieSession(seed + k, neurons, clips, oracle_clips, repeats, frames, parameters)
        made.append(out / session.name)
        with terminal.bar(f"mouse {k + 1} of {mice}", len(session)) as advance:
            simulate_movie_responses(made[-1], session, advance)
    _report({"mice": [str(folder) for folder in made]}, as_json)


@app.command()
def verify(session: Session, as_json: Json = False) -> None:
    """Say whether a session is complete; exit code 0 only if it is."""
    from rig.recording.verify import verify as verify_session

    report = verify_session(session)
    _report(report.as_dict(), as_json)
    if not report.complete:
        raise typer.Exit(INCOMPLETE)


@app.command()
def recover(
    session: Session,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; never overwritten.")],
    as_json: Json = False,
) -> None:
    """Make a clean NWB file of what a killed run had flushed, and say what is missing."""
    from rig.recording.recover import recover as recover_session

    _report(recover_session(session, output).as_dict(), as_json)


@app.command()
def info(session: Session, as_json: Json = False) -> None:
    """Print what is in a session file."""
    from rig.recording.summary import summary

    _report(summary(session), as_json)


def _ending_signals() -> list[signal.Signals]:
    """Signals that ask a run to end, on this system; nohup's choice to outlive the terminal is kept."""
    names = ["SIGINT", "SIGTERM", "SIGBREAK"]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        names.append("SIGHUP")
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def _run(engine: "Engine") -> "RunReport":
    """Run with progress on the terminal; Ctrl-C, a termination signal or a closed terminal stop the run cleanly.

    Ctrl-Z is ignored: a run that is halted leaves an output as it is.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        engine.stop_by_hand()

    previous = {number: signal.signal(number, stop) for number in _ending_signals()}
    if hasattr(signal, "SIGTSTP"):
        previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with terminal.live(engine):
            return engine.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _finish(report: "RunReport", as_json: bool, more: dict[str, Any] | None = None) -> None:
    """Print how a run went, and leave with the exit code that says whether it completed."""
    _report({**report.as_dict(), **(more or {})}, as_json)
    for error in report.errors:
        _say(f"error: {error}")
    if report.finish_reason is not FinishReason.COMPLETED:
        raise typer.Exit(INCOMPLETE)


def _simulated(rig: "RigConfig", seed: int, session: int, movie_seed: int | None) -> "RigConfig":
    """Return the rig with a session of another mouse in it, or with the same neurons and other movies."""
    from rig.config import SimulationConfig

    simulation = rig.simulation
    if simulation is None:
        raise ConfigError("this rig has no simulation section; valid: hardware_configs/simulated_mouse.yaml")
    if movie_seed is not None and rig.stimulus is not None:
        movie = rig.stimulus.movie.model_copy(update={"seed": movie_seed})
        rig = rig.model_copy(update={"stimulus": rig.stimulus.model_copy(update={"movie": movie})})
        seed = simulation.seed
    given = simulation.model_dump(exclude_unset=True)  # a run fraction that was left out follows the seed
    other = SimulationConfig(**{**given, "seed": seed, "session": session})
    return rig.model_copy(update={"simulation": other})


def _pictures(gui: bool, screenshots: Path | None, session: Path) -> Path | None:
    """Return where pictures of the window go: as asked, or beside the session where there is no display."""
    from rig.acquisition.children import has_display

    if not gui or screenshots is not None or has_display():
        return screenshots
    _say(f"no display: the window is drawn offscreen, pictures go to {session.with_suffix('')}")
    return session.with_suffix("")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made: {error.strerror}; give a folder that can be written"
        ) from error


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigError(f"--speed {text}: valid is a number above 0, or max")
    return speed


def _default_output(rig: "RigConfig") -> Path:
    stamp = datetime.now(UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    return rig.recording.directory.expanduser() / f"{rig.rig}-{stamp}.nwb"


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def _report(content: dict[str, Any], as_json: bool) -> None:
    """Print a report: one JSON object for scripts, a tree for people."""
    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
    else:
        terminal.print_report(content)


def _log_to_stderr() -> None:
    console = Console(stderr=True)
    rich = RichHandler(console=console, show_path=False, markup=False)
    handler = rich if console.is_terminal else logging.StreamHandler()  # a log file wants whole lines
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[handler])


def main() -> None:
    """Run the command line; an error that can be explained is one line and exit code 2."""
    _log_to_stderr()
    try:
        _mount_commands()
        app()
    except CortexrigError as error:
        _say(f"rig: {error}")
        sys.exit(BAD_INPUT)
    except OSError as error:
        if error.filename is None:  # not about a place that somebody named
            raise
        _say(f"rig: {error.filename}: {error.strerror}")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        _say("rig: interrupted before the run began; nothing was recorded")
        sys.exit(INCOMPLETE)


def _mount_commands() -> None:
    for name in registry.names(registry.COMMANDS):
        try:
            mounted = registry.load(registry.COMMANDS, name)
            if isinstance(mounted, typer.Typer):
                app.add_typer(mounted, name=name)
            else:
                app.command(name)(mounted)
        except ConfigError as error:  # somebody's broken package must not take the other commands away
            logging.getLogger(__name__).warning("left out: %s", error)
