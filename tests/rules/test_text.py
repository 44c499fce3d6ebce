"""What must not stand in any file: loading of code as data, paths of one machine, names of registries."""

from __future__ import annotations

import ast
import re

from tests.rules.sources import Source, all_files, python_files, report

HERE = "tests/rules/test_text.py"
# Loading these can run what they hold; safetensors, JSON and safe_load cannot.
FORBIDDEN_CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "eval", "exec", "__import__", "os.system", "os.popen", "numpy.load", "np.load", "joblib.load",
}  # fmt: skip
# audiocraft's checkpoints are pickles (docs/adr/0015), and a language model's files are what PyTorch's own loader reads
# (docs/adr/0008): read with weights_only=True and by these files only.
ADMITTED = {
    "trainer_node/engines/tinylm/artefacts.py": {"torch.load", "torch.save"},
    "trainer_node/engines/musicgen/interop/checkpoint_files.py": {"torch.load", "torch.save"},
    "tests/support/audiocraft.py": {"torch.save"},
    "tests/tinylm/test_artefacts.py": {"torch.save"},
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_KEYWORDS = {"shell": True, "trust_remote_code": True, "weights_only": False, "allow_pickle": True}
# Split, so that this file does not hold what it looks for.
PLACES_OF_ONE_MACHINE = re.compile(
    r"(?<![\w.:/}])(/ho" r"me/|/ro" r"ot/|/wo" r"rk/|/tmp/[a-z]{1,2}/|/opt/(?:wheels|pypi))"
)
REGISTRIES = re.compile(
    r"(pypi\.o" r"rg|pythonho" r"sted\.org|registry\.np" r"mjs|npmjs\.o" r"rg|deb\.deb" r"ian\.org)"
)


def test_nothing_that_is_loaded_can_run_code():
    problems = [problem for source in python_files() for problem in dangers(source)]

    assert not problems, report(problems)


def dangers(source: Source) -> list[str]:
    """Calls and imports in a file that turn data into code."""
    found: list[str] = []
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS - ADMITTED.get(source.path, set()) or (
                name == "torch.load" and "weights_only=True" not in map(ast.unparse, node.keywords)
            ):
                found.append(f"{source.path}:{node.lineno} {name}(…)")
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                if word.arg in FORBIDDEN_KEYWORDS and value is FORBIDDEN_KEYWORDS[word.arg]:
                    found.append(f"{source.path}:{node.lineno} {word.arg}={value}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{source.path}:{node.lineno} import {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
    return found


def test_no_file_names_a_place_of_one_machine_or_a_registry():
    problems = []
    for source in all_files():
        for number, line in enumerate(text_of(source).splitlines(), 1):
            for pattern in (PLACES_OF_ONE_MACHINE, REGISTRIES):
                if found := pattern.search(line):
                    problems.append(f"{source.path}:{number} {found.group(1)}")

    assert not problems, report(problems)


def text_of(source: Source) -> str:
    """The file's text; empty for what is not text."""
    try:
        return source.text
    except UnicodeDecodeError:
        return ""


def test_the_lock_of_the_node_packages_holds_no_addresses():
    [lock] = [source for source in all_files() if source.path.endswith("package-lock.json")]

    assert '"resolved"' not in lock.text


def test_text_files_end_in_one_newline_and_hold_no_tabs_or_trailing_blanks():
    kinds = (".py", ".md", ".proto", ".toml", ".yaml", ".yml", ".cjs", ".sh")
    problems = []
    for source in all_files():
        if not source.path.endswith(kinds):
            continue
        if source.text and (not source.text.endswith("\n") or source.text.endswith("\n\n")):
            problems.append(f"{source.path}: must end in exactly one newline")
        for number, line in enumerate(source.text.splitlines(), 1):
            if line != line.rstrip() or ("\t" in line and not source.path.endswith((".md", ".py"))):
                problems.append(f"{source.path}:{number} a tab or a trailing blank")

    assert not problems, report(problems)
