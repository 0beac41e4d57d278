import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "restore_lib"
TESTS = ROOT / "tests"
GENERATED = {".git", ".hypothesis", ".tools", ".venv", "dist", "var"}

# Modules whose contract is tested through the thing that they are part of.
COVERED_BY = {
    "catalog/tables.py": "catalog/test_engine.py",
    "cli/restore_text.py": "cli/test_restore.py",
    "config_tables.py": "test_config.py",
    "library/base.py": "library/test_conformance.py",
    "model/extents.py": "catalog/test_stripes.py",
    "restore/assembly.py": "restore/test_gathering.py",
    "restore/report_chart.py": "restore/test_report_html.py",
    "restore/report_style.py": "restore/test_report_html.py",
    "stores/base.py": "stores/test_conformance.py",
    "stores/checking.py": "stores/test_conformance.py",
    "stores/descend.py": "stores/test_local.py",
    "stores/one_by_one.py": "stores/test_conformance.py",
    "stores/paths.py": "stores/test_conformance.py",
    "stores/s3_attributes.py": "stores/test_s3.py",
    "stores/s3_errors.py": "stores/test_s3.py",
    "stores/s3_parts.py": "stores/test_s3.py",
    "stores/sftp_connection.py": "stores/test_sftp.py",
    "stores/sftp_protocol.py": "stores/test_sftp.py",
    "stores/streams.py": "stores/test_conformance.py",
    "stores/walking.py": "stores/test_conformance.py",
}


def modules() -> list[str]:
    found = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    return sorted(
        path.as_posix()
        for path in found
        if path.name != "__init__.py" and "migrations" not in path.parts
    )


def own_tests(module: str) -> list[Path]:
    path = Path(module)
    folder = TESTS / path.parent
    return [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]


def files() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in GENERATED and not f.endswith("_cache")]
        for name in names:
            path = Path(folder, name)
            if path.suffix != ".pyc" and path.name != "uv.lock" and path.is_file():
                yield path


@pytest.mark.parametrize("module", modules())
def test_each_module_has_a_test_file(module: str) -> None:
    if module in COVERED_BY:
        assert (TESTS / COVERED_BY[module]).exists()
        assert not own_tests(module), f"{module} has a test file: strike it from COVERED_BY"
    else:
        assert own_tests(module), f"{module} has no tests/{Path(module).parent}/test_*.py"


def test_exceptions_from_the_rule_name_real_modules() -> None:
    assert set(COVERED_BY) <= set(modules())


def test_imports_keep_their_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_in_restore_lib_works_without_airflow() -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["airflow"] = None
import restore_lib
names = [m.name for m in pkgutil.walk_packages(restore_lib.__path__, "restore_lib.")]
assert len(names) > 20, names
for name in names:
    if ".migrations" not in name:
        importlib.import_module(name)
loaded = [name for name in sys.modules if name.split(".")[0] in {"airflow", "airflow_shared"}]
assert loaded == ["airflow"], loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_name_no_registry_and_no_machine() -> None:
    forbidden = re.compile(
        r"pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org|registry[.]npmjs|proxy[.]golang"
        r"|/(?:work|root)/\w"
    )
    found = {
        path.relative_to(ROOT).as_posix(): match[0]
        for path in files()
        if (match := forbidden.search(path.read_text("utf-8", "replace")))
    }
    assert found == {}


def test_the_lock_draws_from_the_public_index_only() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    registries = {package["source"].get("registry") for package in lock["package"]}
    assert len(registries) == 2
    assert registries == {None, f"https://{'pypi'}.org/simple"}


def test_the_lock_and_the_pins_agree() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    locked = {package["name"]: package.get("version") for package in lock["package"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert locked["apache-airflow"].startswith("3.3.")
    image = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert f"image: tapeflow:{project['version']}" in image
    assert locked["tapeflow"] == project["version"]


def test_scripts_can_be_run_and_parsed() -> None:
    scripts = [ROOT / ".ci" / "run", *(ROOT / "scripts").iterdir(), ROOT / "deploy" / "new-env"]
    scripts.append(ROOT / "deploy" / "vendor" / "entrypoint")
    assert len(scripts) >= 5
    for script in scripts:
        assert script.stat().st_mode & stat.S_IXUSR, script
        shell = "bash" if "bash" in script.read_text("utf-8").splitlines()[0] else "sh"
        done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_set_up_takes_every_python_that_the_project_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    for path in ("Makefile", "CONTRIBUTING.md", "scripts/install-uv"):
        assert "Python 3.11, 3.12 or 3.13" in (ROOT / path).read_text("utf-8")


def test_make_tells_of_all_its_targets() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    [targets] = re.findall(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", shown, re.MULTILINE)) == set(targets.split())


@pytest.mark.parametrize("target", ["demo", "airflow", "test", "check", "clean", "setup"])
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", ["(3, 10, 14)", "(3, 14, 0)"])
def test_set_up_says_which_python_it_needs(tmp_path: Path, version: str) -> None:
    other = tmp_path / "python3"
    other.write_text(f"""#!/bin/sh
exec {sys.executable} -c "import sys; sys.version_info = {version}; $2"
""")
    other.chmod(0o755)
    script = tmp_path / "scripts" / "install-uv"
    script.parent.mkdir()
    script.write_bytes((ROOT / "scripts" / "install-uv").read_bytes())
    done = subprocess.run(
        ["/bin/sh", script, other, "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".tools").exists()
