"""The memory of a command: freed memory is used again, and settings of the user stay."""

import ctypes
import os
import subprocess
import sys

import pytest

from lossmith.cli import main, memory

is_glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
FAULTS = """
import resource
from lossmith.cli.memory import reuse_memory
if {reuse}:
    reuse_memory()
import torch
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.zeros(5 * 10**6).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.fixture
def settings(monkeypatch):
    """The settings of the allocator, in an environment without any."""
    found = []

    class Library:
        gnu_get_libc_version = None

        def mallopt(self, parameter, value):
            found.append((parameter, value))

    for name in list(os.environ):
        if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    yield found
    os.environ.pop("THP_MEM_ALLOC_ENABLE", None)


def count_faults(reuse):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "THP_"))
    }
    command = [sys.executable, "-c", FAULTS.format(reuse=reuse)]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not is_glibc, reason="this allocator has no such settings")
def test_a_command_gets_its_memory_from_the_system_once():
    assert count_faults(reuse=True) < count_faults(reuse=False) / 4


def test_memory_of_up_to_32_megabytes_is_kept(settings):
    memory.reuse_memory()
    assert settings == [(memory.MMAP_THRESHOLD, 2**25), (memory.TRIM_THRESHOLD, 2**31 - 1)]
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX"])
def test_settings_of_the_allocator_in_the_environment_stay(name, settings, monkeypatch):
    monkeypatch.setenv(name, "1")
    memory.reuse_memory()
    assert settings == []


def test_large_pages_that_the_environment_refuses_stay_refused(settings, monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    memory.reuse_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_the_allocator_of_a_program_that_calls_a_command_stays(settings, capsys):
    main(["models"])
    assert settings == []
