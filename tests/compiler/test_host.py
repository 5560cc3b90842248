"""LLVM is asked once what this machine is."""

from pathlib import Path

import pytest

from graphflow.compiler.llvm import host

LLVM_SAYS = ("x86_64-unknown-linux-gnu", "znver5", {"avx2": True, "sse4a": False})


@pytest.fixture
def asked(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    questions: list[str] = []

    def ask() -> host.Description:
        questions.append("what is this machine?")
        return LLVM_SAYS

    monkeypatch.setattr(host, "ask_llvm", ask)
    return questions


def describe(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> host.Description:
    path = folder.parent / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(host, "CPUINFO", path)
    return host.host_description()


FIRST = "processor\t: {n}\nmodel name\t: A\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\nprocessor\t: 1\nmodel name\t: A\n"


def test_an_equal_machine_is_known(asked: list[str], cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n, mhz in ((0, "2600.1"), (0, "3100.0"), (5, "2000")):
        text = FIRST.format(n=n, mhz=mhz, flags="avx2")
        assert describe(monkeypatch, cache_folder, text) == LLVM_SAYS
    assert len(asked) == 1


def test_another_machine_is_not(asked: list[str], cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for flags in ("avx2", "avx2 avx512f"):
        describe(monkeypatch, cache_folder, FIRST.format(n=0, mhz="1", flags=flags))
    assert len(asked) == 2


def test_where_the_system_says_nothing_llvm_is_asked(
    asked: list[str], cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CPUINFO", cache_folder / "absent")
    assert [host.host_description(), host.host_description()] == [LLVM_SAYS] * 2
    assert len(asked) == 2


def test_the_description_is_llvms() -> None:
    triple, cpu, features = host.host_description()
    assert (triple, cpu, features) == host.ask_llvm()
