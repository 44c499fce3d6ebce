"""Budgets and habits of Python code that no linter knows; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

from tests.rules.sources import ROOT, Source, python_files, report

FILE_LINES = 400
FUNCTION_LINES = 60
LONG_FUNCTION_LINES = 45
SHARE_OF_LONG_FUNCTIONS = 0.05
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
# A class built on one of these has no documented parent whose methods it overrides.
PLAIN_BASES = {"Protocol", "Generic", "ABC", "Exception", "TunesmithError", "StrEnum", "Enum", "IntEnum", "NamedTuple"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(node: Function) -> int:
    """Lines from `def` to the end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_python_file_is_too_long_to_read_in_one_sitting():
    lines = {source.path: source.text.count("\n") for source in python_files()}

    problems = [
        f"{path}: {count} lines, at most {FILE_LINES - 1}" for path, count in lines.items() if count >= FILE_LINES
    ]

    assert not problems, report(problems)


def test_no_function_is_longer_than_a_screen():
    sized = [(source.path, node, length(node)) for source in python_files() for node in functions(source.tree())]

    problems = [
        f"{path}:{node.lineno} {node.name}: {count} lines, at most {FUNCTION_LINES - 1}"
        for path, node, count in sized
        if count >= FUNCTION_LINES
    ]
    long = sum(count >= LONG_FUNCTION_LINES for _, _, count in sized)

    assert not problems, report(problems)
    assert long <= SHARE_OF_LONG_FUNCTIONS * len(sized), (
        f"{long} of {len(sized)} have {LONG_FUNCTION_LINES} lines or more"
    )


def test_no_module_has_a_name_that_says_nothing():
    problems = [
        source.path
        for source in python_files()
        if NAMELESS & set(source.path.removesuffix(".py").replace("/", " ").split())
    ]

    assert not problems, report(problems)


def test_everything_public_is_documented():
    problems = [problem for source in python_files() if source.in_product for problem in undocumented(source)]

    assert not problems, report(problems)


def undocumented(source: Source) -> Iterator[str]:
    """Public modules, classes, functions and methods of a file without a docstring."""
    tree = source.tree()
    if not ast.get_docstring(tree) and tree.body:
        yield f"{source.path}: the module has no docstring"
    for node in tree.body:
        if not isinstance(node, (*Function.__args__, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{source.path}:{node.lineno} {node.name} has no docstring"
        if isinstance(node, ast.ClassDef) and stands_alone(node):
            yield from (
                f"{source.path}:{method.lineno} {node.name}.{method.name} has no docstring"
                for method in undocumented_methods(node)
            )


def stands_alone(node: ast.ClassDef) -> bool:
    """Whether its methods are its own: those of a servicer or a framework's subclass are documented by the parent."""
    names = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    return names <= PLAIN_BASES


def undocumented_methods(node: ast.ClassDef) -> Iterator[Function]:
    """Public methods of a class without a docstring."""
    for method in node.body:
        if isinstance(method, Function) and not method.name.startswith("_") and not ast.get_docstring(method):
            yield method


def test_everything_public_is_typed():
    problems = [
        f"{source.path}:{node.lineno} {node.name}: {what}"
        for source in python_files()
        if source.in_product
        for node in functions(source.tree())
        for what in untyped(node)
    ]

    assert not problems, report(problems)


def untyped(node: Function) -> Iterator[str]:
    """What a signature leaves open."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    if node.returns is None:
        yield "no return type"
    yield from (f"{a.arg} has no type" for a in arguments if a.annotation is None and a.arg not in ("self", "cls"))


def test_every_exception_to_a_rule_gives_its_reason():
    """`# type: ignore[…]` and `# noqa: …` name the rule and say why, on the line or on the one above."""
    marker = re.compile(r"#\s*(type:\s*ignore(\[[^\]]+\])?|noqa(:\s*[A-Z0-9, ]+)?)(.*)$")
    problems = []
    for source in python_files():
        lines = source.text.splitlines()
        for number, line in enumerate(lines, 1):
            found = marker.search(line)
            if not found or source.path == "tests/rules/test_code.py":
                continue
            above = lines[number - 2].strip() if number > 1 else ""
            named = found.group(2) or found.group(3)
            if not named or not (len(found.group(4).strip(" #:;-–—")) > 5 or above.startswith("#")):
                problems.append(f"{source.path}:{number} {line.strip()}")

    assert not problems, report(problems)


def test_packages_import_each_other_only_in_the_agreed_direction():
    """Runs import-linter with the contracts of pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_help_answers_without_importing_torch():
    heavy = ("torch", "transformers", "peft", "psycopg", "alembic", "soundfile", "av")
    program = (
        "import sys\n"
        "from services.cli.main import main\n"
        "sys.argv = ['tunesmith', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', sorted(set({heavy!r}) & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.rstrip().endswith("HEAVY []"), done.stdout[-500:] + done.stderr[-500:]
