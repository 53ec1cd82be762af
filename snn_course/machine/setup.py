"""Make the course's environment in ``.venv``, or mend it: what ``course.py`` does before anything else.

Standard library only, and in the Python of 3.8, so that an old Python can find a newer one.

The requirements files name every package, indirect ones too, so packages are installed without their
dependencies: that is quick, and nothing that the learner put there by hand (a torch for ROCm) is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from snn_course import UsageError, safe_write

TORCH = ("torch", "torchvision", "torchaudio")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_INDEX_SECONDS = 5.0


def ensure(root: Path) -> Path:
    """Give the Python of the course's environment, making or completing the environment when needed.

    Raises: UsageError when there is no suitable Python, or when packages could not be installed.
    """
    python = venv_python(root)
    requirements = requirements_file(root)
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not (python.exists() and _recorded(root) == digest):
        version = version_of([str(python)]) if python.exists() else None
        if version is None:
            _make_venv(root)
        elif version not in supported():
            has = "{}.{}".format(*version)
            raise UsageError(
                f".venv holds Python {has}, the course needs {_wanted()}: remove it and start again."
            )
        _install(root, requirements)
        _record(root, digest)
    return python


# ---------------------------------------------------------------------- this host


def supported() -> tuple[tuple[int, int], ...]:
    """Versions of Python the pins fit, best first: akida's wheels stop at 3.12."""
    return ((3, 12),) if _is_pi() else ((3, 12), (3, 11))


def requirements_file(root: Path) -> Path:
    """The list of packages for this kind of computer."""
    return root / ("requirements-pi.txt" if _is_pi() else "requirements-pc.txt")


def venv_python(root: Path) -> Path:
    """Path of the environment's Python, there or not."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _is_pi() -> bool:
    return sys.platform == "linux" and platform.machine() == "aarch64"


def _wanted() -> str:
    return " or ".join("{}.{}".format(*version) for version in reversed(supported()))


def has_gpu_device() -> bool:
    """Say whether Linux shows an NVIDIA card, an AMD card, or (under WSL) either of them."""
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


# ---------------------------------------------------------------------- finding a Python


def launcher(root: Path) -> list[str]:
    """Give a Python that can run the course: the environment's own, or any other suitable one.

    Raises: UsageError when there is none.
    """
    python = [str(venv_python(root))]
    return python if version_of(python) in supported() else find_python()


def find_python() -> list[str]:
    """Give the command of a suitable Python on this computer. Raises: UsageError when there is none."""
    if sys.version_info[:2] in supported():
        return [sys.executable]
    for command in _candidates():
        if version_of(command) in supported():
            return command
    raise UsageError(
        f"The course needs Python {_wanted()}, and none was found: install Python 3.12 "
        "from https://www.python.org/downloads/ or with 'uv python install 3.12', then start again."
    )


def _candidates() -> list[list[str]]:
    """Commands that may be a Python. One that is on the PATH may still fail, as pyenv's shims do."""
    commands = [["py", f"-{major}.{minor}"] for major, minor in supported()] if os.name == "nt" else []
    names = ["python{}.{}".format(*version) for version in supported()] + ["python3", "python"]
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [shutil.which(name, path=folder) for name in names for folder in folders]
    commands += [[path] for path in dict.fromkeys(found) if path]
    uv = shutil.which("uv")
    for version in supported() if uv else ():
        path = _output([str(uv), "python", "find", "{}.{}".format(*version)])
        commands += [[path]] if path else []
    return commands


