"""What a QEMU binary has, as it says itself, and what of a plan it lacks."""

from __future__ import annotations
