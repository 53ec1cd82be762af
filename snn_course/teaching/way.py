"""What is next for a learner, and why: read, run, write, be checked, be asked, lesson after lesson."""

from collections.abc import Iterator, Sequence

from snn_course.runs import wording
from snn_course import ROOT
from snn_course.runs.scripts import Script
from snn_course.schedule import standing, timetable
from snn_course.schedule.overview import filled
from snn_course.teaching import exercises, hints, progress, projects, questions, workspace
from snn_course.teaching.progress import Record

Lines = Iterator[str]


def lines(scripts: Sequence[Script], record: Record, command: str) -> Lines:
    """Say what is next, why, and the command for it; ``command`` is how course.py is called."""
    now = standing.now(scripts)
    yield from _following(scripts, now, record, command)
    waiting = progress.due(record, progress.today())
    if waiting:
        many = "a question" if len(waiting) == 1 else f"{len(waiting)} questions"
        yield ""
        yield from filled(f"And {many} that you missed may be asked again:", "")
        yield f"    {command} quiz --review"


def script_next(scripts: Sequence[Script], now: standing.Standing, record: Record) -> Script | None:
    """Give the script with which to go on; None when all is done."""
    begun = _begun(scripts, record)
    if begun:
        return begun
    for script in scripts:
        if script in now.cut_off or not standing.has_run(script, now):
            return script
        if _is_open(script, record) or _is_unasked(script, record):
            return script
    return now.at_quick_scale[0] if now.at_quick_scale else None


def _following(scripts: Sequence[Script], now: standing.Standing, record: Record, command: str) -> Lines:
    script = script_next(scripts, now, record)
    if script is None:
        return iter(
            ["All is done. Look back: all figures and measures on one page.", f"    {command} report"]
        )
    is_project = projects.is_one(script)
    if _is_open(script, record) and workspace.has_begun(script):
        return _check_own(script, command) if is_project else _check(script, record, command)
    has_run = script not in now.cut_off and standing.has_run(script, now)
    if _is_open(script, record) and (has_run or is_project):  # a project's run is the worked answer
        return _brief(script, command) if is_project else _start(script, command)
    if not has_run:
        return _run(script, script in now.cut_off, command)
    if _is_unasked(script, record):
        return _quiz(script, record, command)
    return _run_whole(script, command)


def _is_open(script: Script, record: Record) -> bool:
    """Say whether a script has a check that the learner has not passed."""
    return has_check(script) and not progress.has_passed_check(record, script.stem)


def _is_unasked(script: Script, record: Record) -> bool:
    """Say whether a script has a quiz that the learner has not passed."""
    return _has_quiz(script) and not progress.has_passed_quiz(record, script.stem)


def has_check(script: Script) -> bool:
    """Say whether something of a script is checked: its exercises, or what a milestone asks for."""
    return exercises.path_for(script).is_file() or projects.has_check(script)


def _has_quiz(script: Script) -> bool:
    return questions.path_of(script.stem).is_file()


def _begun(scripts: Sequence[Script], record: Record) -> Script | None:
    """Give the script whose file the learner saved last, of those that have not passed."""
    open_ones = [script for script in scripts if _is_open(script, record) and workspace.has_begun(script)]
    return max(open_ones, key=lambda script: workspace.path_for(script).stat().st_mtime, default=None)


def _step(what: str, why: str, *commands: str) -> Lines:
    yield from filled(f"Next: {what}", "", "      ")
    yield from filled(f"Why:  {why}", "", "      ")
    yield from (f"    {command}" for command in commands)


def _run(script: Script, cut_off: bool, command: str) -> Lines:
    card = script.card()
    if script.is_environment_test:
        return _step("see what works on this machine.", "All else runs on it.", f"{command} env")
    if cut_off:
        why = "Its run was cut off; it goes on where it was."
        return _step(f"go on with {script.stem}.", why, f"{command} run {script.label}")
    name = script.path.relative_to(ROOT).as_posix()
    quick, cpu = (wording.duration(max(10, seconds)) for seconds in timetable.entry(script.stem)[:2])
    return _step(
        f"read {name} ({card['title']}), write down what you expect, and run it.",
        f"{card['question']} A run takes about {cpu} on a laptop, {quick} with --scale quick.",
        f"{command} run {script.label}",
    )


def _run_whole(script: Script, command: str) -> Lines:
    cpu = wording.duration(timetable.entry(script.stem).cpu)
    return _step(
        f"run {script.stem} at its own scale.",
        f"So far it ran at quick scale alone. About {cpu} on a laptop.",
        f"{command} run {script.label}",
    )


def _start(script: Script, command: str) -> Lines:
    return _step(
        f"write the learning part of {script.stem} yourself.",
        "You have run it. What one has written, and seen fail, one knows.",
        f"{command} start {script.label}",
    )


def _brief(script: Script, command: str) -> Lines:
    return _step(
        f"write your own answer to {script.stem}: {script.card()['title']}.",
        "The lessons before it led you by the hand; what you can do alone is yours. First read its brief.",
        f"{command} start {script.label}",
    )


def _check_own(script: Script, command: str) -> Lines:
    return _step(
        f"go on with {workspace.shown(workspace.path_for(script))}, run it, and see what it has met.",
        "You have begun it, and it has not reached its mark yet.",
        f"{command} check {script.label}",
    )


def _check(script: Script, record: Record, command: str) -> Lines:
    path = workspace.shown(workspace.path_for(script))
    wanted = exercises.load(script)
    name = hints.of(record, script.stem).get("open")
    task = next((task for task in wanted.tasks if task.id == name), None)
    what = f"task {task.number} ({task.id})" if task else "the tasks"
    return _step(
        f"go on with {what} in {path}.",
        "You have begun it, and not all holds yet.",
        f"{command} check {script.label}",
        f"{command} hint {script.label}",
    )


def _quiz(script: Script, record: Record, command: str) -> Lines:
    best = progress.best_score(record, script.stem)
    why = "What you can answer without looking, you have understood."
    if best is not None:
        why = f"Your best score is {best:.0%}; 70 % pass. Read the weak topics again first."
    return _step(f"the quiz on {script.stem}.", why, f"{command} quiz {script.label}")