def version_of(command: list[str]) -> tuple[int, ...] | None:
    """Run a Python to read its version, as in (3, 12); None when it does not run."""
    text = _output([*command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+\.\d+", text) else None


def _output(command: list[str]) -> str:
    """What a command prints; nothing when it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


# ---------------------------------------------------------------------- the environment


def _make_venv(root: Path) -> None:
    """Make ``.venv`` anew. What an interrupted start left goes; packages, as of another system, do not."""
    python = find_python()
    folder = root / ".venv"
    sites = (*folder.glob("lib/python3.*/site-packages"), *folder.glob("Lib/site-packages"))
    if {name for site in sites for name in installed(site)} - {"pip", "setuptools"}:
        raise UsageError(".venv has packages, but no Python that runs here: rename or remove it first.")
    print(f"Making the environment in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    if _run([*python, "-m", "venv", str(folder)], quiet=True):
        return
    shutil.rmtree(folder, ignore_errors=True)  # Debian's Python without python3-venv leaves a torso
    uv = shutil.which("uv")
    if not (uv and _run([uv, "venv", "--quiet", "--python", python[-1], str(folder)])):
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(
            f"{' '.join(python)} -m venv failed: install uv (https://docs.astral.sh/uv/), or on Debian "
            "and Ubuntu the package python3-venv, then start again."
        )


def _install(root: Path, requirements: Path) -> None:
    """Bring the environment to what the requirements say, keeping what already fits."""
    python = venv_python(root)
    site = site_packages(root)
    text = requirements.read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))
    _forget_damaged(site)
    installers = _installers(python, pins["uv"])
    if _cpu_wheels_fit(site):
        print("No GPU here: looking for PyTorch's smaller wheels without CUDA")
        if _answers(f"{CPU_INDEX}/torch/"):
            wheels = [f"{name}=={pins[name]}+cpu" for name in TORCH]
            _run([*installers[0], "--index-url", CPU_INDEX, *wheels])
        else:
            print("They cannot be had from here; the default ones work as well")
    lines = wanted_lines(text.splitlines(), installed(site))
    chosen = root / ".venv" / "requirements.txt"
    safe_write.write(chosen, "\n".join(lines) + "\n")
    print(
        f"Installing the packages of {requirements.name} (half a minute with uv, minutes with pip)",
        flush=True,
    )
    if not any(_run([*installer, "-r", str(chosen)]) for installer in installers):
        raise UsageError("Not all packages could be installed (see above): start again to go on from there.")


def _installers(python: Path, uv_version: str) -> list[list[str]]:
    """Commands that install packages, the quick one first. With no uv on the PATH, get one by pip."""
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    own = python.with_name("uv.exe" if os.name == "nt" else "uv")
    uv = next((path for path in (shutil.which("uv"), str(own)) if path and _output([path, "--version"])), "")
    if not uv and not _output([str(python), "-m", "pip", "--version"]):
        _output([str(python), "-m", "ensurepip"])
    if not uv and _run([*pip, "--quiet", f"uv=={uv_version}"]):
        uv = str(own)
    return ([[uv, "pip", "install", "--no-deps", "--python", str(python)]] if uv else []) + [pip]


def wanted_lines(lines: list[str], present: dict[str, str]) -> list[str]:
    """Leave out of a requirements file what the torch that is already there makes needless.

    A torch with a local tag (2.9.1+rocm7.2.1, 2.9.1+cpu) satisfies its pin and stays. Unless the tag is
    one of CUDA, the libraries of CUDA stay away too: a ROCm torch brings a triton of its own, which the
    other one would overwrite.
    """
    tag = present.get("torch", "").partition("+")[2]
    without_cuda = tag and not tag.startswith("cu")
    kept = []
    for line in lines:
        name, _, rest = line.partition("==")
        have, _, have_tag = present.get(name, "").partition("+")
        by_hand = name in TORCH and have_tag and (have == rest.split()[0] or "rocm" in have_tag)
        if not (by_hand or (without_cuda and (name.startswith("nvidia-") or name == "triton"))):
            kept.append(line)
    return kept


def _cpu_wheels_fit(site: Path) -> bool:
    """Say whether to look for wheels without CUDA: 0.2 GB to fetch in the place of 4."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or has_gpu_device():
        return False
    present = installed(site)
    return any(name not in present for name in TORCH) and present.get("torch", "+cpu").endswith("+cpu")


def _answers(url: str) -> bool:
    """Probe an address, within a few seconds. In a thread, as no time limit covers the look-up of a name."""
    import urllib.request  # a tenth of a second, which `course.py list` does not need

    answered = []

    def probe() -> None:
        try:
            with urllib.request.urlopen(url, timeout=CPU_INDEX_SECONDS) as reply:
                answered.append(reply.status)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(CPU_INDEX_SECONDS)
    return answered == [200]


# ---------------------------------------------------------------------- what is installed


def site_packages(root: Path) -> Path:
    """Find the folder of the environment's packages. Raises: UsageError when there is none."""
    pattern = "Lib/site-packages" if os.name == "nt" else "lib/python3.*/site-packages"
    found = sorted((root / ".venv").glob(pattern))
    if not found:
        raise UsageError("The folder .venv is no Python environment: remove it and start again.")
    return found[-1]


def installed(site: Path) -> dict[str, str]:
    """Name and version of each package in a folder, read from the names of its .dist-info folders."""
    found = [path.name[: -len(".dist-info")].partition("-") for path in site.glob("*.dist-info")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in found}


def _forget_damaged(site: Path) -> None:
    """Unlist packages that lack some of their files, as a kill in the middle leaves them.

    Installers believe the .dist-info folder; without it they install the package again.
    """
    from importlib.metadata import PathDistribution

    for info in site.glob("*.dist-info"):
        name, _, version = info.name[: -len(".dist-info")].partition("-")
        if name in TORCH and "rocm" in version:
            continue  # put there by hand: only the learner knows from where
        files = PathDistribution(info).files
        real = [file for file in files or [] if file.suffix != ".pyc"]
        if not real or not all(Path(str(file.locate())).exists() for file in real):
            shutil.rmtree(info, ignore_errors=True)


def _recorded(root: Path) -> str | None:
    """Digest of the requirements that the last finished set-up installed."""
    try:
        return str(json.loads((root / ".venv" / "course.json").read_text(encoding="utf-8"))["requirements"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(root: Path, digest: str) -> None:
    """Write down that the set-up is finished. Last of all: without it the next start mends."""
    safe_write.write(root / ".venv" / "course.json", json.dumps({"requirements": digest}) + "\n")


def _run(command: list[str], quiet: bool = False) -> bool:
    """Run a command, its output shown unless quiet. Returns: whether it went well."""
    stdout = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, check=False, stdout=stdout).returncode == 0
    except OSError:
        return False
