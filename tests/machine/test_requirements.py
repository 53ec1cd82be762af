"""The requirements files: exact, complete, in agreement with each other and with pyproject.toml."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions

from snn_course import ROOT
from snn_course.machine import installed, pins

import pytest
from packaging.requirements import Requirement

PC, PI = ROOT / "requirements-pc.txt", ROOT / "requirements-pi.txt"
HOSTS = {
    "Windows": (PC, {"sys_platform": "win32", "platform_machine": "AMD64", "platform_system": "Windows"}),
    "Linux": (PC, {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}),
    "macOS": (PC, {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"}),
    "Pi": (PI, {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux"}),
}
OPTIONAL = {
    "v2e": "not on PyPI; lesson 04 has a pixel model of its own and compares the two when v2e is there",
    "v2ecore": "the package inside v2e",
    "norse": "lesson 17 reports a second framework when one is there",
    "sinabs": "lesson 17 reports a second framework when one is there",
    "spikingjelly": "lesson 17 reports a second framework when one is there",
    "triton": "comes with PyTorch on Linux alone; elsewhere a GPU's neurons run in PyTorch",
    "nengo": "lesson 17 reports a second framework when one is there",
}
LOCAL = {"snn_course", "tests"} | {file.stem for file in ROOT.glob("*.py")}


def lines(file):
    return [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def requirements(file):
    return [Requirement(line.split("  #")[0]) for line in lines(file)]


def pinned(host, python):
    """Name to version of what one kind of computer installs."""
    file, environment = HOSTS[host]
    environment = {**environment, "python_version": python, "python_full_version": f"{python}.1"}
    chosen = {}
    for requirement in requirements(file):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = installed.canonical(requirement.name)
            assert name not in chosen, f"{name} is pinned twice for {host} with Python {python}"
            chosen[name] = str(requirement.specifier)
    return chosen


@pytest.mark.parametrize("file", [PC, PI], ids=lambda file: file.name)
def test_every_line_is_one_exact_version(file):
    for requirement in requirements(file):
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert "*" not in specifier.version
        assert not requirement.extras
        assert requirement.url is None


@pytest.mark.parametrize("file", [PC, PI], ids=lambda file: file.name)
def test_direct_dependencies_come_first_each_with_its_reason(file):
    text = file.read_text("utf-8")
    assert f"uv pip compile {pins.RESOLVE[file.name]}" in text
    direct, _ = text.split(installed.INDIRECT_HEADING)
    why = pins.reasons((ROOT / "pyproject.toml").read_text("utf-8"))
    entries = [line for line in direct.splitlines() if "==" in line and not line.startswith("#")]
    assert {installed.canonical(line.split("==")[0]): line.split("  # ")[1] for line in entries} == why


@pytest.mark.parametrize(("host", "python"), [(h, p) for h in HOSTS for p in ("3.11", "3.12")])
def test_both_files_have_the_versions_of_pyproject(host, python):
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    chosen = pinned(host, python)
    for requirement in map(Requirement, asked):
        if requirement.marker is None or requirement.marker.evaluate(HOSTS[host][1]):
            assert chosen[installed.canonical(requirement.name)] == str(requirement.specifier)


def test_pc_and_pi_agree():
    pc, pi = pinned("Linux", "3.12"), pinned("Pi", "3.12")
    assert {name: version for name, version in pi.items() if pc.get(name, version) != version} == {}
    # The difference that is allowed: the Pi has no NVIDIA card, so no libraries of CUDA and no triton.
    assert {name for name in pc if name not in pi and not name.startswith("nvidia-")} == {"triton"}
    assert set(pi) <= set(pc)


def test_what_runs_where():
    for python in ("3.11", "3.12"):
        assert {"akida", "tensorflow", "torch"} <= set(pinned("Windows", python))
        assert not {"akida", "tensorflow", "triton"} & set(pinned("macOS", python))
        assert not {name for name in pinned("Windows", python) if name.startswith("nvidia-")}


def imported():
    """Every top-level module that the course's Python files import, with one file that does."""
    found = {}
    files = [*ROOT.glob("*.py")]
    for folder in ("snn_course", "lessons", "tests"):
        files += (ROOT / folder).rglob("*.py")
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            found |= {name.partition(".")[0]: file.name for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | LOCAL}


def test_every_import_is_pinned_or_optional_for_a_reason():
    known = {"xdist": ["pytest-xdist"], **packages_distributions()}  # without xdist, tests run one by one
    both = set(pinned("Linux", "3.12")) & set(pinned("Pi", "3.12"))
    missing = {
        name: file
        for name, file in imported().items()
        if name not in OPTIONAL and not both & {installed.canonical(d) for d in known.get(name, [name])}
    }
    assert missing == {}


def test_a_resolution_is_put_in_order():
    resolved = "b-b==2  # via a\na==1 ; x == 'y'  # via p\n    # via q\n"
    text = pins.arranged(resolved, {"a": "needed"}, "# head")
    direct, indirect = text.split(f"\n{installed.INDIRECT_HEADING}:\n")
    assert direct == "# head\n\n# What the course itself uses:\na==1 ; x == 'y'  # needed\n"
    assert indirect == "b-b==2  # via a\n"
