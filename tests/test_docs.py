"""The pages show what the code does today: programs are run, listings compared, links followed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.compiler.pipeline import LOWERING, TENSOR_PASSES
from scripts import run_doc_programs

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
SOURCE = re.compile(r"`([\w/*]+\.py)`")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

# Declares the ops of the page's programs, then runs the generated tests on them.
WITH_THE_OPS_OF_A_PAGE = """
import contextlib, io, sys, pytest
from graphflow.core.op import OPS
before = set(OPS)
for program in sys.argv[1:]:
    with contextlib.suppress(ValueError), contextlib.redirect_stdout(io.StringIO()):
        exec(compile(program, "program", "exec"), {})
ids = " or ".join(f"[{name}-" for name in OPS if name not in before)
sys.exit(pytest.main(["tests/ops", "-q", "-W", "error", "-p", "no:cacheprovider", "-k", ids]))
"""


@pytest.mark.parametrize("name", run_doc_programs.PAGES)
def test_programs_print_what_the_page_shows(name: str) -> None:
    page = (ROOT / name).read_text("utf-8")
    assert run_doc_programs.refreshed(page) == page, "run scripts/run_doc_programs.py and look at what changed"


def test_ops_page_is_current() -> None:
    command = [sys.executable, "scripts/make_ops_table.py", "--check"]  # by itself: other tests may declare ops
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ops_of_the_tutorial_pass_their_generated_tests() -> None:
    programs = run_doc_programs.programs_of((ROOT / "docs/adding_an_op.md").read_text("utf-8"))
    command = [sys.executable, "-W", "error", "-c", WITH_THE_OPS_OF_A_PAGE, *programs.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 30


@pytest.mark.parametrize("path", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCED.sub("", path.read_text("utf-8"))
    for link in LINK.findall(text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
def test_source_files_that_a_page_names_exist(path: Path) -> None:
    folders = [ROOT / name for name in (".", "compiler", "graphflow", "graphflow/ops", "tests/ops")]
    named = SOURCE.findall(FENCED.sub("", path.read_text("utf-8")))
    missing = [name for name in named if not any(list(folder.glob(name)) for folder in folders)]
    assert missing in ([], ["utils.py"])  # CONTRIBUTING says that there is none


def anchors(page: Path) -> set[str]:
    """What a heading is called in links to it."""
    headings = HEADING.findall(FENCED.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_ladder_names_every_pass() -> None:
    page = (ROOT / "docs/debugging.md").read_text("utf-8")
    passes = [one.name for one in TENSOR_PASSES + LOWERING]
    assert re.findall(r"^graphflow: (\w+)", page, re.MULTILINE) == ["capture", *passes, "emit", "llvm"]


def test_a_stale_listing_is_noticed() -> None:
    page = "<!-- program one.py -->\n```python\nprint(1)\n```\n\n<!-- output of one.py -->\n```text\n2\n```\n"
    assert run_doc_programs.refreshed(page) == page.replace("\n2\n", "\n1\n")


def test_the_longest_loop_of_a_function_is_found() -> None:
    text = "f:\n    xorl         %eax, %eax\n.L1:\n    incq         %rax\n    jl           .L1\n    retq         \n"
    longer = ".L2:\n    addps        %xmm0, %xmm1\n    decq         %rax\n    jg           .L2\n"
    assert run_doc_programs.loop_of(text + longer + ".L3:\n    jmp          .L1\n") == longer
    with pytest.raises(ValueError, match="no loop"):
        run_doc_programs.loop_of("f:\n    retq         \n")


def test_a_mark_without_its_program_is_refused() -> None:
    with pytest.raises(ValueError, match="after a program"):
        run_doc_programs.refreshed("<!-- output of none.py -->\n```text\n```\n")
