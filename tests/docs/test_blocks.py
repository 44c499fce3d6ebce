"""What runs the pages: nothing is passed over, and what is wrong is told with its page and line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.docs.blocks import Reader, compared


def read(folder: Path, page: str) -> int:
    """Run a page's blocks in an empty folder; how many there were."""
    path = folder / "page.md"
    path.write_text(textwrap.dedent(page))
    place = folder / "place"
    place.mkdir()
    return Reader(place).read(path)


def failure(folder: Path, page: str) -> str:
    """What is told of a page that is wrong."""
    with pytest.raises(AssertionError) as told:
        read(folder, page)
    return str(told.value)


def test_blocks_share_files_variables_folder_and_names(tmp_path: Path):
    blocks = read(
        tmp_path,
        """
        Write `numbers/few.json`:

        ```json
        [1, 2, 3]
        ```

        ```bash
        cd numbers
        NAME=few
        ```

        ```console
        $ cat $NAME.json
        [1, 2, 3]
        ```

        1. and in Python

           ```python
           import json
           few = json.load(open("few.json"))
           ```

        ```python
        print(sum(few))
        ```

        prints

        ```text
        6
        ```
        """,
    )

    assert blocks == 6


def test_the_command_line_is_there_as_it_is_installed(tmp_path: Path):
    read(tmp_path, "```console\n$ tunesmith version --timeout 1\ntunesmith=…\n…\n$ echo $HF_HUB_OFFLINE\n1\n```\n")


@pytest.mark.parametrize("language", ["", "sql", "bash title=x", "pythn"])
def test_another_language_is_a_mistake_of_the_page(tmp_path: Path, language: str):
    told = failure(tmp_path, f"One.\n\n```{language}\nwhatever\n```\n")

    assert "line 3" in told and "cannot be run" in told


def test_a_command_that_fails_is_told_with_its_page_and_line(tmp_path: Path):
    told = failure(tmp_path, "One.\n\n```bash\ntrue\necho oh dear; false\ntrue\n```\n")

    assert "page.md, line 3" in told and "exits with 1" in told and "oh dear" in told


def test_a_variable_that_nobody_has_set_is_a_mistake(tmp_path: Path):
    assert "RUN" in failure(tmp_path, "```bash\necho $RUN\n```\n")


def test_a_command_may_fail_where_the_page_shows_its_exit_code(tmp_path: Path):
    read(tmp_path, "```console\n$ ls nowhere\nls: …nowhere…\n$ echo $?\n2\n$ echo on\non\n```\n")


@pytest.mark.parametrize("after", ["", "$ echo on\non\n"])
def test_a_command_may_not_fail_in_silence(tmp_path: Path, after: str):
    assert "exits with 3" in failure(tmp_path, f"```console\n$ (exit 3)\n{after}```\n")


def test_another_exit_code_than_the_page_shows_is_a_mistake(tmp_path: Path):
    assert "printed:\n3" in failure(tmp_path, "```console\n$ (exit 3)\n$ echo $?\n2\n```\n")


def test_a_command_goes_on_behind_a_backslash(tmp_path: Path):
    read(tmp_path, "```console\n$ echo one \\\n    two\none two\n```\n")


def test_python_that_raises_is_told_at_its_line(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("One.\n\n```python\nassert 1 + 1 == 2\nassert 1 + 1 == 3\n```\n")

    with pytest.raises(AssertionError) as told:
        Reader(tmp_path).read(path)

    assert told.traceback[-1].lineno + 1 == 5


def test_a_text_that_follows_no_output_is_a_mistake(tmp_path: Path):
    assert "there is none" in failure(tmp_path, "```text\nout of the blue\n```\n")


def test_an_output_is_compared_once(tmp_path: Path):
    told = failure(tmp_path, "```bash\necho one\n```\n\n```text\none\n```\n\n```text\none\n```\n")

    assert "line 9" in told


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("loss 3.215\n", "loss 3.215  \n"),
        ("loss …, step 3", "loss 3.215, step 3"),
        ("…", ""),
        ("first\n…\nlast", "first\nlast"),
        ("first\n…\nlast", "first\nsecond\n\nthird\nlast"),
        ("", "\n"),
    ],
)
def test_an_ellipsis_stands_for_anything(expected: str, printed: str):
    assert compared(expected, printed) is None


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("loss …, step 3", "loss 3.215,\n step 3"),
        ("one", "one\ntwo"),
        ("one\n…", "zero\none"),
        ("1.0", "1x0"),
        ("", "something"),
    ],
)
def test_what_differs_is_told(expected: str, printed: str):
    assert printed in (compared(expected, printed) or "")


def test_a_file_needs_a_name_in_the_paragraph_above(tmp_path: Path):
    assert "into which file?" in failure(tmp_path, "Write `a.json`.\n\nLike this:\n\n```json\n{}\n```\n")


@pytest.mark.parametrize(
    ("name", "language", "text"),
    [
        ("a.json", "json", "{"),
        ("a.jsonl", "jsonl", "{}\n{"),
        ("a.yaml", "yaml", "a: [b"),
        ("a.toml", "toml", "a = "),
        ("a.csv", "csv", "a,b\nc"),
    ],
)
def test_a_file_must_be_well_formed(tmp_path: Path, name: str, language: str, text: str):
    told = failure(tmp_path, f"As `{name}`:\n\n```{language}\n{text}\n```\n")

    assert "line 3" in told and f"not well-formed {language}" in told


def test_a_file_stays_in_the_folder_of_the_page(tmp_path: Path):
    assert "leads out" in failure(tmp_path, "As `../a.json`:\n\n```json\n{}\n```\n")


def test_a_service_that_does_not_start_is_told_with_what_it_said(tmp_path: Path):
    (tmp_path / "page.md").write_text("```bash\ntunesmith up\n```\n")
    reader = Reader(tmp_path)
    reader.terminal.environment["TUNESMITH_LOCAL_SLOTS"] = "none"

    with pytest.raises(AssertionError, match=r"ended with 2") as told:
        reader.read(tmp_path / "page.md")

    assert "slots" in str(told.value).lower()


def test_a_diagram_runs_nothing(tmp_path: Path):
    page = """
        ```diagram
        text ──► pieces
        ```
        """

    blocks = read(tmp_path, page)

    assert blocks == 1


def test_a_diagram_that_would_be_folded_is_told(tmp_path: Path):
    page = f"""
        ```diagram
        text {"─" * 100} pieces
        ```
        """

    told = failure(tmp_path, page)

    assert "at most 100 columns; this line has 112" in told
