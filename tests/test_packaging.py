"""What is installed: one package called graphflow, with compiler and runtime inside it and everything that it reads."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import graphflow

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# What a source tree needs to be built; the rest of the repository stays out of the copy that is built here.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "graphflow", "compiler", "runtime")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from a copy of the source tree, symlinks kept."""
    copy, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, copy / name)
    for kind in ("wheel", "sdist"):
        program = f"from setuptools import build_meta; build_meta.build_{kind}({str(output)!r})"
        done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the site-packages of somebody who installed the wheel."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def source_files() -> set[str]:
    """Every file below graphflow/, through the symlinks: what a wheel has to hold."""
    todo, files = [ROOT / "graphflow"], set()
    while todo:
        for path in todo.pop().iterdir():
            if path.is_dir() and path.name != "__pycache__":
                todo.append(path)
            elif path.is_file():
                files.add(path.relative_to(ROOT).as_posix())
    return files


@pytest.mark.parametrize("name", ["compiler", "runtime"])
def test_compiler_and_runtime_are_reached_through_symlinks(name: str) -> None:
    link = ROOT / "graphflow" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_wheel_is_pure_python(built: Path) -> None:
    assert [path.name for path in built.glob("*.whl")] == [f"graphflow-{PROJECT['version']}-py3-none-any.whl"]


def test_wheel_installs_graphflow_and_nothing_else(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir()} == {"graphflow", f"graphflow-{PROJECT['version']}.dist-info"}


def test_wheel_holds_every_file_of_the_package(unpacked: Path) -> None:
    packed = {path.relative_to(unpacked).as_posix() for path in (unpacked / "graphflow").rglob("*") if path.is_file()}
    assert packed == source_files()


def test_wheel_carries_the_licence_and_the_attribution(unpacked: Path) -> None:
    licences = next(unpacked.glob("*.dist-info")) / "licenses"
    assert (licences / "LICENSE").read_text("utf-8").split() == (ROOT / "LICENSE").read_text("utf-8").split()
    assert (licences / "graphflow/data/digits/ATTRIBUTION.md").is_file()


def test_installed_wheel_runs_from_anywhere(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "import graphflow.compiler, graphflow.runtime, graphflow.cli as cli; print(cli.__file__); cli.main(['info'])"
    )
    found_here = f"import sys; sys.path.insert(0, {str(unpacked)!r}); {program}"
    done = subprocess.run([sys.executable, "-c", found_here], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    file, version, *_ = done.stdout.splitlines()
    assert file == str(unpacked / "graphflow" / "cli.py")
    assert version.split() == ["graphflow", PROJECT["version"]]


def test_sdist_holds_compiler_and_runtime_once_as_folders(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    for name in ("compiler", "runtime"):
        assert members[f"graphflow/{name}"].isdir()
        assert members[f"graphflow/{name}/__init__.py"].isfile()
        assert name not in members


def test_version_is_the_same_everywhere() -> None:
    assert graphflow.__version__ == PROJECT["version"]


def test_what_is_installed_along_is_short() -> None:
    names = [requirement.partition(">")[0] for requirement in PROJECT["dependencies"]]
    assert names == ["numpy", "networkx", "llvmlite"]
